package engine

import (
	"slices"
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
	young, old map[kicked]kick
	began      time.Time // young did
}

// kicked is whom a kick is for.
type kicked struct {
	namespace uint32
	room      string // a socket's or a user's
	partial   bool   // some are excepted: such a kick does not take the place of one of all
}

// kick is the last disconnect of a socket or a user by a server.
type kick struct {
	number    uint64
	closeConn bool
	except    []string // rooms
}

// The kicks that are remembered: all of the last kickLife, or the last maxKicks of them.
const (
	kickLife = 30 * time.Second
	maxKicks = 32 << 10
)

// note remembers that a room's sockets are being disconnected, but for those of
// other rooms: it comes before they are looked for.
func (k *kicks) note(namespace uint32, room string, except []string, closeConn bool, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young == nil || len(k.young) >= maxKicks || now.Sub(k.began) > kickLife {
		k.old, k.young, k.began = k.young, make(map[kicked]kick), now
	}
	k.count++
	k.young[kicked{namespace, room, len(except) > 0}] = kick{k.count, closeConn, except}
}

// now is the number of the last kick.
func (k *kicks) now() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// since reports whether a socket of the namespace was disconnected after the kick of
// that number: it comes after the socket can be found. own names it and its user, and
// in says which rooms it is in.
func (k *kicks) since(number uint64, namespace uint32, own []string, in func(room string) bool) (last kick, found bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.count == number { // nearly always
		return kick{}, false
	}
	for _, room := range own {
		for _, partial := range []bool{false, true} {
			for _, m := range []map[kicked]kick{k.old, k.young} {
				one := m[kicked{namespace, room, partial}]
				if one.number > max(number, last.number) && !slices.ContainsFunc(one.except, in) {
					last = one
				}
			}
		}
	}
	return last, last.number > 0
}

// noteKicks remembers a disconnect of sockets or users that are named.
func (n *Namespace) noteKicks(rooms, except []string, closeConn bool) {
	now := time.Now()
	for _, room := range rooms {
		_, private := parseID(room)
		if _, user := n.srv.userOf(room); private || user {
			n.srv.kicks.note(n.number, room, slices.Clone(except), closeConn, now)
		}
	}
}

// kickedSince disconnects a socket that can be found now, if that was asked for
// while it could not. in says which rooms it is in, those of its own apart.
func (s *Socket) kickedSince(number uint64, in func(room string) bool) {
	k := &s.conn.srv.kicks
	if k.now() == number {
		return
	}
	own := s.ownRooms()
	last, found := k.since(number, s.nsp.number, own, func(room string) bool { return slices.Contains(own, room) || in(room) })
	if found {
		s.Disconnect(last.closeConn)
	}
}
