//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/stellara/edge/bench/load"
)

// scenarioSlowReaders lets a part of the connections stop reading while messages flow to all.
const scenarioSlowReaders = "slow-readers"

// slowReadersFlags shape the scenario: everybody reads for -duration, then some read nothing for -stall, then those
// that are still connected read again.
type slowReadersFlags struct {
	slow  int
	stall time.Duration
}

func (f *slowReadersFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.slow, "slow", 500, "slow-readers: connections that stop reading, dealt to all rooms")
	fs.DurationVar(&f.stall, "stall", 80*time.Second, "slow-readers: how long they read nothing")
}

func (f *slowReadersFlags) validate(c *config) error {
	if c.scenario != scenarioSlowReaders {
		return nil
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: slow-readers needs servers of its own")
	case c.rooms < 1:
		return errors.New("-rooms: messages need at least 1 room")
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: slow-readers has one rate, not %d", len(c.rates))
	case f.slow < 1:
		return fmt.Errorf("-slow: %d, need at least 1", f.slow)
	case f.stall < 2*time.Second || f.stall > time.Hour:
		return fmt.Errorf("-stall: %v, can be 2s to 1h", f.stall)
	}
	return nil
}

// shape says who is slow.
func (f *slowReadersFlags) shape(p *load.Plan) { p.Slow = f.slow }
