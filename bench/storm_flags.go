//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

// scenarioStorm cuts all clients of a node that lives on, which come back within a moment.
const scenarioStorm = "storm"

// stormFlags shape the scenario storm. Clients and how long to wait for them are those of recovery.
type stormFlags struct {
	times  int
	spread time.Duration
	calm   time.Duration
}

func (f *stormFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.times, "storms", 3, "storm: how often the -returning clients are cut, one time after the other")
	fs.DurationVar(&f.spread, "spread", time.Second, "storm: within which they come back, each at a time of its own")
	fs.DurationVar(&f.calm, "calm", 30*time.Second, "storm, churn: time after which memory is read again")
}

func (f *stormFlags) validate(c *config) error {
	if c.scenario != scenarioStorm {
		return nil
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: storm needs nodes of its own")
	case c.rooms < 1 || c.rooms > c.recovery.clients:
		return fmt.Errorf("-rooms %d, -returning %d: need at least one client in each room", c.rooms, c.recovery.clients)
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: storm has one rate, not %d", len(c.rates))
	case f.times < 1:
		return fmt.Errorf("-storms: %d, need at least 1", f.times)
	case f.spread <= 0 || f.calm < 0:
		return fmt.Errorf("-spread %v, -calm %v: need more than 0, and not less", f.spread, f.calm)
	case c.recovery.within < time.Second || c.recovery.within > maxReturn:
		return fmt.Errorf("-within: %v, can be 1s to %v", c.recovery.within, maxReturn)
	}
	return enoughFiles(c.recovery.clients, 2) // all of them are on one node
}
