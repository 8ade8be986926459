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
)

// op is one inbox entry; which fields are set depends on kind.
type op struct {
	kind   opKind
	tick   Tick
	conn   *Conn
	member *Member
	room   *Room
	msg    *Message
	target *Target
	since  ID
	visit  func(*Member)
	conns  func(Sink)
	done   func()
}

// scratchBytes bounds how much one write merges; larger packets go out alone.
const scratchBytes = 64 << 10

// shard is one fan-out worker and the conns it owns.
type shard struct {
	hub   *Hub
	index int
	wake  chan struct{}

	// Guarded by mu, which is the innermost lock.
	mu         sync.Mutex
	inbox      []op
	deliveries int  // opDeliver entries in inbox
	awake      bool // the goroutine will look at the inbox again
	lost       []op // deliveries refused because the inbox was full

	// Owned by the goroutine.
	spare   []op // the other inbox buffer
	wheel   wheel
	conns   map[*Conn]struct{}
	dirty   []*Conn
	free    *entry
	scratch []byte
	stamp   uint32     // number of the last multi-room target
	arrived []*Message // delivered in this pass, to be timed
	stats   passStats
}

// passStats collects counts of one pass, so that shared counters are touched
// once per pass and not once per delivery.
type passStats struct {
	delivered, packets, bytes, writes int
	drops                             [int(metrics.DropPresenceUpdate) + 1]int
}

func newShard(h *Hub, index int) *shard {
	return &shard{hub: h, index: index, wake: make(chan struct{}, 1), conns: make(map[*Conn]struct{}), scratch: make([]byte, 0, scratchBytes)}
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
	if s.deliveries >= s.hub.cfg.Inbox {
		// Bounded too: beyond this many the same rooms are closed anyway.
		if len(s.lost) < 1024 {
			o.msg = nil
			s.lost = append(s.lost, o)
		}
		s.rouse()
		s.hub.m.Drops[metrics.DropDeliverQueue].Inc()
		return
	}
	s.deliveries++
	s.inbox = append(s.inbox, o)
	s.rouse()
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

// take swaps the inbox out. It returns nil, and the shard may sleep, when there
// is nothing to do.
func (s *shard) take() (ops, lost []op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inbox) == 0 && len(s.lost) == 0 {
		s.awake = false
		return nil, nil
	}
	ops, s.inbox = s.inbox, s.spare[:0]
	lost, s.lost = s.lost, nil
	s.deliveries = 0
	return ops, lost
}

func (s *shard) run() {
	ticker := time.NewTicker(s.hub.cfg.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-s.hub.stop:
			return
		case <-ticker.C:
			s.expire()
			s.flush()
			s.report()
			continue // what expiry enqueued comes with its own wake
		case <-s.wake:
		}
		for s.pass() {
			select { // a busy shard keeps its deadlines
			case <-s.hub.stop:
				return
			case <-ticker.C:
				s.expire()
				s.flush()
			default:
			}
		}
	}
}

// pass drains the inbox into outboxes, then writes each dirty conn once. It
// reports false when there was nothing to do and the shard may sleep.
func (s *shard) pass() bool {
	ops, lost := s.take()
	if ops == nil && lost == nil {
		return false
	}
	s.hub.m.ShardQueue.Add(float64(len(ops)))
	for i := range ops {
		s.do(&ops[i])
		ops[i] = op{}
	}
	s.hub.m.ShardQueue.Sub(float64(len(ops)))
	for i := range lost {
		s.giveUp(&lost[i])
	}
	s.flush()
	s.report()
	if cap(ops) > 1<<14 {
		ops = nil // a burst's buffer is not kept
	}
	s.spare = ops
	return true
}

// do applies one operation.
func (s *shard) do(o *op) {
	switch c := o.conn; o.kind {
	case opAttach:
		s.conns[c] = struct{}{}
		s.wheel.set(c, o.tick)
	case opDetach:
		s.detach(c)
	case opEnd:
		s.end(c, o.msg)
	case opSend:
		c.direct.Add(-int64(len(o.msg.Frame)))
		c.push(o.msg)
	case opOverflow:
		s.abort(c, metrics.CloseSlowReader)
	case opWake:
		if c.flags&connDetached == 0 {
			s.expireConn(c)
		}
	case opWritable:
		if c.flags&connDetached == 0 && (c.head != nil || c.flags&connEnding != 0) {
			s.markDirty(c)
		}
	case opJoin:
		if o.member.gone {
			s.hub.release(o.room, s.index)
		} else {
			o.room.enter(s.index, o.member, o.since)
		}
	case opLeave:
		s.leave(o.member, o.room)
	case opCloseMember:
		o.member.gone = true
		for n := len(o.member.places); n > 0; n = len(o.member.places) {
			s.leave(o.member, o.member.places[n-1].room)
		}
	case opDeliver:
		s.doDeliver(o)
	case opVisit:
		s.each(o.target, func(p place) { o.visit(p.member) })
		o.done()
	case opVisitConns:
		for c := range s.conns {
			o.conns(c.sink)
		}
	}
}

// doDeliver puts the message into the outbox of every member it is for.
func (s *shard) doDeliver(o *op) {
	if o.msg != nil && !o.msg.Arrived.IsZero() {
		s.arrived = append(s.arrived, o.msg)
	}
	if o.target != nil {
		s.each(o.target, func(p place) { s.offer(p, o.msg) })
		return
	}
	// push may abort a conn, but its members leave by an operation of their
	// own, so the list does not change under this loop.
	for _, p := range o.room.members[s.index] {
		s.offer(p, o.msg)
	}
}

// offer delivers m to one member unless the member already has it.
func (s *shard) offer(p place, m *Message) {
	c := p.member.conn
	if !m.ID.IsZero() && (!m.ID.After(c.floor) || !m.ID.After(p.since)) {
		return
	}
	c.push(m)
}

// each calls f once for every member the target selects on this shard.
func (s *shard) each(t *Target, f func(place)) {
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
		for _, p := range r.members[s.index] {
			if p.member.seen != s.stamp {
				p.member.seen = s.stamp
				f(p)
			}
		}
	}
	for _, m := range t.Members {
		if m.conn.shard == s && m.seen != s.stamp && !m.gone {
			m.seen = s.stamp
			f(place{member: m})
		}
	}
}

// giveUp closes the conns for which a delivery was lost: a closed conn comes
// back and is told, a hole in its stream would be silent.
func (s *shard) giveUp(o *op) {
	if o.target != nil {
		s.each(o.target, func(p place) { s.abort(p.member.conn, metrics.CloseOverloaded) })
		return
	}
	for _, p := range o.room.members[s.index] {
		s.abort(p.member.conn, metrics.CloseOverloaded)
	}
}

func (s *shard) leave(m *Member, r *Room) {
	if r.exit(s.index, m) {
		s.hub.release(r, s.index)
	}
}

func (s *shard) end(c *Conn, last *Message) {
	if c.flags&(connDetached|connEnding) != 0 {
		return
	}
	if last != nil {
		c.append(last)
	}
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
	delete(s.conns, c)
	c.discard()
	c.flags |= connDetached
}

func (s *shard) expire() { s.wheel.advance(s.hub.Now(), s.expireConn) }

func (s *shard) expireConn(c *Conn) {
	m, next := c.sink.Expire(s.hub.Now())
	if m != nil {
		c.push(m)
	}
	if c.flags&connDetached == 0 {
		s.wheel.set(c, next)
	}
}

func (s *shard) markDirty(c *Conn) {
	if c.flags&connDirty == 0 {
		c.flags |= connDirty
		s.dirty = append(s.dirty, c)
	}
}
