package engine

import (
	"math/rand/v2"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

// never is a tick that is not reached.
const never = ^fanout.Tick(0)

// heartbeat is when a conn's next timed events are due, in ticks; 0 is never.
type heartbeat struct {
	pingAt    fanout.Tick
	sentAt    fanout.Tick // of the ping that waits for its pong; 0 if none does
	timeoutAt fanout.Tick
	connectBy fanout.Tick
	closeBy   fanout.Tick
	retireAt  fanout.Tick // the conn is as old as conns get
}

// startHeartbeat sets the first deadlines and returns the earliest.
func (c *conn) startHeartbeat(now fanout.Tick) fanout.Tick {
	t := &c.srv.ticks
	if c.srv.plain != nil { // no Engine.IO, no heartbeat
		c.beat.pingAt = never
		return now + t.attachment
	}
	// The first ping leaves early by chance: after a storm of connects the pings
	// would come in storms, too, as long as the conns live.
	c.beat = heartbeat{pingAt: now + t.interval - rand.N(t.interval/2+1), connectBy: now + t.connect}
	if c.srv.engine != nil { // nothing to join
		c.beat.connectBy = 0
	}
	if t.age > 0 {
		c.beat.retireAt = retireAt(now, t.age, rand.Float64())
	}
	return min(c.beat.earliest(c.beat.pingAt), now+t.attachment)
}

// retireAt is when a conn that opens now is closed for its age, which is at most age:
// up to a quarter sooner, as chance, from 0 to 1, says. Conns that opened together, in
// a storm, must not be closed together.
func retireAt(now, age fanout.Tick, chance float64) fanout.Tick {
	return max(now+1, now+age-fanout.Tick(chance*float64(age)/4))
}

// earliest is next, or what is due before it and does not depend on pings.
func (b *heartbeat) earliest(next fanout.Tick) fanout.Tick {
	for _, at := range [...]fanout.Tick{b.connectBy, b.retireAt} {
		if at != 0 {
			next = min(next, at)
		}
	}
	return next
}

// Expire is called by the shard when a deadline may be reached: it sends pings
// and closes conns that do not answer them. The first ping of a conn may leave
// early, see startHeartbeat, the others by one tick; a timeout is never early.
func (c *conn) Expire(now fanout.Tick) (send *fanout.Message, next fanout.Tick) {
	b, t := &c.beat, &c.srv.ticks
	if c.poll != nil && !c.onSocket {
		c.takeOver()
	}
	if c.state.Load() != connOpen {
		if b.closeBy == 0 {
			b.closeBy = now + t.drain
			if c.poll != nil && !c.onSocket {
				b.closeBy = now + t.poll
			}
		}
		if now >= b.closeBy {
			c.abort()
		}
		return nil, b.closeBy
	}
	if b.connectBy != 0 && c.marked(markJoined) {
		b.connectBy = 0
	}
	if b.connectBy != 0 && now >= b.connectBy {
		c.close(metrics.CloseConnectTimeout, noCode)
		return nil, now + 1
	}
	if b.retireAt != 0 && now >= b.retireAt {
		c.close(metrics.CloseMaxAge, websocket.CodeGoingAway)
		return nil, now + 1
	}
	if begun := c.begun.Load(); begun != 0 && now >= fanout.Tick(begun-1)+t.attachment {
		c.close(metrics.CloseAttachmentTimeout, noCode)
		return nil, now + 1
	}
	if b.sentAt != 0 {
		switch pong := c.pong.Load(); {
		case pong != 0:
			b.pingAt, b.sentAt = fanout.Tick(pong-1)+t.interval, 0
		case now >= b.timeoutAt && c.marked(markHeard) && !c.marked(markExtended):
			c.mark(markExtended) // a busy uplink: the pong may be behind a large message
			b.timeoutAt = now + t.timeout
		case now >= b.timeoutAt:
			c.close(metrics.ClosePingTimeout, noCode)
			return nil, now + 1
		}
	}
	if b.sentAt == 0 && now >= b.pingAt {
		c.pong.Store(0)
		c.marks.And(^uint32(markHeard | markExtended))
		b.sentAt, b.timeoutAt = now, now+t.timeout
		send = c.srv.ping
	}
	next = b.pingAt
	if b.sentAt != 0 {
		next = b.timeoutAt
		if look := b.sentAt + t.interval; look > now {
			next = min(next, look) // the next ping may be due before the timeout
		}
	}
	// A packet that begins meanwhile is not announced: most are whole in no time. So one that stays incomplete is noticed
	// after twice the time at most.
	return send, min(b.earliest(next), now+t.attachment)
}
