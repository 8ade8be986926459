//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stellara/edge/bench/delivery"
	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// storms cuts all clients of one node at once, several times; they come back to it within a moment, while
// the connections of all nodes carry messages in rooms that they share.
func (m *measurement) storms(ctx context.Context) error {
	m.view = delivery.NewFleet(m.stack.listen[:1])
	crowd, err := m.crowdOnFirst(ctx, "back", m.cfg.recovery.clients)
	if err != nil {
		return err
	}
	defer crowd.Close()
	f := &m.cfg.storm
	plan := load.Step{
		Start: m.clock.Now() + int64(200*time.Millisecond), Rate: m.cfg.rates[0], Warmup: m.cfg.warmup,
		Duration: m.cfg.duration + time.Duration(f.times)*(m.cfg.recovery.within+f.calm+recoveryTail),
	}
	m.sampler.mark("messages")
	m.say("%g messages/s; after %v the %d clients of the first node are cut, %d times", plan.Rate, m.cfg.warmup+m.cfg.duration, m.cfg.recovery.clients, f.times)
	got, found, err := meanwhile(m, plan, func() (*stormsFound, error) { return m.stormAfterStorm(ctx, plan, crowd) })
	if err == nil {
		err = pause(ctx, time.Second) // the last ones, for clients that the step does not know
	}
	if err != nil {
		return err
	}
	m.stormFigures(plan, got, found, crowd)
	crowd.Close()
	return pause(ctx, time.Second) // until the node has noticed
}

// stormsFound is what was found out from the end of the warm-up on.
type stormsFound struct {
	first  int64 // monotonic nanoseconds of the first storm
	usual  perSecond
	storms []stormFound
}

// stormFound is one storm.
type stormFound struct {
	at, until int64 // the cut, and the last return or the end of waiting; monotonic nanoseconds
	storm     report.Storm
}

// stormAfterStorm looks at what is usual, and then lets the storms come.
func (m *measurement) stormAfterStorm(ctx context.Context, plan load.Step, crowd *delivery.Crowd) (*stormsFound, error) {
	if err := pause(ctx, m.clock.Until(plan.MeasureFrom())); err != nil {
		return nil, err
	}
	from := m.stack.snapshot(m.clock)
	if err := pause(ctx, m.cfg.duration); err != nil {
		return nil, err
	}
	f := &stormsFound{first: m.clock.Now(), usual: use(from, m.stack.snapshot(m.clock))}
	for i := range m.cfg.storm.times {
		s, err := m.blow(ctx, crowd, i+1, f.usual)
		if err != nil {
			return nil, err
		}
		f.storms = append(f.storms, *s)
	}
	return f, nil
}

// blow is one storm, with the time after it in which memory should come back.
func (m *measurement) blow(ctx context.Context, crowd *delivery.Crowd, number int, usual perSecond) (*stormFound, error) {
	m.sampler.mark(fmt.Sprintf("storm %d", number))
	m.view.Phase(number)
	pid := m.stack.nodes[0].cmd.Process.Pid
	rss, changes := startPeak(pid), crowd.Changes()
	refused, closed := m.stack.reasons(ctx, "edge_refusals_total"), m.stack.reasons(ctx, "edge_closes_total")
	meter, before := startStallMeter(), m.stack.snapshot(m.clock)
	f := &stormFound{at: m.clock.Now()}
	s, began := &f.storm, time.Now()
	s.Cut = crowd.CutAll(m.cfg.storm.spread)
	err := m.awaitReturns(ctx, crowd, number, s)
	f.until = m.clock.Now()
	after := m.stack.snapshot(m.clock)
	s.CPU = use(before, after).beyond(usual)
	s.Stall = report.NewLatency(meter.end())
	s.RSSBefore, s.RSSPeak = rss.end()
	if err != nil {
		return nil, err
	}
	var times hist.Histogram
	first, last := time.Duration(0), time.Duration(0)
	for i, r := range crowd.Returns(number) {
		d := r.At.Sub(began)
		times.Record(d)
		if i == 0 || d < first {
			first = d
		}
		last = max(last, d)
		if r.Recovered {
			s.Recovered++
		}
	}
	s.Returned, s.Times, s.LastSeconds = int(times.Count()), report.NewLatency(&times), last.Seconds()
	if last > first {
		s.PerSecond = float64(s.Returned) / (last - first).Seconds()
	}
	m.say("storm %d: %d of %d are back after %.2f s, %d recovered", number, s.Cut-s.Absent, s.Cut, s.LastSeconds, s.Recovered)
	if err := m.stormPresence(ctx, crowd, number, time.Now()); err != nil {
		return nil, err
	}
	if err := pause(ctx, m.cfg.storm.calm); err != nil {
		return nil, err
	}
	told := crowd.Changes()
	s.Joined, s.Left = told.Joined-changes.Joined, told.Left-changes.Left
	s.Refusals = m.stack.reasons(ctx, "edge_refusals_total").beyond(refused)
	s.Closes = m.stack.reasons(ctx, "edge_closes_total").beyond(closed)
	now, err := usageOf(pid)
	s.RSSAfter = now.rss
	return f, err
}

