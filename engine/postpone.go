package engine

// departure is a socket's side of a move that is under way.
type departure struct{ deferred []deferred }

// deferred is something that waits for the outcome of a move.
type deferred struct {
	op   deferredOp        // without one it is for this node alone
	data any               // of opData: it is encoded if the other node gets it
	run  func()            // does it here, though the move is not quite over: the socket stays
	done func(moved error) // nil, or the socket has moved: with nil if op is done there
}

// postpone has something wait for the outcome of the socket's move. It reports
// false if none is under way: then it is to be done at once, and changed called
// when it is. No move begins before that.
func (s *Socket) postpone(d deferred) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return false
	}
	t := s.session.travels()
	if t.changed != nil && d.op.Op != "" {
		t.changed[string(d.op.Room)] = struct{}{} // what the other node postponed was before that
	}
	if t.departure == nil || s.state != socketConnected {
		s.session.changing++
		return false
	}
	t.departure.deferred = append(t.departure.deferred, d)
	return true
}

// changed follows a postpone that reported false.
func (s *Socket) changed() {
	if s.session == nil {
		return
	}
	s.mu.Lock()
	s.session.changing--
	s.mu.Unlock()
}

// endDeparture ends the move of a socket that ended.
func (s *Socket) endDeparture() {
	s.mu.Lock()
	var d *departure
	if s.session != nil && s.session.travel != nil {
		d, s.session.travel.departure = s.session.travel.departure, nil
	}
	s.mu.Unlock()
	if d == nil {
		return
	}
	for _, w := range d.deferred {
		settled(w.done, ErrDisconnected)
	}
}

// quiet reports whether nothing of the socket is under way that could not move:
// no handler, no join, no replay, and no acknowledgement in either direction.
func (s *Socket) quiet() bool {
	s.mu.Lock()
	ready := s.state == socketConnected && s.session != nil && s.session.pid != "" &&
		s.session.changing == 0 && s.session.joins == nil && s.session.travels().since == nil
	s.mu.Unlock()
	return ready && s.box.quiet()
}

// resume does what waited for a move that is off.
func (s *Socket) resume() {
	for {
		s.mu.Lock()
		if s.session == nil || s.session.travels().departure == nil {
			s.mu.Unlock()
			return
		}
		t := s.session.travel
		waiting := t.departure.deferred
		t.departure.deferred = nil
		if len(waiting) == 0 {
			t.departure = nil
		}
		s.mu.Unlock()
		for _, w := range waiting {
			w.run()
		}
	}
}
