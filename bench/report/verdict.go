package report

import (
	"fmt"
	"math"
)

// Result is how a figure compares with its target.
type Result string

// Results. Unknown is a target whose figure this run did not measure.
const (
	Pass    Result = "pass"
	Miss    Result = "miss"
	Unknown Result = "not measured"
)

// Verdict is one target and what became of it.
type Verdict struct {
	What   string `json:"what"`
	Target string `json:"target"`
	Got    string `json:"got"`
	Result Result `json:"result"`
}

// The project's targets for the edge.
const (
	maxIdleBytes      = 2048.0 // RSS per idle connection
	maxIdleGoroutines = 64
	maxCPURatio       = 0.6 // server CPU per delivery against Node's
	baseDeliveries    = 10_000.0
	maxP50MS          = 2.0 // at baseDeliveries
	maxP99MS          = 7.0 // at baseDeliveries
	maxP99HighestMS   = 200.0
	minConnectRate    = 4000.0
	maxConnectCPUMS   = 0.12
	saturated         = 65_000.0 // deliveries/s from which a step counts as saturation
	minSaturationGain = 1.5      // deliveries/s at saturation against Node's, clients taken out
	maxWrites         = 2.0      // server CPU per delivery in loopback writes, at saturation
)

// Judge compares the edge's figures with the targets. Without the edge it returns nothing.
func Judge(r *Report) []Verdict {
	edge, node := r.system("edge"), r.system("node")
	if edge == nil {
		return nil
	}
	switch r.Scenario {
	case "idle":
		return append(judgeIdle(edge), judgePresence(edge))
	case "loss":
		return append(judgeLoss(edge), judgePresence(edge))
	case "recovery":
		return append(judgeRecovery(edge), judgePresence(edge))
	case "slow-readers":
		return append(judgeSlowReaders(edge), judgePresence(edge))
	case "storm":
		return append(judgeStorms(edge), judgePresence(edge))
	case "churn":
		return append(judgeComings(edge), judgePresence(edge))
	case "journal", "coalescing":
		var v []Verdict
		for i := range r.Systems {
			v = append(v, titled(judgeDelivery(&r.Systems[i]), &r.Systems[i]), titled(judgePresence(&r.Systems[i]), &r.Systems[i]))
		}
		return v
	case "moves":
		return judgeMoves(r)
	case scenarioSaturation:
		return judgeSaturation(r)
	case "tiny-rooms":
		return []Verdict{judgeDelivery(edge), judgePresence(edge)}
	case "heartbeat":
		v := []Verdict{judgeTraffic(r)}
		for i := range r.Systems {
			v = append(v, judgePresence(&r.Systems[i]))
		}
		return v
	}
	v := judgeConnect(edge)
	v = append(v, judgeLatency(edge)...)
	v = append(v, judgeCPU(edge, node, r.Machine.LoopbackWriteUS)...)
	return append(v, judgeDelivery(edge), judgePresence(edge), judgeObserver(edge))
}

// titled says which of several runs of a system a verdict is about.
func titled(v Verdict, s *System) Verdict {
	v.What = s.Title + ": " + v.What
	return v
}

// atMost makes a Pass of a value that is at most the limit.
func atMost(what string, value, limit float64, format string) Verdict {
	v := Verdict{What: what, Target: "≤ " + fmt.Sprintf(format, limit), Got: fmt.Sprintf(format, value), Result: Miss}
	if value <= limit && !math.IsNaN(value) {
		v.Result = Pass
	}
	return v
}

// atLeast makes a Pass of a value that is at least the limit.
func atLeast(what string, value, limit float64, format string) Verdict {
	v := Verdict{What: what, Target: "≥ " + fmt.Sprintf(format, limit), Got: fmt.Sprintf(format, value), Result: Miss}
	if value >= limit {
		v.Result = Pass
	}
	return v
}

// unknown is a target that this run cannot judge, and why.
func unknown(what, target, why string) Verdict { return Verdict{what, target, why, Unknown} }

func judgeIdle(edge *System) []Verdict {
	if edge.Memory == nil {
		return []Verdict{unknown("memory per idle connection", "≤ 2048 B", "servers are not ours")}
	}
	v := []Verdict{atMost("memory per idle connection", edge.Memory.PerConn(), maxIdleBytes, "%.0f B")}
	if n := edge.Memory.MaxGoroutines; n > 0 {
		v = append(v, atMost("goroutines of a node", float64(n), maxIdleGoroutines, "%.0f"))
	} else {
		v = append(v, unknown("goroutines of a node", "≤ 64", "no go_goroutines metric"))
	}
	return v
}

