package report

import (
	"fmt"
	"maps"
	"slices"
)

// SlowReaders is what became of connections that stopped reading, and of the others.
type SlowReaders struct {
	Slow         int     `json:"slow"`
	Others       int     `json:"others"`
	Rooms        int     `json:"rooms"`
	Nodes        int     `json:"nodes"`
	StallSeconds float64 `json:"stall_s"`
	Offered      float64 `json:"offered_bytes"` // to each of them while it did not read, less headers

	Counted bool               `json:"counted"`          // the servers tell whom they close and why
	Closed  map[string]float64 `json:"closed,omitempty"` // while they did not read, by reason
	Times   SlowTimes          `json:"times"`
	Gone    int                `json:"gone"` // as the clients saw it when they read again

	MemoryBefore SlowMemory `json:"memory_before"`
	MemoryPeak   SlowMemory `json:"memory_peak"`
	MemoryAfter  SlowMemory `json:"memory_after"`

	Before Latency `json:"before"` // of messages at all connections
	During Latency `json:"during"` // at those that read
	After  Latency `json:"after"`

	UsualBefore float64 `json:"usual_p99_before_ms"` // of the median second
	UsualDuring float64 `json:"usual_p99_during_ms"`
	UsualAfter  float64 `json:"usual_p99_after_ms"`

	StallBefore Latency `json:"machine_stall_before"`
	Stall       Latency `json:"machine_stall"` // from when they stopped reading to the end
}

// SlowMemory is what is held for clients, in bytes.
type SlowMemory struct {
	Nodes   int64 `json:"nodes_rss"`
	Unsent  int64 `json:"send_queues"` // of the nodes' sockets, as the kernel counts them, conns that were closed included
	Machine int64 `json:"machine_tcp"` // all of the kernel's for TCP, also of others on this machine
}

// Most returns the larger of each.
func (m SlowMemory) Most(o SlowMemory) SlowMemory {
	return SlowMemory{max(m.Nodes, o.Nodes), max(m.Unsent, o.Unsent), max(m.Machine, o.Machine)}
}

// SlowTimes is when slow readers were closed, in seconds since they stopped reading; 0: not.
type SlowTimes struct {
	First float64 `json:"first_s"`
	Half  float64 `json:"half_s"`
	Last  float64 `json:"last_s"`
}

// Seen takes into account that so many of all were closed by that second.
func (t *SlowTimes) Seen(closed, all int, second float64) {
	set := func(at *float64, reached bool) {
		if reached && *at == 0 {
			*at = second
		}
	}
	set(&t.First, closed > 0)
	set(&t.Half, closed*2 >= all)
	set(&t.Last, closed >= all)
}

// Ended returns how many slow readers were closed: as the servers counted while they did not read, else as the clients saw.
func (r *SlowReaders) Ended() int {
	if !r.Counted {
		return r.Gone
	}
	n := 0.0
	for _, v := range r.Closed {
		n += v
	}
	return int(n)
}

// grown returns by how much the peak is above what was held before.
func (r *SlowReaders) grown() (nodes, unsent float64) {
	return float64(r.MemoryPeak.Nodes - r.MemoryBefore.Nodes), float64(r.MemoryPeak.Unsent - r.MemoryBefore.Unsent)
}

