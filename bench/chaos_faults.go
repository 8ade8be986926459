//go:build linux

package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/stellara/edge/bench/chaos"
)

// chaosLease is the edge's lease, and chaosLimit how soon the keys must be right after a node was killed
// or stopped.
const (
	chaosLease = 10 * time.Second
	chaosLimit = 2 * chaosLease
)

// After a kill the keys may be right long before the dead node's lease runs out and it is reaped, so
// they are looked at until after that; other faults may have had a node reaped that is alive again.
const (
	lookAfterKill  = chaosLimit + 5*time.Second
	lookAfterFault = chaosLease + 3*time.Second
)

const (
	// inTime is how soon after a kill a user must be back so that the dead node's lease cannot have run
	// out: it is renewed every quarter of it, and that can be late.
	inTime = chaosLease - chaosLease/4 - 1500*time.Millisecond
	// churnAfterKill is how long others go on moving when a node has died.
	churnAfterKill = 3 * time.Second
	// stillBefore is how long users stand still before the kill that is judged by them, so that no
	// update from before is taken for one of after.
	stillBefore = 1500 * time.Millisecond
	// redisDown is how long nothing answers when Redis is killed.
	redisDown = 2 * time.Second
	// replicaLag is how much of what Redis acknowledged is lost in a failover.
	replicaLag = time.Second
)

// fault is a way to do harm. do returns when the harm is done or over, with the watch's since set to
// the moment from which healing counts. Churn runs when it is called and until it returns.
type fault struct {
	name  string
	what  string
	from  string
	limit time.Duration // 0: patience alone
	look  time.Duration // after since, at least
	do    func(*harm, context.Context) error
}

func chaosFaults() []fault {
	const kill, end = "kill", "end of the fault"
	return []fault{
		{"kill-away", "node killed with -9, users stay away", kill, chaosLimit, lookAfterKill, (*harm).killAway},
		{"kill-return", "node killed with -9, users return", kill, chaosLimit, lookAfterKill, (*harm).killReturn},
		{"pause", "node stopped, users stay connected", end, chaosLimit, lookAfterFault, (*harm).pause},
		{"restart", "Redis killed, started empty", end, 0, lookAfterFault, (*harm).restart},
		{"flush", "FLUSHALL", end, 0, lookAfterFault, (*harm).flush},
		{"failover", "failover to a replica that lags", end, 0, lookAfterFault, (*harm).failover},
		{"cut", "node's way to Redis refused", end, 0, lookAfterFault, (*harm).cut},
		{"blackhole", "node's way to Redis swallows all", end, 0, lookAfterFault, (*harm).blackhole},
	}
}

// faultNames are the values of -faults.
func faultNames() (names []string) {
	for _, f := range chaosFaults() {
		names = append(names, f.name)
	}
	return names
}

// harm is a fault under way.
type harm struct {
	r       *chaosRun
	node    int // number of the node that it happens to, if it does to one
	watch   *watch
	witness *chaos.Witness              // nil unless leaves are judged
	mend    func(context.Context) error // nil if nothing needs it
}

func (h *harm) target() *chaosNode { return h.r.stack.nodes[h.node] }

func (h *harm) say(format string, args ...any) {
	h.r.say("%s: %s", h.watch.name, fmt.Sprintf(format, args...))
}

// over says that healing counts from now.
func (h *harm) over(format string, args ...any) {
	h.watch.since = time.Now()
	h.say(format, args...)
}

func (h *harm) killAway(ctx context.Context) error   { return h.kill(ctx, true) }
func (h *harm) killReturn(ctx context.Context) error { return h.kill(ctx, false) }

func (h *harm) kill(ctx context.Context, away bool) error {
	r, n := h.r, h.target()
	if err := r.crowd.Freeze(ctx, h.node); err != nil {
		return err
	}
	if err := h.watch.during(ctx, stillBefore); err != nil {
		return err
	}
	h.witness = r.crowd.Witness(h.node, away)
	conns := r.crowd.Online()[h.node]
	r.crowd.Down(h.node, away)
	n.kill()
	h.over("%s is killed, with %d connections", n.name, conns)
	h.mend = func(ctx context.Context) error {
		r.say("%s: %s starts again", h.watch.name, n.name)
		if err := r.stack.launch(n); err != nil {
			return err
		}
		if err := n.awaitReady(ctx); err != nil {
			return err
		}
		r.crowd.Up(h.node)
		return nil
	}
	return h.watch.during(ctx, churnAfterKill)
}

func (h *harm) pause(ctx context.Context) error {
	n := h.target()
	if err := n.process.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping %s: %w", n.name, err)
	}
	h.say("%s is stopped for %v, with %d connections", n.name, h.r.cfg.chaos.outage, h.r.crowd.Online()[h.node])
	if err := h.watch.during(ctx, h.r.cfg.chaos.outage); err != nil {
		return err // whoever ends the run kills it, stopped or not
	}
	if err := n.process.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("continuing %s: %w", n.name, err)
	}
	h.over("%s goes on", n.name)
	return nil
}

func (h *harm) restart(ctx context.Context) error {
	h.say("Redis is killed")
	if err := h.r.stack.restartRedis(ctx, h.watch.during); err != nil {
		return err
	}
	h.over("Redis is back, empty")
	return nil
}

func (h *harm) flush(ctx context.Context) error {
	if _, err := h.r.reader.Do(ctx, "FLUSHALL"); err != nil {
		return err
	}
	h.over("all keys are gone")
	return nil
}

func (h *harm) failover(ctx context.Context) error {
	err := h.r.stack.failover(ctx, h.watch.during, func() {
		h.say("Redis is killed, %v ahead of its replica", replicaLag)
	})
	if err == nil {
		err = h.r.read()
	}
	if err != nil {
		return err
	}
	h.over("the replica is promoted")
	return nil
}

func (h *harm) cut(ctx context.Context) error {
	return h.isolate(ctx, (*chaos.Proxy).Refuse, "refused")
}

func (h *harm) blackhole(ctx context.Context) error {
	return h.isolate(ctx, (*chaos.Proxy).Hold, "a black hole")
}

func (h *harm) isolate(ctx context.Context, how func(*chaos.Proxy), word string) error {
	n := h.target()
	how(n.proxy)
	h.say("the way of %s to Redis is %s for %v", n.name, word, h.r.cfg.chaos.outage)
	if err := h.watch.during(ctx, h.r.cfg.chaos.outage); err != nil {
		return err
	}
	n.proxy.Pass()
	h.over("%s can reach Redis", n.name)
	return nil
}
