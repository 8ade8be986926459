//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

// scenarioChurn has connections come and go all the time, beside a crowd that stays.
const scenarioChurn = "churn"

// comingsFlags shape the scenario churn.
type comingsFlags struct {
	rate float64
	life time.Duration
}

func (f *comingsFlags) register(fs *flag.FlagSet) {
	fs.Float64Var(&f.rate, "comings", 200, "churn: connections that come per second, join a room, live and go")
	fs.DurationVar(&f.life, "life", 2*time.Second, "churn: how long they live, half as long to one and a half as long")
}

func (f *comingsFlags) validate(c *config) error {
	if c.scenario != scenarioChurn {
		return nil
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: churn needs nodes of its own")
	case c.rooms < 1:
		return errors.New("-rooms: churn needs at least 1 room")
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: churn has one rate, not %d", len(c.rates))
	case f.rate <= 0 || f.life <= 0:
		return fmt.Errorf("-comings %v, -life %v: need more than 0", f.rate, f.life)
	}
	return nil
}
