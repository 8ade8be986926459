package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Widths of a comparison's columns; a line has 100 characters.
const (
	cmpLabel  = 34
	cmpValue  = 12
	cmpRatio  = 9
	cmpTrials = 17
	cmpTarget = 11
	cmpTrial  = 10 // a figure in the list of all trials
	cmpName   = 40 // what it is of
)

// notes explain the columns and the figures that are computed.
func (c *Comparison) notes() []string {
	notes := []string{
		"figures are medians of the trials; a ratio is the median of the trials' ratios, of the edge to Node.js in the same trial",
		"server CPU is that of all nodes and Redis; RECOVERY is off where nothing else is said",
		WithoutClientFormula,
		OnAllCoresFormula,
	}
	if floor := c.floor(); !math.IsNaN(floor) && floor > 0 {
		notes = append(notes, fmt.Sprintf("a bare write costs %.2f µs: the CPU of writing a message to one of %s sockets in turn, with no server around it",
			floor, thousands(float64(c.Floors[0].Sockets))))
	}
	return notes
}

// headline says what was compared.
func (c *Comparison) headline() string {
	trials := "one trial"
	if c.Planned > 1 {
		trials = fmt.Sprintf("%d trials of each part", c.Planned)
	}
	s := fmt.Sprintf("the edge against Node.js with @socket.io/redis-adapter, %s, %.0f minutes", trials, c.Seconds/60)
	if c.Quick {
		s += "; a quick try-out, of which no figure counts"
	}
	return s
}

// ComparisonText returns the comparison for a terminal.
func ComparisonText(c *Comparison) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n%s\n%s\n", c.headline(), c.Machine.Line(), strings.Repeat("─", 100))
	b.WriteString(pad("", cmpLabel) + padLeft("edge", cmpValue) + padLeft("Node.js", cmpValue) + padLeft("ratio", cmpRatio) +
		padLeft("in each trial", cmpTrials) + padLeft("target", cmpTarget) + "\n")
	for i := range c.Parts {
		p := &c.Parts[i]
		fmt.Fprintf(&b, "\n%s\n", p.heading())
		for _, r := range c.compare(p) {
			if r.group != "" {
				fmt.Fprintf(&b, "  %s\n", r.group)
			}
			r.line(&b)
		}
		p.endings(&b)
	}
	b.WriteByte('\n')
	for _, note := range c.notes() {
		fmt.Fprintf(&b, "  %s\n", note)
	}
	c.trialLines(&b)
	c.complaints(&b)
	VerdictLines(&b, "targets", c.Judge())
	return b.String()
}

// line writes the medians of one figure, and those of the edge with RECOVERY=on below it.
func (r *compared) line(b *strings.Builder) {
	target, mark := "", ""
	if v, ok := r.verdict(""); ok {
		target, mark = v.Target, map[Result]string{Pass: " pass", Miss: " MISS", Unknown: "  –"}[v.Result]
	}
	cells := func(label string, edge []float64, target, mark string) {
		ratios := r.ratios(edge)
		b.WriteString(strings.TrimRight(pad("  "+label, cmpLabel)+padLeft(r.cell(Median(edge)), cmpValue)+padLeft(r.cell(Median(r.node)), cmpValue)+
			padLeft(ratioCell(Median(ratios)), cmpRatio)+padLeft(ratioCells(ratios), cmpTrials)+padLeft(target, cmpTarget)+mark, " ") + "\n")
	}
	cells(r.label, r.edge, target, mark)
	if r.recovery != nil {
		cells("    with RECOVERY=on", r.recovery, "", "")
	}
}

// cell shows a value, or that there is none.
func (r *compared) cell(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return r.show(v)
}

func ratioCell(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return showTimes(v)
}

// ratioCells are the ratios of all trials.
func ratioCells(ratios []float64) string {
	var cells []string
	for _, v := range ratios {
		if !math.IsNaN(v) {
			cells = append(cells, fmt.Sprintf("%.2f", v))
		}
	}
	return strings.Join(cells, " ")
}

// endings says what ended searches, as a rate that ended for the clients' sake is only a lower bound, and what
// was lost beyond the highest rates held.
func (p *Compared) endings(b *strings.Builder) {
	for _, variant := range []string{VariantEdge, VariantNode} {
		counts := map[string]int{}
		for _, s := range p.systems(variant) {
			if s.Saturation != nil && s.Saturation.Bound != "" {
				counts[string(s.Saturation.Bound)]++
			}
		}
		for _, why := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(b, "  %s, next higher rate: %s (%d ×)\n", variant, why, counts[why])
		}
		if lost, dropped := p.lostBeyond(variant); lost > 0 || dropped > 0 {
			fmt.Fprintf(b, "  %s, at rates that were not held: %s deliveries lost, %s connections dropped\n",
				variant, thousands(float64(lost)), thousands(float64(dropped)))
		}
	}
}

// lostBeyond is what a variant lost at rates that were not held, in all trials.
func (p *Compared) lostBeyond(variant string) (lost int64, dropped int) {
	for _, s := range p.systems(variant) {
		for _, step := range s.Steps {
			if step.Outcome != "" && step.Outcome != Held {
				lost, dropped = lost+step.Lost, dropped+step.Dropped
			}
		}
	}
	return lost, dropped
}

// trialLines lists every figure of every trial.
func (c *Comparison) trialLines(b *strings.Builder) {
	fmt.Fprintf(b, "\nall trials\n%s%s%s\n", pad("", cmpName), pad(" edge", cmpTrial*c.Planned), " Node.js")
	for i := range c.Parts {
		p := &c.Parts[i]
		group := ""
		for _, r := range c.compare(p) {
			if r.group != "" {
				group = r.group
			}
			if r.group != "" || group == "" && r.label == c.metrics(p)[0].label {
				fmt.Fprintf(b, "%s\n", strings.TrimSpace(p.Name+" "+group))
			}
			b.WriteString(r.trialCells("  "+r.label, r.edge, r.node))
			if r.recovery != nil {
				b.WriteString(r.trialCells("      with RECOVERY=on", r.recovery, nil))
			}
		}
	}
}

func (r *compared) trialCells(label string, edge, node []float64) string {
	line := pad(label, cmpName)
	for _, v := range append(slices.Clone(edge), node...) {
		line += padLeft(r.cell(v), cmpTrial)
	}
	return line + "\n"
}

// complaints lists what went wrong.
func (c *Comparison) complaints(b *strings.Builder) {
	for _, p := range c.Parts {
		for _, run := range p.Runs {
			for _, line := range run.complaints() {
				fmt.Fprintf(b, "\n  %s, trial %d, %s: %s", p.Name, run.Trial+1, run.Variant, line)
			}
		}
	}
	b.WriteByte('\n')
}

func (r *Run) complaints() (lines []string) {
	if r.Error != "" {
		lines = append(lines, r.Error)
	}
	if r.System == nil {
		return lines
	}
	for _, reason := range slices.Sorted(maps.Keys(r.System.Failures)) {
		lines = append(lines, fmt.Sprintf("%d × %s", r.System.Failures[reason], reason))
	}
	for _, presence := range r.System.Presence {
		if presence.Wrong > 0 {
			lines = append(lines, fmt.Sprintf("presence %s: %d of %d keys wrong", presence.When, presence.Wrong, presence.Keys))
		}
	}
	return lines
}
