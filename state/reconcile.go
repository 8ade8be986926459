package state

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// run carries intents to Redis until ctx ends.
func (p *Presence) run(ctx context.Context) {
	defer p.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var wait backoff
	for {
		p.complete()
		c, changed := p.link.get()
		p.heedFlush()
		if c != nil {
			asked, err := p.prepare(ctx, c)
			if asked {
				p.failing("heartbeat", err)
			}
			if err != nil {
				p.link.suspect()
				if !wait.sleep(ctx) {
					return
				}
				continue
			}
			wait = backoff{}
			worked := p.round(ctx, c)
			if p.auditDue(time.Now()) {
				worked = p.auditStep(ctx, c) || worked
			}
			if worked {
				continue
			}
		}
		timer.Reset(p.pause(c != nil))
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		case <-p.link.flushed:
			notify(p.link.flushed) // for heedFlush
		case <-p.wake:
			if !p.collect(ctx) {
				return
			}
		}
	}
}

// heedFlush has everything looked at when all that was cached was invalidated. A
// node that is busy hears of it, too.
func (p *Presence) heedFlush() {
	select {
	case <-p.link.flushed:
		p.mu.Lock()
		p.lease.next = time.Time{} // first of all: does Redis know us?
		p.mu.Unlock()
		p.audit.begin(true, time.Now())
	default:
	}
}

// pause is how long run has nothing to do by itself.
func (p *Presence) pause(connected bool) time.Duration {
	if !connected {
		return time.Hour // until it is
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.lease.next
	if p.struck {
		at = time.Now().Add(time.Hour)
	}
	if retry, ok := p.ledger.retryAt(); ok && retry.Before(at) {
		at = retry
	}
	if p.audit.next.Before(at) {
		at = p.audit.next
	}
	if p.ledger.backlog() > 0 {
		at = time.Now().Add(paceTick)
	}
	return max(0, time.Until(at))
}

// collect waits for a window's worth of intents; false when ctx ended.
func (p *Presence) collect(ctx context.Context) bool {
	window := time.NewTimer(presenceWindow)
	defer window.Stop()
	for {
		p.mu.Lock()
		full := p.ledger.waiting >= batchMembers
		p.mu.Unlock()
		if full {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-window.C:
			return true
		case <-p.wake:
		}
	}
}

// round sends one batch and records its outcome; false when there was nothing to send.
func (p *Presence) round(ctx context.Context, c *clients) bool {
	p.mu.Lock()
	now := time.Now()
	p.rooms.sweep(now) // here, since it comes round also when nothing happens
	p.users.sweep(now)
	p.ledger.refill(p.pace.budget(now, p.nodes, p.ledger.backlog()))
	ops := p.ledger.next(now, batchCommands, p.lease.valid())
	until := p.lease.until
	p.mu.Unlock()
	if len(ops) == 0 {
		return false
	}
	p.record(ops, p.send(ctx, c, ops, until))
	return true
}

// record takes the outcomes of a batch.
func (p *Presence) record(ops []operation, outcomes []scriptResult) {
	now := time.Now()
	lost := false
	p.mu.Lock()
	for i, r := range outcomes {
		o := &ops[i]
		p.ledger.settle(*o, r.err, now)
		switch {
		case errors.Is(r.err, errExpired):
			p.lease.refused()
			p.metrics.PresenceExpired.Inc()
		case r.err != nil:
		case o.set != nil && o.set.room != "":
			p.rooms.mark(o.set.room, writtenRoom{r.epoch, r.seq}, now)
		default:
			for _, s := range o.sockets {
				p.users.mark(s.user.user, struct{}{}, now)
			}
		}
	}
	p.mu.Unlock()
	refused, example := 0, 0
	for i, r := range outcomes {
		if r.err == nil || errors.Is(r.err, errExpired) {
			continue
		}
		p.metrics.PresenceErrors.Inc()
		if lostConnection(r.err) {
			lost = true
		} else {
			refused, example = refused+1, i
		}
	}
	if n, write := p.refusals.pass(refused, now); write {
		p.log.Warn("redis refuses presence operations; they are tried again", "refused", n,
			"op", ops[example].op.String(), "error", outcomes[example].err)
	}
	if lost {
		p.link.suspect()
	}
}

// scriptResult is the outcome of one operation.
type scriptResult struct {
	err   error
	epoch string // of the room, after the operation
	seq   uint64
}

// parseResult reads what the scripts answer: a number, -1 when the lease is
// over, or {changed, put back, epoch, seq}.
func parseResult(op metrics.PresenceOp, r rueidis.RedisResult) scriptResult {
	m, err := r.ToMessage()
	if err != nil {
		return scriptResult{err: err}
	}
	if !m.IsArray() {
		if n, err := m.AsInt64(); err != nil || n >= 0 {
			return scriptResult{err: err}
		}
		return scriptResult{err: errExpired}
	}
	parts, err := m.ToArray()
	if err == nil && len(parts) != 4 {
		err = answered(op.String(), len(parts), 4, nil)
	}
	if err != nil {
		return scriptResult{err: err}
	}
	var res scriptResult
	var seq int64
	res.epoch, err = parts[2].ToString()
	if err == nil {
		seq, err = parts[3].AsInt64()
	}
	res.seq, res.err = uint64(seq), err
	return res
}

// send runs the operations as one pipeline. A Redis that forgot the scripts is
// told again, once.
func (p *Presence) send(ctx context.Context, c *clients, ops []operation, until int64) []scriptResult {
	epoch := newEpoch()
	outcomes := make([]scriptResult, len(ops))
	todo := make([]int, len(ops))
	for i := range todo {
		todo[i] = i
	}
	for try := 0; ; try++ {
		commands := make(rueidis.Commands, len(todo))
		for k, i := range todo {
			commands[k] = p.command(c, &ops[i], epoch, until)
			if try == 0 {
				p.metrics.PresenceBatch[ops[i].op].Observe(float64(ops[i].size()))
			}
		}
		started := time.Now()
		call, cancel := context.WithTimeout(ctx, callTimeout)
		results := c.cmd.DoMulti(call, commands...)
		cancel()
		took := time.Since(started).Seconds()
		var forgotten []int
		for k, r := range results {
			i := todo[k]
			outcomes[i] = parseResult(ops[i].op, r)
			p.metrics.Presence[ops[i].op].Observe(took)
			if err := outcomes[i].err; err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
				forgotten = append(forgotten, i)
			}
		}
		if len(forgotten) == 0 || try > 0 || p.scripts.load(ctx, c.cmd) != nil {
			return outcomes
		}
		todo = forgotten
	}
}

// complete calls what is due, outside the lock.
func (p *Presence) complete() {
	p.mu.Lock()
	finished := p.ledger.finished
	p.ledger.finished = nil
	unsettled := p.ledger.unsettled
	var idle []chan struct{}
	if unsettled == 0 && !p.ledger.gated {
		idle, p.idle = p.idle, nil
	}
	p.mu.Unlock()
	p.metrics.PresenceDirty.Set(float64(unsettled))
	for _, f := range finished {
		f.done(f.err)
	}
	for _, c := range idle {
		close(c)
	}
}

// close ends presence: nothing is stored any more, and whoever waits is told.
func (p *Presence) close() {
	p.mu.Lock()
	p.ended = true
	p.ledger.abandon()
	p.mu.Unlock()
	p.complete()
}
