//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

// scenarioHostile attacks one node while clients use it.
const scenarioHostile = "hostile"

// hostileFlags shape the scenario: -duration of quiet, then attackers for so long.
type hostileFlags struct {
	lasts   time.Duration
	attacks float64
	most    int
	hold    time.Duration
	sources int
}

func (f *hostileFlags) register(fs *flag.FlagSet) {
	fs.DurationVar(&f.lasts, "for", 10*time.Minute, "hostile: how long attackers are there, after -duration without")
	fs.Float64Var(&f.attacks, "attacks", 200, "hostile: attacks that begin per second, of all kinds")
	fs.IntVar(&f.most, "attackers", 2000, "hostile: attacks at a time")
	fs.DurationVar(&f.hold, "hold", 10*time.Second, "hostile: the longest that one attack lasts")
	fs.IntVar(&f.sources, "sources", 1000, "hostile: addresses 127.0.x.y that attackers have")
}

func (f *hostileFlags) validate(c *config) error {
	if c.scenario != scenarioHostile {
		return nil
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: hostile needs a server of its own")
	case c.system != systemEdge:
		return fmt.Errorf("-system: hostile runs on %s only", systemEdge)
	case c.nodes != 1:
		return fmt.Errorf("-nodes: %d, hostile attacks 1", c.nodes)
	case c.rooms < 1 || c.conns < 10*c.rooms:
		return fmt.Errorf("-rooms: %d for %d connections, each needs 10", c.rooms, c.conns)
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: hostile has one rate, not %d", len(c.rates))
	case c.delivery.every <= c.delivery.away || c.delivery.away < 0 || c.chaos.patience <= 0:
		return fmt.Errorf("-every %v, -away %v, -patience %v: clients must be there for some of the time", c.delivery.every, c.delivery.away, c.chaos.patience)
	case f.lasts < time.Second:
		return fmt.Errorf("-for: %v, need at least 1s", f.lasts)
	}
	plan := c.attackPlan("127.0.0.1:1")
	if err := plan.Validate(); err != nil {
		return fmt.Errorf("-attacks, -attackers, -hold, -sources: %w", err)
	}
	return enoughFiles(c.conns+f.most+c.rooms, 2)
}
