package fanout

import (
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
)

type opKind uint8

const (
	opAttach opKind = iota
	opDetach
	opEnd
	opSend
	opOverflow
	opWake
	opWritable
	opJoin
	opLeave
	opCloseMember
	opDeliver
	opVisit
	opVisitConns
	opFloor
	opHold
	opStop
	opReplay
	opAdvance
)

// op is one inbox entry; which fields are set depends on kind.
type op struct {
	kind   opKind
	tick   Tick // of opAttach; of opAdvance: the namespace
	conn   *Conn
	member *Member
	room   *Room
	msg    *Message
	target *Target
	id     ID // of opJoin: since; of opFloor, opHold: the floor; of a lost delivery: its message's
	visit  *visitor
}

// visitor is what opVisit and opVisitConns call, and what opReplay sends.
type visitor struct {
	replay  *Replay
	members func(*Member)
	conns   func(Sink)
	done    func()
}

// scratchBytes bounds how much one write merges; larger packets go out alone.
const scratchBytes = 64 << 10

// flushEvery bounds how many messages a pass puts into outboxes before it writes
// and looks at the clock: a full inbox for large rooms would otherwise delay its
// first message and all heartbeats by seconds, and hold gigabytes of entries.
const flushEvery = 1 << 18

// shard is one fan-out worker and the conns it owns.
type shard struct {
	hub   *Hub
	index int
	wake  chan struct{}

	// Guarded by mu, which is the innermost lock.
	mu         sync.Mutex
	inbox      []op
	deliveries int    // opDeliver entries in inbox
	awake      bool   // the goroutine will look at the inbox again
	lost       losses // deliveries refused because the inbox was full

	// Owned by the goroutine.
	spare   []op // the other inbox buffer
	ticks   <-chan time.Time
	wheel   wheel // holds every attached conn
	dirty   []*Conn
	free    *entry
	spares  int // entries in free
	scratch []byte
	stamp   uint64     // number of the last multi-room target; never repeats
	arrived []*Message // delivered in this pass, to be timed
	replays map[*Conn][]*Replay
	last    []ID    // by namespace: the last journalled message processed
	stamped stamped // at the shard's own position
	apart   stamped // at another one
	stats   passStats
	pace    pace
	pause   *time.Timer // of rest; nil until a pass waits for the first time
}

// passStats collects counts of one pass, so that shared counters are touched
// once per pass and not once per delivery.
type passStats struct {
	delivered, packets, bytes, writes int
	queued                            int // by how much the outboxes grew
	drops                             [int(metrics.DropPresenceUpdate) + 1]int
}

func newShard(h *Hub, index int) *shard {
	return &shard{
		hub: h, index: index, wake: make(chan struct{}, 1), scratch: make([]byte, 0, scratchBytes),
		pace: pace{max: h.cfg.WriteDelay},
	}
}

// enqueue appends a control operation; it is never refused.
func (s *shard) enqueue(o op) {
	s.mu.Lock()
	s.inbox = append(s.inbox, o)
	s.rouse()
}

// deliver appends a delivery, or records that it was lost.
func (s *shard) deliver(o op) {
	s.mu.Lock()
	if s.deliveries < s.hub.cfg.Inbox {
		s.deliveries++
		s.inbox = append(s.inbox, o)
		s.rouse()
		return
	}
	if o.msg.Volatile { // may be lost: no conn is closed for it
		s.mu.Unlock()
		s.hub.m.Drops[metrics.DropVolatile].Inc()
		return
	}
	s.lost.add(&o)
	s.rouse()
	s.hub.m.Drops[metrics.DropDeliverQueue].Inc()
}

// rouse unlocks s.mu and makes sure that the goroutine runs.
func (s *shard) rouse() {
	sleeping := !s.awake
	s.awake = true
	s.mu.Unlock()
	if sleeping {
		s.wake <- struct{}{} // never blocks: one token per sleep
	}
}

// take swaps the inbox out. It reports false, and the shard may sleep, when there
// is nothing to do.
func (s *shard) take() (ops []op, lost losses, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inbox) == 0 && s.lost.empty() {
		s.awake = false
		return nil, losses{}, false
	}
	ops, s.inbox = s.inbox, s.spare[:0]
	lost, s.lost = s.lost, losses{}
	s.deliveries = 0
	return ops, lost, true
}

