package report

import (
	"strings"
	"testing"
)

func slowed() *Report {
	return &Report{Scenario: "slow-readers", Systems: []System{{
		Name: "edge", Nodes: 3, Presence: []Presence{{When: "loaded", Keys: 10}},
		SlowReaders: &SlowReaders{
			Slow: 500, Others: 4500, Rooms: 50, Nodes: 3, Counted: true, Closed: map[string]float64{"slow_reader": 300, "ping_timeout": 200},
			Times:        SlowTimes{First: 20.5, Half: 30, Last: 32.25},
			MemoryBefore: SlowMemory{Nodes: 100e6, Unsent: 1e6}, MemoryPeak: SlowMemory{Nodes: 600e6, Unsent: 51e6}, MemoryAfter: SlowMemory{Nodes: 200e6, Unsent: 2e6},
			Before: Latency{Count: 10, P99: 20}, During: Latency{Count: 10, P99: 22}, After: Latency{Count: 10, P99: 21},
			UsualBefore: 10, UsualDuring: 11, UsualAfter: 12,
		},
		Steps: []Step{{Rate: 100, Nominal: 1000}},
	}}}
}

func TestSlowReadersAreShownAndJudged(t *testing.T) {
	tests := []struct {
		name string
		harm func(*System)
		miss string // of the verdicts; "" if all pass
	}{
		{"well", func(*System) {}, ""},
		{"one lives on", func(s *System) { s.SlowReaders.Closed["slow_reader"] = 299 }, "slow readers closed"},
		{"for another reason", func(s *System) {
			s.SlowReaders.Closed = map[string]float64{"slow_reader": 499, "overloaded": 1}
		}, "as slow_reader"},
		{"nodes grow", func(s *System) { s.SlowReaders.MemoryPeak.Nodes = 3e9 }, "nodes grew"},
		{"queues grow", func(s *System) { s.SlowReaders.MemoryPeak.Unsent = 1.5e9 }, "send queues grew"},
		{"others wait", func(s *System) { s.SlowReaders.UsualDuring = 15.1 }, "the others' p99"},
		{"others lose", func(s *System) { s.Steps[0].Lost = 1 }, "lost"},
	}
	for _, tt := range tests {
		r := slowed()
		tt.harm(&r.Systems[0])
		missed := ""
		for _, v := range Judge(r) {
			if v.Result == Miss {
				missed += v.What
			}
		}
		if !strings.HasPrefix(missed, tt.miss) || (missed == "") != (tt.miss == "") {
			t.Errorf("%s: missed %q, want %q", tt.name, missed, tt.miss)
		}
	}
	text := Text(slowed())
	for _, want := range []string{"500 / 4500", "20.5 s", "32.2 s", "100 / 600 / 200 MB", "1 / 51 / 2 MB", "1000 KB", "100 KB", "20.0 ms / 22.0 ms / 21.0 ms", "10.0 ms / 11.0 ms / 12.0 ms", "200 × ping_timeout"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if Judge(&Report{Scenario: "slow-readers", Systems: []System{{Name: "edge"}}})[0].Result != Unknown {
		t.Error("a run in which nobody was slow is judged")
	}
}

func TestSlowTimes(t *testing.T) {
	var times SlowTimes
	for second, closed := range []int{0, 1, 1, 5, 9, 10, 10} {
		times.Seen(closed, 10, float64(second))
	}
	if times != (SlowTimes{First: 1, Half: 3, Last: 5}) {
		t.Errorf("%+v", times)
	}
}
