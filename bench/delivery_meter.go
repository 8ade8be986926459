//go:build linux

package main

import (
	"context"
	"sync"
	"time"
)

// resultMeter adds up how nodes say that recoveries ended, also of nodes that are killed and start again at
// zero. Its methods are safe for concurrent use; poll of nil does nothing.
type resultMeter struct {
	stack *chaosStack
	stop  chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	last map[string]map[string]float64 // by node and life
	sum  map[string]float64            // since the last take
}

// startResultMeter looks at the nodes' metrics every second.
func startResultMeter(s *chaosStack) *resultMeter {
	m := &resultMeter{stack: s, stop: make(chan struct{}), last: map[string]map[string]float64{}, sum: map[string]float64{}}
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
		if err == nil { // else it is down
			m.count(n.admin+" "+metricsLife(text), labelled(text, "edge_recoveries_total", "result"))
		}
	}
}

// metricsLife tells one life of a node from another: when the process began.
func metricsLife(text string) string { return metricValue(text, "process_start_time_seconds") }

func (m *resultMeter) count(life string, now map[string]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for result, v := range now {
		before := m.last[life][result]
		if v < before {
			before = 0 // another life after all
		}
		m.sum[result] += v - before
	}
	m.last[life] = now
}

// take returns what was counted since it was last called.
func (m *resultMeter) take() map[string]int {
	m.poll()
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[string]int{}
	for result, v := range m.sum {
		if v != 0 {
			counts[result] = int(v)
		}
	}
	m.sum = map[string]float64{}
	return counts
}

// end stops looking.
func (m *resultMeter) end() {
	close(m.stop)
	m.wg.Wait()
}
