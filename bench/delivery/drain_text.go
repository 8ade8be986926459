package delivery

import (
	"fmt"
	"strings"

	"github.com/stellara/edge/bench/report"
)

// Text returns the run for a terminal: what each restart was like, second by second, and the verdicts.
func (r *DrainRun) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %d clients in %d rooms on %d nodes behind HAProxy, %g messages per second; DRAIN_DELAY %gs, DRAIN_WINDOW %gs, MAX_CONNS %d\n%s\n\n",
		r.Scenario, r.Clients, r.Rooms, r.Nodes, r.Rate, r.DelaySeconds, r.WindowSeconds, r.MaxConns, r.Machine.Line())
	report.Columns(&b, "restarted\tconns\tclosed\tearly\tlate\tfullest tenth\tended after\tmost conns on a node\treturns\trecovered\tlost\ttwice\torder\t", func(row func(...any)) {
		for i := range r.Restarts {
			s := &r.Restarts[i]
			var t Tally
			var c Counts
			if i < len(r.System.Phases) {
				t, c = r.System.Phases[i].Returns, r.System.Phases[i].Counts
			}
			row(s.Node, s.Conns, len(s.Closed), s.Early, s.Late, fmt.Sprintf("%.2f ×", s.Peak), fmt.Sprintf("%.1f s", s.Exit.Seconds()), s.Most,
				t.Returned, t.Recovered, c.Lost, c.Duplicated, c.OutOfOrder)
		}
	})
	b.WriteString("\nclients that lost their connection, and that came back, in each second from the signal on\n")
	for i := range r.Restarts {
		s := &r.Restarts[i]
		fmt.Fprintf(&b, "  %s  closed    %s\n", s.Node, row(s.ByClosed))
		fmt.Fprintf(&b, "  %s  returned  %s\n", strings.Repeat(" ", len(s.Node)), row(s.ByBack))
	}
	r.System.results(&b)
	r.System.met(&b)
	report.VerdictLines(&b, "verdicts", r.Verdicts)
	if f := r.System.Findings; f != nil {
		for _, line := range f.Examples {
			fmt.Fprintf(&b, "        %s\n", line)
		}
	}
	if r.System.Broken != "" {
		fmt.Fprintf(&b, "FAIL  the run ended early: %s\n", r.System.Broken)
	}
	return b.String()
}

// row is counts in columns.
func row(counts []int) string {
	var b strings.Builder
	for _, n := range counts {
		fmt.Fprintf(&b, "%5d", n)
	}
	return b.String()
}
