package fanout

import "github.com/stellara/edge/metrics"

// maxLost bounds how many lost deliveries are kept one by one, which spares the
// conns that a delivery excluded or that need not have it.
const maxLost = 1024

// losses are deliveries that found no room in an inbox. However many there are,
// everyone who lost one is known: beyond maxLost, by room and member.
type losses struct {
	ops     []op
	rooms   map[*Room]struct{}
	members map[*Member]struct{}
}

func (l *losses) empty() bool { return len(l.ops)+len(l.rooms)+len(l.members) == 0 }

// add notes a delivery without its message.
func (l *losses) add(o *op) {
	if len(l.ops) < maxLost {
		l.ops = append(l.ops, op{room: o.room, target: o.target, id: o.msg.ID})
		return
	}
	if l.rooms == nil {
		l.rooms, l.members = make(map[*Room]struct{}), make(map[*Member]struct{})
	}
	if o.target == nil {
		l.rooms[o.room] = struct{}{}
		return
	}
	for _, r := range o.target.Rooms {
		l.rooms[r] = struct{}{}
	}
	for _, m := range o.target.Members {
		l.members[m] = struct{}{}
	}
}

// giveUp closes the conns for which a delivery was lost: a closed conn comes
// back and is told, a hole in its stream would be silent. All deliveries of the
// same inbox came before the lost ones.
func (s *shard) giveUp(l *losses) {
	for i := range l.ops {
		o := &l.ops[i]
		if o.target != nil {
			s.each(o.target, &Message{ID: o.id}, s.giveUpMember)
			continue
		}
		s.giveUpRoom(o.room, o.id)
	}
	for r := range l.rooms {
		s.giveUpRoom(r, ID{})
	}
	for m := range l.members {
		if m.conn.shard == s && !m.gone {
			s.giveUpMember(m)
		}
	}
}

func (s *shard) giveUpRoom(r *Room, id ID) {
	members := r.members[s.index]
	for i := range members {
		if p := &members[i]; !p.has(id) {
			s.giveUpMember(p.member)
		} else if p.member.catching != nil {
			p.member.keep(&Message{ID: id}) // it is in the journal
		}
	}
}

// giveUpMember closes m's conn unless its last frame was queued before: nothing
// was to follow that.
func (s *shard) giveUpMember(m *Member) {
	if m.conn.flags&connEnding == 0 {
		s.abort(m.conn, metrics.CloseOverloaded)
	}
}
