package report

import (
	_ "embed"
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"
)

//go:embed style.css
var style string

// HTML returns the report as one page that needs nothing else.
func HTML(r *Report) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"+
		"<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n<title>Benchmark: %s</title>\n<style>\n%s</style>\n</head>\n<body>\n",
		html.EscapeString(r.Scenario), style)
	fmt.Fprintf(&b, "<header><h1>%s</h1><p>%s</p><p class=\"dim\">%s; %s</p></header>\n",
		html.EscapeString(pageTitle(r)), html.EscapeString(headline(r)), html.EscapeString(machineLine(r)),
		r.Started.UTC().Format("2006-01-02 15:04 UTC"))
	if r.Floor != nil {
		b.WriteString(floorSection(r.Floor) + "</body>\n</html>\n")
		return []byte(b.String())
	}
	b.WriteString(tiles(r))
	b.WriteString(verdictTable(r))
	b.WriteString(saturationSection(r))
	for i := range pageSteps(r) {
		title := ""
		eachStep(r, i, func(_ *System, s *Step) {
			title = fmt.Sprintf("%s messages/s, %s deliveries/s", thousands(s.Rate), thousands(s.Nominal))
		})
		fmt.Fprintf(&b, "<section><h2>%s</h2><div class=\"grid\">\n%s</div></section>\n", title, stepCharts(r, i))
	}
	var resources strings.Builder
	for i := range r.Systems {
		resources.WriteString(cpuChart(&r.Systems[i]).svg())
		resources.WriteString(memoryChart(&r.Systems[i]).svg())
	}
	resources.WriteString(costChart(r).svg())
	if resources.Len() > 0 {
		fmt.Fprintf(&b, "<section><h2>Processor and memory</h2><div class=\"grid\">\n%s</div></section>\n", resources.String())
	}
	b.WriteString(figureTable(r))
	b.WriteString(failureList(r))
	b.WriteString("</body>\n</html>\n")
	return []byte(b.String())
}

func pageTitle(r *Report) string {
	if r.Floor != nil {
		return "Benchmark: the write floor"
	}
	names := make([]string, 0, len(r.Systems))
	for i := range r.Systems {
		names = append(names, shortTitle(&r.Systems[i]))
	}
	return "Benchmark: " + strings.Join(names, " and ")
}

func stepCount(r *Report) (n int) {
	for i := range r.Systems {
		n = max(n, len(r.Systems[i].Steps))
	}
	return n
}

// pageSteps is how many steps have charts of their own: those of a search have different rates in each
// system, and one chart together.
func pageSteps(r *Report) int {
	if r.Scenario == scenarioSaturation {
		return 0
	}
	return stepCount(r)
}

// tiles are the figures to remember, of the first system, with the second's below.
func tiles(r *Report) string {
	t := &table{systems: r.Systems}
	t.section("")
	switch r.Scenario {
	case "steady", "journal", "coalescing", "tiny-rooms":
		t.row("connections accepted per second", true, func(s *System) figure { return count(s.Connect.PerSecond) })
		stepTiles(t, r)
	case scenarioSaturation:
		saturationTiles(t)
	default:
		t.row("memory per connection", true, func(s *System) figure {
			if s.Memory == nil {
				return missing()
			}
			return number(s.Memory.PerConn()/1e3, "%.2f KB")
		})
		t.row("connections accepted per second", true, func(s *System) figure { return count(s.Connect.PerSecond) })
	}
	var b strings.Builder
	b.WriteString(`<div class="tiles">`)
	for _, row := range t.sections[0].rows {
		fmt.Fprintf(&b, `<div class="tile"><span>%s</span><strong>%s</strong>`, row.label, row.values[0])
		if len(row.values) >= 2 {
			fmt.Fprintf(&b, `<small>%s: %s %s</small>`, html.EscapeString(shortTitle(&r.Systems[1])), row.values[1], dimmed(row.ratio))
		}
		b.WriteString(`</div>`)
	}
	return b.String() + "</div>\n"
}

