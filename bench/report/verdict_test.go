package report

import "testing"

// results maps what was judged to how.
func results(r *Report) map[string]Result {
	m := map[string]Result{}
	for _, v := range Judge(r) {
		m[v.What] = v.Result
	}
	return m
}

func TestJudgeSteady(t *testing.T) {
	step := func(rate, p50, p99, cpu float64) Step {
		return Step{
			Rate: rate, Nominal: rate * 100, Delivered: 1_000_000, Latency: Latency{P50: p50, P99: p99},
			CPU: &CPU{Nodes: cpu * 0.9, Redis: cpu * 0.1},
		}
	}
	good := func() *Report {
		return &Report{
			Scenario: "steady", Machine: Machine{LoopbackWriteUS: 6.5},
			Systems: []System{
				{
					Name: "edge", Connect: Connect{Done: 5000, PerSecond: 4000, CPU: &CPU{Nodes: 0.5, Redis: 0.1}},
					Steps: []Step{step(100, 2, 7, 31), step(700, 20, 199, 12)}, Presence: []Presence{{Keys: 10}},
					Observer: &Observer{Looks: 10},
				},
				{Name: "node", Steps: []Step{step(100, 3.6, 20, 52), step(700, 30, 300, 20)}},
			},
		}
	}
	const (
		rate      = "accepted connections"
		connect   = "server CPU per connect"
		p50       = "p50 at 10k deliveries/s"
		p99       = "p99 at 10k deliveries/s"
		p99top    = "p99 at 70,000 deliveries/s"
		ratioBase = "CPU per delivery against Node, 10,000/s"
		ratioTop  = "CPU per delivery against Node, 70,000/s"
		writes    = "CPU per delivery in write(2)s, saturated"
		delivery  = "lost, duplicated, out of order"
		presence  = "presence keys wrong for over 1 s"
		observer  = "disagreements an observer saw"
	)
	all := []string{rate, connect, p50, p99, p99top, ratioBase, ratioTop, writes, delivery, presence, observer}
	got := results(good())
	for _, what := range all {
		if got[what] != Pass {
			t.Errorf("%s: %q at the target, want pass", what, got[what])
		}
	}
	if len(got) != len(all) {
		t.Errorf("%d verdicts, want %d: %v", len(got), len(all), got)
	}
	for what, spoil := range map[string]func(edge *System){
		rate:      func(e *System) { e.Connect.PerSecond = 3999 },
		connect:   func(e *System) { e.Connect.CPU.Redis = 0.11 },
		p50:       func(e *System) { e.Steps[0].Latency.P50 = 2.01 },
		p99:       func(e *System) { e.Steps[0].Latency.P99 = 7.01 },
		p99top:    func(e *System) { e.Steps[1].Latency.P99 = 201 },
		ratioBase: func(e *System) { e.Steps[0].CPU.Nodes = 31.3 },
		ratioTop:  func(e *System) { e.Steps[1].CPU.Redis = 1.3 },
		writes:    func(e *System) { e.Steps[1].CPU.Nodes = 12 },
		delivery:  func(e *System) { e.Steps[1].Lost = 1 },
		presence:  func(e *System) { e.Presence[0].Wrong = 1 },
		observer:  func(e *System) { e.Observer.Disagreements = 1 },
	} {
		r := good()
		spoil(&r.Systems[0])
		if got := results(r)[what]; got != Miss {
			t.Errorf("%s: %q beyond the target, want a miss", what, got)
		}
	}
	failed := good()
	failed.Systems[0].Connect.Failed = 1
	if results(failed)[rate] != Miss {
		t.Error("a connection that failed passes")
	}
	for name, spoil := range map[string]func(edge *System){
		"duplicated":  func(e *System) { e.Steps[0].Duplicated = 1 },
		"reordered":   func(e *System) { e.Steps[0].Reordered = 1 },
		"misrouted":   func(e *System) { e.Steps[0].Misrouted = 1 },
		"other order": func(e *System) { e.Steps[0].Disagreeing = 1 },
		"dropped":     func(e *System) { e.Steps[0].Dropped = 1 },
	} {
		r := good()
		spoil(&r.Systems[0])
		if results(r)[delivery] != Miss {
			t.Errorf("%s does not spoil the delivery", name)
		}
	}
}

func TestJudgeSaysWhatWasNotMeasured(t *testing.T) {
	r := &Report{Scenario: "steady", Systems: []System{{Name: "edge", Steps: []Step{{Rate: 10, Nominal: 1000}}}}}
	got := results(r)
	for _, what := range []string{
		"p50 and p99 at 10k deliveries/s", "CPU per delivery against Node, 1,000/s",
		"CPU per delivery in write(2)s, saturated", "presence keys wrong for over 1 s",
		"disagreements an observer saw",
	} {
		if got[what] != Unknown {
			t.Errorf("%s: %q, want %q", what, got[what], Unknown)
		}
	}
	if v := Judge(&Report{Systems: []System{{Name: "node"}}}); v != nil {
		t.Errorf("the Node.js system alone was judged: %v", v)
	}
}

func TestJudgeObserverThatSawNothing(t *testing.T) {
	for name, o := range map[string]*Observer{
		"not there": {Missing: "Node.js is missing"}, "blind": {Looks: 10, Errors: 1, Error: "no connection"}, "asleep": {},
	} {
		r := &Report{Scenario: "steady", Systems: []System{{Name: "edge", Observer: o}}}
		if got := results(r)["disagreements an observer saw"]; got != Unknown {
			t.Errorf("%s: %q, want %q", name, got, Unknown)
		}
	}
}

func TestJudgeIdle(t *testing.T) {
	r := &Report{Scenario: "idle", Systems: []System{{
		Name: "edge", Memory: &Memory{NodesBefore: 1000, Nodes: 1000 + 2048*15_000, Conns: 15_000, MaxGoroutines: 64},
		Presence: []Presence{{Keys: 1}},
	}}}
	for what, result := range results(r) {
		if result != Pass {
			t.Errorf("%s: %q at the target", what, result)
		}
	}
	r.Systems[0].Memory.Nodes += 15_000
	r.Systems[0].Memory.MaxGoroutines = 65
	got := results(r)
	if got["memory per idle connection"] != Miss || got["goroutines of a node"] != Miss {
		t.Errorf("beyond the targets: %v", got)
	}
}
