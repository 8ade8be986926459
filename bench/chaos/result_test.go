package chaos

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	good := func() Result {
		return Result{
			Fault: "kill-away", Right: true, RightSeconds: 12, LimitSeconds: 20, Lists: Lists{Observers: 6},
			Leaves: &Leaves{Pairs: 3, Observers: 4, Expected: 9, Once: 9},
		}
	}
	tests := []struct {
		name   string
		change func(*Result)
		want   string // in the one failure; "" for none
	}{
		{"good", func(*Result) {}, ""},
		{"without a limit", func(r *Result) { r.LimitSeconds, r.RightSeconds, r.Leaves = 0, 50, nil }, ""},
		{"late", func(r *Result) { r.RightSeconds = 20.1 }, "after 20.1 s"},
		{"never right", func(r *Result) { r.Right, r.Waited, r.After.Online.Ghosts = false, 60, 7 }, "7 ghosts"},
		{"missed", func(r *Result) { r.Leaves.Missed = 1 }, "1 were missed"},
		{"nothing to judge", func(r *Result) { r.Leaves.Late = 3 }, "no leave could be judged"},
		{"observers lost", func(r *Result) { r.Leaves.Broken = 2 }, "2 observers"},
		{"lists", func(r *Result) { r.Lists.Wrong = 1 }, "lists of 1 of 6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.change(&r)
			r.Judge()
			if tt.want == "" && len(r.Failures) > 0 || tt.want != "" && (len(r.Failures) != 1 || !strings.Contains(r.Failures[0], tt.want)) {
				t.Errorf("failures %q, want %q", r.Failures, tt.want)
			}
		})
	}
}

func TestTextSaysWhatFailed(t *testing.T) {
	run := &Run{Scenario: "chaos-presence", Users: 10, Devices: 14, Rooms: 3, Nodes: 3, Churn: 5, Faults: []Result{
		{Fault: "flush", What: "FLUSHALL", Right: true, RightSeconds: 1.25, Events: Events{Lost: map[string]int{"EOF": 3}}},
		{Fault: "pause", What: "stopped", Waited: 60, LimitSeconds: 20, After: Diff{Rooms: Count{Ghosts: 4}, Examples: []string{"room:r:users has ada"}}},
	}}
	for i := range run.Faults {
		run.Faults[i].Judge()
	}
	text := Text(run)
	for _, want := range []string{"1.2 s", "> 60 s", "pass", "FAIL  pause: the keys did not become right", "room:r:users has ada", "3 × EOF", "FAIL  1 of 2 faults"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "leaves of") {
		t.Error("a table of leaves without any")
	}
}