// do applies one operation.
func (s *shard) do(o *op) {
	switch c := o.conn; o.kind {
	case opAttach:
		s.wheel.set(c, o.tick)
	case opDetach:
		s.detach(c)
	case opEnd:
		s.end(c, o.msg)
	case opSend:
		c.direct.Add(-int64(len(o.msg.Frame)))
		c.push(s.stampFor(o.member, o.msg))
	case opOverflow:
		if c.flags&connEnding != 0 {
			s.stats.drops[metrics.DropClosing]++ // nothing was to follow anyway
			return
		}
		s.abort(c, metrics.CloseSlowReader)
	case opWake:
		if c.flags&connDetached == 0 {
			s.expireConn(c)
		}
	case opWritable:
		if c.flags&connDetached == 0 && (c.head != nil || c.flags&(connEnding|connReplaying) != 0) {
			s.markDirty(c)
		}
	case opJoin:
		o.room.enter(s.index, o.member, o.id)
	case opLeave:
		if at := o.member.in(o.room); at >= 0 {
			s.leave(o.member, at)
		}
	case opCloseMember:
		o.member.gone = true
		for n := len(o.member.places); n > 0; n-- {
			s.leave(o.member, n-1)
		}
	case opDeliver:
		s.doDeliver(o)
	case opVisit:
		s.each(o.target, nil, o.visit.members)
		o.visit.done()
	case opVisitConns:
		s.wheel.each(func(c *Conn) { o.visit.conns(c.sink) })
		o.visit.done()
	case opFloor, opHold:
		if m := o.member; o.id.After(m.floor) {
			m.floor = o.id
		}
		if o.kind == opHold && o.member.catching == nil {
			o.member.catching = &catching{}
		}
	case opStop:
		o.member.catching = &catching{stopped: true}
	case opReplay:
		s.startReplay(o.visit.replay)
	case opAdvance:
		s.advance(uint32(o.tick), o.id)
	}
}

// doDeliver puts the message into the outbox of every member it is for. Pushing
// may abort a conn, but its members leave by an operation of their own, so no
// list changes under the loops.
func (s *shard) doDeliver(o *op) {
	if !o.msg.Arrived.IsZero() {
		s.arrived = append(s.arrived, o.msg)
	}
	if !o.msg.ID.IsZero() {
		s.advance(o.msg.Namespace, o.msg.ID)
	}
	if o.target != nil {
		s.each(o.target, o.msg, func(m *Member) { m.conn.push(s.stampFor(m, o.msg)) })
		return
	}
	members := o.room.members[s.index]
	for i := range members {
		if p := &members[i]; !p.has(o.msg.ID) {
			p.member.conn.push(s.stampFor(p.member, o.msg))
		} else if p.member.catching != nil && o.msg.ID.After(p.since) {
			p.member.keep(o.msg)
		}
	}
}

// each calls f once for every member of this shard that the target selects and
// that has not got the journalled message by other means (nil: all).
func (s *shard) each(t *Target, msg *Message, f func(*Member)) {
	var id ID
	if msg != nil {
		id = msg.ID
	}
	s.stamp++
	for _, r := range t.Except {
		for _, p := range r.members[s.index] {
			p.member.seen = s.stamp
		}
	}
	for _, m := range t.ExceptMembers {
		if m.conn.shard == s {
			m.seen = s.stamp
		}
	}
	for _, r := range t.Rooms {
		members := r.members[s.index]
		for i := range members {
			// A member that joined this room too late may have joined another
			// one of the target in time.
			p := &members[i]
			switch {
			case p.member.seen == s.stamp:
			case !p.has(id):
				p.member.seen = s.stamp
				f(p.member)
			case p.member.catching != nil && id.After(p.since):
				p.member.keep(msg)
			}
		}
	}
	for _, m := range t.Members {
		switch {
		case m.conn.shard != s || m.seen == s.stamp || m.gone:
		case !m.has(id):
			m.seen = s.stamp
			f(m)
		case m.catching != nil:
			m.keep(msg)
		}
	}
}

// leave ends membership number at of m.
func (s *shard) leave(m *Member, at int) { s.hub.release(m.exit(s.index, at), s.index) }

func (s *shard) end(c *Conn, last *Message) {
	if c.flags&(connDetached|connEnding) != 0 {
		if last != nil {
			s.stats.drops[metrics.DropClosing]++
		}
		return
	}
	if last != nil {
		c.append(last)
	}
	s.endReplays(c) // what is not in the outbox yet is for the client's return
	c.flags |= connEnding
	s.markDirty(c)
}

func (s *shard) abort(c *Conn, reason metrics.Close) {
	if c.flags&connDetached != 0 {
		return
	}
	s.detach(c)
	c.sink.Abort(reason)
}

func (s *shard) detach(c *Conn) {
	s.wheel.remove(c)
	c.discard()
	c.flags |= connDetached
	s.endReplays(c)
}

func (s *shard) markDirty(c *Conn) {
	if c.flags&connDirty == 0 {
		c.flags |= connDirty
		s.dirty = append(s.dirty, c)
	}
}
