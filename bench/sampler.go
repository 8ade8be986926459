//go:build linux

package main

import (
	"sync"
	"time"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// snapshot is what all processes have used up to a moment.
type snapshot struct {
	at       int64 // monotonic nanoseconds
	cpu      report.CPU
	nodesRSS int64
	redisRSS int64
}

// snapshot reads /proc for every process of the stack; one that has ended counts as nothing.
func (s *stack) snapshot(clock load.Clock) snapshot {
	snap := snapshot{at: clock.Now()}
	for _, p := range s.nodes {
		if u, err := usageOf(p.cmd.Process.Pid); err == nil {
			snap.cpu.Nodes += u.cpu
			snap.nodesRSS += u.rss
		}
	}
	if s.redis != nil {
		if u, err := usageOf(s.redis.cmd.Process.Pid); err == nil {
			snap.cpu.Redis, snap.redisRSS = u.cpu, u.rss
		}
	}
	for _, p := range s.loaders {
		if u, err := usageOf(p.cmd.Process.Pid); err == nil {
			snap.cpu.Client += u.cpu
		}
	}
	return snap
}

// ours reports whether the servers are this machine's processes, so that their use is known.
func (s *stack) ours() bool { return len(s.nodes) > 0 }

// sampler takes a snapshot every second, for the curves of the report.
type sampler struct {
	stack *stack
	clock load.Clock
	first int64
	stop  chan struct{}
	wg    sync.WaitGroup

	samples []report.Sample // the goroutine's until end
	marks   []report.Mark   // the caller's
}

func startSampler(s *stack, clock load.Clock) *sampler {
	sm := &sampler{stack: s, clock: clock, first: clock.Now(), stop: make(chan struct{})}
	sm.wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		last := s.snapshot(clock)
		for {
			select {
			case <-sm.stop:
				return
			case <-tick.C:
			}
			next := s.snapshot(clock)
			// A node that was killed takes what it used with it; that second shows as nothing.
			used, seconds := next.cpu.Sub(last.cpu), float64(next.at-last.at)/1e9
			sm.samples = append(sm.samples, report.Sample{
				T: sm.seconds(next.at), Nodes: max(used.Nodes, 0) / seconds, Redis: used.Redis / seconds,
				Client: used.Client / seconds, NodesRSS: next.nodesRSS, RedisRSS: next.redisRSS,
			})
			last = next
		}
	})
	return sm
}

func (sm *sampler) seconds(at int64) float64 { return float64(at-sm.first) / 1e9 }

// mark names the phase that begins now.
func (sm *sampler) mark(name string) {
	sm.marks = append(sm.marks, report.Mark{T: sm.seconds(sm.clock.Now()), Name: name})
}

// end stops sampling.
func (sm *sampler) end() ([]report.Sample, []report.Mark) {
	close(sm.stop)
	sm.wg.Wait()
	return sm.samples, sm.marks
}
