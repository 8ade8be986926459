//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

const (
	// slowAfter is how long messages flow on after the slow readers read again.
	slowAfter = 15 * time.Second
	// slowLook is the time between two looks at memory and at who was closed.
	slowLook = 500 * time.Millisecond
)

// slowReaders sends to all while a part of the connections reads nothing for a while.
func (m *measurement) slowReaders(ctx context.Context) error {
	plan := load.Step{
		Start: m.clock.Now() + int64(200*time.Millisecond), Rate: m.cfg.rates[0], Warmup: m.cfg.warmup,
		Duration: m.cfg.duration + m.cfg.slow.stall + slowAfter,
	}
	plan.StallAt = plan.MeasureFrom() + int64(m.cfg.duration)
	plan.ResumeAt = plan.StallAt + int64(m.cfg.slow.stall)
	m.sampler.mark("messages")
	m.say("%g messages/s of %d bytes; after %v, %d of %d connections stop reading for %v",
		plan.Rate, m.cfg.payload, m.cfg.warmup+m.cfg.duration, m.cfg.slow.slow, m.cfg.conns, m.cfg.slow.stall)
	var found *slowFound
	var watchErr error
	var watching sync.WaitGroup
	watched, giveUp := context.WithCancel(ctx)
	defer giveUp()
	watching.Go(func() { found, watchErr = m.watchSlow(watched, plan) })
	got, err := m.stack.fleet.Step(plan, m.cfg.settle)
	if err != nil {
		giveUp()
	}
	watching.Wait()
	if err == nil {
		err = watchErr
	}
	if err != nil {
		return err
	}
	m.slowFigures(plan, got, found)
	return m.check(ctx, "after the slow readers", time.Now())
}

// slowFound is what was seen while the slow readers did not read.
type slowFound struct {
	before, peak, after report.SlowMemory
	closed              map[string]float64 // since the stall, by reason
	times               report.SlowTimes
	cpu                 report.CPU

	stallBefore, stall report.Latency // of the machine itself
}

// watchSlow looks at memory and at the closed conns until the step ends.
func (m *measurement) watchSlow(ctx context.Context, plan load.Step) (*slowFound, error) {
	f := &slowFound{}
	if err := pause(ctx, m.clock.Until(plan.MeasureFrom())); err != nil {
		return nil, err
	}
	meter, from := startStallMeter(), m.stack.snapshot(m.clock)
	err := pause(ctx, m.clock.Until(plan.StallAt))
	f.stallBefore = report.NewLatency(meter.end())
	meter = startStallMeter()
	var earlier map[string]float64
	if err == nil {
		earlier, err = m.stack.closes(ctx)
	}
	if err == nil {
		f.before, err = m.slowMemory()
		f.peak = f.before
	}
	m.sampler.mark("stall")
	for resumed := false; err == nil && m.clock.Now() < plan.End(); {
		if err = pause(ctx, slowLook); err != nil {
			break
		}
		if f.after, err = m.slowMemory(); err != nil {
			break
		}
		f.peak = f.peak.Most(f.after)
		now := m.clock.Now()
		if now >= plan.ResumeAt {
			if !resumed {
				m.sampler.mark("resume")
			}
			resumed = true
			continue
		}
		if f.closed, err = m.stack.closes(ctx); err == nil {
			f.closed = less(f.closed, earlier)
			f.times.Seen(total(f.closed), m.cfg.slow.slow, float64(now-plan.StallAt)/1e9)
		}
	}
	f.cpu = m.stack.snapshot(m.clock).cpu.Sub(from.cpu)
	f.stall = report.NewLatency(meter.end())
	return f, err
}

// closes returns how many conns the nodes have closed so far, by reason; nothing from servers without that metric.
func (s *stack) closes(ctx context.Context) (map[string]float64, error) {
	sum := map[string]float64{}
	for _, admin := range s.admin {
		text, err := scrape(ctx, admin)
		if err != nil {
			return nil, err
		}
		for reason, n := range labelled(text, "edge_closes_total", "reason") {
			sum[reason] += n
		}
	}
	return sum, nil
}

// less returns what of now was not before; what is nothing is left out.
func less(now, before map[string]float64) map[string]float64 {
	d := map[string]float64{}
	for k, n := range now {
		if n -= before[k]; n > 0 {
			d[k] = n
		}
	}
	return d
}

func total(counts map[string]float64) (n int) {
	for _, v := range counts {
		n += int(v)
	}
	return n
}

