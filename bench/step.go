//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// steps sends at all rates, one after the other, while presence changes and is observed.
func (m *measurement) steps(ctx context.Context) error {
	if err := m.watch(ctx); err != nil {
		return err
	}
	var last load.Settled
	for _, rate := range m.cfg.rates {
		if err := m.step(ctx, rate, &last); err != nil {
			return err
		}
	}
	return m.unwatch()
}

// step sends at one rate, then compares the presence keys with the truth.
func (m *measurement) step(ctx context.Context, rate float64, last *load.Settled) error {
	if _, err := m.take(ctx, rate, last); err != nil {
		return err
	}
	return m.check(ctx, fmt.Sprintf("after %g messages/s", rate), time.Now())
}

// take sends at one rate and takes the figures of its measured time. last is the state of the counts
// that run on through all steps.
func (m *measurement) take(ctx context.Context, rate float64, last *load.Settled) (*report.Step, error) {
	m.sampler.mark(fmt.Sprintf("%.6g/s", rate))
	plan := load.Step{
		Start: m.clock.Now() + int64(200*time.Millisecond), Rate: rate,
		Warmup: m.cfg.warmup, Duration: m.cfg.duration,
	}
	m.say("%.6g messages/s for %v", rate, m.cfg.warmup+m.cfg.duration)
	var from, to snapshot
	var stall report.Latency
	var wg sync.WaitGroup
	wg.Go(func() {
		if pause(ctx, m.clock.Until(plan.MeasureFrom())) != nil {
			return
		}
		meter := startStallMeter()
		from = m.stack.snapshot(m.clock)
		_ = pause(ctx, m.clock.Until(plan.End())) // interrupted: the step fails anyway
		to = m.stack.snapshot(m.clock)
		stall = report.NewLatency(meter.end())
	})
	m.churn.start(ctx)
	got, err := m.stack.fleet.Step(plan, m.cfg.settle)
	m.churn.stop() // all its users have left when the keys are checked
	wg.Wait()
	if err != nil {
		return nil, err
	}
	m.sys.Failures = got.Failures
	m.sys.Steps = append(m.sys.Steps, m.figures(rate, got, last, stall, to.cpu.Sub(from.cpu)))
	*last = *got
	s := &m.sys.Steps[len(m.sys.Steps)-1]
	m.say("%.0f deliveries/s, p50 %.1f ms, p99 %.1f ms, lost %d", s.PerSecond, s.Latency.P50, s.Latency.P99, s.Lost)
	return s, nil
}

// figures turns what the clients and /proc say into a step of the report.
func (m *measurement) figures(rate float64, got, last *load.Settled, stall report.Latency, cpu report.CPU) report.Step {
	s := report.Step{
		Rate: rate, Nominal: rate * float64(m.cfg.conns) / float64(m.cfg.rooms),
		Sent: got.Sent, Refused: got.Refused, Received: got.Received, Delivered: got.Delivered,
		PerSecond:   float64(got.Delivered) / m.cfg.duration.Seconds(),
		Lost:        int64(got.Lost) - int64(last.Lost),
		Duplicated:  got.Checks.Duplicated - last.Checks.Duplicated,
		Reordered:   got.Checks.Reordered - last.Checks.Reordered,
		Misrouted:   got.Checks.Misrouted - last.Checks.Misrouted,
		Disagreeing: load.Disagreeing(got.Orders),
		Dropped:     got.Dropped - last.Dropped,
		Latency:     report.NewLatency(&got.Latency),
		SendLag:     report.NewLatency(&got.SendLag),
		ReadLag:     report.NewLatency(&got.ReadLag),
		Stall:       stall,
	}
	if m.stack.ours() {
		s.CPU = &cpu
		s.Published = rate * m.cfg.duration.Seconds()
	}
	s.Seconds = reportSeconds(got.Seconds)
	return s
}

// reportSeconds sums up each second of a step.
func reportSeconds(seconds []load.Second) (out []report.Second) {
	for i := range seconds {
		h := &seconds[i].Latency
		out = append(out, report.Second{
			Deliveries: seconds[i].Deliveries, P50: float64(h.Quantile(0.5)) / 1e6,
			P99: float64(h.Quantile(0.99)) / 1e6, Max: float64(h.Max()) / 1e6,
		})
	}
	return out
}

// meanwhile sends the messages of a step while f goes on, and ends the step when f returns.
func meanwhile[T any](m *measurement, plan load.Step, f func() (T, error)) (*load.Settled, T, error) {
	var got *load.Settled
	var stepErr error
	var step sync.WaitGroup
	step.Go(func() { got, stepErr = m.stack.fleet.Step(plan, m.cfg.settle) })
	found, err := f()
	stopErr := m.stack.fleet.Stop()
	step.Wait()
	if err == nil {
		err = errors.Join(stopErr, stepErr)
	}
	return got, found, err
}
