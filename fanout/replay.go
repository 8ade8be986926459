package fanout

import "slices"

// Replay is what one member missed, in order. Messages that are no journal
// entries (the answer to a CONNECT) may be among them.
type Replay struct {
	Messages []*Message
	UpTo     ID // the journal was read to here
	// Done is called on the member's shard, unless its conn is detached or it
	// leaves first, and must not block: when the last piece is in the outbox. caught
	// says that the member is live from here on; else journalled messages came
	// meanwhile that are not among Messages, and another replay must follow.
	Done func(caught bool)

	member *Member
	next   int // in Messages
}

// replayChunk bounds how many bytes of a replay are in the outbox at a time, if
// they are more than one message.
const replayChunk = scratchBytes

// SetFloor says that m has every journalled message up to id: deliveries after
// this call skip what is not later. A floor never sinks.
func (h *Hub) SetFloor(m *Member, id ID) {
	m.conn.shard.enqueue(op{kind: opFloor, member: m, id: id})
}

// Hold says that m has every journalled message up to id, and that what follows
// comes by Replay: until a replay has caught up, deliveries of journalled
// messages pass m by.
func (h *Hub) Hold(m *Member, id ID) {
	m.conn.shard.enqueue(op{kind: opHold, member: m, id: id})
}

// Stop lets no journalled message reach m any more, for a conn that will be
// closed because some were lost. Replays of it end.
func (h *Hub) Stop(m *Member) { m.conn.shard.enqueue(op{kind: opStop, member: m}) }

// Replay sends r to a member that is held. Its first messages, up to 64 KiB, go
// before everything sent to the conn after this call, the rest as the client
// takes it. One replay of a member at a time.
func (h *Hub) Replay(m *Member, r *Replay) {
	r.member = m
	m.conn.shard.enqueue(op{kind: opReplay, member: m, visit: &visitor{replay: r}})
}

// Advance says that everything up to id in the namespace's journal has been
// handed to Deliver, for messages that carry a position.
func (h *Hub) Advance(namespace uint32, id ID) {
	for _, s := range h.shards {
		s.enqueue(op{kind: opAdvance, tick: Tick(namespace), id: id})
	}
}

// Reserve keeps the room subscribed until Release, without a member. live is
// called as Join does.
func (h *Hub) Reserve(k Key, live func(*Room)) *Room {
	r, created := h.count(k, noShard)
	h.announce(r, created)
	h.whenLive(r, func() { live(r) })
	return r
}

// IsLive reports whether the room's subscription is live.
func (h *Hub) IsLive(k Key) bool {
	s := h.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[k]
	return r != nil && r.live
}

// Release takes back one Reserve.
func (h *Hub) Release(r *Room) { h.release(r, noShard) }

// Unheard says that the bus does not hear the rooms any more: each is live again
// when Live says so.
func (h *Hub) Unheard() {
	for i := range h.stripes {
		s := &h.stripes[i]
		s.mu.Lock()
		for k, r := range s.rooms {
			if k.Room != "" {
				r.live = false
			}
		}
		s.mu.Unlock()
	}
}

// startReplay takes a replay and puts its beginning into the outbox at once.
func (s *shard) startReplay(r *Replay) {
	c := r.member.conn
	if c.flags&(connDetached|connEnding) != 0 {
		return
	}
	if s.replays == nil {
		s.replays = make(map[*Conn][]*Replay)
	}
	s.replays[c] = append(s.replays[c], r)
	c.flags |= connReplaying
	s.feed(c, len(s.replays[c])-1)
	s.markDirty(c)
}

// feed puts the next piece of replay number i of the conn into the outbox: the
// first piece at once, the next when the outbox is empty. The conn is being
// written, or marked dirty by the caller.
func (s *shard) feed(c *Conn, i int) {
	r := s.replays[c][i]
	if m := r.member; m.gone || m.catching != nil && m.catching.stopped {
		s.dropReplay(c, i)
		return
	}
	for bytes := 0; r.next < len(r.Messages) && bytes < replayChunk; r.next++ {
		m := c.form(r.Messages[r.next])
		if bytes += len(m.Frame); bytes > replayChunk && bytes > len(m.Frame) {
			break
		}
		c.add(m)
		s.stats.delivered++
		if m.ID.After(r.member.floor) {
			r.member.floor = m.ID
		}
	}
	if r.next < len(r.Messages) {
		return
	}
	s.dropReplay(c, i)
	m := r.member
	if r.UpTo.After(m.floor) {
		m.floor = r.UpTo
	}
	r.Done(s.catchUp(m))
}

// catchUp makes the member live if all that passed it by since its floor is
// there. It reports whether it did.
func (s *shard) catchUp(m *Member) bool {
	at := m.catching
	if at == nil {
		return true
	}
	if at.lost.After(m.floor) || at.skipped.After(m.floor) && len(at.kept) == 0 {
		return false
	}
	for _, msg := range at.kept {
		if msg.ID.After(m.floor) {
			m.conn.add(m.conn.form(msg))
			s.stats.delivered++
			m.floor = msg.ID
		}
	}
	m.catching = nil
	return true
}

// dropReplay takes replay number i of the conn away.
func (s *shard) dropReplay(c *Conn, i int) {
	if s.replays[c] = slices.Delete(s.replays[c], i, i+1); len(s.replays[c]) == 0 {
		s.endReplays(c)
	}
}

// endReplays forgets the conn's replays.
func (s *shard) endReplays(c *Conn) {
	if c.flags&connReplaying != 0 {
		delete(s.replays, c)
		c.flags &^= connReplaying
	}
}

// at is the journal position that m has reached on this shard.
func (s *shard) at(m *Member, namespace uint32) ID {
	if last := s.position(namespace); m.catching == nil && last.After(m.floor) {
		return last
	}
	return m.floor
}

// advance notes a position of the namespace's journal.
func (s *shard) advance(namespace uint32, id ID) {
	for int(namespace) >= len(s.last) {
		s.last = append(s.last, ID{})
	}
	if id.After(s.last[namespace]) {
		s.last[namespace] = id
	}
}

// stampFor is msg as m gets it: with m's position, if it carries one. Members
// share one copy where their positions are the same.
func (s *shard) stampFor(m *Member, msg *Message) *Message {
	stamp := s.hub.cfg.Stamp
	if !msg.Stamp || stamp == nil || m == nil {
		return msg
	}
	id := s.at(m, msg.Namespace)
	// Most are where the shard is. Those that are not must not take that copy's
	// place: it would be made, and compressed, more than once.
	at := &s.stamped
	apart := id != s.position(msg.Namespace)
	if apart {
		at = &s.apart
	}
	if at.from != msg || at.id != id {
		at.from, at.id, at.msg = msg, id, stamp(msg, id)
		if apart && at.msg != msg {
			at.msg.Plain = true // for few
		}
	}
	return at.msg
}

// position is how far the shard is in the namespace's journal.
func (s *shard) position(namespace uint32) ID {
	if int(namespace) < len(s.last) {
		return s.last[namespace]
	}
	return ID{}
}

// stamped is the message that was stamped last.
type stamped struct {
	from, msg *Message
	id        ID
}
