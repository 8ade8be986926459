package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Widths of the text's columns; a line of two systems has 38+2*20+10 = 88 characters.
const (
	labelWidth = 38
	valueWidth = 20
	ratioWidth = 10
)

// Text returns the report for a terminal.
func Text(r *Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n%s\n", headline(r), machineLine(r))
	if r.Floor != nil {
		floorText(&b, r.Floor)
		return b.String()
	}
	width := labelWidth + valueWidth*len(r.Systems)
	if len(r.Systems) >= 2 {
		width += ratioWidth
	}
	b.WriteString(strings.Repeat("─", width) + "\n" + pad("", labelWidth))
	for _, s := range r.Systems {
		b.WriteString(padLeft(systemTitle(&s), valueWidth))
	}
	if len(r.Systems) >= 2 {
		b.WriteString(padLeft("ratio", ratioWidth))
	}
	b.WriteByte('\n')
	for _, s := range sections(r) {
		fmt.Fprintf(&b, "\n%s\n", s.title)
		for _, row := range s.rows {
			b.WriteString(pad("  "+row.label, labelWidth))
			for _, v := range row.values {
				b.WriteString(padLeft(v, valueWidth))
			}
			if row.ratio != "" {
				b.WriteString(padLeft(row.ratio, ratioWidth))
			}
			b.WriteByte('\n')
		}
	}
	for _, s := range r.Systems {
		for _, reason := range slices.Sorted(maps.Keys(s.Failures)) {
			fmt.Fprintf(&b, "\n  %s: %d × %s", s.Name, s.Failures[reason], reason)
		}
		for _, line := range observed(&s) {
			fmt.Fprintf(&b, "\n  %s, %s", s.Name, line)
		}
	}
	saturationText(&b, r)
	verdicts(&b, r)
	return b.String()
}

func verdicts(b *strings.Builder, r *Report) {
	if len(r.Verdicts) == 0 {
		return
	}
	VerdictLines(b, "targets", r.Verdicts)
}

// VerdictLines writes verdicts under a title, one a line.
func VerdictLines(b *strings.Builder, title string, list []Verdict) {
	fmt.Fprintf(b, "\n%s\n", title)
	width := 44
	for _, v := range list {
		width = max(width, utf8.RuneCountInString(v.What)+1)
	}
	for _, v := range list {
		mark := map[Result]string{Pass: "pass", Miss: "MISS", Unknown: "  – "}[v.Result]
		fmt.Fprintf(b, "  %s  %s %s  %s\n", mark, pad(v.What, width), pad(v.Target, 14), v.Got)
	}
}

func headline(r *Report) string {
	l := r.Load
	if r.Scenario == "heartbeat" {
		return fmt.Sprintf("heartbeat: what an idle node sends to Redis, counted for %.0f s", l.Seconds)
	}
	if r.Scenario == "moves" {
		return fmt.Sprintf("moves: %s connections to one of two nodes; ratios are of %s to %s", thousands(float64(l.Conns)), WayMoved, WayHere)
	}
	if r.Scenario == "floor" {
		return "floor: what a delivery costs a program that does nothing but write it"
	}
	s := fmt.Sprintf("%s: %s connections", r.Scenario, thousands(float64(l.Conns)))
	switch {
	case l.Rooms == 1:
		s += " in one room"
	case l.Rooms > 1:
		s += fmt.Sprintf(" in %s rooms", thousands(float64(l.Rooms)))
	}
	switch r.Scenario {
	case "steady", "journal", "coalescing", "tiny-rooms", "slow-readers", scenarioSaturation:
		s += fmt.Sprintf(", messages of %d bytes, %.0f s warm-up, %.0f s measured", l.PayloadBytes, l.WarmupSeconds, l.Seconds)
	}
	return s
}

func machineLine(r *Report) string { return r.Machine.Line() }

// Line is the machine in one line.
func (m *Machine) Line() string {
	return fmt.Sprintf("%d × %s, %.0f GB, Linux %s; one write(2) to loopback costs %.1f µs CPU",
		m.CPUs, m.Model, m.MemoryGB, m.Kernel, m.LoopbackWriteUS)
}

// shortTitle tells systems of one report apart.
func shortTitle(s *System) string {
	if s.Title != "" {
		return s.Name + ", " + s.Title
	}
	return s.Name
}

func systemTitle(s *System) string {
	switch {
	case s.Title != "":
		return s.Title
	case s.Nodes == 1:
		return s.Name
	}
	return fmt.Sprintf("%s (%d nodes)", s.Name, s.Nodes)
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 1))
}

func padLeft(s string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 1)) + s
}
