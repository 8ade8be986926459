package report

import (
	"fmt"
	"maps"
	"slices"
)

// Recovery is what became of the clients of a node that was killed, all of which came back at once, and of
// those that were on the other nodes.
type Recovery struct {
	Clients     int                `json:"clients"` // of the killed node
	Returned    int                `json:"returned"`
	Recovered   int                `json:"recovered"`
	Absent      int                `json:"absent"` // at the end of waiting
	Times       Latency            `json:"times"`  // from the kill to the answer to CONNECT
	LastSeconds float64            `json:"last_s"`
	Results     map[string]float64 `json:"results,omitempty"` // as the nodes counted them
	Failed      map[string]int     `json:"connects_failed,omitempty"`

	JournalReads   float64 `json:"journal_reads"` // commands that read the journal
	JournalCallers float64 `json:"journal_read_callers"`
	Replayed       float64 `json:"replayed_messages"`

	Received   uint64   `json:"received"` // by those clients, in all
	Lost       uint64   `json:"lost"`     // within sessions
	Duplicated uint64   `json:"duplicated"`
	Reordered  uint64   `json:"out_of_order"`
	Strange    uint64   `json:"strange"`
	Torn       uint64   `json:"torn"`   // when a node ended the connection for it, of which the client was told too
	Missed     uint64   `json:"missed"` // between sessions, of which the client was told
	Examples   []string `json:"examples,omitempty"`

	UsualCPU     CPU     `json:"usual_cpu"` // of the nodes that stay and Redis, before the kill
	UsualSeconds float64 `json:"usual_seconds"`
	CPU          CPU     `json:"cpu"` // beyond the usual, from the kill until all were back
	Seconds      float64 `json:"seconds"`
	StallBefore  Latency `json:"machine_stall_before"`
	Stall        Latency `json:"machine_stall"`

	Steady int     `json:"steady_conns"`
	Rooms  int     `json:"rooms"`
	Before Latency `json:"before"` // of messages at the steady connections
	During Latency `json:"during"` // from the kill until all were back
}

// recoveryRows shows the return.
func recoveryRows(t *table) {
	each := func(label string, get func(*Recovery) figure) {
		t.row(label, false, func(s *System) figure {
			if s.Recovery == nil {
				return missing()
			}
			return get(s.Recovery)
		})
	}
	t.section("a node killed with its clients, which all come back at once")
	each("clients / back / recovered", func(r *Recovery) figure {
		return figure{0, fmt.Sprintf("%d / %d / %d", r.Clients, r.Returned, r.Recovered)}
	})
	each("back after, p50", func(r *Recovery) figure { return millis(r.Times.P50) })
	each("back after, p99", func(r *Recovery) figure { return millis(r.Times.P99) })
	each("the last one after", func(r *Recovery) figure { return number(r.LastSeconds, "%.2f s") })
	each("journal reads / asked for", func(r *Recovery) figure {
		return figure{0, thousands(r.JournalReads) + " / " + thousands(r.JournalCallers)}
	})
	each("messages replayed", func(r *Recovery) figure { return count(r.Replayed) })
	each("lost / duplicated / out of order", func(r *Recovery) figure {
		return figure{0, fmt.Sprintf("%d / %d / %d", r.Lost, r.Duplicated, r.Reordered)}
	})
	each("missed and told", func(r *Recovery) figure { return count(float64(r.Missed)) })
	each("nodes' CPU for it", func(r *Recovery) figure { return number(r.CPU.Nodes, "%.2f s") })
	each("Redis CPU for it", func(r *Recovery) figure { return number(r.CPU.Redis, "%.2f s") })
	t.section("the connections of the other nodes: before the kill / until all were back")
	both := func(label string, get func(*Recovery) (a, b *Latency), value func(*Latency) float64) {
		each(label, func(r *Recovery) figure {
			a, b := get(r)
			return figure{0, millis(value(a)).text + " / " + millis(value(b)).text}
		})
	}
	messages := func(r *Recovery) (a, b *Latency) { return &r.Before, &r.During }
	most := func(l *Latency) float64 { return l.Max }
	each("deliveries", func(r *Recovery) figure {
		return figure{0, thousands(float64(r.Before.Count)) + " / " + thousands(float64(r.During.Count))}
	})
	both("message latency p50", messages, func(l *Latency) float64 { return l.P50 })
	both("message latency p99", messages, func(l *Latency) float64 { return l.P99 })
	both("message latency max", messages, most)
	both("worst stall of the machine itself", func(r *Recovery) (a, b *Latency) { return &r.StallBefore, &r.Stall }, most)
}

// complaints lists results other than complete, connects that failed, and examples of what was lost.
func (r *Recovery) complaints() (lines []string) {
	for _, result := range slices.Sorted(maps.Keys(r.Results)) {
		lines = append(lines, fmt.Sprintf("recoveries: %.0f × %s", r.Results[result], result))
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Failed)) {
		lines = append(lines, fmt.Sprintf("connecting: %d × %s", r.Failed[reason], reason))
	}
	return append(lines, r.Examples...)
}

// minRecovered is the share of clients that must get their sessions back.
const minRecovered = 99.0

func judgeRecovery(edge *System) []Verdict {
	r := edge.Recovery
	if r == nil {
		return []Verdict{unknown("clients recovered", "≥ 99.00 %", "nobody was killed")}
	}
	back := Verdict{What: "clients back in their rooms", Target: fmt.Sprint(r.Clients), Got: fmt.Sprint(r.Clients - r.Absent), Result: Miss}
	if r.Absent == 0 {
		back.Result = Pass
	}
	exact := Verdict{What: "theirs: lost, duplicated, out of order", Target: "0", Got: "0", Result: Pass}
	if r.Lost+r.Duplicated+r.Reordered+r.Strange > 0 {
		exact.Result = Miss
		exact.Got = fmt.Sprintf("%d lost, %d others", r.Lost, r.Duplicated+r.Reordered+r.Strange)
	}
	return []Verdict{
		back, atLeast("of them recovered", 100*float64(r.Recovered)/float64(max(r.Clients, 1)), minRecovered, "%.2f %%"), exact,
		atMost("the others' message p99 meanwhile", r.During.P99, maxP99HighestMS, "%.1f ms"), judgeDelivery(edge),
	}
}
