package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// section is a titled group of rows; the text and the HTML show the same ones.
type section struct {
	title string
	rows  []row
}

// row has a value for each system and, with several systems, how the first compares with the second.
type row struct {
	label  string
	values []string
	ratio  string
}

// figure is a value with its text; missing ones are NaN.
type figure struct {
	value float64
	text  string
}

func missing() figure { return figure{math.NaN(), "–"} }

func number(v float64, format string) figure { return figure{v, fmt.Sprintf(format, v)} }

func count(n float64) figure { return figure{n, thousands(n)} }

// millis shows milliseconds with three digits.
func millis(v float64) figure {
	switch {
	case v >= 100:
		return number(v, "%.0f ms")
	case v >= 10:
		return number(v, "%.1f ms")
	default:
		return number(v, "%.2f ms")
	}
}

// thousands writes a whole number with commas.
func thousands(v float64) string {
	s := strconv.FormatFloat(math.Abs(math.Round(v)), 'f', 0, 64)
	var b strings.Builder
	if v <= -0.5 {
		b.WriteByte('-')
	}
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// table collects rows; a ratio is shown where it says something.
type table struct {
	systems  []System
	sections []section
}

func (t *table) section(title string) { t.sections = append(t.sections, section{title: title}) }

func (t *table) row(label string, compare bool, get func(*System) figure) {
	r := row{label: label}
	var figures []figure
	known := false
	for i := range t.systems {
		f := get(&t.systems[i])
		figures = append(figures, f)
		r.values = append(r.values, f.text)
		known = known || f.text != "–"
	}
	if !known {
		return
	}
	if compare && len(figures) >= 2 && figures[1].value > 0 && !math.IsNaN(figures[0].value) {
		r.ratio = fmt.Sprintf("%.2f ×", figures[0].value/figures[1].value)
	}
	last := &t.sections[len(t.sections)-1]
	last.rows = append(last.rows, r)
}

// sections arranges all figures of the report.
func sections(r *Report) []section {
	t := &table{systems: r.Systems}
	t.section("connecting")
	connectRows(t, func(s *System) *Connect { return &s.Connect })
	if r.Load.Rooms > 0 {
		t.section("joining a room (presence updates go to all members)")
		connectRows(t, func(s *System) *Connect { return s.Join })
	}
	t.section("memory, and idle connections")
	memoryRows(t)
	lossRows(t)
	recoveryRows(t)
	slowReadersRows(t)
	stormRows(t)
	comingsRows(t)
	trafficRows(t)
	movesRows(t)
	if r.Scenario == scenarioSaturation {
		saturationRows(t, r.Machine.CPUs)
	} else {
		for i := range stepCount(r) {
			stepSection(t, i)
		}
	}
	t.section("presence: keys wrong for over 1 s / keys looked at")
	presenceRows(t)
	t.section("presence while messages flow, by an independent observer")
	observerRows(t)
	out := t.sections[:0]
	for _, s := range t.sections {
		if len(s.rows) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func connectRows(t *table, get func(*System) *Connect) {
	each := func(label string, compare bool, f func(*Connect) figure) {
		t.row(label, compare, func(s *System) figure {
			if c := get(s); c != nil {
				return f(c)
			}
			return missing()
		})
	}
	each("done / failed", false, func(c *Connect) figure {
		return figure{0, thousands(float64(c.Done)) + " / " + thousands(float64(c.Failed))}
	})
	each("per second", true, func(c *Connect) figure { return count(c.PerSecond) })
	each("time of one, p50", true, func(c *Connect) figure {
		if c.P50MS == 0 {
			return missing()
		}
		return millis(c.P50MS)
	})
	each("time of one, p99", true, func(c *Connect) figure {
		if c.P99MS == 0 {
			return missing()
		}
		return millis(c.P99MS)
	})
	each("server CPU of one", true, func(c *Connect) figure {
		if c.CPU == nil || c.Done == 0 {
			return missing()
		}
		return number(c.CPU.Server()/float64(c.Done)*1e3, "%.3f ms")
	})
	each("  of that Redis", false, func(c *Connect) figure {
		if c.CPU == nil || c.CPU.Server() == 0 {
			return missing()
		}
		return number(c.CPU.Redis/c.CPU.Server()*100, "%.0f %%")
	})
}

func memoryRows(t *table) {
	each := func(label string, compare bool, f func(*Memory) figure) {
		t.row(label, compare, func(s *System) figure {
			if s.Memory != nil {
				return f(s.Memory)
			}
			return missing()
		})
	}
	mb := func(n int64) figure { return number(float64(n)/1e6, "%.1f MB") }
	each("RSS of the nodes before", true, func(m *Memory) figure { return mb(m.NodesBefore) })
	each("RSS of the nodes loaded", true, func(m *Memory) figure { return mb(m.Nodes) })
	each("RSS per connection", true, func(m *Memory) figure { return number(m.PerConn()/1e3, "%.2f KB") })
	each("RSS of Redis", true, func(m *Memory) figure { return mb(m.Redis) })
	each("heartbeat rounds before it was read", false, func(m *Memory) figure {
		if m.Heartbeats == 0 {
			return missing()
		}
		return count(float64(m.Heartbeats))
	})
	each("goroutines, most of a node", false, func(m *Memory) figure {
		if m.MaxGoroutines == 0 {
			return missing()
		}
		return count(float64(m.MaxGoroutines))
	})
	t.row("CPU per idle connection and second", true, func(s *System) figure {
		if s.Idle == nil {
			return missing()
		}
		return number(s.Idle.PerConn(), "%.2f µs")
	})
}

func stepSection(t *table, i int) {
	var title string
	for _, s := range t.systems {
		if i < len(s.Steps) {
			title = fmt.Sprintf("%s messages/s, %s deliveries/s", thousands(s.Steps[i].Rate), thousands(s.Steps[i].Nominal))
		}
	}
	t.section(title)
	each := func(label string, compare bool, f func(*Step) figure) {
		t.row(label, compare, func(s *System) figure {
			if i < len(s.Steps) {
				return f(&s.Steps[i])
			}
			return missing()
		})
	}
	each("deliveries/s", true, func(s *Step) figure { return count(s.PerSecond) })
	for _, q := range []struct {
		label string
		get   func(Latency) float64
	}{
		{"p50", func(l Latency) float64 { return l.P50 }}, {"p90", func(l Latency) float64 { return l.P90 }},
		{"p99", func(l Latency) float64 { return l.P99 }}, {"p99.9", func(l Latency) float64 { return l.P999 }},
		{"max", func(l Latency) float64 { return l.Max }},
	} {
		each("latency "+q.label, true, func(s *Step) figure { return millis(q.get(s.Latency)) })
	}
	each("worst stall of the machine itself", false, func(s *Step) figure { return millis(s.Stall.Max) })
	each("client late in sending, p99 / max", false, func(s *Step) figure {
		return figure{0, fmt.Sprintf("%.2f / %.1f ms", s.SendLag.P99, s.SendLag.Max)}
	})
	each("client late in reading, p99 / max", false, func(s *Step) figure {
		return figure{0, fmt.Sprintf("%.2f / %.1f ms", s.ReadLag.P99, s.ReadLag.Max)}
	})
	each("lost", false, func(s *Step) figure { return count(float64(s.Lost)) })
	each("duplicated", false, func(s *Step) figure { return count(float64(s.Duplicated)) })
	each("out of order", false, func(s *Step) figure { return count(float64(s.Reordered)) })
	each("members that saw another order", false, func(s *Step) figure { return count(float64(s.Disagreeing)) })
	each("misrouted / refused / dropped conns", false, func(s *Step) figure {
		return figure{0, fmt.Sprintf("%d / %d / %d", s.Misrouted, s.Refused, s.Dropped)}
	})
	each("server CPU per delivery", true, func(s *Step) figure {
		if us, ok := s.PerDelivery(); ok {
			return number(us, "%.2f µs")
		}
		return missing()
	})
	each("  of that Redis", false, func(s *Step) figure {
		if _, ok := s.PerDelivery(); !ok || s.CPU.Server() == 0 {
			return missing()
		}
		return number(s.CPU.Redis/s.CPU.Server()*100, "%.0f %%")
	})
	each("Redis CPU per published message", true, func(s *Step) figure {
		if s.CPU == nil || s.Published == 0 {
			return missing()
		}
		return number(s.CPU.Redis/s.Published*1e6, "%.0f µs")
	})
	each("client CPU per delivery", false, func(s *Step) figure {
		if s.CPU == nil || s.Delivered == 0 {
			return missing()
		}
		return number(s.CPU.Client/float64(s.Delivered)*1e6, "%.2f µs")
	})
}

func presenceRows(t *table) {
	n := 0
	for _, s := range t.systems {
		n = max(n, len(s.Presence))
	}
	for i := range n {
		label := ""
		for _, s := range t.systems {
			if i < len(s.Presence) {
				label = s.Presence[i].When
			}
		}
		t.row(label, false, func(s *System) figure {
			if i >= len(s.Presence) {
				return missing()
			}
			p := s.Presence[i]
			return figure{float64(p.Wrong), thousands(float64(p.Wrong)) + " / " + thousands(float64(p.Keys))}
		})
		t.row("  all right after", false, func(s *System) figure {
			if i >= len(s.Presence) {
				return missing()
			}
			if s.Presence[i].Wrong > 0 {
				return figure{0, "not in time"}
			}
			return millis(s.Presence[i].RightMS)
		})
	}
}
