//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/stellara/edge/bench/load"
)

// lossFlags shape the scenario loss: some nodes hold idle connections and are killed, the others carry
// messages meanwhile.
type lossFlags struct {
	victims int
	each    int
	conns   int
	rooms   int
	wait    time.Duration
}

func (l *lossFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&l.victims, "victims", 3, "loss: nodes that hold the -conns idle connections and are killed")
	fs.IntVar(&l.each, "each", 3, "loss: rooms of each idle connection, of -rooms")
	fs.IntVar(&l.conns, "survivor-conns", 1000, "loss: connections of the nodes that stay, which carry the messages")
	fs.IntVar(&l.rooms, "survivor-rooms", 50, "loss: rooms of those")
	fs.DurationVar(&l.wait, "wait", time.Minute, "loss: how long to wait after the kill until the presence keys are right")
}

func (l *lossFlags) validate(c *config) error {
	if c.scenario != scenarioLoss {
		return nil
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: loss kills nodes, and so needs its own")
	case l.victims < 1 || l.victims >= c.nodes:
		return fmt.Errorf("-victims: %d of %d nodes, need at least 1 that dies and 1 that stays", l.victims, c.nodes)
	case c.rooms < 1 || l.each < 1:
		return fmt.Errorf("-rooms %d, -each %d: need at least 1", c.rooms, l.each)
	case l.wait < time.Second:
		return fmt.Errorf("-wait: %v, need at least 1s", l.wait)
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: loss has one rate, not %d", len(c.rates))
	}
	survivors := l.survivors(c, []string{"127.0.0.1:1"})
	survivors.First, survivors.Last = 0, survivors.Conns
	if err := survivors.Validate(); err != nil {
		return fmt.Errorf("-survivor-conns, -survivor-rooms: %w", err)
	}
	return nil
}

// Prefixes of the user ids and rooms of the two groups.
const (
	victimPrefix   = "v-"
	survivorPrefix = "s-"
)

// shape makes the plan one for the connections that will be lost: on the victims, in several rooms, and
// silent.
func (l *lossFlags) shape(p *load.Plan) {
	p.Targets = p.Targets[:min(l.victims, len(p.Targets))]
	p.Each, p.Senders, p.Prefix = l.each, 0, victimPrefix
}

// survivors is the plan of the connections that carry messages, on the nodes of targets.
func (l *lossFlags) survivors(c *config, targets []string) load.Plan {
	return load.Plan{
		Targets: targets, Conns: l.conns, Rooms: l.rooms, Senders: min(c.senders, l.conns/max(l.rooms, 1)),
		Payload: c.payload, Browser: c.browser, Dialing: max(c.dialing, 1), Prefix: survivorPrefix,
	}
}
