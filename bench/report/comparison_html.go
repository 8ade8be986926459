package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// ComparisonHTML returns the comparison as one page that needs nothing else.
func ComparisonHTML(c *Comparison) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"+
		"<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n<title>Benchmark: comparison</title>\n<style>\n%s</style>\n</head>\n<body>\n", style)
	fmt.Fprintf(&b, "<header><h1>Benchmark: edge and Node.js</h1><p>%s</p><p class=\"dim\">%s; %s</p></header>\n",
		html.EscapeString(c.headline()), html.EscapeString(c.Machine.Line()), c.Started.UTC().Format("2006-01-02 15:04 UTC"))
	b.WriteString(c.tiles())
	b.WriteString(verdictTable(&Report{Verdicts: c.Judge()}))
	for i := range c.Parts {
		c.partSection(&b, &c.Parts[i])
	}
	if n := len(c.Floors); n > 0 {
		b.WriteString(floorSection(&c.Floors[n-1]))
	}
	b.WriteString("<section><h2>How to read it</h2><ul>\n")
	for _, note := range c.notes() {
		fmt.Fprintf(&b, "<li>%s</li>\n", html.EscapeString(note))
	}
	b.WriteString("</ul></section>\n")
	c.wrongList(&b)
	b.WriteString("</body>\n</html>\n")
	return []byte(b.String())
}

// tiles are the ratios that have a target.
func (c *Comparison) tiles() string {
	var b strings.Builder
	b.WriteString(`<div class="tiles">`)
	for i := range c.Parts {
		p := &c.Parts[i]
		group := ""
		for _, r := range c.compare(p) {
			if r.group != "" {
				group = ", " + strings.TrimPrefix(r.group, "at ")
			}
			ratio := Median(r.ratios(r.edge))
			if r.ratio == nil || math.IsNaN(ratio) {
				continue
			}
			fmt.Fprintf(&b, `<div class="tile"><span>%s%s</span><strong>%s</strong><small>%s: %s, Node.js %s</small></div>`,
				html.EscapeString(p.Name), html.EscapeString(group), showTimes(ratio), html.EscapeString(r.fullName()),
				r.cell(Median(r.edge)), r.cell(Median(r.node)))
		}
	}
	return b.String() + "</div>\n"
}

// partSection is a part with its charts and every figure of every trial.
func (c *Comparison) partSection(b *strings.Builder, p *Compared) {
	fmt.Fprintf(b, "<section><h2>%s</h2><p class=\"dim\"><code>%s</code></p>\n", html.EscapeString(p.heading()), html.EscapeString(p.Command))
	if charts := c.charts(p); charts != "" {
		fmt.Fprintf(b, "<div class=\"grid\">\n%s</div>\n", charts)
	}
	fmt.Fprintf(b, "<table class=\"figures compared\"><tr><th>median</th><th>edge</th><th>Node.js</th><th>ratio</th><th>target</th><th></th>"+
		"<th>edge, each trial</th><th>Node.js, each trial</th></tr>\n")
	for _, r := range c.compare(p) {
		if r.group != "" {
			fmt.Fprintf(b, "<tr class=\"group\"><th colspan=\"8\">%s</th></tr>\n", html.EscapeString(r.group))
		}
		r.tableRow(b, r.label, r.edge, true)
		if r.recovery != nil {
			r.tableRow(b, "  with RECOVERY=on", r.recovery, false)
		}
	}
	b.WriteString("</table>\n")
	if p.searched() {
		fmt.Fprintf(b, "<details><summary>every rate that was tried</summary>%s</details>\n", triesTable(append(p.systems(VariantEdge), p.systems(VariantNode)...)))
	}
	b.WriteString("</section>\n")
}

