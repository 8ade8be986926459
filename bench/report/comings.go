package report

import (
	"fmt"
	"maps"
	"slices"
)

// Comings is what connections cost that come and go all the time, and what is left of them.
type Comings struct {
	Steady      int            `json:"steady_conns"`
	Rate        float64        `json:"rate"` // per second, wanted
	LifeSeconds float64        `json:"life_s"`
	Begun       int            `json:"begun"`
	Lives       int            `json:"lives"` // that ended as they should
	Failed      int            `json:"failed"`
	PerSecond   float64        `json:"per_second"`
	Reasons     map[string]int `json:"reasons,omitempty"` // why lives failed
	CPU         CPU            `json:"cpu"`               // beyond the usual

	Start Leftovers `json:"start"` // before the first came
	After Leftovers `json:"after"` // a while after the last went

	Before Latency `json:"before"` // of messages at the steady connections
	During Latency `json:"during"`
	Stall  Latency `json:"machine_stall"`
}

// Leftovers is what all nodes have; what only metrics know is 0 without them.
type Leftovers struct {
	RSS        int64 `json:"rss"`  // bytes
	Heap       int64 `json:"heap"` // bytes, garbage included
	Files      int   `json:"files"`
	Goroutines int   `json:"goroutines,omitempty"`
	Sockets    int   `json:"sockets,omitempty"`
}

// comingsRows shows lives and what is left.
func comingsRows(t *table) {
	t.section("connections that come, join a room, live and go")
	each := func(label string, compare bool, get func(*Comings) figure) {
		t.row(label, compare, func(s *System) figure {
			if s.Comings == nil {
				return missing()
			}
			return get(s.Comings)
		})
	}
	each("lives / failed", false, func(c *Comings) figure {
		return figure{0, thousands(float64(c.Lives)) + " / " + thousands(float64(c.Failed))}
	})
	each("per second, wanted / had", false, func(c *Comings) figure { return figure{0, fmt.Sprintf("%g / %.1f", c.Rate, c.PerSecond)} })
	each("server CPU per life", true, func(c *Comings) figure { return millis(c.CPU.Server() / float64(max(c.Lives, 1)) * 1e3) })
	both := func(label string, get func(*Leftovers) string) {
		each(label+" before / after", false, func(c *Comings) figure { return figure{0, get(&c.Start) + " / " + get(&c.After)} })
	}
	both("RSS, MB", func(l *Leftovers) string { return fmt.Sprintf("%.1f", float64(l.RSS)/1e6) })
	both("open files", func(l *Leftovers) string { return fmt.Sprint(l.Files) })
	both("goroutines", func(l *Leftovers) string { return fmt.Sprint(l.Goroutines) })
	both("sockets", func(l *Leftovers) string { return fmt.Sprint(l.Sockets) })
	each("others' message p99 before / during", false, func(c *Comings) figure {
		return figure{0, millis(c.Before.P99).text + " / " + millis(c.During.P99).text}
	})
}

// complaints lists why lives failed.
func (c *Comings) complaints() (lines []string) {
	for _, reason := range slices.Sorted(maps.Keys(c.Reasons)) {
		lines = append(lines, fmt.Sprintf("lives: %d × %s", c.Reasons[reason], reason))
	}
	return lines
}

// Bounds of what may be left: descriptors and goroutines of pools that had grown, and room for garbage.
const (
	maxLeftFiles      = 16
	maxLeftGoroutines = 16
)

func judgeComings(edge *System) []Verdict {
	c := edge.Comings
	if c == nil || c.Begun == 0 {
		return []Verdict{unknown("lives that failed", "0", "nobody came")}
	}
	return []Verdict{
		atMost("lives that failed", float64(c.Failed), 0, "%.0f"),
		atMost("sockets left", float64(c.After.Sockets-c.Start.Sockets), 0, "%.0f"),
		atMost("open files left", float64(c.After.Files-c.Start.Files), maxLeftFiles, "%.0f"),
		atMost("goroutines left", float64(c.After.Goroutines-c.Start.Goroutines), maxLeftGoroutines, "%.0f"),
		atMost("memory growth", 100*(float64(c.After.RSS)/float64(max(c.Start.RSS, 1))-1), maxMemoryGrowth, "%.1f %%"),
		atMost("the others' message p99 meanwhile", c.During.P99, maxP99HighestMS, "%.1f ms"), judgeDelivery(edge),
	}
}
