package engine

import "github.com/stellara/edge/metrics"

// decline ends an arrival that has changed nothing; with early only if no session
// was asked for. It reports whether it did.
func (a *arrival) decline(early bool) bool {
	if !a.abandon(early) {
		return false
	}
	a.h.declined(a)
	return true
}

// ended says that a socket ended at the owner while its move was under way.
func (a *arrival) ended(sid string, f fate) {
	for _, v := range a.sockets {
		if v.s.ID() != sid {
			continue
		}
		a.mu.Lock()
		v.fate = f
		a.mu.Unlock()
		switch {
		case a.decline(true):
		case a.abandon(false):
			a.srv.m.Moves[metrics.MoveFailed].Inc()
			a.h.tell(msgDeclined, []byte{1})
		case f == deleteSession: // it was closed with the arrival
			v.endSession()
		}
	}
}

// fail ends an arrival that cannot be completed nor undone: the client comes back,
// to what its session says.
func (a *arrival) fail(err error) {
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	if over {
		return
	}
	a.srv.log.Debug("the move of a conn failed", "peer", a.h.of.owner, "error", err)
	go a.h.end(err) // locks of the bus may be held
}

// abandon ends an arrival and undoes what was done of it. It does nothing, and
// reports false, if the arrival is over or, with early, sessions were asked for.
func (a *arrival) abandon(early bool) bool {
	a.mu.Lock()
	if a.over || early && a.moving {
		a.mu.Unlock()
		return false
	}
	a.over = true
	a.timer.Stop()
	a.mu.Unlock()
	a.undo()
	return true
}

// undo takes back what was done of an arrival that is over.
func (a *arrival) undo() {
	for _, v := range a.sockets {
		v.forget()
	}
	a.srv.hub.Detach(&a.c.fan)
}

// forget takes back what was done for one socket.
func (v *arriving) forget() {
	a, s := v.a, v.s
	a.srv.arrivals.remove(v)
	a.mu.Lock()
	moving := a.moving
	a.mu.Unlock()
	if moving {
		v.endSession()
	}
	s.mu.Lock()
	if s.state == socketPending {
		s.state = socketDisconnected
	}
	s.mu.Unlock()
	a.srv.hub.CloseMember(&s.member)
	a.srv.sockets.remove(s)
	s.releaseOwn()
	v.release()
}

// endSession ends the session that the socket has here, if it does; one that is
// asked for, too, because the calls are carried out in order.
func (v *arriving) endSession() {
	v.a.mu.Lock()
	f := v.fate
	v.a.mu.Unlock()
	if f == deleteSession || v.kicked() {
		v.a.srv.recovery.Delete(v.s.ref(), nil)
		return
	}
	v.a.srv.recovery.Close(v.s.ref(), nil)
}

// release gives up the subscriptions that only the arrival kept.
func (v *arriving) release() {
	a := v.a
	a.mu.Lock()
	reserved := v.reserved
	if v.own != nil {
		reserved = append(reserved, v.own)
	}
	v.reserved, v.own = nil, nil
	a.mu.Unlock()
	for _, r := range reserved {
		a.srv.hub.Release(r)
	}
}
