package state

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// run carries intents to Redis until ctx ends.
func (p *Presence) run(ctx context.Context) {
	defer p.close()
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	var wait backoff
	for {
		p.complete()
		c, changed := p.link.get()
		if c != nil && c.gen != p.asserted {
			if err := p.assert(ctx, c); err != nil {
				p.log.Debug("presence cannot be asserted yet", "error", err)
				p.link.suspect()
				if !wait.sleep(ctx) {
					return
				}
				continue
			}
			wait = backoff{}
		}
		if c != nil && p.round(ctx, c) {
			continue
		}
		p.mu.Lock()
		if at, ok := p.ledger.retryAt(); ok {
			retry.Reset(time.Until(at))
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-retry.C:
		case <-p.wake:
			if !p.collect(ctx) {
				return
			}
		}
	}
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

// assert prepares a new connection: Redis learns the scripts, and everything
// held is in doubt and stored again.
func (p *Presence) assert(ctx context.Context, c *clients) error {
	if err := p.scripts.load(ctx, c.cmd); err != nil {
		return err
	}
	p.mu.Lock()
	p.ledger.reassert()
	p.mu.Unlock()
	p.asserted = c.gen
	return nil
}

// round sends one batch and records its outcome; false when there was nothing to send.
func (p *Presence) round(ctx context.Context, c *clients) bool {
	p.mu.Lock()
	ops := p.ledger.next(time.Now(), batchCommands)
	p.mu.Unlock()
	if len(ops) == 0 {
		return false
	}
	errs := p.send(ctx, c, ops)
	now := time.Now()
	lost := false
	p.mu.Lock()
	for i, err := range errs {
		p.ledger.settle(ops[i], err, now)
		if set := ops[i].set; err == nil && set != nil && set.room != "" {
			p.recent.mark(set.room, now)
		}
	}
	p.mu.Unlock()
	for i, err := range errs {
		if err == nil {
			continue
		}
		p.metrics.PresenceErrors.Inc()
		if lostConnection(err) {
			lost = true
		} else {
			p.log.Warn("redis refuses a presence operation; it is tried again", "op", ops[i].op.String(), "error", err)
		}
	}
	if lost {
		p.link.suspect()
	}
	return true
}

// send runs the operations as one pipeline and returns their errors. A Redis
// that forgot the scripts is told again, once.
func (p *Presence) send(ctx context.Context, c *clients, ops []operation) []error {
	epoch := rand.Text()[:12]
	errs := make([]error, len(ops))
	todo := make([]int, len(ops))
	for i := range todo {
		todo[i] = i
	}
	for try := 0; ; try++ {
		commands := make(rueidis.Commands, len(todo))
		for k, i := range todo {
			commands[k] = p.command(c, &ops[i], epoch)
		}
		started := time.Now()
		call, cancel := context.WithTimeout(ctx, callTimeout)
		results := c.cmd.DoMulti(call, commands...)
		cancel()
		took := time.Since(started).Seconds()
		var forgotten []int
		for k, r := range results {
			i := todo[k]
			errs[i] = r.Error()
			p.metrics.Presence[ops[i].op].Observe(took)
			if errs[i] != nil && strings.HasPrefix(errs[i].Error(), "NOSCRIPT") {
				forgotten = append(forgotten, i)
			}
		}
		if len(forgotten) == 0 || try > 0 || p.scripts.load(ctx, c.cmd) != nil {
			return errs
		}
		todo = forgotten
	}
}

// command builds the script call of an operation.
func (p *Presence) command(c *clients, o *operation, epoch string) rueidis.Completed {
	if o.set == nil {
		keys, args := make([]string, 0, 3*len(o.sockets)), make([]string, 0, 3*len(o.sockets))
		for _, s := range o.sockets {
			key := socketKey(s.user.user)
			keys = append(keys, key, "{"+key+"}:z", "{"+key+"}:o")
			mode := "attach"
			if s.before {
				mode = "assert"
			}
			args = append(args, s.id, s.owner, mode)
		}
		return p.scripts.call(c.cmd, o.op, keys, args)
	}
	key, channel := onlineKey, ""
	if o.set.room != "" {
		key, channel = roomKey(o.set.room), presenceChannel(o.set.room)
	}
	aside := "{" + key + "}:"
	incarnation := p.ledger.incarnation // immutable
	args := make([]string, 0, 3+len(o.members))
	args = append(args, incarnation, channel, epoch)
	for _, m := range o.members {
		args = append(args, m.user)
	}
	return p.scripts.call(c.cmd, o.op,
		[]string{key, aside + "i:" + incarnation, aside + "x", aside + "n", aside + "m"}, args)
}

// complete calls what is due, outside the lock.
func (p *Presence) complete() {
	p.mu.Lock()
	finished := p.ledger.finished
	p.ledger.finished = nil
	unsettled := p.ledger.unsettled
	var idle []chan struct{}
	if unsettled == 0 {
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