func (r *compared) tableRow(b *strings.Builder, label string, edge []float64, judged bool) {
	class, target, mark := "", "", "<td></td>"
	if strings.HasPrefix(label, " ") {
		class = ` class="sub"`
	}
	if v, ok := r.verdict(""); ok && judged {
		target = v.Target
		mark = map[Result]string{Pass: `<td class="pass">✓ pass</td>`, Miss: `<td class="miss">✗ miss</td>`, Unknown: `<td class="unknown">not measured</td>`}[v.Result]
	}
	list := func(values []float64) string {
		cells := make([]string, 0, len(values))
		for _, v := range values {
			cells = append(cells, r.cell(v))
		}
		return strings.Join(cells, ", ")
	}
	fmt.Fprintf(b, "<tr><td%s>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td>%s<td>%s</td><td>%s</td></tr>\n", class, html.EscapeString(strings.TrimSpace(label)),
		r.cell(Median(edge)), r.cell(Median(r.node)), ratioCell(Median(r.ratios(edge))), target, mark, list(edge), list(r.node))
}

// searched reports whether the part looked for the highest rate.
func (p *Compared) searched() bool { return p.Name == PartSaturation || p.Name == PartOneRoom }

// charts draws a part.
func (c *Comparison) charts(p *Compared) (out string) {
	switch {
	case p.searched():
		return triesCharts(append(p.systems(VariantEdge), p.systems(VariantNode)...))
	case p.Name == PartIdle:
		for _, variant := range []string{VariantEdge, VariantNode} {
			if systems := p.systems(variant); len(systems) > 0 { // the first trial stands for all
				out += memoryChart(systems[0]).svg() + cpuChart(systems[0]).svg()
			}
		}
		return out
	}
	cost := c.medianChart(p, "Server CPU per delivery", "µs", false, (*Step).PerDelivery)
	if floor := c.floor(); floor > 0 && cost.xTo > cost.xFrom {
		cost.series = append(cost.series, series{name: "one bare write", class: "ink", dashed: true, points: []Point{{cost.xFrom, floor}, {cost.xTo, floor}}})
	}
	return cost.svg() + c.medianChart(p, "p99 latency", "ms", true, stepP99).svg()
}

// medianChart shows a figure of each rate: the medians of all trials.
func (c *Comparison) medianChart(p *Compared, title, unit string, logY bool, get func(*Step) (float64, bool)) *chart {
	ch := &chart{title: title, note: "medians", yLabel: unit, xLabel: "deliveries/s", logY: logY}
	rates := p.rates()
	if len(rates) > 0 {
		ch.xFrom, ch.xTo = rates[0], rates[len(rates)-1]
	}
	for _, v := range []struct {
		variant, class string
		dashed         bool
	}{{VariantEdge, "edge", false}, {VariantRecovery, "edge", true}, {VariantNode, "node", false}} {
		var points []Point
		for _, rate := range rates {
			y := Median(p.trials(v.variant, c.Planned, func(s *System) (float64, bool) {
				if step := stepNear(s, rate); step != nil {
					return get(step)
				}
				return 0, false
			}))
			if !math.IsNaN(y) {
				points = append(points, Point{rate, y})
			}
		}
		if len(points) > 0 {
			ch.series = append(ch.series, series{name: v.variant, class: v.class, dashed: v.dashed, points: points, hover: func(p Point) string {
				return fmt.Sprintf("%s at %s deliveries/s: %.2f %s", v.variant, thousands(p.X), p.Y, unit)
			}})
		}
	}
	return ch
}

// wrongList shows what went wrong.
func (c *Comparison) wrongList(b *strings.Builder) {
	var list strings.Builder
	for _, p := range c.Parts {
		for _, run := range p.Runs {
			for _, line := range run.complaints() {
				fmt.Fprintf(&list, "<li>%s, trial %d, %s: %s</li>\n", html.EscapeString(p.Name), run.Trial+1, html.EscapeString(run.Variant), html.EscapeString(line))
			}
		}
	}
	if list.Len() > 0 {
		fmt.Fprintf(b, "<section><h2>What went wrong</h2><ul>\n%s</ul></section>\n", list.String())
	}
}
