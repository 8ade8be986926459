//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// lossTail is how long the survivors' messages could go on after the longest wait.
const lossTail = 10 * time.Second

// loss kills the victims while the survivors carry messages, and watches until the presence keys are
// right. The idle connections are in their rooms already.
func (m *measurement) loss(ctx context.Context) error {
	truth, readers, err := m.survivors(ctx)
	if err != nil {
		return err
	}
	defer readers.close()
	if err := m.compare(ctx, "survivors loaded", truth.before, time.Now()); err != nil {
		return err
	}
	watcher := newLossWatcher(m, truth.before, truth.after)
	plan := load.Step{
		Start: m.clock.Now() + int64(200*time.Millisecond), Rate: m.cfg.rates[0], Warmup: m.cfg.warmup,
		Duration: m.cfg.duration + m.cfg.loss.wait + lossTail,
	}
	m.sampler.mark("messages")
	m.say("%g messages/s for %v, then %d of %d nodes are killed", plan.Rate, m.cfg.warmup+m.cfg.duration, m.cfg.loss.victims, m.cfg.nodes)
	var got *load.Settled
	var stepErr error
	var step sync.WaitGroup
	step.Go(func() { got, stepErr = m.stack.survivors.Step(plan, m.cfg.settle) })
	readers.start(ctx)
	found, err := m.killAndWatch(ctx, plan, watcher)
	readers.stop()
	if stopErr := m.stack.survivors.Stop(); err == nil {
		err = stopErr
	}
	step.Wait()
	if err == nil {
		err = stepErr
	}
	if err != nil {
		return err
	}
	m.lossFigures(plan, got, found, readers)
	return m.leaveSurvivors(ctx, truth.after, readers)
}

// lossTruth is what the presence keys must say before and after the kill.
type lossTruth struct{ before, after *truth }

// survivors connects those who stay, and the readers.
func (m *measurement) survivors(ctx context.Context) (lossTruth, *readers, error) {
	m.sampler.mark("survivors")
	plan := &m.stack.survivorsPlan
	connected, err := m.stack.survivors.Connect(m.phaseTimeout())
	if err != nil {
		return lossTruth{}, nil, err
	}
	joined, err := m.stack.survivors.Join(m.phaseTimeout())
	if err != nil {
		return lossTruth{}, nil, err
	}
	if joined.Count != plan.Conns {
		return lossTruth{}, nil, fmt.Errorf("%d of %d survivors are in their rooms: %v", joined.Count, plan.Conns, joined.Failures)
	}
	readers, err := newReaders(ctx, m)
	if err != nil {
		return lossTruth{}, nil, err
	}
	dropped, err := m.stack.fleet.Dropped()
	if err != nil {
		return lossTruth{}, nil, err
	}
	all := make([]int, m.stack.plan.Conns)
	for i := range all {
		all[i] = i
	}
	t := lossTruth{newTruth(&m.stack.plan, m.sids, dropped), newTruth(&m.stack.plan, m.sids, all)}
	for _, truth := range []*truth{t.before, t.after} {
		truth.add(newTruth(plan, connected.SIDs, nil))
		for k, r := range readers.all {
			truth.addUser(r.user, r.guest.SID(), k%m.stack.plan.Rooms)
		}
	}
	return t, readers, nil
}

// compare is check with a truth that is already known.
func (m *measurement) compare(ctx context.Context, when string, t *truth, since time.Time) error {
	p, err := m.presence.check(ctx, when, t, since)
	if err != nil {
		return err
	}
	m.sys.Presence = append(m.sys.Presence, p)
	m.say("presence %s: %d of %d keys wrong, looked for %.0f ms", when, p.Wrong, p.Keys, p.RightMS)
	return nil
}

