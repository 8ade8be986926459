//go:build linux

package main

import (
	"errors"
	"slices"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// scenarioMoves compares conns that moved to the node that holds their WebSocket with others there.
const scenarioMoves = "moves"

// Nodes of the scenario.
const (
	movesOwner  = 0 // where sessions that move begin
	movesHolder = 1 // which has all WebSockets
	movesNodes  = 2
)

// movesConfig is one of the scenario's runs.
type movesConfig struct{ way string } // of report.Ways

func (f *movesConfig) validate(c *config) error {
	switch {
	case c.scenario != scenarioMoves:
		return nil
	case len(c.targets) > 0 || c.system != systemEdge:
		return errors.New("-target, -system: moves needs edge nodes of its own")
	case c.nodes != movesNodes || c.rooms != 0:
		return errors.New("-nodes, -rooms: moves has 2 nodes, and connections without rooms")
	}
	return nil
}

// shape puts all WebSockets on one node, and the beginning of their sessions where the run wants it.
func (f *movesConfig) shape(p *load.Plan) {
	p.Ask = true
	if len(p.Targets) == movesNodes {
		switch f.way {
		case report.WayHere:
			p.Poll = p.Targets[movesHolder]
		case report.WayMoved:
			p.Poll = p.Targets[movesOwner]
		}
		p.Targets = p.Targets[movesHolder:]
	}
}

// parts are the runs, the one that says most last, as it is shown first.
func (f *movesConfig) parts(c *config) (parts []part) {
	for _, way := range slices.Backward(report.Ways()) {
		with := *c
		with.moves.way = way
		parts = append(parts, part{with, systemEdge, way})
	}
	return parts
}
