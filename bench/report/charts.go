package report

import (
	"fmt"
	"math"
)

// stepCharts draws one step of all systems: how long deliveries took, and how that went over time.
func stepCharts(r *Report, i int) string {
	var out string
	for _, draw := range []func(*Report, int) *chart{percentileChart, distributionChart, throughputChart, secondsChart} {
		out += draw(r, i).svg()
	}
	return out
}

// eachStep calls f with every system that has a step i.
func eachStep(r *Report, i int, f func(*System, *Step)) {
	for k := range r.Systems {
		if s := &r.Systems[k]; i < len(s.Steps) {
			f(s, &s.Steps[i])
		}
	}
}

// percentileChart spreads the tail: the x axis counts nines.
func percentileChart(r *Report, i int) *chart {
	c := &chart{title: "Latency by percentile", note: "from the intended send time", yLabel: "ms", xLabel: "percentile", logY: true}
	nines := func(share float64) float64 { return -math.Log10(1 - share) }
	eachStep(r, i, func(s *System, st *Step) {
		var points []Point
		for _, p := range st.Latency.Curve {
			points = append(points, Point{nines(p.X), p.Y})
			c.xTo = max(c.xTo, nines(p.X))
		}
		c.series = append(c.series, series{name: s.Name, class: s.Name, points: points, hover: func(p Point) string {
			return fmt.Sprintf("%s p%.5g: %.2f ms", s.Name, 100*(1-math.Pow(10, -p.X)), p.Y)
		}})
	})
	for _, t := range []struct {
		share float64
		label string
	}{{0, "0"}, {0.5, "50"}, {0.9, "90"}, {0.99, "99"}, {0.999, "99.9"}, {0.9999, "99.99"}, {0.99999, "99.999"}} {
		if nines(t.share) <= c.xTo+1e-9 {
			c.xTicks = append(c.xTicks, tick{nines(t.share), t.label})
		}
	}
	return c
}

// distributionChart outlines the histogram: the share of deliveries in each of twelve bars a decade.
func distributionChart(r *Report, i int) *chart {
	c := &chart{title: "Distribution of latency", note: "share of deliveries", yLabel: "% of deliveries", xLabel: "ms, logarithmic"}
	c.xFrom, c.xTo = math.Inf(1), math.Inf(-1)
	eachStep(r, i, func(s *System, st *Step) {
		var points []Point
		for _, b := range st.Latency.Bars {
			low, high := math.Log10(b.Low), math.Log10(b.High)
			if len(points) == 0 {
				points = append(points, Point{low, 0})
			}
			points = append(points, Point{low, b.Share * 100}, Point{high, b.Share * 100})
			c.xFrom, c.xTo = min(c.xFrom, low), max(c.xTo, high)
		}
		if len(points) > 0 {
			points = append(points, Point{points[len(points)-1].X, 0})
		}
		c.series = append(c.series, series{name: s.Name, class: s.Name, points: points, area: true})
	})
	if c.xTo < c.xFrom {
		return c
	}
	for _, t := range logTicks(math.Pow(10, c.xFrom), math.Pow(10, c.xTo)) {
		c.xTicks = append(c.xTicks, tick{math.Log10(t.at), t.label})
	}
	return c
}

func throughputChart(r *Report, i int) *chart {
	return overTime(r, i, "Deliveries per second", "deliveries/s", false, func(s Second) float64 { return float64(s.Deliveries) })
}

func secondsChart(r *Report, i int) *chart {
	return overTime(r, i, "p99 latency of each second", "ms", true, func(s Second) float64 { return s.P99 })
}

// overTime draws one figure of each second of a step.
func overTime(r *Report, i int, title, unit string, logY bool, get func(Second) float64) *chart {
	c := &chart{title: title, yLabel: unit, xLabel: "s", shadeTo: r.Load.WarmupSeconds, logY: logY}
	eachStep(r, i, func(s *System, st *Step) {
		var points []Point
		for k, second := range st.Seconds {
			points = append(points, Point{float64(k) + 0.5, get(second)})
		}
		c.xTo = max(c.xTo, float64(len(st.Seconds)))
		c.series = append(c.series, series{name: s.Name, class: s.Name, points: points, hover: func(p Point) string {
			return fmt.Sprintf("%s, second %.0f: %s %s", s.Name, p.X+0.5, short(p.Y), unit)
		}})
	})
	return c
}

// costChart shows what a delivery costs the servers at each rate, beside the cost of a bare write(2).
func costChart(r *Report) *chart {
	c := &chart{title: "Server CPU per delivery", note: "all nodes and Redis", yLabel: "µs", xLabel: "deliveries/s"}
	c.xFrom = math.Inf(1)
	for k := range r.Systems {
		s := &r.Systems[k]
		var points []Point
		for _, step := range byRate(s.Steps) {
			if us, ok := step.PerDelivery(); ok {
				points = append(points, Point{step.Nominal, us})
				c.xFrom, c.xTo = min(c.xFrom, step.Nominal), max(c.xTo, step.Nominal)
			}
		}
		c.series = append(c.series, series{name: s.Name, class: s.Name, points: points, hover: func(p Point) string {
			return fmt.Sprintf("%s at %s deliveries/s: %.1f µs", s.Name, thousands(p.X), p.Y)
		}})
	}
	if w := r.Machine.LoopbackWriteUS; w > 0 && c.xTo > c.xFrom {
		c.series = append(c.series, series{
			name: "one write(2) to loopback", class: "ink", dashed: true, points: []Point{{c.xFrom, w}, {c.xTo, w}},
		})
	}
	return c
}

// cpuChart stacks the processor time of everything that ran.
func cpuChart(s *System) *chart {
	c := &chart{title: "CPU of " + shortTitle(s), yLabel: "cores", xLabel: "s", marks: s.Marks}
	var nodes, redis, client []Point
	for _, p := range s.Samples {
		nodes = append(nodes, Point{p.T, p.Nodes})
		redis = append(redis, Point{p.T, p.Nodes + p.Redis})
		client = append(client, Point{p.T, p.Nodes + p.Redis + p.Client})
		c.xTo = p.T
	}
	c.series = []series{
		{name: "client", class: "client", points: client, base: redis, area: true},
		{name: "Redis", class: "redis", points: redis, base: nodes, area: true},
		{name: "nodes", class: s.Name, points: nodes, area: true},
	}
	return c
}

func memoryChart(s *System) *chart {
	c := &chart{title: "Memory of " + shortTitle(s), yLabel: "MB resident", xLabel: "s", marks: s.Marks}
	var nodes, redis []Point
	for _, p := range s.Samples {
		nodes = append(nodes, Point{p.T, float64(p.NodesRSS) / 1e6})
		redis = append(redis, Point{p.T, float64(p.RedisRSS) / 1e6})
		c.xTo = p.T
	}
	mb := func(name string) func(Point) string {
		return func(p Point) string { return fmt.Sprintf("%s at %.0f s: %.0f MB", name, p.X, p.Y) }
	}
	c.series = []series{
		{name: "nodes", class: s.Name, points: nodes, hover: mb("nodes")},
		{name: "Redis", class: "redis", points: redis, hover: mb("Redis")},
	}
	return c
}
