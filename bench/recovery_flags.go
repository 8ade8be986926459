//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/stellara/edge/bench/load"
)

// Scenarios about the price of recovery.
const (
	scenarioRecovery = "recovery" // a node is killed and its clients come back all at once
	scenarioJournal  = "journal"  // the same messages with and without recovery
)

// scenarioCoalescing sends the same messages with several settings of WRITE_DELAY.
const scenarioCoalescing = "coalescing"

// settingsOf are what the nodes get, one after the other, in the scenarios that compare settings.
func settingsOf(scenario string) []string {
	switch scenario {
	case scenarioJournal:
		return []string{"RECOVERY=off", "RECOVERY=on"}
	case scenarioCoalescing:
		return []string{"WRITE_DELAY=50ms", "WRITE_DELAY=10ms", "WRITE_DELAY=0s"}
	default:
		return nil
	}
}

// recoveryFlags shape the scenario recovery: many clients lose their node and come back to the others,
// which carry messages.
type recoveryFlags struct {
	clients int
	within  time.Duration
}

func (f *recoveryFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.clients, "returning", 5000, "recovery: clients of the node that is killed, besides the -conns of the others")
	fs.DurationVar(&f.within, "within", time.Minute, "recovery: how long to wait until all of them are back")
}

// maxReturn is the time within which sessions are kept.
const maxReturn = 2 * time.Minute

func (f *recoveryFlags) validate(c *config) error {
	compares := len(settingsOf(c.scenario)) > 0
	if c.scenario != scenarioRecovery && !compares {
		return nil
	}
	switch {
	case len(c.targets) > 0 || c.system != systemEdge:
		return fmt.Errorf("-target, -system: %s needs edge nodes of its own", c.scenario)
	case compares && c.rooms < 1:
		return errors.New("-rooms: messages need at least 1 room")
	case compares:
		return nil
	case c.nodes < 2:
		return fmt.Errorf("-nodes: %d, need at least 2, or nobody is left when one dies", c.nodes)
	case c.rooms < 1 || c.rooms > f.clients:
		return fmt.Errorf("-rooms %d, -returning %d: need at least one client in each room", c.rooms, f.clients)
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: recovery has one rate, not %d", len(c.rates))
	case f.within < time.Second || f.within > maxReturn:
		return fmt.Errorf("-within: %v, can be 1s to %v", f.within, maxReturn)
	}
	return enoughFiles(f.clients, c.nodes)
}

// shape puts the steady connections on the nodes that stay.
func (f *recoveryFlags) shape(p *load.Plan) { p.Targets = p.Targets[min(1, len(p.Targets)-1):] }
