package delivery

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stellara/edge/bench/report"
)

// Text returns the run for a terminal: tables, and what failed.
func Text(r *Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %d clients in %d rooms on %d nodes, %g messages per second; each client is dropped every %g s for %g s\n%s\n",
		r.Scenario, r.Clients, r.Rooms, r.Nodes, r.Rate, r.EverySeconds, r.AwaySeconds, r.Machine.Line())
	for i := range r.Systems {
		r.Systems[i].text(&b)
	}
	b.WriteString("\nLost, twice and order count within sessions, which a return that is not recovered ends; told and missed are what\n" +
		"clients were told of: returns that were not recovered, and the messages between two sessions. Torn is what was\n" +
		"missing when a node ended the connection for it, behind which the client had got others. Well in is the time\n" +
		"from the end of the fault, or from the kill, until every client had a message published after it.\n")
	return b.String()
}

func (s *System) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s\n", s.Name)
	report.Columns(b, "fault\t\treturns\trecovered\ttold\tlost\ttwice\torder\tstrange\ttorn\tmissed\twell in\tverdict\t", func(row func(...any)) {
		for i := range s.Phases {
			p := &s.Phases[i]
			c, t := &p.Counts, &p.Returns
			row(p.Name, p.What, t.Returned, t.Recovered, t.Told, c.Lost, c.Duplicated, c.OutOfOrder, c.Stale+c.Strange, c.Torn, c.Missed,
				seconds(p.WellIn), s.word(len(p.Failures) == 0))
		}
	})
	s.groups(b)
	s.results(b)
	s.met(b)
	if len(s.Verdicts) > 0 && s.judged() {
		report.VerdictLines(b, "verdicts", s.Verdicts)
	}
	s.failures(b)
}

// judged reports whether anything is promised of this system.
func (s *System) judged() bool { return s.Name == "edge" }

func (s *System) word(ok bool) string {
	switch {
	case !s.judged():
		return "–"
	case ok:
		return "pass"
	}
	return "FAIL"
}

func seconds(v float64) string {
	if v < 0 {
		return "never"
	}
	return fmt.Sprintf("%.1f s", v)
}

// groups shows the phases that have clients of their own.
func (s *System) groups(b *strings.Builder) {
	if !slices.ContainsFunc(s.Phases, func(p Phase) bool { return p.Group != nil }) {
		return
	}
	b.WriteString("\nclients of a phase's own\n")
	report.Columns(b, "phase\tclients\trecovered\tof\ttold\tof\treceived\tlost\ttwice\torder\tfrom before\tstrange\tagain\t", func(row func(...any)) {
		for _, p := range s.Phases {
			if g := p.Group; g != nil && g.Findings != nil {
				c := g.Findings.Total
				row(p.Name, g.Clients, g.Returns.Recovered, g.WantRecovered, g.Returns.Told, g.WantTold,
					c.Received, c.Lost, c.Duplicated, c.OutOfOrder, c.Stale, c.Strange, c.Again)
			}
		}
	})
}

// results shows what the nodes counted.
func (s *System) results(b *strings.Builder) {
	s.counted(b, "recoveries by result, as the nodes count them", "edge_recoveries_total")
	s.counted(b, "connections ended by the nodes, by reason", "edge_closes_total")
	s.counted(b, "gaps repaired by the nodes, by cause", "edge_gap_repairs_total")
	s.counted(b, "gaps that could not be repaired, by cause", "edge_gap_repair_failures_total")
}

func (s *System) counted(b *strings.Builder, title, metric string) {
	all := map[string]bool{}
	for _, p := range s.Phases {
		for name := range p.Metrics[metric] {
			all[name] = true
		}
	}
	if len(all) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(all))
	fmt.Fprintf(b, "\n%s\n", title)
	report.Columns(b, "fault\t"+strings.Join(names, "\t")+"\t", func(row func(...any)) {
		for _, p := range s.Phases {
			cells := []any{p.Name}
			for _, name := range names {
				cells = append(cells, p.Metrics[metric][name])
			}
			row(cells...)
		}
	})
}

// met lists what clients and publishers met.
func (s *System) met(b *strings.Builder) {
	p := &s.Publishers
	fmt.Fprintf(b, "\npublished %d messages, the longest acknowledgement took %.1f s; repeated: %s; refused: %s\n",
		p.Published, p.Longest.Seconds(), list(p.Repeated), list(p.Refused))
	if !s.IDs {
		b.WriteString("the server ignores or does not take message ids: a message that is repeated may come twice\n")
	}
	fmt.Fprintf(b, "connections lost: %s\nconnects failed: %s\n", list(s.Events.Lost), list(s.Events.Failed))
	if len(s.Events.Refused) > 0 {
		fmt.Fprintf(b, "refused: %s\n", list(s.Events.Refused))
	}
}

// list shows counts by name.
func list(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d × %s", counts[name], name))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// failures lists what failed, with examples. Of a system of which nothing is promised they are findings.
func (s *System) failures(b *strings.Builder) {
	mark := "FAIL"
	if !s.judged() {
		mark = "    "
	}
	b.WriteByte('\n')
	for _, p := range s.Phases {
		for _, line := range p.Failures {
			fmt.Fprintf(b, "%s  %s: %s\n", mark, p.Name, line)
		}
		for _, line := range p.Examples {
			fmt.Fprintf(b, "        %s\n", line)
		}
		if p.Group != nil && p.Group.Findings != nil {
			for _, line := range p.Group.Findings.Examples {
				fmt.Fprintf(b, "        %s\n", line)
			}
		}
	}
	if s.Findings != nil {
		for _, line := range s.Findings.Examples {
			fmt.Fprintf(b, "        %s\n", line)
		}
	}
	switch {
	case s.Broken != "":
		fmt.Fprintf(b, "FAIL  the run ended early: %s\n", s.Broken)
	case !s.judged():
	case s.Passed():
		fmt.Fprintf(b, "pass  all %d faults\n", len(s.Phases))
	default:
		fmt.Fprintf(b, "FAIL  %s\n", s.Name)
	}
}