func judgeConnect(edge *System) []Verdict {
	v := []Verdict{atLeast("accepted connections", edge.Connect.PerSecond, minConnectRate, "%.0f/s")}
	if edge.Connect.Failed > 0 {
		v[0].Got += fmt.Sprintf(", %d failed", edge.Connect.Failed)
		v[0].Result = Miss
	}
	if cpu := edge.Connect.CPU; cpu != nil && edge.Connect.Done > 0 {
		v = append(v, atMost("server CPU per connect", cpu.Server()/float64(edge.Connect.Done)*1e3, maxConnectCPUMS, "%.3f ms"))
	}
	return v
}

func judgeLatency(edge *System) []Verdict {
	var v []Verdict
	base := stepNear(edge, baseDeliveries)
	if base == nil {
		v = append(v, unknown("p50 and p99 at 10k deliveries/s", "≤ 2, ≤ 7 ms", "no such step"))
	} else {
		v = append(v, atMost("p50 at 10k deliveries/s", base.Latency.P50, maxP50MS, "%.1f ms"),
			atMost("p99 at 10k deliveries/s", base.Latency.P99, maxP99MS, "%.1f ms"))
	}
	if n := len(edge.Steps); n > 0 {
		s := highest(edge)
		v = append(v, atMost(fmt.Sprintf("p99 at %s deliveries/s", thousands(s.Nominal)), s.Latency.P99, maxP99HighestMS, "%.1f ms"))
	}
	return v
}

func judgeCPU(edge, node *System, writeUS float64) []Verdict {
	var v []Verdict
	for i := range edge.Steps {
		s := &edge.Steps[i]
		what := fmt.Sprintf("CPU per delivery against Node, %s/s", thousands(s.Nominal))
		mine, ok := s.PerDelivery()
		other := (*Step)(nil)
		if node != nil {
			other = stepNear(node, s.Nominal)
		}
		if !ok || other == nil {
			v = append(v, unknown(what, "≤ 0.60 ×", "needs both systems"))
			continue
		}
		if theirs, ok := other.PerDelivery(); ok {
			v = append(v, atMost(what, mine/theirs, maxCPURatio, "%.2f ×"))
		}
	}
	const what = "CPU per delivery in write(2)s, saturated"
	if s := highest(edge); s != nil && s.Nominal >= saturated && writeUS > 0 {
		if us, ok := s.PerDelivery(); ok {
			return append(v, atMost(what, us/writeUS, maxWrites, "%.2f ×"))
		}
	}
	return append(v, unknown(what, "≤ 2.00 ×", "no step at 70k deliveries/s"))
}

func judgeDelivery(edge *System) Verdict {
	var lost int64
	var wrong uint64
	var disagreeing, dropped int
	for _, s := range edge.Steps {
		lost += s.Lost
		wrong += s.Duplicated + s.Reordered + s.Misrouted
		disagreeing += s.Disagreeing
		dropped += s.Dropped
	}
	v := Verdict{
		What: "lost, duplicated, out of order", Target: "0, one order", Result: Miss,
		Got: fmt.Sprintf("%d lost, %d others, %d orders, %d conns", lost, wrong, disagreeing, dropped),
	}
	if lost == 0 && wrong == 0 && disagreeing == 0 && dropped == 0 {
		v.Got, v.Result = "0", Pass
	}
	return v
}

func judgePresence(edge *System) Verdict {
	v := Verdict{What: "presence keys wrong for over 1 s", Target: "0", Result: Pass}
	keys, wrong := 0, 0
	for _, p := range edge.Presence {
		keys += p.Keys
		wrong += p.Wrong
	}
	v.Got = fmt.Sprintf("%d of %d looked at", wrong, keys)
	switch {
	case len(edge.Presence) == 0:
		v.Got, v.Result = "no access to Redis", Unknown
	case wrong > 0:
		v.Result = Miss
	}
	return v
}

// stepNear returns the step whose nominal rate is within a tenth of deliveries per second.
func stepNear(s *System, deliveries float64) *Step {
	for i := range s.Steps {
		if math.Abs(s.Steps[i].Nominal-deliveries) <= deliveries/10 {
			return &s.Steps[i]
		}
	}
	return nil
}

// highest returns the step with the highest rate, nil without steps.
func highest(s *System) (top *Step) {
	for i := range s.Steps {
		if top == nil || s.Steps[i].Nominal > top.Nominal {
			top = &s.Steps[i]
		}
	}
	return top
}
