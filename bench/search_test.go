//go:build linux

package main

import (
	"math"
	"testing"

	"github.com/stellara/edge/bench/report"
)

// hunt searches a system that holds rates up to a limit, with outcomes of single tries replaced.
func hunt(s search, holds float64, instead map[int]report.Outcome) []try {
	var tries []try
	for {
		rate, more := s.next(tries)
		if !more {
			return tries
		}
		outcome := report.Held
		if rate > holds {
			outcome = report.TooSlow
		}
		if o, ok := instead[len(tries)]; ok {
			outcome = o
		}
		tries = append(tries, try{rate, outcome})
	}
}

func TestSearchFindsTheLimit(t *testing.T) {
	s := search{start: 400, factor: 1.4, within: 1.06}
	for _, holds := range []float64{3, 40, 399, 400, 401, 559, 560, 1234, 20_000} {
		tries := hunt(s, holds, nil)
		f := found(tries)
		if f.Best < 0 {
			t.Errorf("limit %v: nothing was held: %v", holds, tries)
			continue
		}
		low, high := bounds(tries)
		if best := tries[f.Best].rate; best != low || best > holds || high <= holds || high/best > s.within || f.Bound != report.TooSlow {
			t.Errorf("limit %v: found %v, next %v, ended by %q", holds, best, high, f.Bound)
		}
	}
}

func TestSearchTakesFewSteps(t *testing.T) {
	if n := len(hunt(search{start: 400, factor: 1.4, within: 1.06}, 1000, nil)); n > 8 {
		t.Errorf("%d tries from 400 to 1000", n)
	}
	if n := len(hunt(search{start: 950, factor: 1.1, within: 1.06}, 1000, nil)); n > 4 {
		t.Errorf("%d tries from 950 to 1000", n)
	}
}

func TestSearchTriesADoubtfulRateOnceMore(t *testing.T) {
	s := search{start: 400, factor: 1.4, within: 1.06}
	for name, c := range map[string]struct {
		instead map[int]report.Outcome
		second  float64 // rate of the second try
		third   float64
	}{
		"held the second time":    {map[int]report.Outcome{0: report.MachineStalled}, 400, 560},
		"doubtful twice":          {map[int]report.Outcome{0: report.ClientLate, 1: report.ClientLate}, 400, 400 / 1.4},
		"failed the second time":  {map[int]report.Outcome{0: report.ClientLate, 1: report.TooSlow}, 400, 400 / 1.4},
		"failed beyond all doubt": {map[int]report.Outcome{0: report.LostSome}, 400 / 1.4, 400 / math.Sqrt(1.4)},
	} {
		tries := hunt(s, 1000, c.instead)
		if math.Abs(tries[1].rate-c.second) > 1e-9 || math.Abs(tries[2].rate-c.third) > 1e-9 {
			t.Errorf("%s: tries %v", name, tries)
		}
	}
	// What cannot be told from a slow client is said.
	always := map[int]report.Outcome{}
	for i := 1; i < maxTries; i++ {
		always[i] = report.ClientLate
	}
	tries := hunt(s, math.Inf(1), always)
	if f := found(tries); f.Best != 0 || f.Bound != report.ClientLate {
		t.Errorf("found %+v in %v", f, tries)
	}
}

func TestSearchEnds(t *testing.T) {
	s := search{start: 400, factor: 1.4, within: 1.06}
	tries := hunt(s, 0, nil)
	if f := found(tries); f.Best != -1 || tries[len(tries)-1].rate < s.start/maxDown {
		t.Errorf("a system that holds nothing: %+v after %v", f, tries)
	}
	if tries = hunt(s, math.Inf(1), nil); len(tries) != maxTries || found(tries).Best != maxTries-1 {
		t.Errorf("a system that holds everything: %d tries, best %d", len(tries), found(tries).Best)
	}
}

func TestJudgeStep(t *testing.T) {
	good := func() report.Step {
		return report.Step{Nominal: 1000, Delivered: 4750, Latency: report.Latency{P99: 199.9}, SendLag: report.Latency{P99: 150}, ReadLag: report.Latency{P99: 150}}
	}
	for want, spoil := range map[report.Outcome]func(*report.Step){
		report.Held:           func(s *report.Step) { s.Stall.Max = 1000 },
		report.RefusedSome:    func(s *report.Step) { s.Refused = 1 },
		report.DroppedSome:    func(s *report.Step) { s.Dropped, s.Lost = 1, 5 },
		report.LostSome:       func(s *report.Step) { s.Lost = 1 },
		report.Disordered:     func(s *report.Step) { s.Reordered = 1 },
		report.TooSlow:        func(s *report.Step) { s.Latency.P99 = 200 },
		report.FellBehind:     func(s *report.Step) { s.Delivered = 4749 },
		report.MachineStalled: func(s *report.Step) { s.Latency.P99, s.Stall.Max = 300, 101 },
	} {
		s := good()
		if want != report.Held && want != report.MachineStalled {
			s.SendLag, s.ReadLag = report.Latency{P99: 50}, report.Latency{P99: 50}
		}
		spoil(&s)
		if got := judge(&s, 5); got != want {
			t.Errorf("%q, want %q: %+v", got, want, s)
		}
	}
	for name, late := range map[string]func(*report.Step){
		"sending": func(s *report.Step) { s.ReadLag.P99 = 0 },
		"reading": func(s *report.Step) { s.SendLag.P99 = 0 },
	} {
		s := good()
		s.Latency.P99 = 300
		late(&s)
		if got := judge(&s, 5); got != report.ClientLate {
			t.Errorf("late in %s: %q", name, got)
		}
	}
}