// killAndWatch watches the survivors until the measured time is over, kills the victims, and watches
// until the presence keys are right.
func (m *measurement) killAndWatch(ctx context.Context, plan load.Step, w *lossWatcher) (*lossFound, error) {
	if err := pause(ctx, m.clock.Until(plan.MeasureFrom())); err != nil {
		return nil, err
	}
	meter := startStallMeter()
	from := w.part.snapshot(m.clock)
	killAt := plan.MeasureFrom() + int64(m.cfg.duration)
	_, err := w.until(ctx, killAt, false) // the looks are part of what is usual
	stall := report.NewLatency(meter.end())
	if err != nil {
		return nil, err
	}
	before := w.part.snapshot(m.clock)
	found := &lossFound{usual: use(from, before), stallBefore: stall}
	m.sampler.mark("kill")
	m.stack.stopClients(m.cfg.processes)
	meter = startStallMeter()
	found.killed = m.clock.Now()
	w.reset(found.killed)
	ended := m.stack.killVictims(m.cfg.loss.victims, m.clock)
	m.say("killed; waiting up to %v until the keys are right", m.cfg.loss.wait)
	right, err := w.until(ctx, found.killed+int64(m.cfg.loss.wait), true)
	found.stall = report.NewLatency(meter.end())
	found.ended = <-ended // long ago, unless watching was interrupted
	if err != nil {
		return nil, err
	}
	m.sampler.mark("right")
	found.until, found.looks, found.wrong = m.clock.Now(), w.looks, w.wrong
	found.during = use(before, w.use) // until the last look, before the comparison of all keys
	found.times = report.TimesOf(w.looks, w.want)
	if right {
		found.until = w.compared
		found.times.Right = float64(w.compared-found.killed) / 1e9
	}
	return found, nil
}

// stopClients makes the client processes of the idle connections stop as they are: tens of thousands of
// sockets that end at once would keep them busy on the machine that the survivors need, and elsewhere
// they would not be on that machine.
func (s *stack) stopClients(n int) {
	for _, p := range s.loaders[:n] {
		_ = p.cmd.Process.Signal(syscall.SIGSTOP) // fails only if it has ended
	}
}

// killVictims ends the first n nodes at once, without warning. The channel gets the time at which the
// kernel was done with them: closing tens of thousands of sockets takes it a while, on the processors
// that the survivors need.
func (s *stack) killVictims(n int, clock load.Clock) <-chan int64 {
	for _, p := range s.nodes[:n] {
		p.killed = true
		_ = p.cmd.Process.Kill() // fails only if it has ended
	}
	ended := make(chan int64, 1)
	go func() {
		for _, p := range s.nodes[:n] {
			<-p.done
		}
		ended <- clock.Now()
	}()
	return ended
}

// lossFound is what was found out between the kill and the end of watching.
type lossFound struct {
	killed int64 // monotonic nanoseconds
	ended  int64 // when the victims' processes had ended
	until  int64 // when watching ended, or all keys were right
	times  report.LossTimes
	usual  perSecond
	during perSecond
	looks  []report.Look
	wrong  []string // keys that were wrong in the end

	stallBefore, stall report.Latency
}

// removals returns when the first removal was seen, with the look before it, and when the last one was;
// monotonic nanoseconds, the same time twice if there was none.
func (f *lossFound) removals() (from, to int64) {
	if f.times.First < 0 {
		return f.killed, f.killed
	}
	at := func(s float64) int64 { return f.killed + int64(s*1e9) }
	return at(f.times.First) - int64(countEvery), at(f.times.Last)
}

// perSecond is processor time by who used it, and how long that took.
type perSecond struct {
	seconds float64
	cpu     report.CPU
}

func use(from, to snapshot) perSecond {
	return perSecond{float64(to.at-from.at) / 1e9, to.cpu.Sub(from.cpu)}
}

// beyond returns what was used beyond what is usual in that time; not below 0.
func (p perSecond) beyond(usual perSecond) report.CPU {
	over := func(used, before float64) float64 { return max(used-before*p.seconds/usual.seconds, 0) }
	return report.CPU{
		Nodes: over(p.cpu.Nodes, usual.cpu.Nodes), Redis: over(p.cpu.Redis, usual.cpu.Redis), Client: over(p.cpu.Client, usual.cpu.Client),
	}
}

