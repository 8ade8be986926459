package state

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// Keys of leases, all in one slot.
const (
	instKey = "{edge}:inst"
	deadKey = "{edge}:dead"
)

// indexKey names the rooms an incarnation holds members in.
func indexKey(incarnation string) string { return "{edge:" + incarnation + "}:rooms" }

// indexTTL lets an index go that nobody answers for; it is renewed with audits.
const indexTTL = 24 * time.Hour

// run carries intents to Redis until ctx ends.
func (p *Presence) run(ctx context.Context) {
	defer p.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var wait backoff
	for {
		p.complete()
		c, changed := p.link.get()
		if c != nil {
			err := p.prepare(ctx, c)
			p.failing("heartbeat", err)
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
			p.mu.Lock()
			p.lease.next = time.Time{} // first of all: does Redis know us?
			p.mu.Unlock()
			p.audit.begin(true, time.Now())
		case <-p.wake:
			if !p.collect(ctx) {
				return
			}
		}
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

// prepare sees that Redis knows the scripts and that the lease is renewed in
// time. After every lost connection Redis may be another one, or the same at an
// earlier time: everything is looked at.
func (p *Presence) prepare(ctx context.Context, c *clients) error {
	if c.gen != p.prepared {
		p.mu.Lock()
		p.lease.broken(time.Time{})
		p.mu.Unlock()
		if err := p.scripts.load(ctx, c.cmd); err != nil {
			return err
		}
		if err := p.beat(ctx, c); err != nil {
			return err
		}
		p.mu.Lock()
		p.ledger.hurry()
		p.mu.Unlock()
		if p.prepared > 0 {
			p.mu.Lock()
			p.ledger.gated = true
			p.mu.Unlock()
			p.audit.begin(true, time.Now())
			if c.run != p.redis {
				p.wantScrub("another redis")
			}
		}
		p.prepared, p.redis = c.gen, c.run
		return nil
	}
	p.mu.Lock()
	due := !time.Now().Before(p.lease.next) && !p.struck
	p.mu.Unlock()
	if !due {
		return nil
	}
	return p.beat(ctx, c)
}

// beat sends one heartbeat. A node that Redis does not know any more goes on as
// another incarnation, at once, and leaves what the one before may have left to
// the janitors.
func (p *Presence) beat(ctx context.Context, c *clients) error {
	for {
		p.mu.Lock()
		incarnation, first, length := p.ledger.incarnation(), "0", p.lease.length
		if !p.lease.known {
			first = "1"
		}
		p.mu.Unlock()
		reply, err := p.call(ctx, c, metrics.PresenceHeartbeat, []string{instKey, deadKey},
			[]string{incarnation, strconv.FormatInt(length.Milliseconds(), 10), first}).AsIntSlice()
		now := time.Now()
		if err == nil && len(reply) != 3 {
			err = fmt.Errorf("HEARTBEAT answered %v", reply)
		}
		if err != nil {
			p.mu.Lock()
			p.lease.broken(now)
			p.mu.Unlock()
			return fmt.Errorf("heartbeat: %w", err)
		}
		until, redis, nodes := reply[0], reply[1], reply[2]
		p.metrics.RedisClockSkew.Set(time.UnixMilli(redis).Sub(now).Seconds())
		p.metrics.PresenceNodes.Set(float64(nodes))
		if until > 0 {
			p.mu.Lock()
			left := p.lease.renewed(until, redis, now)
			p.nodes = max(1, int(nodes))
			p.mu.Unlock()
			if left != 0 {
				p.metrics.PresenceLeaseMargin.Set(left.Seconds())
			}
			return p.nominateRenounced(ctx, c)
		}
		p.mu.Lock()
		struck := p.struck
		p.mu.Unlock()
		if struck {
			return nil // that is how it shall be
		}
		p.restart(redis)
	}
}

// restart ends the present incarnation and begins another.
func (p *Presence) restart(redis int64) {
	p.mu.Lock()
	known := p.lease.known
	old := renounced{incarnation: p.ledger.incarnation()}
	for room, set := range p.ledger.rooms {
		if set.index.stored != absent {
			old.rooms = append(old.rooms, room)
		}
	}
	old.reapable = p.lease.renounce(redis)
	p.ledger.restart(newIncarnation())
	if known { // else it never held anything
		p.renounced = append(p.renounced, old)
	}
	p.mu.Unlock()
	p.metrics.PresenceIncarnations.Inc()
	if known {
		p.log.Warn("redis does not know this node any more; presence is stored again as a new incarnation", "incarnation", old.incarnation)
		p.wantScrub("unknown")
	}
}

// nominateRenounced has the incarnations reaped that this node gave up.
func (p *Presence) nominateRenounced(ctx context.Context, c *clients) error {
	p.mu.Lock()
	todo := p.renounced
	p.mu.Unlock()
	for i, r := range todo {
		if err := p.nominate(ctx, c, r.incarnation, r.rooms, r.reapable); err != nil {
			return err
		}
		p.mu.Lock()
		p.renounced = todo[i+1:]
		p.mu.Unlock()
	}
	return nil
}

// nominate has an incarnation reaped that Redis does not know, with these rooms.
func (p *Presence) nominate(ctx context.Context, c *clients, incarnation string, rooms []string, reapable int64) error {
	for len(rooms) > 0 {
		n := min(len(rooms), batchMembers)
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := c.cmd.Do(call, c.cmd.B().Sadd().Key(indexKey(incarnation)).Member(rooms[:n]...).Build()).Error()
		cancel()
		if err != nil {
			return fmt.Errorf("nominate: %w", err)
		}
		rooms = rooms[n:]
	}
	err := p.call(ctx, c, metrics.PresenceNominate, []string{instKey, deadKey}, []string{incarnation, strconv.FormatInt(reapable, 10)}).Error()
	if err != nil {
		return fmt.Errorf("nominate: %w", err)
	}
	return nil
}

// newIncarnation makes a name that was never used before and contains no dot.
func newIncarnation() string { return rand.Text()[:16] }

// newEpoch makes a name for the time from now on in which a room's events are counted.
func newEpoch() string { return rand.Text()[:12] }

// deregister strikes the node off the register, as far as Redis lets it.
func (p *Presence) deregister(ctx context.Context) {
	c, _ := p.link.get()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	p.mu.Lock()
	incarnation := p.ledger.incarnation()
	p.struck = true // no heartbeat behind it
	p.mu.Unlock()
	for _, r := range c.cmd.DoMulti(ctx,
		c.cmd.B().Del().Key(indexKey(incarnation)).Build(),
		c.cmd.B().Zrem().Key(instKey).Member(incarnation).Build()) {
		if err := r.Error(); err != nil {
			p.log.Debug("presence: the node is not struck off; its lease will run out", "error", err)
		}
	}
}

// round sends one batch and records its outcome; false when there was nothing to send.
func (p *Presence) round(ctx context.Context, c *clients) bool {
	p.mu.Lock()
	now := time.Now()
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
	if refused > 0 {
		p.log.Warn("redis refuses presence operations; they are tried again", "refused", refused, "of", len(ops),
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
		err = fmt.Errorf("state: %s answered %d values", op, len(parts))
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
