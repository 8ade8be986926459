package report

import (
	"fmt"
	"math"
	"slices"
)

// Names of the parts of a comparison.
const (
	PartIdle       = "idle"
	PartSteady     = "steady"
	PartSaturation = "saturation"
	PartOneRoom    = "one-room"
	PartTiny       = "tiny-rooms"
)

// Targets of a comparison that no single scenario has; all others are beside Judge.
const (
	minConnectGain  = 4.0  // connections accepted per second, against Node.js
	maxConnectRatio = 0.25 // server CPU of one connect, against Node.js
)

// metric is one figure of a part: what it is, how it is shown, and what it must be.
type metric struct {
	group string // title of the rows it begins, empty for one that goes on
	label string
	name  string // what it is called without the label above it; empty if the label says it
	get   func(*System) (float64, bool)
	show  func(float64) string
	alone bool   // Node.js has no such figure
	plain bool   // its ratio says nothing, or what another one says
	own   *limit // of the edge's median
	ratio *limit // of the median of the trials' ratios to Node.js
	// beside is whether the edge with RECOVERY=on is shown beside the others.
	beside bool
}

// limit is a target.
type limit struct {
	value   float64
	atLeast bool // else at most
}

func (l *limit) met(v float64) bool {
	if l.atLeast {
		return v >= l.value
	}
	return v <= l.value
}

func (l *limit) text(show func(float64) string) string {
	if l.atLeast {
		return "≥ " + show(l.value)
	}
	return "≤ " + show(l.value)
}

func most(v float64) *limit  { return &limit{value: v} }
func least(v float64) *limit { return &limit{value: v, atLeast: true} }

// Forms of figures.
func showCount(v float64) string  { return thousands(v) }
func showBytes(v float64) string  { return thousands(v) + " B" }
func showMillis(v float64) string { return millis(v).text }
func showMS3(v float64) string    { return fmt.Sprintf("%.3f ms", v) }
func showTimes(v float64) string  { return fmt.Sprintf("%.2f ×", v) }
func showCores(v float64) string  { return fmt.Sprintf("%.2f", v) }

// metrics are the figures of a part, in the order in which they are shown.
func (c *Comparison) metrics(p *Compared) []metric {
	switch p.Name {
	case PartIdle:
		return idleMetrics()
	case PartSteady:
		return c.rateMetrics(p, most(maxCPURatio), true)
	case PartTiny:
		return c.rateMetrics(p, nil, false)
	case PartSaturation, PartOneRoom:
		return c.saturationMetrics()
	}
	return nil
}

func idleMetrics() []metric {
	cpu := func(get func(*System) *Connect) func(*System) (float64, bool) {
		return func(s *System) (float64, bool) {
			if c := get(s); c != nil && c.CPU != nil && c.Done > 0 {
				return c.CPU.Server() / float64(c.Done) * 1e3, true
			}
			return 0, false
		}
	}
	connect := func(s *System) *Connect { return &s.Connect }
	join := func(s *System) *Connect { return s.Join }
	return []metric{
		{label: "RSS per idle connection", show: showBytes, own: most(maxIdleBytes), get: func(s *System) (float64, bool) {
			if s.Memory == nil {
				return 0, false
			}
			return s.Memory.PerConn(), true
		}},
		{label: "goroutines in all", show: showCount, own: most(maxIdleGoroutines), alone: true, get: func(s *System) (float64, bool) {
			if s.Memory == nil {
				return 0, false
			}
			return float64(s.Memory.MaxGoroutines), s.Memory.MaxGoroutines > 0
		}},
		{label: "connections accepted per second", show: showCount, ratio: least(minConnectGain), get: func(s *System) (float64, bool) {
			return s.Connect.PerSecond, s.Connect.PerSecond > 0
		}},
		{label: "server CPU of one connect", show: showMS3, ratio: most(maxConnectRatio), get: cpu(connect)},
		{label: "server CPU of one join", show: showMS3, get: cpu(join)},
		{label: "CPU per idle conn and second", show: micros, get: func(s *System) (float64, bool) {
			if s.Idle == nil {
				return 0, false
			}
			return s.Idle.PerConn(), true
		}},
	}
}

// rateMetrics are the figures of each rate that was sent.
func (c *Comparison) rateMetrics(p *Compared, cpu *limit, beside bool) (out []metric) {
	for _, rate := range p.rates() {
		at := func(get func(*Step) (float64, bool)) func(*System) (float64, bool) {
			return func(s *System) (float64, bool) {
				if step := stepNear(s, rate); step != nil {
					return get(step)
				}
				return 0, false
			}
		}
		out = append(out,
			metric{group: "at " + thousands(rate) + " deliveries/s", label: "server CPU per delivery", show: micros, ratio: cpu, beside: beside, get: at((*Step).PerDelivery)},
			metric{label: "  in bare writes", name: "server CPU per delivery in bare writes", plain: true, show: showTimes, get: at(c.inFloors), beside: beside},
			metric{label: "latency p50", show: showMillis, get: at(stepP50), beside: beside},
			metric{label: "latency p99", show: showMillis, get: at(stepP99), beside: beside},
		)
	}
	return out
}

// rates are the deliveries per second that the part sent, ascending.
func (p *Compared) rates() (rates []float64) {
	for _, run := range p.Runs {
		if run.System == nil {
			continue
		}
		for _, step := range run.System.Steps {
			if !slices.ContainsFunc(rates, func(r float64) bool { return math.Abs(r-step.Nominal) <= r/10 }) {
				rates = append(rates, step.Nominal)
			}
		}
	}
	slices.Sort(rates)
	return rates
}

// inFloors is the server's CPU time per delivery in bare writes.
func (c *Comparison) inFloors(s *Step) (float64, bool) {
	us, ok := s.PerDelivery()
	floor := c.floor()
	return us / floor, ok && floor > 0
}

func (c *Comparison) saturationMetrics() []metric {
	held := func(get func(*Step) (float64, bool)) func(*System) (float64, bool) {
		return func(s *System) (float64, bool) {
			if step := s.best(); step != nil {
				return get(step)
			}
			return 0, false
		}
	}
	allCores := func(s *Step) (float64, bool) { return s.OnAllCores(c.Machine.CPUs) }
	return []metric{
		{label: "deliveries/s held, as measured", show: showCount, get: held(stepRate)},
		{label: "  without the client's CPU (1)", name: "deliveries/s without the client's CPU", show: showCount, ratio: least(minSaturationGain), get: held((*Step).WithoutClient)},
		{label: "  on all cores (2)", show: showCount, get: held(allCores)},
		{label: "server CPU per delivery there", show: micros, get: held((*Step).PerDelivery)},
		{label: "  in bare writes", name: "server CPU per delivery in bare writes", plain: true, show: showTimes, own: most(maxWrites), get: held(c.inFloors)},
		{label: "server CPU, cores", plain: true, show: showCores, get: held((*Step).serverCores)},
		{label: "client CPU, cores", plain: true, show: showCores, get: held((*Step).clientCores)},
		{label: "latency p50", show: showMillis, get: held(stepP50)},
		{label: "latency p99", show: showMillis, get: held(stepP99)},
		{label: "client late in sending, p99", plain: true, show: showMillis, get: held(func(s *Step) (float64, bool) { return s.SendLag.P99, true })},
		{label: "client late in reading, p99", plain: true, show: showMillis, get: held(func(s *Step) (float64, bool) { return s.ReadLag.P99, true })},
	}
}
