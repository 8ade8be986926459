//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// systems are the systems to measure, in order.
func (c *config) systems() []string {
	switch {
	case len(c.targets) > 0:
		return []string{systemExternal}
	case c.system == systemBoth:
		return []string{systemNode, systemEdge}
	default:
		return []string{c.system}
	}
}

// part is one run of a benchmark: a system under a load. title is empty where the system's name says it all.
type part struct {
	cfg    config
	system string
	title  string
}

// measure leads the part's system through its scenario.
func (p *part) measure(ctx context.Context, clock load.Clock, out io.Writer) (*report.System, error) {
	lead := measure
	if p.cfg.scenario == scenarioSaturation {
		lead = saturate
	}
	sys, err := lead(ctx, p.cfg, clock, p.system, out)
	if sys != nil {
		sys.Title = p.title
	}
	return sys, err
}

// parts are the runs of the benchmark, in order.
func (c *config) parts() (parts []part) {
	if c.scenario == scenarioHeartbeat {
		for _, n := range c.heartbeat.sizes {
			parts = append(parts, part{c.heartbeat.sized(*c, n), systemEdge, fmt.Sprintf("%d conns", n)})
		}
		return parts
	}
	if settings := settingsOf(c.scenario); len(settings) > 0 {
		for _, setting := range settings {
			with := *c
			with.env = append(slices.Clone(c.env), setting)
			parts = append(parts, part{with, systemEdge, setting})
		}
		return parts
	}
	if c.scenario == scenarioMoves {
		return c.moves.parts(c)
	}
	for _, system := range c.systems() {
		parts = append(parts, part{*c, system, ""})
	}
	return parts
}
