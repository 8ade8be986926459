//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stellara/edge/bench/delivery"
)

// Times of the faults of chaos-delivery.
const (
	shortOutage  = 3 * time.Second // of a cut, and of a Redis that is stopped
	betweenKills = 2 * time.Second // of Pub/Sub connections, and of nodes that are restarted in turn
	nodeDown     = 5 * time.Second // until a killed node is started again
	nodeGrace    = 20 * time.Second
)

// fatMessage is larger than the 16 KiB that Redis sends to a connection without counting them.
const fatMessage = 48 << 10

// deliveryFault is a way to do harm, or a situation to test. do returns when the harm is done or over.
type deliveryFault struct {
	name string
	what string
	told bool // no session outlives it
	do   func(*deliveryHarm, context.Context) error
}

func deliveryFaults() []deliveryFault {
	return []deliveryFault{
		{"drops", "only the clients' own drops", false, (*deliveryHarm).drops},
		{"pubsub-kill", "Pub/Sub connections of all nodes killed in turn", false, (*deliveryHarm).pubsubKill},
		{"cut", "a node cut from Redis for 3 s", false, (*deliveryHarm).cut},
		{"buffer-kill", "Redis ends Pub/Sub connections that lag", false, (*deliveryHarm).bufferKill},
		{"redis-stop", "Redis stopped for 3 s", false, (*deliveryHarm).redisStop},
		{"kill", "a node killed with -9, later started again", false, (*deliveryHarm).kill},
		{"rolling", "all nodes restarted in turn", false, (*deliveryHarm).rolling},
		{"late-join", "clients that join late", false, (*deliveryHarm).lateJoin},
		{"wrong-pid", "clients that ask for a wrong session", false, (*deliveryHarm).wrongPID},
		{"silence", "a node killed with -9 whose clients were silent", false, (*deliveryHarm).silence},
		{"restart-empty", "Redis killed, started empty", true, (*deliveryHarm).restartEmpty},
		{"restart-old", "Redis killed, started with data 2 s old", true, (*deliveryHarm).restartOld},
		{"failover", "failover to a replica that lags by 1 s", true, (*deliveryHarm).failover},
	}
}

// deliveryHarm is a fault under way.
type deliveryHarm struct {
	r      *deliveryRun
	number int // of the phase
	node   int // number of the node that it happens to, if it does to one
	over   time.Time
	harmed time.Time                   // when all sessions ended, if the fault ends them
	mend   func(context.Context) error // what is to be done when all is well; nil if nothing
	result delivery.Phase
}

func (d *deliveryHarm) target() *chaosNode { return d.r.stack.nodes[d.node] }

func (d *deliveryHarm) say(format string, args ...any) {
	d.r.say("%s: %s", d.result.Name, fmt.Sprintf(format, args...))
}

func (d *deliveryHarm) fail(format string, args ...any) {
	d.result.Failures = append(d.result.Failures, fmt.Sprintf(format, args...))
}

func (d *deliveryHarm) drops(context.Context) error { return nil }

