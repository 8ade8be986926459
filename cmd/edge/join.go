package main

import (
	"errors"
	"sync"
)

// join puts the socket into a room. The ack {ok, room, count, users, seq,
// epoch} comes when the subscription is live and presence is stored; until then
// the socket's later packets wait, so a message right behind a join finds the
// membership. Joining twice is no error and answers with a new snapshot.
func (a *app) join(s socket, e event) {
	room, f := a.room(e)
	who := identityOf(s)
	if f == nil && !who.grant.Load().mayJoin(room) {
		f = fail(codeNotAllowed, "the token does not allow to join this room")
	}
	if f == nil && !s.In(room) && len(s.Rooms()) >= a.limits.rooms {
		f = fail(codeTooManyRooms, "a socket may be in %d rooms", a.limits.rooms)
	}
	if f != nil {
		a.refuse(e, f)
		return
	}
	release := e.Hold()
	both := &settle{waiting: 2, then: func(err error) { a.joined(s, e, room, release, err) }}
	s.Join(room, both.done)
	if !who.whileConnected(func() { a.presence.Join(who.User, s.ID(), room, both.done) }) {
		both.done(errGone)
	}
}

// joined answers a join whose subscription and presence are settled.
func (a *app) joined(s socket, e event, room string, release func(), err error) {
	switch {
	case err != nil:
		who := identityOf(s)
		s.Leave(room, nil)
		if who.whileConnected(func() { a.presence.Leave(who.User, s.ID(), room, func(error) {}) }) {
			a.log.Warn("join failed", "socket", s.ID(), "error", err)
			a.refuse(e, unavailable())
		} // else the client went away meanwhile: nobody failed, nobody is told
		release()
	case !e.WantsAck():
		release()
	default:
		a.reads.members(room, func(snap *snapshot, _ error) {
			// The join stands even if the snapshot could not be read: the client may ask again.
			if snap == nil {
				snap = roomOnly(room)
			}
			acknowledge(e, snap.ack)
			release()
		})
	}
}

// leave takes the socket out of a room. The ack comes when presence and the session are stored; messages stop at once.
func (a *app) leave(s socket, e event) {
	room, f := a.memberRoom(s, e)
	if f != nil {
		a.refuse(e, f)
		return
	}
	who := identityOf(s)
	release := e.Hold()
	both := &settle{waiting: 2, then: func(err error) {
		switch {
		case errors.Is(err, errGone): // nobody to tell
		case err != nil:
			a.refuse(e, unavailable())
		default:
			accept(e)
		}
		release()
	}}
	s.Leave(room, both.done)
	if !who.whileConnected(func() { a.presence.Leave(who.User, s.ID(), room, both.done) }) {
		both.done(errGone)
	}
}

// errGone ends a join whose socket disconnected meanwhile.
var errGone = errors.New("the socket is gone")

// settle calls then once, after done was called waiting times, with the first
// error among them. done may be called on any goroutine, also at once.
type settle struct {
	then func(error)

	mu      sync.Mutex
	waiting int
	err     error
}

func (s *settle) done(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.waiting--
	last := s.waiting == 0
	err = s.err
	s.mu.Unlock()
	if last {
		s.then(err) // outside the lock: it calls into the engine
	}
}
