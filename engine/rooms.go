package engine

import (
	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/socketio"
)

// Join makes the socket a member of the room. done, if not nil, is called once:
// with nil as soon as this node is subscribed to the room and, with recovery, the
// session says so, or with ErrDisconnected. It may be called from another
// goroutine and must not block. With recovery the membership begins just before
// that; without at once.
func (s *Socket) Join(room string, done func(error)) {
	if room == "" || room == s.ID() { // its own room it is always in
		settled(done, nil)
		return
	}
	if s.postpone(deferred{op: deferredOp{Op: opJoin, Room: roomName(room)}, run: func() { s.join(room, done) }, done: done}) {
		return
	}
	defer s.changed()
	s.join(room, done)
}

// join is Join, whether or not a move is under way.
func (s *Socket) join(room string, done func(error)) {
	if ref := s.ref(); ref.PID != "" && !s.member.In(s.nsp.key(room)) {
		s.joinStored(ref, room, done)
		return
	}
	s.joinNow(room, fanout.ID{}, done)
}

// joinNow makes the socket a member at once.
func (s *Socket) joinNow(room string, since fanout.ID, done func(error)) {
	var live func()
	if done != nil {
		live = func() { done(nil) }
	}
	if !s.conn.srv.hub.Join(&s.member, s.nsp.key(room), since, live) {
		settled(done, ErrDisconnected)
	}
}

// joinStored makes the socket a member where the journal was when its session
// was told. The room is heard by then, so that from there on nothing is missed;
// what was published before is not for this socket, now or after a recovery.
func (s *Socket) joinStored(ref socketio.SessionRef, room string, done func(error)) {
	srv := s.conn.srv
	j := &joining{room: room}
	s.mu.Lock()
	if s.state == socketDisconnected {
		s.mu.Unlock()
		settled(done, ErrDisconnected)
		return
	}
	j.next, s.session.joins = s.session.joins, j
	s.mu.Unlock()
	srv.hub.Reserve(s.nsp.key(room), func(r *fanout.Room) {
		if s.isVoid(j) {
			srv.hub.Release(r)
			settled(done, nil)
			return
		}
		srv.recovery.Join(ref, room, socketio.Offset{}, func(since socketio.Offset, err error) {
			if s.endJoin(j, srv.recovery.epochs.id(since)) && err == nil {
				err = ErrDisconnected
				if srv.hub.Join(&s.member, s.nsp.key(room), srv.recovery.epochs.id(since), nil) {
					err = nil
				}
			}
			srv.hub.Release(r)
			settled(done, err)
		})
	})
}

// noteSince remembers where a room was joined, while the socket catches up.
func (s *Socket) noteSince(room string, since fanout.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rooms := s.session.travels().since; rooms != nil {
		rooms[room] = since
	}
}

// isVoid reports whether a leave came before the join was stored.
func (s *Socket) isVoid(j *joining) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.void {
		s.forgetJoin(j)
	}
	return j.void
}

// endJoin ends a join that was stored; it reports false if a leave came first.
func (s *Socket) endJoin(j *joining, since fanout.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetJoin(j)
	if rooms := s.session.travels().since; rooms != nil {
		rooms[j.room] = since
	}
	return !j.void
}

// forgetJoin takes j out of the joins under way; the caller holds s.mu.
func (s *Socket) forgetJoin(j *joining) {
	for at := &s.session.joins; *at != nil; at = &(*at).next {
		if *at == j {
			*at = j.next
			return
		}
	}
}

// joinBehind makes the socket a member at once, in its turn with what arrives
// from the bus: another node may emit to the room in the same breath. A room that
// is heard has all that comes after what was delivered last.
func (s *Socket) joinBehind(room string) {
	if room == "" || room == s.ID() {
		return
	}
	if s.postpone(deferred{op: deferredOp{Op: opJoin, Room: roomName(room)}, run: func() { s.joinInTurn(room) }}) {
		return
	}
	defer s.changed()
	s.joinInTurn(room)
}

// joinInTurn is joinBehind, whether or not a move is under way.
func (s *Socket) joinInTurn(room string) {
	s.joinLive(room)
	for _, f := range s.nsp.hooks().serverJoin {
		s.guard(func() { f(s, room) })
	}
}

// joinLive makes the socket a member of what comes after what was delivered last.
func (s *Socket) joinLive(room string) {
	srv, key := s.conn.srv, s.nsp.key(room)
	ref := s.ref()
	if ref.PID == "" || s.member.In(key) {
		s.join(room, nil)
		return
	}
	var since socketio.Offset
	if srv.hub.IsLive(key) {
		since = s.nsp.position()
	}
	s.noteSince(room, srv.recovery.epochs.id(since))
	s.joinNow(room, srv.recovery.epochs.id(since), nil)
	srv.recovery.Join(ref, room, since, func(stored socketio.Offset, err error) {
		if err == nil {
			s.noteSince(room, srv.recovery.epochs.id(stored))
		}
	})
}

// leaveBehind is Leave for a request of a server.
func (s *Socket) leaveBehind(room string) {
	if room == "" || room == s.ID() {
		return
	}
	leave := func() {
		s.quit(room, nil)
		for _, f := range s.nsp.hooks().serverLeave {
			s.guard(func() { f(s, room) })
		}
	}
	if s.postpone(deferred{op: deferredOp{Op: opLeave, Room: roomName(room)}, run: leave}) {
		return
	}
	defer s.changed()
	leave()
}

// Leave ends the membership of the room, and a Join of it that is under way.
// done, if not nil, is called once, when the session says so, if there is one; it
// may be called from another goroutine and must not block.
func (s *Socket) Leave(room string, done func(error)) {
	if room == "" || room == s.ID() {
		settled(done, nil)
		return
	}
	if s.postpone(deferred{op: deferredOp{Op: opLeave, Room: roomName(room)}, run: func() { s.quit(room, done) }, done: done}) {
		return
	}
	defer s.changed()
	s.quit(room, done)
}

// quit is Leave, whether or not a move is under way.
func (s *Socket) quit(room string, done func(error)) {
	ref := s.ref()
	if ref.PID != "" {
		s.mu.Lock()
		for j := s.session.joins; j != nil; j = j.next {
			j.void = j.void || j.room == room
		}
		s.mu.Unlock()
	}
	s.conn.srv.hub.Leave(&s.member, s.nsp.key(room))
	if ref.PID == "" {
		settled(done, nil)
		return
	}
	s.conn.srv.recovery.Leave(ref, room, done)
}

// settled calls done, if there is one.
func settled(done func(error), err error) {
	if done != nil {
		done(err)
	}
}
