package state

import "time"

// restart goes on as another incarnation: Redis does not know the present one
// any more, or takes it for dead. What is wanted is stored again under the new
// name, at the pace of refill. Of what is not wanted any more, memberships are
// released from the old one, because somebody may wait for that; the rest is
// left to whoever reaps it.
func (l *ledger) restart(incarnation string) {
	l.lives = append(l.lives, incarnation)
	l.hurry()
	l.gated = false
	for _, s := range l.sockets {
		if !s.desired && s.stored != absent {
			s.stored = absent
			s.user.attached--
			l.touchSocket(s)
		}
	}
	for _, m := range l.online.members {
		if !m.desired {
			m.stored = absent
		}
	}
	l.doubtMembers(l.online)
	for _, set := range l.rooms {
		l.doubtMembers(set)
		set.index.stored = absent
		l.desire(&set.index, len(set.members) > 0, nil)
		l.touchIndex(set)
	}
	for _, s := range l.sockets {
		if s.stored == held {
			s.stored = unknown
		}
		if s.desired && !s.queued && !s.slow {
			l.account(&s.fact)
			s.slow = true
			l.slowSockets = append(l.slowSockets, s)
		}
	}
}

func (l *ledger) doubtMembers(set *presenceSet) {
	for _, m := range set.members {
		if m.stored == held {
			m.stored = unknown
		}
		switch {
		case !m.desired:
			l.touchMember(m)
		case !m.queued && !m.slow:
			l.account(&m.fact)
			m.slow = true
			l.slowMembers = append(l.slowMembers, m)
		}
	}
}

// refill puts up to n facts that are stored again in turn. What a client wants
// now does not wait behind them.
func (l *ledger) refill(n int) {
	for ; n > 0 && len(l.slowMembers) > 0; n-- {
		m := l.slowMembers[0]
		l.slowMembers[0] = nil
		l.slowMembers = l.slowMembers[1:]
		m.slow = false
		l.touchMember(m)
	}
	for ; n > 0 && len(l.slowSockets) > 0; n-- {
		s := l.slowSockets[0]
		l.slowSockets[0] = nil
		l.slowSockets = l.slowSockets[1:]
		s.slow = false
		l.touchSocket(s)
	}
	if len(l.slowMembers) == 0 {
		l.slowMembers = nil
	}
	if len(l.slowSockets) == 0 {
		l.slowSockets = nil
	}
}

// backlog is the number of facts that wait for refill.
func (l *ledger) backlog() int { return len(l.slowMembers) + len(l.slowSockets) }

// hurry lets everything that waits for its next try be tried now.
func (l *ledger) hurry() {
	for i := range l.delayed {
		l.delayed[i].at = time.Time{}
	}
}

// lost says that Redis lacks a member that it confirmed.
func (l *ledger) lost(m *member) {
	m.stored = unknown
	l.touchMember(m)
}

// lostSocket says that Redis lacks a socket that it confirmed.
func (l *ledger) lostSocket(s *socket) {
	s.stored = unknown
	l.touchSocket(s)
}

// extraMember says that Redis has a member as held by the present incarnation
// that this node knows nothing of. It reports whether that is so.
func (l *ledger) extraMember(set *presenceSet, user string) bool {
	m := set.member(user)
	if m.stored != absent || m.inflight {
		return false
	}
	m.stored, m.life = unknown, l.life() // if it is wanted by now, it is asserted
	l.touchMember(m)
	return !m.desired
}

// extraSocket says that Redis has a socket as owned by the present incarnation
// that this node knows nothing of. It reports whether that is so.
func (l *ledger) extraSocket(user, id string, generation uint64) bool {
	if l.sockets[id] != nil {
		return false
	}
	u := l.online.member(user)
	u.attached++
	s := &socket{id: id, generation: generation, user: u}
	s.stored, s.life = unknown, l.life()
	l.sockets[id] = s
	l.touchSocket(s)
	return true
}
