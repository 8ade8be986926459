//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stellara/edge/bench/delivery"
	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// recoveryTail is how long messages flow on after the last return, for what is replayed late.
const recoveryTail = 5 * time.Second

// recovery kills the node of many clients, which come back all at once, while the others carry messages in
// rooms that all of them share.
func (m *measurement) recovery(ctx context.Context) error {
	crowd, err := m.returners(ctx)
	if err != nil {
		return err
	}
	defer crowd.Close()
	plan := load.Step{
		Start: m.clock.Now() + int64(200*time.Millisecond), Rate: m.cfg.rates[0], Warmup: m.cfg.warmup,
		Duration: m.cfg.duration + m.cfg.recovery.within + recoveryTail,
	}
	m.sampler.mark("messages")
	m.say("%g messages/s for %v, then the node of %d clients is killed", plan.Rate, m.cfg.warmup+m.cfg.duration, m.cfg.recovery.clients)
	got, found, err := meanwhile(m, plan, func() (*recoveryFound, error) { return m.killAndReturn(ctx, plan, crowd) })
	if err == nil {
		err = pause(ctx, time.Second) // the last ones, for clients that the step does not know
	}
	if err != nil {
		return err
	}
	m.recoveryFigures(plan, got, found, crowd)
	crowd.Close()
	// Until the dead node is reaped, users that were on it may count as there.
	return pause(ctx, time.Until(found.killed.Add(chaosLimit)))
}

// returners connects the clients of the node that will be killed.
func (m *measurement) returners(ctx context.Context) (*delivery.Crowd, error) {
	m.view = delivery.NewFleet(m.stack.listen)
	crowd, err := m.crowdOnFirst(ctx, "back", m.cfg.recovery.clients)
	if err == nil {
		m.say("%d clients are on the node that will be killed", m.cfg.recovery.clients)
	}
	return crowd, err
}

// crowdOnFirst connects clients to the first node, which join the rooms of the plan and check its messages.
func (m *measurement) crowdOnFirst(ctx context.Context, prefix string, clients int) (*delivery.Crowd, error) {
	m.sampler.mark("clients")
	p := &m.stack.plan
	crowd := delivery.NewCrowd(m.view, delivery.Plan{
		Prefix: prefix, Clients: clients, Home: 0, Dialing: clients, // at once
		Rooms: func(i int) []int { return []int{i % p.Rooms} }, Room: p.RoomName,
		Streams: func(room int) (streams []int) {
			for j := range p.Senders {
				streams = append(streams, room*p.Senders+j)
			}
			return streams
		},
		Read: func(event []byte) (int, uint64, bool) {
			sender, seq, ok := load.Stamped(event)
			return int(sender), uint64(seq) + 1, ok
		},
	})
	for end := time.Now().Add(m.phaseTimeout()); crowd.Absent() > 0; {
		if time.Now().After(end) {
			n := crowd.Absent()
			crowd.Close()
			return nil, fmt.Errorf("%d of %d clients did not get into their rooms: %v", n, clients, crowd.TakeEvents())
		}
		if err := pause(ctx, lookEvery); err != nil {
			crowd.Close()
			return nil, err
		}
	}
	return crowd, nil
}

// recoveryFound is what was found out between the kill and the end of watching.
type recoveryFound struct {
	killed time.Time
	at     int64 // the same, monotonic nanoseconds
	until  int64 // the last return, or the end of waiting
	usual  perSecond
	during perSecond
	absent int
	counts recoveryCounts // since the kill

	stallBefore, stall report.Latency
}

// killAndReturn kills the node at the end of the measured time, and waits until everybody is back.
func (m *measurement) killAndReturn(ctx context.Context, plan load.Step, crowd *delivery.Crowd) (*recoveryFound, error) {
	if err := pause(ctx, m.clock.Until(plan.MeasureFrom())); err != nil {
		return nil, err
	}
	part := &stack{redis: m.stack.redis, nodes: m.stack.nodes[1:], admin: m.stack.admin[1:]}
	meter, from := startStallMeter(), part.snapshot(m.clock)
	err := pause(ctx, m.clock.Until(plan.MeasureFrom()+int64(m.cfg.duration)))
	f := &recoveryFound{stallBefore: report.NewLatency(meter.end())}
	if err != nil {
		return nil, err
	}
	before := part.snapshot(m.clock)
	f.usual = use(from, before)
	counted := part.recoveryCounts(ctx)
	m.sampler.mark("kill")
	meter = startStallMeter()
	m.view.Phase(1)
	m.view.Down(0)
	f.killed, f.at = time.Now(), m.clock.Now()
	m.stack.killVictims(1, m.clock)
	m.say("killed; waiting up to %v until all are back", m.cfg.recovery.within)
	for end := f.killed.Add(m.cfg.recovery.within); ; {
		f.absent = max(crowd.Absent(), m.cfg.recovery.clients-len(crowd.Returns(1)))
		if f.absent == 0 || time.Now().After(end) {
			break
		}
		if err = pause(ctx, 20*time.Millisecond); err != nil {
			break
		}
	}
	f.until = m.clock.Now()
	f.during = use(before, part.snapshot(m.clock))
	f.stall = report.NewLatency(meter.end())
	m.sampler.mark("back")
	if err != nil {
		return nil, err
	}
	err = pause(ctx, recoveryTail)
	f.counts = part.recoveryCounts(ctx).sub(counted)
	return f, err
}

