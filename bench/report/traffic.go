package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Traffic is what an idle node and Redis have to do with each other, per second.
type Traffic struct {
	Conns       int                `json:"conns"`
	Rooms       int                `json:"rooms"`
	Seconds     float64            `json:"seconds"`    // counted
	Operations  map[string]float64 `json:"operations"` // presence operations that the node counted, by op
	Commands    map[string]float64 `json:"commands"`   // that Redis counted, those called by scripts included
	InputBytes  float64            `json:"input_bytes"`
	OutputBytes float64            `json:"output_bytes"`
	CPU         CPU                `json:"cpu"` // cores
}

// heartbeatOp is the presence operation that renews a lease.
const heartbeatOp = "heartbeat"

// Heartbeats returns the node's heartbeats per second.
func (t *Traffic) Heartbeats() float64 { return t.Operations[heartbeatOp] }

// Calls returns all commands per second.
func (t *Traffic) Calls() (sum float64) {
	for _, n := range t.Commands {
		sum += n
	}
	return sum
}

// others returns the presence operations per second that are no heartbeats.
func (t *Traffic) others() (sum float64) {
	for op, n := range t.Operations {
		if op != heartbeatOp {
			sum += n
		}
	}
	return sum
}

// trafficRows shows the traffic of all runs side by side, per minute as most of it is rare.
func trafficRows(t *table) {
	t.section("an idle node and Redis, per minute")
	each := func(label string, compare bool, get func(*Traffic) figure) {
		t.row(label, compare, func(s *System) figure {
			if s.Traffic == nil {
				return missing()
			}
			return get(s.Traffic)
		})
	}
	perMinute := func(label string, get func(*Traffic) float64) {
		each(label, true, func(t *Traffic) figure { return minute(get(t)) })
	}
	// Only what happened in one of the runs gets a row.
	kinds := func(get func(*Traffic) map[string]float64) []string {
		seen := map[string]bool{}
		for i := range t.systems {
			if tr := t.systems[i].Traffic; tr != nil {
				for name, n := range get(tr) {
					seen[name] = seen[name] || n > 0
				}
			}
		}
		maps.DeleteFunc(seen, func(_ string, there bool) bool { return !there })
		return slices.Sorted(maps.Keys(seen))
	}
	operations := func(t *Traffic) map[string]float64 { return t.Operations }
	commands := func(t *Traffic) map[string]float64 { return t.Commands }
	each("connections / rooms", false, func(t *Traffic) figure {
		return figure{0, thousands(float64(t.Conns)) + " / " + thousands(float64(t.Rooms))}
	})
	each("counted for", false, func(t *Traffic) figure { return number(t.Seconds, "%.0f s") })
	perMinute("heartbeats of the lease", (*Traffic).Heartbeats)
	perMinute("other presence operations", (*Traffic).others)
	for _, op := range kinds(operations) {
		if op != heartbeatOp {
			perMinute("  "+op, func(t *Traffic) float64 { return t.Operations[op] })
		}
	}
	perMinute("Redis commands, those of scripts too", (*Traffic).Calls)
	for _, name := range kinds(commands) {
		perMinute("  "+name, func(t *Traffic) float64 { return t.Commands[name] })
	}
	perMinute("bytes to Redis", func(t *Traffic) float64 { return t.InputBytes })
	perMinute("bytes from Redis", func(t *Traffic) float64 { return t.OutputBytes })
	each("CPU of Redis, of a core", true, func(t *Traffic) figure { return number(t.CPU.Redis*100, "%.2f %%") })
	each("CPU of the node, of a core", true, func(t *Traffic) figure { return number(t.CPU.Nodes*100, "%.2f %%") })
}

// minute shows a number per second as one per minute, with a decimal where it is small.
func minute(perSecond float64) figure {
	n := perSecond * 60
	if n != 0 && n < 1000 {
		return number(n, "%.1f")
	}
	return count(n)
}

// maxHeartbeatGrowth is how far the heartbeats per second of two runs may be apart, as a share: what the
// edges of the counted time make of a number that is the same.
const maxHeartbeatGrowth = 0.1

// judgeTraffic compares the heartbeats of the first two runs.
func judgeTraffic(r *Report) Verdict {
	const target = "within 10 %"
	if len(r.Systems) < 2 || r.Systems[0].Traffic == nil || r.Systems[1].Traffic == nil {
		return unknown("heartbeats of two runs", target, "needs two runs")
	}
	few, many := r.Systems[0].Traffic, r.Systems[1].Traffic
	if few.Conns > many.Conns {
		few, many = many, few
	}
	what := fmt.Sprintf("heartbeats with %s and %s conns", thousands(float64(few.Conns)), thousands(float64(many.Conns)))
	a, b := few.Heartbeats(), many.Heartbeats()
	if a == 0 || b == 0 {
		return unknown(what, target, fmt.Sprintf("%.2f and %.2f per second", a, b))
	}
	v := Verdict{What: what, Target: target, Got: fmt.Sprintf("%.2f and %.2f per second", a, b), Result: Miss}
	if math.Abs(b/a-1) <= maxHeartbeatGrowth+1e-9 {
		v.Result = Pass
	}
	return v
}
