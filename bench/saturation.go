//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// scenarioSaturation looks for the highest rate that a system holds.
const scenarioSaturation = "saturation"

// saturationFlags shape the search.
type saturationFlags struct {
	from   float64
	factor float64
	within float64

	tries *[]try // those of the search under way, of all its servers
}

func (f *saturationFlags) register(fs *flag.FlagSet) {
	fs.Float64Var(&f.from, "from", 40_000, "saturation: `deliveries` per second to begin with")
	fs.Float64Var(&f.factor, "factor", 1.4, "saturation: step up, and down, until one rate was held and a higher one was not")
	fs.Float64Var(&f.within, "resolution", 1.06, "saturation: ratio of those two at which the search is over")
}

func (f *saturationFlags) validate(c *config) error {
	switch {
	case c.scenario != scenarioSaturation:
		return nil
	case c.rooms < 1:
		return errors.New("-rooms: messages need at least 1 room")
	case !(f.from > 0) || math.IsInf(f.from, 0):
		return fmt.Errorf("-from: %v deliveries per second", f.from)
	case !(f.factor > 1.01 && f.factor <= 10) || !(f.within > 1.01 && f.within <= 10):
		return fmt.Errorf("-factor %v, -resolution %v: can be 1.01 to 10", f.factor, f.within)
	}
	return nil
}

// search is in messages per second.
func (f *saturationFlags) search(c *config) search {
	members := float64(c.conns) / float64(c.rooms)
	return search{start: f.from / members, factor: f.factor, within: f.within}
}

// saturate leads a system through a search. Servers that lost a connection or a message do not get the
// same load any more, so the search goes on with new ones.
func saturate(ctx context.Context, cfg config, clock load.Clock, name string, out io.Writer) (*report.System, error) {
	var tries []try
	cfg.saturation.tries = &tries
	all := &report.System{}
	for starts := 1; ; starts++ {
		sys, err := measure(ctx, cfg, clock, name, out)
		if sys != nil {
			all.Append(sys)
			all.Saturation = found(tries)
			all.Saturation.Starts = starts
		}
		if err != nil {
			return all, err
		}
		if _, more := cfg.saturation.search(&cfg).next(tries); !more {
			return all, nil
		}
	}
}

// found sums up a search.
func found(tries []try) *report.Saturation {
	f := &report.Saturation{Best: -1}
	low, high := bounds(tries)
	for i, t := range tries {
		if t.rate == low && t.outcome == report.Held {
			f.Best = i
		}
		if t.rate == high {
			f.Bound = t.outcome
		}
	}
	return f
}

// searchSteps sends at the rates of the search until it is over, or these servers cannot go on.
func (m *measurement) searchSteps(ctx context.Context) error {
	m.churn = newChurn(&m.stack.plan, 0, nil) // nobody changes presence meanwhile
	tries := m.cfg.saturation.tries
	var last load.Settled
	for {
		rate, more := m.cfg.saturation.search(&m.cfg).next(*tries)
		if !more {
			return nil
		}
		s, err := m.take(ctx, rate, &last)
		if err != nil {
			return err
		}
		s.Outcome = judge(s, m.cfg.duration.Seconds())
		*tries = append(*tries, try{rate, s.Outcome})
		m.say("%.0f deliveries/s: %s", s.Nominal, s.Outcome)
		if s.Dropped > 0 || s.Lost > 0 {
			m.say("these servers are given up, as what they lost would count again")
			return nil
		}
	}
}
