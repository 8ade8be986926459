package report

import (
	"strings"
	"testing"
)

func recovered() *Report {
	return &Report{Scenario: "recovery", Systems: []System{{
		Name: "edge", Nodes: 3, Presence: []Presence{{When: "loaded", Keys: 10}},
		Recovery: &Recovery{
			Clients: 5000, Returned: 5000, Recovered: 4990, LastSeconds: 1.25, Results: map[string]float64{"complete": 4990, "expired": 10},
			JournalReads: 40, JournalCallers: 4990, Replayed: 12000, Before: Latency{Count: 10, P99: 3}, During: Latency{Count: 5, P99: 44},
		},
		Steps: []Step{{Rate: 100, Nominal: 1000}},
	}}}
}

func TestRecoveryIsShownAndJudged(t *testing.T) {
	tests := []struct {
		name string
		harm func(*Recovery)
		miss string // of the verdicts; "" if all pass
	}{
		{"well", func(*Recovery) {}, ""},
		{"not all are back", func(r *Recovery) { r.Absent = 2 }, "clients back in their rooms"},
		{"too few recovered", func(r *Recovery) { r.Recovered = 4900 }, "of them recovered"},
		{"lost", func(r *Recovery) { r.Lost = 1 }, "theirs: lost"},
		{"twice", func(r *Recovery) { r.Duplicated = 1 }, "theirs: lost"},
		{"slow", func(r *Recovery) { r.During.P99 = 300 }, "the others' message p99 meanwhile"},
	}
	for _, tt := range tests {
		r := recovered()
		tt.harm(r.Systems[0].Recovery)
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
	text := Text(recovered())
	for _, want := range []string{"5000 / 5000 / 4990", "1.25 s", "40 / 4,990", "recoveries: 10 × expired", "3.00 ms / 44.0 ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if Judge(&Report{Scenario: "recovery", Systems: []System{{Name: "edge"}}})[0].Result != Unknown {
		t.Error("a run without a recovery is judged")
	}
}

func TestJournalComparesRedisPerPublished(t *testing.T) {
	step := func(redis float64) []Step {
		return []Step{{Rate: 100, Nominal: 1000, Published: 1000, Delivered: 10_000, CPU: &CPU{Nodes: 1, Redis: redis}}}
	}
	r := &Report{Scenario: "journal", Systems: []System{
		{Name: "edge", Title: "RECOVERY=on", Steps: step(0.2)}, {Name: "edge", Title: "RECOVERY=off", Steps: step(0.1)},
	}}
	r.Verdicts = Judge(r)
	text := Text(r)
	for _, want := range []string{"RECOVERY=on", "200 µs", "100 µs", "2.00 ×", "RECOVERY=off: lost"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
