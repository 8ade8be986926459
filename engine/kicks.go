package engine

import (
	"sync"
	"time"
)

// kicks remembers which sockets and users the server disconnected lately, so that
// sockets of theirs that were on their way here, and not to be found yet, are
// disconnected when they arrive: who asked is told that it is done. A way here
// takes seconds at most.
type kicks struct {
	mu         sync.Mutex // taken alone
	count      uint64     // of all kicks
	young, old map[string]kick
	began      time.Time // young did
}

// kick is the last disconnect of a socket or a user by a server.
type kick struct {
	number    uint64
	closeConn bool
}

// The kicks that are remembered: all of the last kickLife, or the last maxKicks of them.
const (
	kickLife = 30 * time.Second
	maxKicks = 32 << 10
)

// note remembers that a room's sockets are being disconnected: it comes before
// they are looked for.
func (k *kicks) note(room string, closeConn bool, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young == nil || len(k.young) >= maxKicks || now.Sub(k.began) > kickLife {
		k.old, k.young, k.began = k.young, make(map[string]kick), now
	}
	k.count++
	k.young[room] = kick{k.count, closeConn}
}

// now is the number of the last kick.
func (k *kicks) now() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// since reports whether one of the rooms was disconnected after the kick of that
// number: it comes after the socket can be found.
func (k *kicks) since(number uint64, rooms []string) (last kick, kicked bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.count == number { // nearly always
		return kick{}, false
	}
	for _, room := range rooms {
		for _, m := range []map[string]kick{k.old, k.young} {
			if one := m[room]; one.number > max(number, last.number) {
				last = one
			}
		}
	}
	return last, last.number > 0
}

// noteKicks remembers a disconnect of sockets or users that are named.
func (s *Server) noteKicks(rooms []string, closeConn bool) {
	now := time.Now()
	for _, room := range rooms {
		_, private := parseID(room)
		if _, user := s.userOf(room); private || user {
			s.kicks.note(room, closeConn, now)
		}
	}
}

// kickedSince disconnects a socket that can be found now, if that was asked for
// while it could not.
func (s *Socket) kickedSince(number uint64) {
	if s.conn.srv.kicks.now() == number {
		return
	}
	if k, kicked := s.conn.srv.kicks.since(number, s.ownRooms()); kicked {
		s.Disconnect(k.closeConn)
	}
}