// lossFigures puts everything that was found into the report.
func (m *measurement) lossFigures(plan load.Step, got *load.Settled, found *lossFound, readers *readers) {
	l := &report.Loss{
		Victims: m.cfg.loss.victims, Conns: m.sys.Connect.Done, Rooms: m.cfg.rooms, RoomsEach: m.cfg.loss.each,
		Entries: m.sys.Connect.Done * (2 + m.cfg.loss.each), WaitSeconds: m.cfg.loss.wait.Seconds(), Right: found.times.Right >= 0, Times: found.times,
		Keys: m.lossKeys(), Wrong: len(found.wrong), Examples: found.wrong[:min(len(found.wrong), 10)], Looks: found.looks,
		UsualCPU: found.usual.cpu, UsualSeconds: found.usual.seconds, CPU: found.during.beyond(found.usual),
		StallBefore: found.stallBefore, Stall: found.stall, EndedSeconds: float64(found.ended-found.killed) / 1e9,
		Survivors: m.cfg.loss.conns, SurvivorRooms: m.cfg.loss.rooms, Sent: got.Sent, Refused: got.Refused,
		Lost: got.Lost, Duplicated: got.Checks.Duplicated, Reordered: got.Checks.Reordered + got.Checks.Misrouted,
		Disagreeing: load.Disagreeing(got.Orders), Dropped: got.Dropped,
	}
	first, last := found.removals()
	l.Before = secondsOf(plan, got.Seconds, plan.MeasureFrom(), found.killed, true)
	l.During = secondsOf(plan, got.Seconds, found.killed, found.until, false)
	l.Removing = secondsOf(plan, got.Seconds, first, last, false)
	l.ReadsBefore, l.ReadsDuring = readers.between(plan.MeasureFrom(), found.killed), readers.between(found.killed, found.until)
	l.ReadsRemoving, l.ReadsFailed = readers.between(first, last), readers.failed()
	m.sys.Loss = l
	got.Seconds = got.Seconds[:min(len(got.Seconds), int((found.until-plan.Start)/int64(time.Second))+1)]
	step := m.lossStep(plan, got)
	step.Stall, step.PerSecond = found.stall, float64(got.Delivered)/(float64(found.until-plan.MeasureFrom())/1e9)
	m.sys.Steps = []report.Step{step}
	m.sys.Failures = got.Failures
	if l.Right {
		m.say("all right %.1f s after the kill, removals took %.1f s", l.Times.Right, l.Times.Reap)
	} else {
		m.say("%d of %d keys are wrong %v after the kill", l.Wrong, l.Keys, m.cfg.loss.wait)
	}
	m.say("p99 %.1f ms before and %.1f ms during, lost %d", l.Before.P99, l.During.P99, l.Lost)
}

func (m *measurement) lossKeys() int {
	return 1 + m.cfg.rooms + m.cfg.loss.rooms + m.cfg.conns + m.cfg.loss.conns + readersPerNode*(m.cfg.nodes-m.cfg.loss.victims)
}

// lossStep is the messages of the whole time, for the curves.
func (m *measurement) lossStep(plan load.Step, got *load.Settled) report.Step {
	return report.Step{
		Rate: plan.Rate, Nominal: plan.Rate * float64(m.cfg.loss.conns) / float64(m.cfg.loss.rooms),
		Sent: got.Sent, Refused: got.Refused, Received: got.Received, Delivered: got.Delivered, Lost: int64(got.Lost),
		Duplicated: got.Checks.Duplicated, Reordered: got.Checks.Reordered, Misrouted: got.Checks.Misrouted,
		Disagreeing: load.Disagreeing(got.Orders), Dropped: got.Dropped,
		Latency: report.NewLatency(&got.Latency), SendLag: report.NewLatency(&got.SendLag),
		Seconds: reportSeconds(got.Seconds),
	}
}

// secondsOf adds up the latencies of the seconds of a step that lie in a stretch of time: those that lie
// in it as a whole, or all that have a part in it.
func secondsOf(plan load.Step, seconds []load.Second, from, to int64, whole bool) report.Latency {
	var sum hist.Histogram
	for i := range seconds {
		begins := plan.Start + int64(i)*int64(time.Second)
		ends := begins + int64(time.Second)
		if whole && begins >= from && ends <= to || !whole && ends > from && begins < to {
			sum.Add(&seconds[i].Latency)
		}
	}
	return report.NewLatency(&sum)
}

// leaveSurvivors closes what is left and looks at the keys once more.
func (m *measurement) leaveSurvivors(ctx context.Context, after *truth, readers *readers) error {
	m.sampler.mark("leave")
	readers.close()
	c, err := m.stack.survivors.Close(15 * time.Second)
	if err != nil {
		return err
	}
	m.sys.Left = &report.Left{Cut: c.Left}
	for i := range after.online {
		after.online[i] = false
	}
	return m.compare(ctx, "all left", after, time.Now())
}
