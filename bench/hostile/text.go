package hostile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stellara/edge/bench/report"
)

// Text returns the run for a terminal: tables, and what failed.
func Text(r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nhostile: %d clients that stay and %d that return, in %d rooms on one node, %g messages per second; %g s of quiet, then %g s of %g attacks per second from %d addresses\n%s\n",
		r.Staying, r.Returning, r.Rooms, r.Rate, r.QuietSeconds, r.Seconds, r.Plan.Rate, r.Plan.Sources, r.Machine.Line())
	r.useText(&b)
	r.attacksText(&b)
	r.reasonsText(&b)
	report.VerdictLines(&b, "verdicts", r.Verdicts)
	for _, e := range r.examples() {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	fmt.Fprintf(&b, "\nThe bound of memory is the most in quiet, %.0f MB, and twice %.0f MB: the most attacks of each kind that were under way at once,\n"+
		"each with the most that it can make a node keep. Twice, because garbage is collected when it is half of that, and given back later.\n",
		r.quiet()/1e6, float64(r.Tally.Bound())/1e6)
	return b.String()
}

func (r *Result) quiet() float64 {
	if len(r.Phases) == 0 {
		return 0
	}
	return float64(r.Phases[0].Use.MostRSS)
}

func (r *Result) examples() []string {
	if r.Findings == nil {
		return nil
	}
	return r.Findings.Examples
}

func (r *Result) useText(b *strings.Builder) {
	b.WriteString("\nthe node and its clients\n")
	report.Columns(b, "\tRSS\tgoroutines\tdescriptors\tCPU\tp50\tp99\tmax\treturns\trecovered\tdisconnected\t", func(row func(...any)) {
		for i := range r.Phases {
			p := &r.Phases[i]
			u := &p.Use
			row(PhaseName(i), fmt.Sprintf("%.0f-%.0f MB", float64(u.LeastRSS)/1e6, float64(u.MostRSS)/1e6), fmt.Sprintf("%.0f-%.0f", u.LeastGoroutines, u.MostGoroutines),
				fmt.Sprintf("%.0f-%.0f", u.LeastFiles, u.MostFiles), fmt.Sprintf("%.1f s", u.LastCPU-u.FirstCPU),
				fmt.Sprintf("%.1f ms", p.Latency.P50), fmt.Sprintf("%.1f ms", p.Latency.P99), fmt.Sprintf("%.0f ms", p.Latency.Max),
				p.Returns.Returned, p.Returns.Recovered, p.Disconnected())
		}
	})
}

func (r *Result) attacksText(b *strings.Builder) {
	fmt.Fprintf(b, "\n%d attacks, and %d more that did not begin because too many were under way\n", r.Tally.Begun(), r.Tally.Skipped)
	report.Columns(b, "kind\tattacks\tat a time\tkeeps at most\tno connection\trefused\tended\tserved\tleft\t", func(row func(...any)) {
		for _, name := range slices.Sorted(maps.Keys(r.Tally.Kinds)) {
			c := r.Tally.Kinds[name]
			row(name, c.Begun, c.Most, fmt.Sprintf("%.0f KB", float64(c.Holds)/1e3), c.Results[Failed], c.Results[Refused], c.Results[Ended], c.Results[Served], c.Results[Left])
		}
	})
}

// reasonsText shows what the node itself says that it did under attack.
func (r *Result) reasonsText(b *strings.Builder) {
	if len(r.Phases) < 2 {
		return
	}
	for _, what := range slices.Sorted(maps.Keys(r.Phases[1].Reasons)) {
		var parts []string
		for _, reason := range slices.Sorted(maps.Keys(r.Phases[1].Reasons[what])) {
			parts = append(parts, fmt.Sprintf("%s %.0f", reason, r.Phases[1].Reasons[what][reason]))
		}
		fmt.Fprintf(b, "\n%s by the node under attack: %s\n", what, strings.Join(parts, ", "))
	}
}
