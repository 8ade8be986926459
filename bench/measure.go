//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/stellara/edge/bench/delivery"
	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// measurement is one system's way through a scenario.
type measurement struct {
	cfg      config
	clock    load.Clock
	stack    *stack
	sampler  *sampler
	presence *presenceReader // nil without access to Redis
	observer *observer       // nil without Node.js, and where nobody changes presence
	churn    *churn          // steady only
	view     *delivery.Fleet // recovery and storm only
	sys      *report.System
	out      io.Writer
	sids     []string
	before   snapshot       // ready, no connections
	answers  hist.Histogram // moves only: of first events
}

// measure starts a system, leads the scenario through it and ends it.
func measure(ctx context.Context, cfg config, clock load.Clock, name string, out io.Writer) (*report.System, error) {
	fmt.Fprintf(out, "%s: starting %d nodes\n", name, cfg.nodes)
	s, err := startStack(ctx, cfg, name)
	if err != nil {
		return nil, err
	}
	defer s.close()
	// An interrupt kills the clients, so that whatever waits for them returns.
	defer context.AfterFunc(ctx, s.cut)()
	m := &measurement{
		cfg: cfg, clock: clock, stack: s, out: out,
		sys: &report.System{Name: name, Nodes: cfg.nodes, Failures: map[string]int{}},
	}
	if s.redisURL != "" {
		prefix := "" // on servers of its own, everybody is the benchmark's
		if !s.ours() {
			prefix = s.plan.Prefix
		}
		if m.presence, err = newPresenceReader(s.redisURL, prefix); err != nil {
			return nil, err
		}
		defer func() { m.presence.close() }() // which it is then
	}
	defer func() { m.observer.close() }()
	m.sampler = startSampler(s, clock)
	err = m.scenario(ctx)
	m.sys.Samples, m.sys.Marks = m.sampler.end()
	if !s.ours() {
		m.sys.Samples = nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		err = s.died()
	}
	return m.sys, err
}

// died names a server that ended while it was measured.
func (s *stack) died() error {
	for _, p := range append([]*process{s.redis}, s.nodes...) {
		if p == nil || p.killed {
			continue
		}
		select {
		case <-p.done:
			return p.failure("ended during the measurement")
		default:
		}
	}
	return nil
}

