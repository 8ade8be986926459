package report

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// WithoutClientFormula and OnAllCoresFormula explain the figures of a search that are computed.
const (
	WithoutClientFormula = "(1) deliveries/s × (server CPU + client CPU) / server CPU: clients and servers share the cores"
	OnAllCoresFormula    = "(2) deliveries per second of server CPU × cores: as if no core were ever idle"
)

// saturationRows shows the highest rates that were held.
func saturationRows(t *table, cores int) {
	t.section(fmt.Sprintf("the highest rate held (p99 below %.0f ms, nothing lost)", LimitP99MS))
	each := func(label string, compare bool, get func(*Step) (float64, bool), show func(float64) figure) {
		heldRow(t, label, compare, get, show)
	}
	inCores := func(v float64) figure { return number(v, "%.2f cores") }
	each("deliveries/s", true, stepRate, count)
	each("  without the client's CPU (1)", true, (*Step).WithoutClient, count)
	each("  on all cores (2)", true, func(s *Step) (float64, bool) { return s.OnAllCores(cores) }, count)
	each("server CPU per delivery", true, (*Step).PerDelivery, func(v float64) figure { return number(v, "%.2f µs") })
	each("server CPU", false, (*Step).serverCores, inCores)
	each("client CPU", false, (*Step).clientCores, inCores)
	each("latency p50", false, stepP50, millis)
	each("latency p99", false, stepP99, millis)
	each("client late in sending, p99", false, func(s *Step) (float64, bool) { return s.SendLag.P99, true }, millis)
	each("client late in reading, p99", false, func(s *Step) (float64, bool) { return s.ReadLag.P99, true }, millis)
	t.row("rates tried / starts of servers", false, func(s *System) figure {
		if s.Saturation == nil {
			return missing()
		}
		return figure{0, fmt.Sprintf("%d / %d", len(s.Steps), s.Saturation.Starts)}
	})
	t.row("what ended the next higher one", false, func(s *System) figure {
		if s.Saturation == nil || s.Saturation.Bound == "" {
			return missing()
		}
		return figure{0, string(s.Saturation.Bound)}
	})
}

// heldRow shows a figure of the highest rate that was held.
func heldRow(t *table, label string, compare bool, get func(*Step) (float64, bool), show func(float64) figure) {
	t.row(label, compare, func(s *System) figure {
		if step := s.best(); step != nil {
			if v, ok := get(step); ok {
				return show(v)
			}
		}
		return missing()
	})
}

// saturationTiles are the figures to remember.
func saturationTiles(t *table) {
	heldRow(t, "deliveries per second held", true, stepRate, count)
	heldRow(t, "the same without the client's CPU", true, (*Step).WithoutClient, count)
	heldRow(t, "server CPU per delivery there", true, (*Step).PerDelivery, func(v float64) figure { return number(v, "%.1f µs") })
}

// Figures of a step, in the form in which tables take them.
func stepRate(s *Step) (float64, bool) { return s.heldRate(), true }
func stepP50(s *Step) (float64, bool)  { return s.Latency.P50, true }
func stepP99(s *Step) (float64, bool)  { return s.Latency.P99, true }

// saturationText lists what was tried.
func saturationText(b *strings.Builder, r *Report) {
	if r.Scenario != scenarioSaturation {
		return
	}
	fmt.Fprintf(b, "\n  %s\n  %s\n\nrates tried, deliveries/s\n", WithoutClientFormula, OnAllCoresFormula)
	Columns(b, "system\tsent\tdelivered\tp50\tp99\tclient late, sending / reading\toutcome\t", func(row func(cells ...any)) {
		for i := range r.Systems {
			for _, s := range r.Systems[i].Steps {
				row(shortTitle(&r.Systems[i]), thousands(s.Nominal), thousands(s.PerSecond), millis(s.Latency.P50).text, millis(s.Latency.P99).text,
					millis(s.SendLag.P99).text+" / "+millis(s.ReadLag.P99).text, s.Outcome)
			}
		}
	})
}

