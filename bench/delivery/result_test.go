package delivery

import (
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/bench/report"
)

func TestTallyOf(t *testing.T) {
	harmed := time.Now()
	before, after, later := harmed.Add(-time.Second), harmed.Add(time.Second), harmed.Add(2*time.Second)
	returns := []Return{
		{Recovered: true, Session: before, At: before, Missed: 3}, // as before the fault
		{Session: before, At: after},                              // told, as it must be
		{Session: before, At: after, Away: 3 * time.Minute},       // too late anyway
		{Recovered: true, Session: before, At: after},             // a claim
		{Recovered: true, Session: after, At: later},              // as after the fault
		{Session: after, At: later},                               // told again
	}
	if got, want := TallyOf(returns, harmed), (Tally{6, 3, 3, 1, 3, 1, 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want := "a session from 1.00 s before it was given back 1.00 s after it\n" +
		"a session begun 1.00 s after it was lost: away from 2.00 s to 2.00 s after it"
	if got := strings.Join(Unexpected(returns, harmed), "\n"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := Unexpected(returns, time.Time{}); got != nil {
		t.Errorf("without a fault: %q", got)
	}
	if got, want := TallyOf(returns, time.Time{}), (Tally{6, 3, 3, 1, 3, 0, 0}); got != want {
		t.Errorf("without a fault: got %+v, want %+v", got, want)
	}
}

// scene is a run in which all is well.
func scene() System {
	return System{
		Name: "edge", IDs: true,
		Phases: []Phase{
			{Name: "drops", WellIn: 2, Returns: Tally{Returned: 200, Recovered: 199, Told: 1}, Metrics: map[string]map[string]int{"edge_recoveries_total": {"complete": 199, "expired": 1}}},
			{Name: "wrong-pid", WellIn: 2, Returns: Tally{Returned: 100, Recovered: 100},
				Group: &Group{Clients: 2, Returns: Tally{Returned: 4, Recovered: 2, Told: 2}, WantRecovered: 2, WantTold: 2, Findings: &Findings{}}},
			{Name: "failover", Told: true, WellIn: 2, Returns: Tally{Returned: 100, Told: 100}},
		},
		Findings: &Findings{Total: Counts{Received: 1000}, Phases: make([]Counts, 3)},
	}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name string
		harm func(*System)
		want string // a line of the text; "" if all is well
	}{
		{"well", func(*System) {}, ""},
		{"lost", func(s *System) { s.Findings.Phases[0].Lost, s.Findings.Total.Lost = 2, 2 }, "drops: within sessions: 2 lost"},
		{"twice", func(s *System) { s.Findings.Phases[0].Duplicated, s.Findings.Total.Duplicated = 1, 1 }, "1 twice"},
		{"never well", func(s *System) { s.Phases[0].WellIn = -1 }, "not every client got new messages"},
		{"too few recovered", func(s *System) { s.Phases[0].Returns = Tally{Returned: 200, Recovered: 196, Told: 4} }, "98.67 %, 296 of 300"},
		{"late ones do not count", func(s *System) { s.Phases[0].Returns = Tally{Returned: 204, Recovered: 200, Told: 4, Late: 4} }, ""},
		{"claimed", func(s *System) { s.Phases[2].Returns.Claimed = 1 }, "failover: 1 sessions from before were given back"},
		{"told again", func(s *System) { s.Phases[2].Returns.ToldAgain = 3 }, "3 sessions from after it were not given back"},
		{"the group's returns", func(s *System) { s.Phases[1].Group.Returns.Recovered = 1 }, "1 were recovered and 2 not, which should be 2 and 2"},
		{"the group's messages", func(s *System) { s.Phases[1].Group.Findings.Total.Stale = 1 }, "its own clients, within sessions: 0 lost, 0 twice, 0 out of order, 1 from before"},
		{"an old session's messages", func(s *System) { s.Phases[1].Group.Findings.Total.Again = 1 }, "1 messages of an old session again"},
		{"somebody is not there", func(s *System) { s.Absent = 1 }, "1 and 0"},
		{"ended early", func(s *System) { s.Broken = "edge-1 has ended" }, "FAIL  the run ended early: edge-1 has ended"},
		{"ended at once", func(s *System) { *s = System{Name: "edge", Broken: "no ports"} }, "no ports"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := scene()
			tt.harm(&s)
			s.Judge()
			if s.Passed() != (tt.want == "") {
				t.Errorf("passed is %v", s.Passed())
			}
			text := Text(&Run{Scenario: "chaos-delivery", Machine: report.Machine{CPUs: 2}, Systems: []System{s}})
			if tt.want == "" {
				tt.want = "pass  all 3 faults"
			}
			if !strings.Contains(text, tt.want) {
				t.Errorf("%q is not in\n%s", tt.want, text)
			}
		})
	}
}

func TestTextOfASystemOfWhichNothingIsPromised(t *testing.T) {
	s := scene()
	s.Name, s.IDs = "node", false
	s.Findings.Phases[0].Lost, s.Findings.Examples = 2, []string{"client1 lost 2"}
	s.Judge()
	text := Text(&Run{Systems: []System{s}})
	for _, want := range []string{"does not take message ids", "drops: within sessions: 2 lost", "client1 lost 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for _, no := range []string{"FAIL", "verdicts"} {
		if strings.Contains(text, no) {
			t.Errorf("%q is in\n%s", no, text)
		}
	}
}