// slowReadersRows shows both.
func slowReadersRows(t *table) {
	each := func(label string, compare bool, get func(*SlowReaders) figure) {
		t.row(label, compare, func(s *System) figure {
			if s.SlowReaders == nil {
				return missing()
			}
			return get(s.SlowReaders)
		})
	}
	const mb = 1e6
	t.section("connections that stop reading")
	each("slow / others", false, func(r *SlowReaders) figure { return figure{0, fmt.Sprintf("%d / %d", r.Slow, r.Others)} })
	each("offered to each meanwhile", false, func(r *SlowReaders) figure {
		return number(r.Offered/mb, "%.1f MB")
	})
	each("closed", false, func(r *SlowReaders) figure { return count(float64(r.Ended())) })
	times := func(label string, get func(SlowTimes) float64) {
		each(label, false, func(r *SlowReaders) figure {
			if v := get(r.Times); v > 0 {
				return number(v, "%.1f s")
			}
			return missing()
		})
	}
	times("the first one after", func(t SlowTimes) float64 { return t.First })
	times("half of them after", func(t SlowTimes) float64 { return t.Half })
	times("all of them after", func(t SlowTimes) float64 { return t.Last })
	memory := func(label string, get func(SlowMemory) int64) {
		each(label, false, func(r *SlowReaders) figure {
			return figure{0, fmt.Sprintf("%.0f / %.0f / %.0f MB", float64(get(r.MemoryBefore))/mb, float64(get(r.MemoryPeak))/mb, float64(get(r.MemoryAfter))/mb)}
		})
	}
	memory("RSS of nodes before / peak / after", func(m SlowMemory) int64 { return m.Nodes })
	memory("send queues before / peak / after", func(m SlowMemory) int64 { return m.Unsent })
	memory("machine's TCP before / peak / after", func(m SlowMemory) int64 { return m.Machine })
	each("nodes grew, per slow reader", true, func(r *SlowReaders) figure {
		nodes, _ := r.grown()
		return number(nodes/1e3/float64(max(r.Slow, 1)), "%.0f KB")
	})
	each("send queues grew, per slow reader", true, func(r *SlowReaders) figure {
		_, unsent := r.grown()
		return number(unsent/1e3/float64(max(r.Slow, 1)), "%.0f KB")
	})
	t.section("messages at the others: before / while some do not read / after")
	latency := func(label string, get func(*Latency) float64) {
		each(label, false, func(r *SlowReaders) figure {
			return figure{0, millis(get(&r.Before)).text + " / " + millis(get(&r.During)).text + " / " + millis(get(&r.After)).text}
		})
	}
	latency("p50", func(l *Latency) float64 { return l.P50 })
	latency("p99", func(l *Latency) float64 { return l.P99 })
	latency("max", func(l *Latency) float64 { return l.Max })
	each("p99 of the median second", false, func(r *SlowReaders) figure {
		return figure{0, millis(r.UsualBefore).text + " / " + millis(r.UsualDuring).text + " / " + millis(r.UsualAfter).text}
	})
	each("machine's own stalls, p99: before / from then", false, func(r *SlowReaders) figure {
		return figure{0, millis(r.StallBefore.P99).text + " / " + millis(r.Stall.P99).text}
	})
	each("its worst stall: before / from then", false, func(r *SlowReaders) figure {
		return figure{0, millis(r.StallBefore.Max).text + " / " + millis(r.Stall.Max).text}
	})
}

// complaints says why slow readers were closed.
func (r *SlowReaders) complaints() (lines []string) {
	for _, reason := range slices.Sorted(maps.Keys(r.Closed)) {
		lines = append(lines, fmt.Sprintf("closed while they did not read: %.0f × %s", r.Closed[reason], reason))
	}
	return lines
}

// What slow readers may cost.
const (
	outboxBytes    = 4 << 20   // of each, by default
	maxSlowUnsent  = 128 << 10 // bytes in each send queue
	maxSlowP99     = 1.5       // of the others, against before
	maxSlowP99Step = 5.0       // ms that are no difference on a shared machine
)

func judgeSlowReaders(edge *System) []Verdict {
	r := edge.SlowReaders
	if r == nil {
		return []Verdict{unknown("slow readers closed", "all", "nobody stopped reading")}
	}
	closed := Verdict{What: "slow readers closed while they do not read", Target: fmt.Sprint(r.Slow), Got: fmt.Sprint(r.Ended()), Result: Miss}
	if r.Ended() == r.Slow {
		closed.Result = Pass
	}
	named := Verdict{What: "as slow_reader or ping_timeout", Target: "all", Got: "all", Result: Pass}
	if n := r.Ended() - int(r.Closed["slow_reader"]+r.Closed["ping_timeout"]); n > 0 {
		named.Got, named.Result = fmt.Sprintf("%d for other reasons", n), Miss
	}
	nodes, unsent := r.grown()
	slow := float64(max(r.Slow, 1))
	return []Verdict{
		closed, named,
		atMost("nodes grew, per slow reader", nodes/slow/1e6, outboxBytes/1e6, "%.2f MB"),
		atMost("send queues grew, per slow reader", unsent/slow/1e3, maxSlowUnsent/1e3, "%.0f KB"),
		atMost("the others' p99 meanwhile, median second", r.UsualDuring, max(r.UsualBefore*maxSlowP99, r.UsualBefore+maxSlowP99Step), "%.1f ms"),
		judgeDelivery(edge),
	}
}
