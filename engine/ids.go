package engine

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/stellara/edge/socketio"
)

// Socket ids have 20 characters: 8 that name the node that made the id, and 12
// of its own. Other software recognises private rooms by that length
// (@socket.io/redis-adapter), so it never changes.
const (
	idLen   = 20
	nodeLen = 8
)

// id is a socket id or an Engine.IO session id, stored without a pointer.
type id [idLen]byte

func (i id) String() string { return string(i[:]) }

// parseID returns the text as an id, if it has an id's shape.
func parseID(s string) (i id, ok bool) {
	if len(s) != idLen || !socketio.IsBase64URL(s) {
		return id{}, false
	}
	copy(i[:], s)
	return i, true
}

// randomID returns n random bytes as base64url text.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)
}

// newSessionID makes an Engine.IO session id: the name of the node that owns it,
// for the others, then a secret of 72 random bits.
func newSessionID(node string) (i id) {
	copy(i[:], node)
	var b [9]byte
	rand.Read(b[:])
	base64.RawURLEncoding.Encode(i[nodeLen:], b[:])
	return i
}

// newPID makes the name of a stored session: a secret of 120 random bits.
func newPID() (i id) {
	var b [15]byte
	rand.Read(b[:])
	base64.RawURLEncoding.Encode(i[:], b[:])
	return i
}

// idSource makes socket ids that are unique on the node: a counter under 40
// random bits. Socket ids are public, not secret.
type idSource struct {
	node  string
	count atomic.Uint32
}

func (s *idSource) next() (i id) {
	copy(i[:], s.node)
	var b [9]byte
	rand.Read(b[:5])
	binary.BigEndian.PutUint32(b[5:], s.count.Add(1))
	base64.RawURLEncoding.Encode(i[nodeLen:], b[:])
	return i
}

const socketStripes = 64

// socketTable finds sockets by id: it is how private rooms are resolved, which
// therefore cost no room.
type socketTable struct {
	seed    maphash.Seed
	stripes [socketStripes]socketStripe
	users   *userTable // of the sockets that are in it; nil without rooms of users
}

type socketStripe struct {
	mu sync.RWMutex // taken alone, or before a userStripe's
	m  map[id]*Socket
}

func newSocketTable() *socketTable {
	t := &socketTable{seed: maphash.MakeSeed()}
	for i := range t.stripes {
		t.stripes[i].m = make(map[id]*Socket)
	}
	return t
}

func (t *socketTable) stripe(i id) *socketStripe {
	return &t.stripes[maphash.Comparable(t.seed, i)%socketStripes]
}

func (t *socketTable) put(s *Socket) {
	st, user := t.stripe(s.id), s.User()
	st.mu.Lock()
	st.m[s.id] = s
	t.users.add(user, s)
	st.mu.Unlock()
}

// takeOver puts s in the place of an earlier owner of its session, which it
// returns, or nil. It reports false, and does nothing, if a later one is there.
func (t *socketTable) takeOver(s *Socket) (old *Socket, ok bool) {
	generation, user, before := s.ref().Generation, s.User(), ""
	st := t.stripe(s.id)
	for {
		st.mu.RLock()
		old = st.m[s.id]
		st.mu.RUnlock()
		if old != nil && old.ref().Generation > generation {
			return nil, false
		}
		if old != nil {
			before = old.User()
		}
		st.mu.Lock()
		same := st.m[s.id] == old
		if same {
			st.m[s.id] = s
			if old != nil {
				t.users.remove(before, old)
			}
			t.users.add(user, s)
		}
		st.mu.Unlock()
		if same {
			return old, true
		}
	}
}

func (t *socketTable) remove(s *Socket) {
	st, user := t.stripe(s.id), s.User()
	st.mu.Lock()
	if st.m[s.id] == s {
		delete(st.m, s.id)
		t.users.remove(user, s)
	}
	st.mu.Unlock()
}

// get returns the socket of that id in the namespace, or nil.
func (t *socketTable) get(room string, n *Namespace) *Socket {
	i, ok := parseID(room)
	if !ok {
		return nil
	}
	st := t.stripe(i)
	st.mu.RLock()
	s := st.m[i]
	st.mu.RUnlock()
	if s == nil || s.nsp != n {
		return nil
	}
	return s
}

// each calls f for every socket, without a lock.
func (t *socketTable) each(f func(*Socket)) {
	var all []*Socket
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.RLock()
		for _, s := range st.m {
			all = append(all, s)
		}
		st.mu.RUnlock()
	}
	for _, s := range all {
		f(s)
	}
}

// ids appends the ids of the namespace's sockets to dst.
func (t *socketTable) ids(n *Namespace, dst []string) []string {
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.RLock()
		for id, s := range st.m {
			if s.nsp == n {
				dst = append(dst, id.String())
			}
		}
		st.mu.RUnlock()
	}
	return dst
}

// sessionTable finds sessions that long-polling requests name.
type sessionTable struct {
	mu sync.RWMutex // taken alone
	m  map[id]*conn
}

func (t *sessionTable) put(i id, c *conn) {
	t.mu.Lock()
	t.m[i] = c
	t.mu.Unlock()
}

func (t *sessionTable) remove(i id) {
	t.mu.Lock()
	delete(t.m, i)
	t.mu.Unlock()
}

// get returns the session or nil.
func (t *sessionTable) get(sid string) *conn {
	i, ok := parseID(sid)
	if !ok {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[i]
}
