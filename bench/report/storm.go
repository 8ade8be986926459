package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Storms is what became of the clients of a node that were all cut at once, several times, and came back
// within a moment, and of the connections that stayed.
type Storms struct {
	Clients       int     `json:"clients"`
	Steady        int     `json:"steady_conns"`
	SpreadSeconds float64 `json:"spread_s"` // within which they come back
	CalmSeconds   float64 `json:"calm_s"`   // between the last return and the memory after it
	Each          []Storm `json:"each"`

	Received   uint64         `json:"received"` // by those clients, in all
	Lost       uint64         `json:"lost"`     // within sessions
	Duplicated uint64         `json:"duplicated"`
	Reordered  uint64         `json:"out_of_order"`
	Strange    uint64         `json:"strange"`
	Missed     uint64         `json:"missed"` // between sessions, of which the client was told
	Examples   []string       `json:"examples,omitempty"`
	Failed     map[string]int `json:"connects_failed,omitempty"`

	Before Latency `json:"before"` // of messages at the steady connections
}

// Storm is one storm.
type Storm struct {
	Cut         int     `json:"cut"`
	Returned    int     `json:"returned"`
	Recovered   int     `json:"recovered"`
	Absent      int     `json:"absent"` // at the end of waiting
	Times       Latency `json:"times"`  // from the cut to the answer to CONNECT
	LastSeconds float64 `json:"last_s"`
	PerSecond   float64 `json:"per_second"` // from the first return to the last

	CPU       CPU                `json:"cpu"` // beyond the usual, until all were back
	Refusals  map[string]float64 `json:"refusals,omitempty"`
	Closes    map[string]float64 `json:"closes,omitempty"` // conns that ended, by reason
	Joined    int                `json:"joined_told"`      // presence updates at those clients that name somebody who joined
	Left      int                `json:"left_told"`        // or left
	RSSBefore int64              `json:"rss_before"`       // of the node, bytes
	RSSPeak   int64              `json:"rss_peak"`
	RSSAfter  int64              `json:"rss_after"`
	During    Latency            `json:"during"` // of messages at the steady connections
	Stall     Latency            `json:"machine_stall"`
}

// stormRows shows the storms, a value of each behind the other.
func stormRows(t *table) {
	t.section("all clients of a node cut at once, one storm / the next")
	one := func(label string, get func(*Storms) figure) {
		t.row(label, false, func(s *System) figure {
			if s.Storms == nil {
				return missing()
			}
			return get(s.Storms)
		})
	}
	each := func(label string, get func(*Storm) string) {
		one(label, func(s *Storms) figure {
			var texts []string
			for i := range s.Each {
				texts = append(texts, get(&s.Each[i]))
			}
			return figure{0, strings.Join(texts, " / ")}
		})
	}
	mega := func(bytes int64) string { return fmt.Sprintf("%.0f", float64(bytes)/1e6) }
	one("clients", func(s *Storms) figure { return count(float64(s.Clients)) })
	each("back in their rooms", func(s *Storm) string { return fmt.Sprint(s.Cut - s.Absent) })
	each("recovered", func(s *Storm) string { return fmt.Sprint(s.Recovered) })
	each("back after, p99 ms", func(s *Storm) string { return fmt.Sprintf("%.0f", s.Times.P99) })
	each("the last one after, s", func(s *Storm) string { return fmt.Sprintf("%.2f", s.LastSeconds) })
	each("connects per second", func(s *Storm) string { return thousands(s.PerSecond) })
	each("server CPU per connect, ms", func(s *Storm) string { return fmt.Sprintf("%.3f", s.CPU.Server()/float64(max(s.Returned, 1))*1e3) })
	each("refused", func(s *Storm) string { return thousands(sum(s.Refusals)) })
	each("updates per client: joined", func(s *Storm) string { return fmt.Sprintf("%.1f", float64(s.Joined)/float64(max(s.Cut, 1))) })
	each("updates in all: left", func(s *Storm) string { return thousands(float64(s.Left)) })
	each("RSS before, MB", func(s *Storm) string { return mega(s.RSSBefore) })
	each("RSS at the peak, MB", func(s *Storm) string { return mega(s.RSSPeak) })
	each("RSS after a while, MB", func(s *Storm) string { return mega(s.RSSAfter) })
	one("lost / duplicated / out of order", func(s *Storms) figure {
		return figure{0, fmt.Sprintf("%d / %d / %d", s.Lost, s.Duplicated, s.Reordered)}
	})
	one("missed and told", func(s *Storms) figure { return count(float64(s.Missed)) })
	one("others' message p99 before", func(s *Storms) figure { return millis(s.Before.P99) })
	each("others' message p99 during, ms", func(s *Storm) string { return fmt.Sprintf("%.1f", s.During.P99) })
	each("worst stall of the machine, ms", func(s *Storm) string { return fmt.Sprintf("%.0f", s.Stall.Max) })
}