// subscribers returns the ids of all Pub/Sub connections.
func (d *deliveryHarm) subscribers(ctx context.Context) (ids []string, err error) {
	text, err := d.r.stack.do(ctx, "CLIENT", "LIST", "TYPE", "pubsub")
	if err != nil {
		return nil, err
	}
	// Redis marks it as text; rueidis leaves the mark there.
	for line := range strings.Lines(strings.TrimPrefix(text, "txt:")) {
		for _, field := range strings.Fields(line) {
			if id, ok := strings.CutPrefix(field, "id="); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

func (d *deliveryHarm) pubsubKill(ctx context.Context) error {
	ids, err := d.subscribers(ctx)
	if err != nil {
		return err
	}
	if len(ids) < d.r.cfg.nodes {
		d.fail("%d nodes have only %d Pub/Sub connections", d.r.cfg.nodes, len(ids))
	}
	for i, id := range ids {
		if i > 0 {
			if err := pause(ctx, betweenKills); err != nil {
				return err
			}
		}
		if _, err := d.r.stack.do(ctx, "CLIENT", "KILL", "ID", id); err != nil {
			d.say("connection %s had ended before it was killed: %v", id, err)
		}
	}
	d.say("%d connections killed", len(ids))
	return nil
}

func (d *deliveryHarm) cut(ctx context.Context) error {
	d.target().proxy.Refuse()
	d.say("%s is cut from Redis", d.target().name)
	if err := pause(ctx, shortOutage); err != nil {
		return err
	}
	d.target().proxy.Pass()
	return nil
}

// bufferKill makes Redis end every Pub/Sub connection that has anything waiting, and sends messages that
// are so large that they have to wait: those that are lost with the connection.
func (d *deliveryHarm) bufferKill(ctx context.Context) error {
	const limit = "client-output-buffer-limit"
	before, err := d.subscribers(ctx)
	if err != nil {
		return err
	}
	if _, err := d.r.stack.do(ctx, "CONFIG", "SET", limit, "pubsub 1 1 1"); err != nil {
		return err
	}
	for _, p := range d.r.pubs[:min(2, len(d.r.pubs))] {
		p.Pad(fatMessage)
	}
	killed := 0
	for end := time.Now().Add(shortOutage); killed < len(before) && time.Now().Before(end); {
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
		now, err := d.subscribers(ctx)
		if err != nil {
			return err
		}
		killed = 0
		for _, id := range before {
			if !slices.Contains(now, id) {
				killed++
			}
		}
	}
	if _, err := d.r.stack.do(ctx, "CONFIG", "SET", limit, "pubsub 33554432 8388608 60"); err != nil {
		return err
	}
	d.say("Redis ended %d of %d connections", killed, len(before))
	if killed == 0 {
		d.fail("Redis ended no connection, so that nothing was tested")
	}
	return nil
}

func (d *deliveryHarm) redisStop(ctx context.Context) error {
	p := d.r.stack.redis.cmd.Process
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping Redis: %w", err)
	}
	d.say("Redis is stopped")
	if err := pause(ctx, shortOutage); err != nil {
		return err // whoever ends the run kills it, stopped or not
	}
	if err := p.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("continuing Redis: %w", err)
	}
	return nil
}

// killNode kills a node with -9.
func (d *deliveryHarm) killNode() {
	d.r.meter.poll() // what it counted ends with it
	d.r.fleet.Down(d.node)
	d.target().kill()
	d.over = time.Now()
	d.say("%s is killed", d.target().name)
}

// startNode starts a node again that has ended.
func (d *deliveryHarm) startNode(ctx context.Context, node int) error {
	n := d.r.stack.nodes[node]
	if err := d.r.stack.launch(n); err != nil {
		return err
	}
	if err := n.awaitReady(ctx); err != nil {
		return err
	}
	d.r.fleet.Up(node)
	return nil
}

func (d *deliveryHarm) kill(ctx context.Context) error {
	d.killNode()
	d.mend = func(ctx context.Context) error {
		if err := pause(ctx, max(time.Until(d.over.Add(nodeDown)), 0)); err != nil {
			return err
		}
		return d.startNode(ctx, d.node)
	}
	return nil
}

func (d *deliveryHarm) rolling(ctx context.Context) error {
	for i, n := range d.r.stack.nodes {
		if i > 0 {
			if err := pause(ctx, betweenKills); err != nil {
				return err
			}
		}
		d.r.meter.poll()
		d.r.fleet.Down(i)
		began := time.Now()
		n.terminate(nodeGrace)
		d.say("%s has ended after %.1f s", n.name, time.Since(began).Seconds())
		if err := d.startNode(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// redisDies notes that all sessions end with the Redis that is killed now. The moment is the middle of the
// time in which nothing answers: what was under way from before has arrived by then.
func (d *deliveryHarm) redisDies() { d.harmed = time.Now().Add(redisDown / 2) }

func (d *deliveryHarm) restartEmpty(ctx context.Context) error {
	d.redisDies()
	return d.r.stack.restartRedis(ctx, pause)
}

func (d *deliveryHarm) restartOld(ctx context.Context) error {
	args, err := d.r.stack.saveRedis(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	d.redisDies()
	return d.r.stack.restartRedis(ctx, pause, args...)
}

func (d *deliveryHarm) failover(ctx context.Context) error {
	return d.r.stack.failover(ctx, pause, d.redisDies)
}
