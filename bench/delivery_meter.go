//go:build linux

package main

import (
	"context"
	"sync"
	"time"
)

// metered are the metrics that say what nodes did about the faults, with their only label.
var metered = map[string]string{
	"edge_recoveries_total": "result", "edge_closes_total": "reason",
	"edge_gap_repairs_total": "cause", "edge_gap_repair_failures_total": "cause",
}

// resultMeter adds up what nodes count, also those that are killed and start again at zero. Its methods are safe for concurrent use; poll of nil does nothing.
type resultMeter struct {
	stack *chaosStack
	stop  chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	last map[string]map[string]float64 // by metric, node and life, then by label
	sum  map[string]map[string]float64 // since the last take, by metric, then by label
}

// startResultMeter looks at the nodes' metrics every second.
func startResultMeter(s *chaosStack) *resultMeter {
	m := &resultMeter{stack: s, stop: make(chan struct{}), last: map[string]map[string]float64{}, sum: map[string]map[string]float64{}}
	m.wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-tick.C:
				m.poll()
			}
		}
	})
	return m
}

// poll looks once.
func (m *resultMeter) poll() {
	if m == nil {
		return
	}
	for _, n := range m.stack.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		text, err := scrape(ctx, n.admin)
		cancel()
		if err != nil {
			continue // it is down
		}
		life := n.admin + " " + metricValue(text, "process_start_time_seconds")
		for metric, label := range metered {
			m.count(metric, life, labelled(text, metric, label))
		}
	}
}

// count takes the values of a metric, by label, of one life of a node.
func (m *resultMeter) count(metric, life string, now map[string]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sum[metric] == nil {
		m.sum[metric] = map[string]float64{}
	}
	for name, v := range now {
		before := m.last[metric+life][name]
		if v < before {
			before = 0 // another life after all
		}
		m.sum[metric][name] += v - before
	}
	m.last[metric+life] = now
}

// take returns what was counted since it was last called.
func (m *resultMeter) take() map[string]map[string]int {
	m.poll()
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[string]map[string]int{}
	for metric, values := range m.sum {
		counts[metric] = map[string]int{}
		for name, v := range values {
			if v != 0 {
				counts[metric][name] = int(v)
			}
		}
	}
	m.sum = map[string]map[string]float64{}
	return counts
}

// end stops looking.
func (m *resultMeter) end() {
	close(m.stop)
	m.wg.Wait()
}