// awaitReturns waits until everybody who was cut is back in its rooms.
func (m *measurement) awaitReturns(ctx context.Context, crowd *delivery.Crowd, number int, s *report.Storm) error {
	for end := time.Now().Add(m.cfg.recovery.within); ; {
		s.Absent = max(crowd.Absent(), s.Cut-len(crowd.Returns(number)))
		if s.Absent == 0 || time.Now().After(end) {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// stormPresence compares the presence keys with where everybody is, whoever was cut included.
func (m *measurement) stormPresence(ctx context.Context, crowd *delivery.Crowd, number int, since time.Time) error {
	if m.presence == nil {
		return nil
	}
	p := &m.stack.plan
	t := newTruth(p, m.sids, nil) // the fleet, which is at its step, cannot be asked who dropped; nobody should
	sids := crowd.Sockets()
	for i := range m.cfg.recovery.clients {
		user := fmt.Sprintf("back%d", i)
		t.addUser(user, sids[user], i%p.Rooms)
		t.online[len(t.online)-1] = sids[user] != ""
	}
	return m.compare(ctx, fmt.Sprintf("after storm %d", number), t, since)
}

// stormFigures puts everything that was found into the report.
func (m *measurement) stormFigures(plan load.Step, got *load.Settled, f *stormsFound, crowd *delivery.Crowd) {
	sent := map[int]uint64{}
	for sender, n := range got.BySender {
		sent[sender] = uint64(n)
	}
	checked := delivery.Check(crowd.Histories(), sent, make([]bool, 1+m.cfg.storm.times))
	r := &report.Storms{
		Clients: m.cfg.recovery.clients, Steady: m.cfg.conns, SpreadSeconds: m.cfg.storm.spread.Seconds(), CalmSeconds: m.cfg.storm.calm.Seconds(),
		Received: checked.Total.Received, Lost: checked.Total.Lost, Duplicated: checked.Total.Duplicated, Reordered: checked.Total.OutOfOrder,
		Strange: checked.Total.Strange, Missed: checked.Total.Missed, Examples: checked.Examples, Failed: crowd.TakeEvents().Failed,
		Before: secondsOf(plan, got.Seconds, plan.MeasureFrom(), f.first, true),
	}
	var stall report.Latency
	end := f.first
	for i := range f.storms {
		s := &f.storms[i]
		s.storm.During = secondsOf(plan, got.Seconds, s.at, s.until, false)
		r.Each = append(r.Each, s.storm)
		if s.storm.Stall.Max > stall.Max {
			stall = s.storm.Stall
		}
		end = s.until
	}
	m.sys.Storms = r
	got.Seconds = got.Seconds[:min(len(got.Seconds), int((end-plan.Start)/int64(time.Second))+1)]
	s := m.figures(plan.Rate, got, &load.Settled{}, stall, report.CPU{})
	s.CPU = nil
	m.sys.Steps = []report.Step{s}
	m.sys.Failures = got.Failures
}

// reasons is what nodes have counted of something, by its reason; nothing where there are no metrics.
type reasons map[string]float64

func (s *stack) reasons(ctx context.Context, metric string) reasons {
	sum := reasons{}
	for _, admin := range s.admin {
		text, err := scrape(ctx, admin)
		if err != nil {
			continue
		}
		for reason, n := range labelled(text, metric, "reason") {
			sum[reason] += n
		}
	}
	return sum
}

// beyond returns what was added since o.
func (r reasons) beyond(o reasons) map[string]float64 {
	d := map[string]float64{}
	for reason, n := range r {
		if n > o[reason] {
			d[reason] = n - o[reason]
		}
	}
	return d
}

// peak watches the memory of a process.
type peak struct {
	stop         chan struct{}
	wg           sync.WaitGroup
	before, most int64 // bytes; the goroutine's until end
}

func startPeak(pid int) *peak {
	p := &peak{stop: make(chan struct{})}
	if u, err := usageOf(pid); err == nil {
		p.before, p.most = u.rss, u.rss
	}
	p.wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			if u, err := usageOf(pid); err == nil {
				p.most = max(p.most, u.rss)
			}
		}
	})
	return p
}

// end stops watching; it returns the memory at the start and at the peak.
func (p *peak) end() (before, most int64) {
	close(p.stop)
	p.wg.Wait()
	return p.before, p.most
}
