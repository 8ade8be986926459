//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

// scenarioDrain restarts all nodes, one after the other, behind HAProxy.
const scenarioDrain = "chaos-drain"

// drainFlags shape the scenario.
type drainFlags struct {
	delay    time.Duration
	window   time.Duration
	maxConns int
}

// drainGrace is SHUTDOWN_GRACE of the nodes.
const drainGrace = 10 * time.Second

func (f *drainFlags) register(fs *flag.FlagSet) {
	fs.DurationVar(&f.delay, "drain-delay", 5*time.Second, "chaos-drain: DRAIN_DELAY of the nodes; HAProxy needs 2 to 3 s")
	fs.DurationVar(&f.window, "drain-window", 10*time.Second, "chaos-drain: DRAIN_WINDOW of the nodes")
	fs.IntVar(&f.maxConns, "max-conns", 1400, "chaos-drain: MAX_CONNS of the nodes")
}

func (f *drainFlags) validate(c *config) error {
	if c.scenario != scenarioDrain {
		return nil
	}
	switch {
	case len(c.targets) > 0 || c.system != systemEdge:
		return errors.New("-target, -system: chaos-drain restarts edge nodes, and so needs its own")
	case c.nodes != 3:
		return fmt.Errorf("-nodes: %d, but deploy/haproxy.cfg has 3", c.nodes)
	case c.rooms < 1 || c.rooms > c.conns:
		return fmt.Errorf("-rooms: %d for %d connections", c.rooms, c.conns)
	case len(c.rates) != 1:
		return fmt.Errorf("-rates: chaos-drain has one rate, not %d", len(c.rates))
	case f.delay < 0 || f.window <= 0 || c.delivery.quiet < 0 || c.chaos.patience <= 0:
		return fmt.Errorf("-drain-delay %v, -drain-window %v, -quiet %v, -patience %v: cannot be negative, nor 0 but the first and the third", f.delay, f.window, c.delivery.quiet, c.chaos.patience)
	case f.maxConns*(c.nodes-1) < c.conns+c.rooms:
		return fmt.Errorf("-max-conns: %d on each of %d nodes is too few for %d clients and %d publishers", f.maxConns, c.nodes-1, c.conns, c.rooms)
	}
	return enoughFiles(2*(c.conns+c.rooms), c.nodes) // HAProxy has two for each
}

// env is what the nodes are told.
func (f *drainFlags) env() []string {
	return []string{
		"DRAIN_DELAY=" + f.delay.String(), "DRAIN_WINDOW=" + f.window.String(), "SHUTDOWN_GRACE=" + drainGrace.String(),
		fmt.Sprintf("MAX_CONNS=%d", f.maxConns),
	}
}
