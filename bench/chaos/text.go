package chaos

import (
	"fmt"
	"strings"

	"github.com/stellara/edge/bench/report"
)

// Text returns the run for a terminal: tables, and what failed.
func Text(r *Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %d users with %d connections in %d rooms on %d nodes, %.0f operations of churn per second\n\n",
		r.Scenario, r.Users, r.Devices, r.Rooms, r.Nodes, r.Churn)
	report.Columns(&b, "fault\t\tright after\tallowed\tghosts\tmissing\tworst ghosts\tworst missing\tlists wrong\tverdict\t", func(row func(...any)) {
		for i := range r.Faults {
			f := &r.Faults[i]
			right, allowed, verdict := fmt.Sprintf("%.1f s", f.RightSeconds), "–", "pass"
			if !f.Right {
				right = fmt.Sprintf("> %.0f s", f.Waited)
			}
			if f.LimitSeconds > 0 {
				allowed = fmt.Sprintf("%.0f s", f.LimitSeconds)
			}
			if len(f.Failures) > 0 {
				verdict = "FAIL"
			}
			row(f.Fault, f.What, right, allowed, f.After.Ghosts(), f.After.Missing(), f.Worst.Ghosts(), f.Worst.Missing(),
				fmt.Sprintf("%d of %d", f.Lists.Wrong, f.Lists.Observers), verdict)
		}
	})
	b.WriteString("\nTimes count from the kill, or from the end of the fault, to the first of the looks at the keys that were\n" +
		"all right until the end. Ghosts are in Redis and not in truth, missing the other way round; worst is while the\n" +
		"fault lasted and until it was healed, without what was under way or younger than a second.\n")
	kinds(&b, r)
	leaves(&b, r)
	failures(&b, r)
	return b.String()
}

// kinds shows the same numbers by kind of key.
func kinds(b *strings.Builder, r *Run) {
	b.WriteString("\nby key: ghosts / missing\n")
	report.Columns(b, "fault\tworst online\tworst rooms\tworst sockets\tleft online\tleft rooms\tleft sockets\tlooks\tunanswered\t", func(row func(...any)) {
		pair := func(c Count) string { return fmt.Sprintf("%d / %d", c.Ghosts, c.Missing) }
		for i := range r.Faults {
			f := &r.Faults[i]
			row(f.Fault, pair(f.Worst.Online), pair(f.Worst.Rooms), pair(f.Worst.Sockets),
				pair(f.After.Online), pair(f.After.Rooms), pair(f.After.Sockets), f.Looks, f.Blind)
		}
	})
}

// leaves shows what observers on other nodes were told about the users of a killed one.
func leaves(b *strings.Builder, r *Run) {
	judged := false
	for i := range r.Faults {
		judged = judged || r.Faults[i].Leaves != nil
	}
	if !judged {
		return
	}
	b.WriteString("\nleaves of (room, user) pairs of the killed node, at the observers of the other nodes\n")
	report.Columns(b, "fault\tpairs\tobservers\tdue\tseen once\tmore often\tmissed\tnot due\tseen all the same\tback late\t", func(row func(...any)) {
		for i := range r.Faults {
			f := &r.Faults[i]
			if l := f.Leaves; l != nil {
				row(f.Fault, l.Pairs, l.Observers, l.Expected, l.Once, l.More, l.Missed, l.Silent, l.Uncalled, l.Late)
			}
		}
	})
}

// failures lists what clients met, what failed, and examples of it.
func failures(b *strings.Builder, r *Run) {
	b.WriteByte('\n')
	for i := range r.Faults {
		f := &r.Faults[i]
		for _, line := range f.Events.lines() {
			fmt.Fprintf(b, "%s: %s\n", f.Fault, line)
		}
	}
	b.WriteByte('\n')
	failed := 0
	for i := range r.Faults {
		f := &r.Faults[i]
		if len(f.Failures) == 0 {
			continue
		}
		failed++
		for _, line := range f.Failures {
			fmt.Fprintf(b, "FAIL  %s: %s\n", f.Fault, line)
		}
		for _, line := range f.details() {
			fmt.Fprintf(b, "        %s\n", line)
		}
	}
	if r.Broken != "" {
		fmt.Fprintf(b, "FAIL  the run ended early: %s\n", r.Broken)
	} else if failed == 0 {
		fmt.Fprintf(b, "pass  all %d faults\n", len(r.Faults))
	} else {
		fmt.Fprintf(b, "FAIL  %d of %d faults\n", failed, len(r.Faults))
	}
}