// saturationSection draws what was tried, for the page.
func saturationSection(r *Report) string {
	if r.Scenario != scenarioSaturation {
		return ""
	}
	systems := make([]*System, 0, len(r.Systems))
	for i := range r.Systems {
		systems = append(systems, &r.Systems[i])
	}
	return "<section><h2>Rates tried</h2><div class=\"grid\">\n" + triesCharts(systems) + "</div>" +
		triesTable(systems) + fmt.Sprintf("<p class=\"dim\">%s<br/>%s</p></section>\n", html.EscapeString(WithoutClientFormula), html.EscapeString(OnAllCoresFormula))
}

// byRate returns the steps in order of their rates, without those that count for nothing.
func byRate(steps []Step) []Step {
	sorted := slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return s.Outcome.Doubtful() })
	slices.SortStableFunc(sorted, func(a, b Step) int { return cmp.Compare(a.Nominal, b.Nominal) })
	return sorted
}

// triesCharts show how latency rises with the rate, and what a delivery costs on the way there.
func triesCharts(systems []*System) string {
	latency := triesChart("p99 latency of every rate tried", "ms", systems, stepP99)
	latency.logY = true
	if latency.xTo > latency.xFrom {
		latency.series = append(latency.series, series{
			name: "limit", class: "ink", dashed: true, points: []Point{{latency.xFrom, LimitP99MS}, {latency.xTo, LimitP99MS}},
		})
	}
	return latency.svg() + triesChart("Server CPU per delivery of every rate tried", "µs", systems, (*Step).PerDelivery).svg()
}

// triesChart draws one figure of the rates tried, a line for each search.
func triesChart(title, unit string, systems []*System, get func(*Step) (float64, bool)) *chart {
	c := &chart{title: title, note: "every search is a line", yLabel: unit, xLabel: "deliveries/s sent", xFrom: math.Inf(1)}
	named := map[string]bool{}
	for _, s := range systems {
		line := series{name: s.Name, class: s.Name, hover: func(p Point) string {
			return fmt.Sprintf("%s at %s deliveries/s: %.1f %s", s.Name, thousands(p.X), p.Y, unit)
		}}
		for _, step := range byRate(s.Steps) {
			if v, ok := get(&step); ok {
				line.points = append(line.points, Point{step.Nominal, v})
				c.xFrom, c.xTo = min(c.xFrom, step.Nominal), max(c.xTo, step.Nominal)
			}
		}
		if named[s.Name] {
			line.name = "" // the legend has it
		}
		named[s.Name] = true
		c.series = append(c.series, line)
	}
	return c
}

// triesTable lists what was tried, for the page.
func triesTable(systems []*System) string {
	var b strings.Builder
	b.WriteString("<table class=\"figures\"><tr><th>search</th><th>sent/s</th><th>delivered/s</th><th>p50</th><th>p99</th>" +
		"<th>client late: sending</th><th>reading</th><th>server</th><th>client</th><th>lost / conns</th><th>outcome</th></tr>\n")
	searches := map[string]int{}
	for _, s := range systems {
		searches[s.Name]++
		name := fmt.Sprintf("%s, %d", shortTitle(s), searches[s.Name])
		for i := range s.Steps {
			step := &s.Steps[i]
			server, _ := step.serverCores()
			client, _ := step.clientCores()
			fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%.2f cores</td><td>%.2f cores</td><td>%s / %d</td><td>%s</td></tr>\n",
				html.EscapeString(name), thousands(step.Nominal), thousands(step.PerSecond), millis(step.Latency.P50).text, millis(step.Latency.P99).text,
				millis(step.SendLag.P99).text, millis(step.ReadLag.P99).text, server, client, thousands(float64(step.Lost)), step.Dropped, html.EscapeString(string(step.Outcome)))
		}
	}
	return b.String() + "</table>\n"
}
