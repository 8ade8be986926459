//go:build linux

package main

import (
	"io"
	"strings"
	"time"

	"github.com/stellara/edge/bench/report"
)

// comparedPart is a scenario as the comparison runs it: by flags, so that it can be run alone with the same
// ones.
type comparedPart struct {
	name     string
	title    string
	flags    string
	quick    string // further ones for a try-out
	env      string // NAME=VALUE for the servers, the Node.js ones too
	variants []variant
}

// variant is a system of a part, with what it alone gets.
type variant struct {
	name   string // of report.Variants
	system string
	env    string
}

// withoutRecovery makes both systems promise the same: Node.js has no journal.
const withoutRecovery = "RECOVERY=off"

// comparedParts are the parts of the comparison, in order. A further scenario needs a line here, and its
// figures in package report.
func comparedParts() []comparedPart {
	both := []variant{{report.VariantNode, systemNode, ""}, {report.VariantEdge, systemEdge, ""}}
	beside := append(both[:2:2], variant{report.VariantRecovery, systemEdge, "RECOVERY=on"})
	return []comparedPart{
		{
			name: report.PartIdle, title: "idle connections on one process, each in a room and present",
			flags: "-scenario idle", quick: "-conns 1000 -duration 2s -heartbeats 0", env: withoutRecovery, variants: beside,
		},
		{
			name: report.PartSteady, title: "messages of 128 bytes at three rates, rooms of 100",
			flags: "-scenario steady -rates 100,300,700 -warmup 3s -duration 8s -churn 0 -observer=false",
			quick: "-conns 1000 -rooms 10 -warmup 1s -duration 2s", env: withoutRecovery,
			variants: beside,
		},
		{
			name: report.PartSaturation, title: "the highest rate held, rooms of 100",
			flags: "-scenario saturation", quick: "-conns 1000 -rooms 10 -warmup 1s -duration 1s -resolution 1.3",
			env: withoutRecovery, variants: both,
		},
		{
			name: report.PartOneRoom, title: "the highest rate held, everybody in one room",
			flags: "-scenario saturation -rooms 1", quick: "-conns 1000 -warmup 1s -duration 1s -resolution 1.3",
			env: withoutRecovery, variants: both,
		},
		{
			name: report.PartTiny, title: "messages of 128 bytes at two rates, rooms of 2",
			flags: "-scenario tiny-rooms -duration 8s", quick: "-conns 1000 -warmup 1s -duration 2s",
			env: withoutRecovery, variants: both,
		},
	}
}

// args is the command line of the part alone.
func (p *comparedPart) args(quick bool) []string {
	line := p.flags
	if quick {
		line += " " + p.quick
	}
	args := strings.Fields(line)
	if p.env != "" {
		args = append(args, "-env", p.env)
	}
	return append(args, "-system", "both")
}

// config is that of the part alone, with the binary, the output and the environment of the comparison.
func (p *comparedPart) config(c *config) (config, error) {
	cfg, err := parseFlags(p.args(c.compare.quick), io.Discard)
	if err != nil {
		return cfg, err
	}
	cfg.edge, cfg.out = c.edge, c.out
	cfg.env = append(cfg.env, c.env...)
	return cfg, nil
}

// Prices by which the length of a run is foretold, as a machine of two cores has them.
const (
	edgeConnects, nodeConnects = 6000.0, 1700.0 // per second
	edgeJoins, nodeJoins       = 7000.0, 800.0
	edgeStart, nodeStart       = 3 * time.Second, 4 * time.Second // until ready, and until gone
	afterStep                  = 1500 * time.Millisecond
	firstSearch, laterSearch   = 11, 7 // steps, some of them twice; the first has no idea where to begin
	heartbeat                  = 25 * time.Second
)

// about foretells how long a run takes.
func about(cfg *config, system string, first bool) time.Duration {
	connects, joins, d := edgeConnects, edgeJoins, edgeStart
	if system == systemNode {
		connects, joins, d = nodeConnects, nodeJoins, nodeStart
	}
	n := float64(cfg.conns)
	d += time.Duration((n/connects + n/joins) * float64(time.Second))
	step := cfg.warmup + cfg.duration + afterStep
	switch cfg.scenario {
	case scenarioIdle:
		return d + 10*time.Second + max(cfg.duration, time.Duration(cfg.heartbeats)*heartbeat)
	case scenarioSaturation:
		if first {
			return d + firstSearch*step
		}
		return d + laterSearch*step
	default:
		return d + time.Duration(len(cfg.rates))*step
	}
}