// slowMemory reads what the nodes hold, what the kernel holds for them, and what it holds for TCP on the whole machine.
func (m *measurement) slowMemory() (report.SlowMemory, error) {
	mem := report.SlowMemory{Nodes: m.stack.snapshot(m.clock).nodesRSS}
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return mem, err
	}
	pages, err := socketPages(string(text))
	if err != nil {
		return mem, err
	}
	mem.Machine = pages * int64(unix.Getpagesize())
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return mem, err
	}
	mem.Unsent = sendQueues(string(table), portsOf(m.stack.listen))
	return mem, nil
}

// socketPages reads the pages that TCP uses out of /proc/net/sockstat (proc_net(5)):
// "TCP: inuse 27 orphan 1 tw 23 alloc 31 mem 4".
func socketPages(sockstat string) (int64, error) {
	for line := range strings.Lines(sockstat) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			if f[i] == "mem" {
				return strconv.ParseInt(f[i+1], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("/proc/net/sockstat says nothing of the memory of TCP: %q", sockstat)
}

// portsOf returns the ports of addresses as /proc/net/tcp has them, in hexadecimal.
func portsOf(addrs []string) map[string]bool {
	ports := map[string]bool{}
	for _, a := range addrs {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			ports[fmt.Sprintf("%04X", ap.Port())] = true
		}
	}
	return ports
}

// sendQueues adds up what /proc/net/tcp (proc_net(5)) has in the send queues of local ports, closed connections
// included whose clients have not taken everything yet: bytes that were not sent or not acknowledged.
func sendQueues(table string, ports map[string]bool) (sum int64) {
	for line := range strings.Lines(table) {
		// sl: local_address rem_address st tx_queue:rx_queue
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		queue, _, ok := strings.Cut(f[4], ":")
		if !ok || !ports[port] {
			continue
		}
		if n, err := strconv.ParseInt(queue, 16, 64); err == nil {
			sum += n
		}
	}
	return sum
}

// usualP99 returns the median of the p99s, in ms, of the seconds of a step that lie in a stretch of time as a whole: half
// of them were better. A few seconds in which the machine did something else do not change it.
func usualP99(plan load.Step, seconds []load.Second, from, to int64) float64 {
	var p99s []float64
	for i := range seconds {
		begins := plan.Start + int64(i)*int64(time.Second)
		if begins >= from && begins+int64(time.Second) <= to {
			p99s = append(p99s, float64(seconds[i].Latency.Quantile(0.99))/1e6)
		}
	}
	if len(p99s) == 0 {
		return 0
	}
	slices.Sort(p99s)
	return p99s[len(p99s)/2]
}

// slowFigures puts what was found into the report.
func (m *measurement) slowFigures(plan load.Step, got *load.Settled, f *slowFound) {
	r := &report.SlowReaders{
		Slow: got.Stalled, Others: m.cfg.conns - got.Stalled, Rooms: m.cfg.rooms, Nodes: m.cfg.nodes, StallSeconds: m.cfg.slow.stall.Seconds(),
		Offered: plan.Rate / float64(m.cfg.rooms) * float64(m.cfg.payload) * m.cfg.slow.stall.Seconds(),
		Closed:  f.closed, Times: f.times, Gone: got.SlowGone, Counted: len(m.stack.admin) > 0,
		StallBefore: f.stallBefore, Stall: f.stall,
		MemoryBefore: f.before, MemoryPeak: f.peak, MemoryAfter: f.after,
		Before: secondsOf(plan, got.Seconds, plan.MeasureFrom(), plan.StallAt, true),
		During: secondsOf(plan, got.Seconds, plan.StallAt, plan.ResumeAt, false),
		After:  secondsOf(plan, got.Seconds, plan.ResumeAt+int64(time.Second), plan.End(), true),
	}
	r.UsualBefore = usualP99(plan, got.Seconds, plan.MeasureFrom(), plan.StallAt)
	r.UsualDuring = usualP99(plan, got.Seconds, plan.StallAt, plan.ResumeAt)
	r.UsualAfter = usualP99(plan, got.Seconds, plan.ResumeAt+int64(time.Second), plan.End())
	m.sys.SlowReaders = r
	s := m.figures(plan.Rate, got, &load.Settled{}, f.stall, f.cpu)
	measured := float64(plan.Duration) / 1e9
	s.PerSecond, s.Published = float64(got.Delivered)/measured, plan.Rate*measured
	m.sys.Steps = []report.Step{s}
	m.sys.Failures = got.Failures
	m.say("%d of %d slow readers closed; the others' p99 %.1f ms before, %.1f ms during and %.1f ms after; lost %d",
		r.Ended(), r.Slow, r.Before.P99, r.During.P99, r.After.P99, s.Lost)
}