func sum(m map[string]float64) (all float64) {
	for _, n := range m {
		all += n
	}
	return all
}

// complaints lists refusals and closes, connects that failed, and examples of what was lost.
func (s *Storms) complaints() (lines []string) {
	for i := range s.Each {
		for _, reason := range slices.Sorted(maps.Keys(s.Each[i].Refusals)) {
			lines = append(lines, fmt.Sprintf("storm %d: %.0f × refused, %s", i+1, s.Each[i].Refusals[reason], reason))
		}
		for _, reason := range slices.Sorted(maps.Keys(s.Each[i].Closes)) {
			lines = append(lines, fmt.Sprintf("storm %d: %.0f × closed, %s", i+1, s.Each[i].Closes[reason], reason))
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Failed)) {
		lines = append(lines, fmt.Sprintf("connecting: %d × %s", s.Failed[reason], reason))
	}
	return append(lines, s.Examples...)
}

// presenceWindow is the time over which a node merges updates of a room, in seconds: a client is told once in it
// of all who are back. One more may be under way at either end of a storm.
const presenceWindow = 0.25

// maxMemoryGrowth is by how much memory may be above what it was before the first storm, after the last.
const maxMemoryGrowth = 25.0 // %

func judgeStorms(edge *System) []Verdict {
	s := edge.Storms
	if s == nil || len(s.Each) == 0 {
		return []Verdict{unknown("clients back in their rooms", "all", "nobody was cut")}
	}
	cut, absent, recovered, left := 0, 0, 0, 0
	worst, updates := 0.0, 0.0
	for i := range s.Each {
		e := &s.Each[i]
		cut, absent, recovered, left = cut+e.Cut, absent+e.Absent, recovered+e.Recovered, left+e.Left
		updates = max(updates, float64(e.Joined)/float64(max(e.Cut, 1))/(e.LastSeconds/presenceWindow+2))
		worst = max(worst, e.During.P99)
	}
	all := s.Clients * len(s.Each)
	back := Verdict{What: "clients back in their rooms", Target: thousands(float64(all)), Got: thousands(float64(cut - absent)), Result: Miss}
	if cut == all && absent == 0 {
		back.Result = Pass
	}
	exact := Verdict{What: "theirs: lost, duplicated, out of order", Target: "0", Got: "0", Result: Pass}
	if s.Lost+s.Duplicated+s.Reordered+s.Strange > 0 {
		exact.Result, exact.Got = Miss, fmt.Sprintf("%d lost, %d others", s.Lost, s.Duplicated+s.Reordered+s.Strange)
	}
	first, last := s.Each[0].RSSBefore, s.Each[len(s.Each)-1].RSSAfter
	return []Verdict{
		back, atLeast("of them recovered", 100*float64(recovered)/float64(max(cut, 1)), minRecovered, "%.2f %%"), exact,
		atMost("updates with left, of those who recovered", float64(left), 0, "%.0f"),
		atMost("updates with joined, per client and window", updates, 1, "%.2f"),
		atMost("memory after the last storm, growth", 100*(float64(last)/float64(max(first, 1))-1), maxMemoryGrowth, "%.1f %%"),
		atMost("the others' message p99 meanwhile", worst, maxP99HighestMS, "%.1f ms"), judgeDelivery(edge),
	}
}
