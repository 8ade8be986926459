package engine

import (
	"hash/maphash"
	"strings"
	"sync"

	"github.com/stellara/edge/fanout"
)

// userTable finds the sockets of a user among those of the socketTable: it is how
// the rooms of users (Config.UserRooms) are resolved, which therefore cost neither
// a membership nor a subscription.
type userTable struct {
	seed    maphash.Seed
	stripes [socketStripes]userStripe
}

// userStripe holds the users whose names hash to it. Nearly every user has one
// socket on a node.
type userStripe struct {
	mu   sync.RWMutex // taken within a socketStripe's lock or alone
	one  map[string]*Socket
	more map[string]map[*Socket]struct{} // of users with several: these are not in one
}

func newUserTable() *userTable {
	t := &userTable{seed: maphash.MakeSeed()}
	for i := range t.stripes {
		t.stripes[i].one = make(map[string]*Socket)
	}
	return t
}

func (t *userTable) stripe(user string) *userStripe {
	return &t.stripes[maphash.String(t.seed, user)%socketStripes]
}

// add notes a socket of a user; one that is of nobody ("") is found by its id.
func (t *userTable) add(user string, s *Socket) {
	if t == nil || user == "" {
		return
	}
	st := t.stripe(user)
	st.mu.Lock()
	defer st.mu.Unlock()
	if all := st.more[user]; all != nil {
		all[s] = struct{}{}
		return
	}
	other := st.one[user]
	if other == nil || other == s {
		st.one[user] = s
		return
	}
	if st.more == nil {
		st.more = make(map[string]map[*Socket]struct{})
	}
	st.more[user] = map[*Socket]struct{}{other: {}, s: {}}
	delete(st.one, user)
}

// remove forgets a socket of a user.
func (t *userTable) remove(user string, s *Socket) {
	if t == nil || user == "" {
		return
	}
	st := t.stripe(user)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.one[user] == s {
		delete(st.one, user)
		return
	}
	all := st.more[user]
	delete(all, s)
	if len(all) == 1 {
		for last := range all {
			st.one[user] = last
		}
		delete(st.more, user)
	}
}

// has reports whether the user has a socket here, in any namespace.
func (t *userTable) has(user string) bool {
	st := t.stripe(user)
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.one[user] != nil || st.more[user] != nil
}

// members appends the user's sockets of the namespace.
func (t *userTable) members(dst []*fanout.Member, user string, n *Namespace) []*fanout.Member {
	st := t.stripe(user)
	st.mu.RLock()
	defer st.mu.RUnlock()
	if s := st.one[user]; s != nil && s.nsp == n {
		dst = append(dst, &s.member)
	}
	for s := range st.more[user] {
		if s.nsp == n {
			dst = append(dst, &s.member)
		}
	}
	return dst
}

// userOf is the user whose room has this name; false if it is no user's.
func (s *Server) userOf(room string) (user string, ok bool) {
	if s.cfg.UserRooms == "" {
		return "", false
	}
	user, ok = strings.CutPrefix(room, s.cfg.UserRooms)
	return user, ok && user != ""
}

// members appends the sockets that a room's name alone says are in it: the one of
// that id, or those of the user.
func (s *Server) members(dst []*fanout.Member, room string, n *Namespace) []*fanout.Member {
	if so := s.sockets.get(room, n); so != nil {
		return append(dst, &so.member)
	}
	user, ok := s.userOf(room)
	if !ok {
		return dst
	}
	if so := s.sockets.get(user, n); so != nil && so.User() == "" {
		dst = append(dst, &so.member)
	}
	return s.sockets.users.members(dst, user, n)
}

// concerns reports whether the room may have anybody on this node.
func (s *Server) concerns(room string, n *Namespace) bool {
	if s.hub.Room(n.key(room)) != nil || s.sockets.get(room, n) != nil {
		return true
	}
	user, ok := s.userOf(room)
	return ok && (s.sockets.users.has(user) || s.sockets.get(user, n) != nil)
}

// ownRooms are the rooms that the socket is in without a membership: its private
// one, and its user's if there are such.
func (s *Socket) ownRooms() []string {
	prefix := s.conn.srv.cfg.UserRooms
	if prefix == "" {
		return []string{s.ID()}
	}
	user := s.User()
	if user == "" { // it is nobody else's
		user = s.ID()
	}
	return []string{s.ID(), prefix + user}
}
