//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/stellara/edge/bench/guest"
	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// comings lets connections come at a constant rate, each of which joins a room, lives for a while and goes,
// while others stay and carry messages. Then it looks for what is left of those that went.
func (m *measurement) comings(ctx context.Context) error {
	plan := load.Step{
		Start: m.clock.Now() + int64(200*time.Millisecond), Rate: m.cfg.rates[0], Warmup: m.cfg.warmup,
		Duration: m.cfg.duration + m.cfg.duration,
	}
	m.sampler.mark("messages")
	var got *load.Settled
	var stepErr error
	var step sync.WaitGroup
	step.Go(func() { got, stepErr = m.stack.fleet.Step(plan, m.cfg.settle) })
	r, err := m.comeAndGo(ctx, plan)
	step.Wait()
	if err == nil {
		err = stepErr
	}
	if err != nil {
		return err
	}
	from := plan.MeasureFrom() + int64(m.cfg.duration)
	r.Before = secondsOf(plan, got.Seconds, plan.MeasureFrom(), from, true)
	r.During = secondsOf(plan, got.Seconds, from, plan.End(), true)
	m.sys.Comings = r
	s := m.figures(plan.Rate, got, &load.Settled{}, r.Stall, report.CPU{})
	s.CPU, s.PerSecond = nil, float64(got.Delivered)/(2*m.cfg.duration).Seconds()
	m.sys.Steps, m.sys.Failures = []report.Step{s}, got.Failures
	if err := m.check(ctx, "after those who went", time.Now()); err != nil {
		return err
	}
	if err := pause(ctx, m.cfg.storm.calm); err != nil {
		return err
	}
	r.After = m.leftovers(ctx)
	m.say("%d lives, %.0f/s, %d failed; RSS %.1f MB before and %.1f MB after, %d and %d descriptors", r.Lives, r.PerSecond, r.Failed,
		float64(r.Start.RSS)/1e6, float64(r.After.RSS)/1e6, r.Start.Files, r.After.Files)
	return nil
}

// comeAndGo measures what is usual for half of the step, and lets connections come and go in the other half.
func (m *measurement) comeAndGo(ctx context.Context, plan load.Step) (*report.Comings, error) {
	if err := pause(ctx, m.clock.Until(plan.MeasureFrom())); err != nil {
		return nil, err
	}
	from := m.stack.snapshot(m.clock)
	if err := pause(ctx, m.cfg.duration); err != nil {
		return nil, err
	}
	before := m.stack.snapshot(m.clock)
	usual := use(from, before)
	f := &m.cfg.comings
	r := &report.Comings{Steady: m.cfg.conns, Rate: f.rate, LifeSeconds: f.life.Seconds(), Reasons: map[string]int{}, Start: m.leftovers(ctx)}
	m.sampler.mark("comings")
	m.say("%g connections/s come and go for %v", f.rate, m.cfg.duration)
	meter := startStallMeter()
	var mu sync.Mutex
	var lives sync.WaitGroup
	began := time.Now()
	for i := 0; ; i++ {
		due := time.Duration(float64(i) / f.rate * float64(time.Second))
		if due >= m.cfg.duration {
			break
		}
		if err := pause(ctx, due-time.Since(began)); err != nil {
			break
		}
		r.Begun++
		lives.Go(func() {
			err := m.live(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				r.Lives++
				return
			}
			r.Failed++
			r.Reasons[guest.Cause(err)]++
		})
	}
	lives.Wait()
	seconds := time.Since(began).Seconds()
	r.Stall = report.NewLatency(meter.end())
	r.CPU = use(before, m.stack.snapshot(m.clock)).beyond(usual)
	r.PerSecond = float64(r.Begun-r.Failed) / min(seconds, m.cfg.duration.Seconds())
	return r, ctx.Err()
}

// live is the life of one connection; its user has no other.
func (m *measurement) live(ctx context.Context, number int) error {
	p := &m.stack.plan
	ctx, cancel := context.WithTimeout(ctx, m.cfg.comings.life*3/2+changeTimeout)
	defer cancel()
	g, err := guest.Dial(ctx, p.Targets[number%len(p.Targets)], fmt.Sprintf("passing%d", number))
	if err != nil {
		return err
	}
	defer g.Close(ctx)
	if err := g.Join(ctx, p.RoomName(rand.IntN(p.Rooms))); err != nil {
		return err
	}
	life := m.cfg.comings.life/2 + rand.N(m.cfg.comings.life)
	select {
	case <-g.Gone():
		return errors.New("the server ended a connection")
	case <-time.After(life):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leftovers is what the nodes have.
func (m *measurement) leftovers(ctx context.Context) (l report.Leftovers) {
	for _, p := range m.stack.nodes {
		pid := p.cmd.Process.Pid
		if u, err := usageOf(pid); err == nil {
			l.RSS += u.rss
		}
		if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			l.Files += len(files)
		}
	}
	for _, admin := range m.stack.admin {
		text, err := scrape(ctx, admin)
		if err != nil {
			continue
		}
		l.Goroutines += int(metricNumber(text, "go_goroutines"))
		l.Heap += int64(metricNumber(text, "go_memstats_heap_alloc_bytes"))
		l.Sockets += int(metricNumber(text, "edge_sockets"))
	}
	return l
}
