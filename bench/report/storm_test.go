package report

import (
	"strings"
	"testing"
)

func stormy() *Report {
	storm := Storm{Cut: 5000, Returned: 5000, Recovered: 5000, LastSeconds: 1.5, PerSecond: 4000, Joined: 15_000, RSSBefore: 50e6, RSSPeak: 70e6, RSSAfter: 55e6, During: Latency{P99: 80}}
	return &Report{Scenario: "storm", Systems: []System{{
		Name: "edge", Nodes: 3, Presence: []Presence{{When: "after storm 1", Keys: 10}}, Steps: []Step{{Rate: 100, Nominal: 1000}},
		Storms: &Storms{Clients: 5000, Steady: 500, Each: []Storm{storm, storm}, Before: Latency{P99: 3}},
	}}}
}

func TestStormsAreShownAndJudged(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(*Storms)
		miss string // of the verdicts; "" if all pass
	}{
		{"well", func(*Storms) {}, ""},
		{"not all are back", func(s *Storms) { s.Each[1].Absent = 2 }, "clients back in their rooms"},
		{"not all were cut", func(s *Storms) { s.Each[0].Cut = 4999 }, "clients back in their rooms"},
		{"too few recovered", func(s *Storms) { s.Each[0].Recovered = 4000 }, "of them recovered"},
		{"lost", func(s *Storms) { s.Lost = 1 }, "theirs: lost"},
		{"told to have left", func(s *Storms) { s.Each[1].Left = 1 }, "updates with left"},
		{"flooded", func(s *Storms) { s.Each[1].Joined = 5000 * 9 }, "updates with joined"},
		{"memory stays", func(s *Storms) { s.Each[1].RSSAfter = 69e6 }, "memory after the last storm"},
		{"slow", func(s *Storms) { s.Each[1].During.P99 = 300 }, "the others' message p99 meanwhile"},
	} {
		r := stormy()
		tt.harm(r.Systems[0].Storms)
		checkMissed(t, tt.name, r, tt.miss)
	}
	r := stormy()
	r.Systems[0].Storms.Each[0].Refusals = map[string]float64{"rate_limited": 120}
	text := Text(r)
	for _, want := range []string{"5000 / 5000", "1.50 / 1.50", "120 / 0", "50 / 50", "70 / 70", "3.0 / 3.0", "storm 1: 120 × refused, rate_limited"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if Judge(&Report{Scenario: "storm", Systems: []System{{Name: "edge"}}})[0].Result != Unknown {
		t.Error("a run without a storm is judged")
	}
}

// checkMissed compares the verdicts that are missed with the one that should be, "" for none.
func checkMissed(t *testing.T, name string, r *Report, want string) {
	t.Helper()
	missed := ""
	for _, v := range Judge(r) {
		if v.Result == Miss {
			missed += v.What
		}
	}
	if !strings.HasPrefix(missed, want) || (missed == "") != (want == "") {
		t.Errorf("%s: missed %q, want %q", name, missed, want)
	}
}

func TestComingsAreShownAndJudged(t *testing.T) {
	make := func() *Report {
		return &Report{Scenario: "churn", Systems: []System{{
			Name: "edge", Nodes: 3, Presence: []Presence{{Keys: 10}}, Steps: []Step{{Rate: 100, Nominal: 1000}},
			Comings: &Comings{
				Steady: 1000, Rate: 200, Begun: 12_000, Lives: 12_000, PerSecond: 199.9, CPU: CPU{Nodes: 6, Redis: 6},
				Start: Leftovers{RSS: 60e6, Files: 1100, Goroutines: 130, Sockets: 1000}, After: Leftovers{RSS: 66e6, Files: 1101, Goroutines: 131, Sockets: 1000},
			},
		}}}
	}
	for _, tt := range []struct {
		name string
		harm func(*Comings)
		miss string
	}{
		{"well", func(*Comings) {}, ""},
		{"failed", func(c *Comings) { c.Failed = 1 }, "lives that failed"},
		{"sockets", func(c *Comings) { c.After.Sockets++ }, "sockets left"},
		{"files", func(c *Comings) { c.After.Files += 20 }, "open files left"},
		{"goroutines", func(c *Comings) { c.After.Goroutines += 20 }, "goroutines left"},
		{"memory", func(c *Comings) { c.After.RSS = 90e6 }, "memory growth"},
	} {
		r := make()
		tt.harm(r.Systems[0].Comings)
		checkMissed(t, tt.name, r, tt.miss)
	}
	text := Text(make())
	for _, want := range []string{"12,000 / 0", "200 / 199.9", "1.00 ms", "60.0 / 66.0", "1100 / 1101"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
