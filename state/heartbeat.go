package state

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

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

// prepare sees that Redis knows the scripts and that the lease is renewed in
// time. After every lost connection Redis may be another one, or the same at an
// earlier time: everything is looked at. asked says whether Redis was asked for anything.
func (p *Presence) prepare(ctx context.Context, c *clients) (asked bool, err error) {
	if c.gen != p.prepared {
		p.mu.Lock()
		p.lease.broken(time.Time{})
		p.mu.Unlock()
		if err := p.scripts.load(ctx, c.cmd); err != nil {
			return true, err
		}
		if err := p.beat(ctx, c); err != nil {
			return true, err
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
				p.wantScrub("redis was restarted, or another has taken over")
			}
		}
		p.prepared, p.redis = c.gen, c.run
		return true, nil
	}
	p.mu.Lock()
	due := !time.Now().Before(p.lease.next) && !p.struck
	p.mu.Unlock()
	if !due {
		return false, nil
	}
	return true, p.beat(ctx, c)
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
			err = answered("HEARTBEAT", len(reply), 3, nil)
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
		p.wantScrub("redis did not know this node any more")
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
