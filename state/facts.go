package state

// desire records an intent. Whoever waits for the opposite has waited enough:
// a join that was undone fails, a leave is as good as done.
func (l *ledger) desire(f *fact, want bool, done func(error)) {
	if f.desired != want {
		if want {
			l.wake(f, nil)
		} else {
			l.wake(f, ErrReleased)
		}
		f.desired = want
	}
	if done != nil {
		last := &f.waiting
		for *last != nil {
			last = &(*last).next
		}
		*last = &waiter{done: done}
	}
}

// wake ends the wait of those who wait for a fact.
func (l *ledger) wake(f *fact, err error) {
	for w := f.waiting; w != nil; w = w.next {
		l.finish(w.done, err)
	}
	f.waiting = nil
}

func (l *ledger) finish(done func(error), err error) {
	if done != nil {
		l.finished = append(l.finished, completion{done, err})
	}
}

// account brings unsettled up to date and completes what is settled.
func (l *ledger) account(f *fact) {
	settled := f.settled()
	if settled == f.counted {
		if f.counted = !settled; settled {
			l.unsettled--
		} else {
			l.unsettled++
		}
	}
	if settled {
		l.wake(f, nil)
	}
}

func (l *ledger) touchMember(m *member) {
	l.account(&m.fact)
	switch {
	case m.settled():
		l.forgetMember(m)
	case !m.queued && !m.inflight:
		m.queued = true
		l.waiting++
		m.set.dirty = append(m.set.dirty, m)
		l.enqueue(m.set)
	}
}

func (l *ledger) enqueue(set *presenceSet) {
	if !set.queued {
		set.queued = true
		l.sets = append(l.sets, set)
	}
}

func (l *ledger) touchSocket(s *socket) {
	l.account(&s.fact)
	switch {
	case s.settled():
		l.forgetSocket(s)
	case !s.queued && !s.inflight:
		s.queued = true
		l.waiting++
		l.attach = append(l.attach, s)
	}
}

// touchIndex sees that the room is written down, or crossed out.
func (l *ledger) touchIndex(set *presenceSet) {
	l.account(&set.index)
	switch f := &set.index; {
	case f.settled():
		if !f.desired && len(set.members) == 0 && l.rooms[set.room] == set {
			l.drop(set)
		}
	case !f.queued && !f.inflight:
		f.queued = true
		l.waiting++
		l.indexes = append(l.indexes, set)
	}
}

// forgetMember drops a member once nothing is left to know, and its room with
// it if that was never written down. Other empty rooms wait for prune.
func (l *ledger) forgetMember(m *member) {
	if m.desired || m.attached > 0 || m.queued || len(m.sockets) > 0 || m.set.members[m.user] != m {
		return
	}
	delete(m.set.members, m.user)
	if set := m.set; set != l.online && len(set.members) == 0 && set.index.stored == absent && !set.index.inflight {
		l.desire(&set.index, false, nil)
		l.touchIndex(set)
	}
}

// prune crosses the room out if it is empty: not at once, as rooms often come back.
func (l *ledger) prune(set *presenceSet) {
	if len(set.members) == 0 && set.index.desired {
		l.desire(&set.index, false, nil)
		l.touchIndex(set)
	}
}

func (l *ledger) forgetSocket(s *socket) {
	if !s.desired && !s.queued && l.sockets[s.id] == s {
		delete(l.sockets, s.id)
	}
}
