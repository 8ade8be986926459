package chaos

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Run is everything one run found out.
type Run struct {
	Scenario string    `json:"scenario"`
	Started  time.Time `json:"started"`
	Nodes    int       `json:"nodes"`
	Users    int       `json:"users"`
	Devices  int       `json:"devices"` // connections, observers included
	Rooms    int       `json:"rooms"`
	Churn    float64   `json:"churn_per_second"`
	Faults   []Result  `json:"faults"`
	Broken   string    `json:"broken,omitempty"` // what ended the run early
	Pass     bool      `json:"pass"`
}

// Result is what came of one fault.
type Result struct {
	Fault        string   `json:"fault"`
	What         string   `json:"what"`
	From         string   `json:"counted_from"` // what the time to be right is counted from
	Right        bool     `json:"right"`        // at the end the keys were right and stayed so
	RightSeconds float64  `json:"right_seconds"`
	LimitSeconds float64  `json:"limit_seconds"` // 0: none but the patience
	Waited       float64  `json:"waited_seconds"`
	After        Diff     `json:"after"`
	Stranded     int      `json:"stranded"` // clients that did not get through at the end
	Worst        Diff     `json:"worst"`    // each number's worst, from the fault on
	Blind        int      `json:"looks_failed"`
	Looks        int      `json:"looks"`
	Leaves       *Leaves  `json:"leaves,omitempty"`
	Lists        Lists    `json:"lists"`
	Events       Events   `json:"events"`
	Failures     []string `json:"failures,omitempty"`
}

// Judge fills Failures with everything that must not be.
func (r *Result) Judge() {
	fail := func(format string, args ...any) { r.Failures = append(r.Failures, fmt.Sprintf(format, args...)) }
	switch {
	case !r.Right:
		fail("the keys did not become right within %.0f s: %d ghosts, %d missing, %d clients on their way",
			r.Waited, r.After.Ghosts(), r.After.Missing(), r.Stranded)
	case r.LimitSeconds > 0 && r.RightSeconds > r.LimitSeconds:
		fail("the keys were right after %.1f s, allowed are %.0f s", r.RightSeconds, r.LimitSeconds)
	}
	if l := r.Leaves; l != nil {
		if l.Pairs-l.Late == 0 || l.Observers == 0 {
			fail("no leave could be judged: %d pairs, %d of them late, %d observers", l.Pairs, l.Late, l.Observers)
		}
		if !l.Right() {
			fail("of the leaves due %d were missed and %d seen more than once; %d were seen that were none", l.Missed, l.More, l.Uncalled)
		}
		if l.Broken > 0 {
			fail("%d observers lost their connection", l.Broken)
		}
	}
	if r.Lists.Wrong > 0 {
		fail("the lists of %d of %d observers are wrong", r.Lists.Wrong, r.Lists.Observers)
	}
	if r.Events.Unparsed > 0 {
		fail("%d presence updates could not be read", r.Events.Unparsed)
	}
}

// details are lines about what went wrong, for people.
func (r *Result) details() (lines []string) {
	lines = append(lines, r.After.Examples...)
	if r.Leaves != nil {
		lines = append(lines, r.Leaves.Examples...)
	}
	lines = append(lines, r.Lists.Examples...)
	return lines
}

// lines tells what clients met, one line each.
func (e *Events) lines() (lines []string) {
	for _, kind := range []struct {
		name   string
		counts map[string]int
	}{{"connections lost", e.Lost}, {"refused", e.Refused}, {"connects failed", e.Failed}} {
		for _, what := range slices.Sorted(maps.Keys(kind.counts)) {
			lines = append(lines, fmt.Sprintf("%s: %d × %s", kind.name, kind.counts[what], what))
		}
	}
	return lines
}