// recoveryCounts is what nodes have counted of recoveries; all in all of those that answer.
type recoveryCounts struct {
	results                  map[string]float64
	reads, callers, replayed float64
}

func (s *stack) recoveryCounts(ctx context.Context) recoveryCounts {
	c := recoveryCounts{results: map[string]float64{}}
	for _, admin := range s.admin {
		text, err := scrape(ctx, admin)
		if err != nil {
			continue
		}
		for result, n := range labelled(text, "edge_recoveries_total", "result") {
			c.results[result] += n
		}
		c.reads += metricNumber(text, "edge_journal_reads_total")
		c.callers += metricNumber(text, "edge_journal_read_callers_total")
		c.replayed += metricNumber(text, "edge_recovered_messages_total")
	}
	return c
}

func (c recoveryCounts) sub(o recoveryCounts) recoveryCounts {
	d := recoveryCounts{map[string]float64{}, c.reads - o.reads, c.callers - o.callers, c.replayed - o.replayed}
	for result, n := range c.results {
		if n != o.results[result] {
			d.results[result] = n - o.results[result]
		}
	}
	return d
}

// recoveryFigures puts everything that was found into the report.
func (m *measurement) recoveryFigures(plan load.Step, got *load.Settled, f *recoveryFound, crowd *delivery.Crowd) {
	last := map[int]uint64{}
	for sender, n := range got.BySender {
		last[sender] = uint64(n)
	}
	checked := delivery.Check(crowd.Histories(), last, make([]bool, 2))
	returns := crowd.Returns(1)
	tally := delivery.TallyOf(returns, time.Time{})
	var times hist.Histogram
	for _, r := range returns {
		times.Record(r.At.Sub(f.killed))
	}
	events := crowd.TakeEvents()
	r := &report.Recovery{
		Clients: m.cfg.recovery.clients, Steady: m.cfg.conns, Rooms: m.cfg.rooms, Returned: tally.Returned, Recovered: tally.Recovered,
		Absent: f.absent, Times: report.NewLatency(&times), Results: f.counts.results, Failed: events.Failed,
		JournalReads: f.counts.reads, JournalCallers: f.counts.callers, Replayed: f.counts.replayed,
		Received: checked.Total.Received, Lost: checked.Total.Lost, Duplicated: checked.Total.Duplicated,
		Reordered: checked.Total.OutOfOrder, Strange: checked.Total.Strange, Missed: checked.Total.Missed, Torn: checked.Total.Torn, Examples: checked.Examples,
		UsualCPU: f.usual.cpu, UsualSeconds: f.usual.seconds, CPU: f.during.beyond(f.usual), Seconds: f.during.seconds,
		StallBefore: f.stallBefore, Stall: f.stall,
	}
	if n := len(returns); n > 0 {
		r.LastSeconds = slices.MaxFunc(returns, func(a, b delivery.Return) int { return a.At.Compare(b.At) }).At.Sub(f.killed).Seconds()
	}
	r.Before = secondsOf(plan, got.Seconds, plan.MeasureFrom(), f.at, true)
	r.During = secondsOf(plan, got.Seconds, f.at, f.until, false)
	m.sys.Recovery = r
	got.Seconds = got.Seconds[:min(len(got.Seconds), int((f.until-plan.Start)/int64(time.Second))+1)]
	s := m.figures(plan.Rate, got, &load.Settled{}, f.stall, report.CPU{})
	s.CPU, s.PerSecond = nil, float64(got.Delivered)/(float64(f.until-plan.MeasureFrom())/1e9)
	m.sys.Steps = []report.Step{s}
	m.sys.Failures = got.Failures
	m.say("%d of %d came back, %d recovered, the last one after %.2f s; p99 %.1f ms before and %.1f ms during",
		r.Returned, r.Clients, r.Recovered, r.LastSeconds, r.Before.P99, r.During.P99)
}
