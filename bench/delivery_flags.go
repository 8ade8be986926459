//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

// scenarioDelivery harms clients, nodes and Redis, and sees whether every message is received once.
const scenarioDelivery = "chaos-delivery"

// deliveryFlags shape the scenario.
type deliveryFlags struct {
	every      time.Duration
	away       time.Duration
	quiet      time.Duration
	silent     int
	silence    time.Duration
	nodeFaults string
}

// faultsOnEdge are all faults, in their order.
const faultsOnEdge = "drops,pubsub-kill,cut,buffer-kill,redis-stop,kill,rolling,late-join,wrong-pid,silence,restart-empty,restart-old,failover"

// faultsOnNode are those by which the Node.js system is measured.
const faultsOnNode = "drops,pubsub-kill,cut"

func (f *deliveryFlags) register(fs *flag.FlagSet) {
	fs.DurationVar(&f.every, "every", 15*time.Second, "chaos-delivery: each client is dropped once in this time, without a word to the server; hostile: each of the tenth that return")
	fs.DurationVar(&f.away, "away", 2*time.Second, "chaos-delivery, hostile: how long a dropped client stays away")
	fs.DurationVar(&f.quiet, "quiet", 20*time.Second, "chaos-delivery: time after each fault in which clients are only dropped; chaos-drain: 3s, after each restart")
	fs.IntVar(&f.silent, "silent", 100, "chaos-delivery: clients that are silent before their node is killed")
	fs.DurationVar(&f.silence, "silence", 5*time.Minute, "chaos-delivery: for how long those are silent")
	fs.StringVar(&f.nodeFaults, "node-faults", faultsOnNode, "chaos-delivery: faults of the Node.js system, of those of -faults")
}

func (f *deliveryFlags) validate(c *config) error {
	if c.scenario != scenarioDelivery {
		return nil
	}
	if err := errors.Join(checkFaults("-faults", c.chaos.faults, deliveryFaultNames()),
		checkFaults("-node-faults", f.nodeFaults, deliveryFaultNames())); err != nil {
		return err
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: chaos-delivery kills nodes, and so needs its own")
	case c.nodes < 2:
		return fmt.Errorf("-nodes: %d, need at least 2, or nobody is left when one dies", c.nodes)
	case c.rooms < 1 || c.rooms > c.conns:
		return fmt.Errorf("-rooms: %d for %d connections", c.rooms, c.conns)
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: chaos-delivery has one rate, not %d", len(c.rates))
	case f.every <= f.away || f.away < 0:
		return fmt.Errorf("-every %v, -away %v: clients must be there for some of the time", f.every, f.away)
	case f.silent < 1 || f.silence < 0 || f.quiet < 0 || c.chaos.patience <= 0:
		return fmt.Errorf("-silent %d, -silence %v, -quiet %v, -patience %v: cannot be negative, nor all", f.silent, f.silence, f.quiet, c.chaos.patience)
	}
	return enoughFiles(c.conns+f.silent+c.rooms, c.nodes)
}