// scenario is what is done to every system, in order.
func (m *measurement) scenario(ctx context.Context) error {
	settle := time.Second // for what servers do after they are ready
	if m.cfg.scenario == scenarioIdle || m.cfg.scenario == scenarioMoves {
		settle = 5 * time.Second // memory is the subject here
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	m.before = m.stack.snapshot(m.clock)
	if m.cfg.scenario == scenarioMoves {
		return m.moves(ctx)
	}
	if err := m.connect(ctx); err != nil {
		return err
	}
	if m.cfg.rooms > 0 {
		if err := m.join(ctx); err != nil {
			return err
		}
	}
	if err := m.check(ctx, "loaded", time.Now()); err != nil {
		return err
	}
	var err error
	switch m.cfg.scenario {
	case scenarioLoss:
		return m.loss(ctx)
	case scenarioHeartbeat:
		err = m.heartbeat(ctx)
	case scenarioRecovery:
		err = m.recovery(ctx)
	case scenarioSlowReaders:
		err = m.slowReaders(ctx)
	case scenarioStorm:
		err = m.storms(ctx)
	case scenarioChurn:
		err = m.comings(ctx)
	case scenarioIdle:
		err = m.idle(ctx)
	case scenarioSaturation:
		m.memory(m.stack.snapshot(m.clock))
		err = m.searchSteps(ctx)
	default:
		m.memory(m.stack.snapshot(m.clock))
		err = m.steps(ctx)
	}
	if err != nil {
		return err
	}
	return m.leave(ctx)
}

func (m *measurement) say(format string, args ...any) {
	fmt.Fprintf(m.out, "%s: "+format+"\n", append([]any{m.sys.Name}, args...)...)
}

// phaseTimeout bounds connecting and joining: 60 s, and what 100 per second take.
func (m *measurement) phaseTimeout() time.Duration {
	return time.Minute + time.Duration(m.cfg.conns)*10*time.Millisecond
}

func (m *measurement) connect(ctx context.Context) error {
	m.sampler.mark("connect")
	from := m.stack.snapshot(m.clock)
	c, err := m.stack.fleet.Connect(m.phaseTimeout())
	if err != nil {
		return err
	}
	// Work the servers do after their answer is part of the price.
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	m.sids, m.answers, m.sys.Failures = c.SIDs, c.Answers, c.Failures
	m.sys.Connect = m.phase(m.cfg.conns-c.Failed, c.First, c.Last, from)
	m.sys.Connect.P50MS = float64(c.Times.Quantile(0.5)) / 1e6
	m.sys.Connect.P99MS = float64(c.Times.Quantile(0.99)) / 1e6
	m.say("%d connected, %.0f/s", m.sys.Connect.Done, m.sys.Connect.PerSecond)
	if m.sys.Connect.Done == 0 {
		return fmt.Errorf("no connection came about: %v", c.Failures)
	}
	return nil
}

func (m *measurement) join(ctx context.Context) error {
	m.sampler.mark("join")
	from := m.stack.snapshot(m.clock)
	j, err := m.stack.fleet.Join(m.phaseTimeout())
	if err != nil {
		return err
	}
	m.sys.Failures = j.Failures
	phase := m.phase(j.Count, j.First, j.Last, from)
	m.sys.Join = &phase
	m.say("%d joined, %.0f/s, %d presence updates", j.Count, phase.PerSecond, j.Events)
	return ctx.Err()
}

// phase sums up a phase that began with the snapshot from.
func (m *measurement) phase(done int, first, last int64, from snapshot) report.Connect {
	c := report.Connect{Done: done, Failed: m.cfg.conns - done, Seconds: float64(last-first) / 1e9}
	if c.Seconds > 0 {
		c.PerSecond = float64(done) / c.Seconds
	}
	if m.stack.ours() {
		cpu := m.stack.snapshot(m.clock).cpu.Sub(from.cpu)
		c.CPU = &cpu
	}
	return c
}

// memory takes a snapshot as the loaded state.
func (m *measurement) memory(now snapshot) {
	if !m.stack.ours() {
		return
	}
	m.sys.Memory = &report.Memory{
		NodesBefore: m.before.nodesRSS, Nodes: now.nodesRSS, RedisBefore: m.before.redisRSS, Redis: now.redisRSS,
		Conns: m.sys.Connect.Done, MaxGoroutines: m.stack.goroutines(),
	}
}

// check compares the presence keys with the truth.
func (m *measurement) check(ctx context.Context, when string, since time.Time) error {
	if m.presence == nil {
		return nil
	}
	dropped, err := m.stack.fleet.Dropped()
	if err != nil {
		return err
	}
	p, err := m.presence.check(ctx, when, newTruth(&m.stack.plan, m.sids, dropped), since)
	if err != nil {
		return err
	}
	m.sys.Presence = append(m.sys.Presence, p)
	m.say("presence %s: %d of %d keys wrong, looked for %.0f ms", when, p.Wrong, p.Keys, p.RightMS)
	return nil
}

// idle measures what connections cost that do nothing, waits for heartbeats and reads the memory as it is
// then, without asking for a collection.
func (m *measurement) idle(ctx context.Context) error {
	m.sampler.mark("idle")
	if err := m.idleCPU(ctx); err != nil {
		return err
	}
	m.say("waiting for %d heartbeats on every connection", m.cfg.heartbeats)
	if err := m.stack.fleet.WaitPings(m.cfg.heartbeats, time.Duration(m.cfg.heartbeats+1)*45*time.Second); err != nil {
		return err
	}
	m.memory(m.stack.snapshot(m.clock))
	if m.sys.Memory != nil {
		m.sys.Memory.Heartbeats = m.cfg.heartbeats
		m.say("%.0f bytes per connection", m.sys.Memory.PerConn())
	}
	return m.check(ctx, "idle", time.Now())
}

// idleCPU measures the processor time of servers whose clients only answer heartbeats.
func (m *measurement) idleCPU(ctx context.Context) error {
	if m.cfg.scenario != scenarioIdle || m.cfg.duration == 0 || !m.stack.ours() {
		return nil
	}
	m.say("measuring the CPU of idle connections for %v", m.cfg.duration)
	from := m.stack.snapshot(m.clock)
	if err := pause(ctx, m.cfg.duration); err != nil {
		return err
	}
	to := m.stack.snapshot(m.clock)
	m.sys.Idle = &report.Idle{Conns: m.sys.Connect.Done, Seconds: float64(to.at-from.at) / 1e9, CPU: to.cpu.Sub(from.cpu)}
	m.say("%.2f µs of CPU per connection and second", m.sys.Idle.PerConn())
	return nil
}

// leave closes all connections and sees whether the keys notice.
func (m *measurement) leave(ctx context.Context) error {
	m.sampler.mark("leave")
	c, err := m.stack.fleet.Close(15 * time.Second)
	if err != nil {
		return err
	}
	m.sys.Left = &report.Left{Cut: c.Left}
	m.sys.Failures = c.Failures
	return m.check(ctx, "all left", time.Now().Add(m.clock.Until(c.Last)))
}

// pause waits, unless it is interrupted.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