// stepTiles are about the first step.
func stepTiles(t *table, r *Report) {
	at := ""
	if stepCount(r) > 1 {
		eachStep(r, 0, func(_ *System, s *Step) { at = " at " + thousands(s.Nominal) + "/s" })
	}
	step := func(label string, get func(*Step) figure) {
		t.row(label+at, true, func(s *System) figure {
			if len(s.Steps) == 0 {
				return missing()
			}
			return get(&s.Steps[0])
		})
	}
	step("deliveries per second", func(s *Step) figure { return count(s.PerSecond) })
	step("latency, p50", func(s *Step) figure { return millis(s.Latency.P50) })
	step("latency, p99", func(s *Step) figure { return millis(s.Latency.P99) })
	step("server CPU per delivery", func(s *Step) figure {
		if us, ok := s.PerDelivery(); ok {
			return number(us, "%.1f µs")
		}
		return missing()
	})
	step("lost, duplicated, out of order", func(s *Step) figure {
		return count(float64(s.Lost) + float64(s.Duplicated+s.Reordered+s.Misrouted))
	})
}

func dimmed(ratio string) string {
	if ratio == "" {
		return ""
	}
	return "(" + ratio + ")"
}

func verdictTable(r *Report) string {
	if len(r.Verdicts) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("<section><h2>Targets</h2><table class=\"verdicts\"><tr><th></th><th>what</th><th>target</th><th>measured</th></tr>\n")
	for _, v := range r.Verdicts {
		class, mark := "unknown", "not measured"
		switch v.Result {
		case Pass:
			class, mark = "pass", "✓ pass"
		case Miss:
			class, mark = "miss", "✗ miss"
		}
		fmt.Fprintf(&b, "<tr><td class=\"%s\">%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", class, mark,
			html.EscapeString(v.What), html.EscapeString(v.Target), html.EscapeString(v.Got))
	}
	return b.String() + "</table></section>\n"
}

func figureTable(r *Report) string {
	var b strings.Builder
	b.WriteString("<section><h2>All figures</h2><table class=\"figures\"><tr><th></th>")
	for i := range r.Systems {
		fmt.Fprintf(&b, "<th>%s</th>", html.EscapeString(systemTitle(&r.Systems[i])))
	}
	columns := 1 + len(r.Systems)
	if len(r.Systems) >= 2 {
		b.WriteString("<th>ratio</th>")
		columns++
	}
	b.WriteString("</tr>\n")
	for _, s := range sections(r) {
		fmt.Fprintf(&b, "<tr class=\"group\"><th colspan=\"%d\">%s</th></tr>\n", columns, html.EscapeString(s.title))
		for _, row := range s.rows {
			class := ""
			if strings.HasPrefix(row.label, " ") {
				class = ` class="sub"`
			}
			fmt.Fprintf(&b, "<tr><td%s>%s</td>", class, html.EscapeString(strings.TrimSpace(row.label)))
			for _, v := range row.values {
				fmt.Fprintf(&b, "<td>%s</td>", html.EscapeString(v))
			}
			if len(r.Systems) >= 2 {
				fmt.Fprintf(&b, "<td>%s</td>", row.ratio)
			}
			b.WriteString("</tr>\n")
		}
	}
	return b.String() + "</table></section>\n"
}

// failureList shows what went wrong, and which presence keys were.
func failureList(r *Report) string {
	var b strings.Builder
	for _, s := range r.Systems {
		for _, reason := range slices.Sorted(maps.Keys(s.Failures)) {
			fmt.Fprintf(&b, "<li>%s: %d × %s</li>\n", html.EscapeString(s.Name), s.Failures[reason], html.EscapeString(reason))
		}
		for _, p := range s.Presence {
			for _, e := range p.Examples {
				fmt.Fprintf(&b, "<li>%s, presence %s: %s</li>\n", html.EscapeString(s.Name), html.EscapeString(p.When), html.EscapeString(e))
			}
		}
		b.WriteString(observedList(&s))
	}
	if b.Len() == 0 {
		return ""
	}
	return "<section><h2>What went wrong</h2><ul>\n" + b.String() + "</ul></section>\n"
}
