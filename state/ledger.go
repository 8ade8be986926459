package state

import (
	"errors"
	"time"

	"github.com/stellara/edge/metrics"
)

var errSocketTaken = errors.New("state: socket id belongs to another user")

// stored is what we know Redis to have.
type stored uint8

const (
	absent  stored = iota
	held           // confirmed
	unknown        // sent, or confirmed before Redis may have lost it
)

// fact is something that shall, or shall no longer, be in Redis.
//
// There are two or three for each conn: its fields are in an order that wastes
// nothing, as those of member and socket.
type fact struct {
	waiting  *waiter // who wants to know when it is settled, in order
	life     uint32  // of the node when it was sent last: index of ledger.lives
	desired  bool
	stored   stored
	queued   bool // waits to be sent
	slow     bool // waits for refill
	inflight bool
	counted  bool // in ledger.unsettled
}

// waiter is one who waits for a fact.
type waiter struct {
	done func(error)
	next *waiter
}

func (f *fact) settled() bool {
	return !f.inflight && (f.desired && f.stored == held || !f.desired && f.stored == absent)
}

// member is the fact that a user is in a presence set, desired while local
// sockets justify it.
type member struct {
	fact
	set      *presenceSet
	user     string
	sockets  []*socket // the local sockets that justify it, oldest first
	attached int32     // in presence:online: the user's sockets that Redis may have
	grace    bool      // in a room: the last of them may be back in a moment, on any node
}

// presenceSet is one public set: presence:online or a room's users.
type presenceSet struct {
	room    string // "" is presence:online
	members map[string]*member
	dirty   []*member
	place   int  // in ledger.list
	index   fact // the room is written down for whoever reaps us; presence:online need not be
	queued  bool // in ledger.sets or ledger.delayed
	backoff time.Duration
}

// indexed reports whether members may be held in the set in this life.
func (s *presenceSet) indexed(life uint32) bool {
	return s.room == "" || s.index.stored == held && s.index.life == life
}

// socket is the fact that a socket of a user is open on this node.
type socket struct {
	fact
	id         string
	generation uint64  // how often the socket has moved to another node
	user       *member // in presence:online
	rooms      []*member
	backoff    time.Duration
	sent       uint32 // the generation of the last ATTACH or DETACH, its last 32 bits
	before     bool   // Redis confirmed it once
}

// operation is one script call, or the command that crosses out rooms.
type operation struct {
	op      metrics.PresenceOp
	life    uint32
	set     *presenceSet // HOLD, ASSERT, RELEASE
	members []*member
	sockets []*socket      // ATTACH, DETACH
	grace   bool           // RELEASE: of members with grace
	calls   []socketCall   // what is said of each of sockets
	rooms   []*presenceSet // PresenceIndex
	drop    bool           // PresenceIndex: cross the rooms out
}

// socketCall is one socket of an ATTACH or DETACH as it was when it was taken:
// clients may change it meanwhile.
type socketCall struct {
	user, id   string
	generation uint64
	life       uint32
	before     bool // it was attached before, in this generation
}

func (s *socket) call() socketCall {
	return socketCall{s.user.user, s.id, s.generation, s.life, s.before}
}

// size is the number of facts in the operation.
func (o *operation) size() int { return len(o.members) + len(o.sockets) + len(o.rooms) }

// completion is a callback that is due.
type completion struct {
	done func(error)
	err  error
}

// delayed is a set, its index, or a socket that waits before it is tried again.
type delayed struct {
	at     time.Time
	set    *presenceSet
	index  bool // of set
	socket *socket
}

// ledger is the presence this node wants, what of it Redis has, and the
// difference: pure state, guarded by its owner. Whoever calls next sends the
// operations, reports each with settle, and only then calls next again: one
// batch in flight, so that operations on a key keep their order.
//
// Three rules span keys: a room is written down before it is held, a socket is
// attached after its user is held online, and a user is released from online
// after all its sockets are detached. Whoever finds this node dead relies on
// them.
type ledger struct {
	lives       []string // incarnations; the last is the present one
	online      *presenceSet
	rooms       map[string]*presenceSet
	list        []*presenceSet // the rooms, in an order in which one can go through them bit by bit: from the end
	sockets     map[string]*socket
	sets        []*presenceSet // with dirty members, in turn
	indexes     []*presenceSet // whose index is to be sent, in turn
	attach      []*socket      // to be attached or detached, in turn
	delayed     []delayed
	slowMembers []*member // to be stored again, at a pace
	slowSockets []*socket
	ending      bool         // nothing new comes: no long waits
	gated       bool         // Redis may have gone back in time: nobody goes offline and no room is crossed out until an audit has looked
	taken       int          // facts in the batch that next puts together
	waiting     int          // facts queued
	unsettled   int          // facts not as desired
	finished    []completion // for the owner to call
}

func newLedger(incarnation string) *ledger {
	return &ledger{
		lives:   []string{incarnation},
		online:  &presenceSet{members: make(map[string]*member)},
		rooms:   make(map[string]*presenceSet),
		sockets: make(map[string]*socket),
	}
}

// life is the index of the present incarnation.
func (l *ledger) life() uint32 { return uint32(len(l.lives) - 1) }

// incarnation is the present one.
func (l *ledger) incarnation() string { return l.lives[len(l.lives)-1] }

// connect wants the socket attached and its user online.
func (l *ledger) connect(user, id string, generation uint64, done func(error)) {
	s := l.sockets[id]
	if s != nil && s.user.user != user {
		if !s.settled() || s.desired {
			l.finish(done, errSocketTaken)
			return
		}
		s = nil
	}
	u := l.online.member(user)
	if s == nil {
		s = &socket{id: id, generation: generation}
		l.sockets[id] = s
	}
	s.user = u // the same, unless Redis was never told of either
	if generation > s.generation {
		s.generation, s.before = generation, false
		if s.stored == held {
			s.stored = unknown // under the generation before
		}
	}
	u.sockets = with(u.sockets, s)
	l.desire(&u.fact, true, nil)
	l.desire(&s.fact, true, done)
	l.touchMember(u)
	l.touchSocket(s)
}

// disconnect wants the socket detached, out of its rooms, and its user offline
// if it was the last. mayReturn has the rooms told of it with grace.
func (l *ledger) disconnect(user, id string, mayReturn bool) {
	s := l.sockets[id]
	if s == nil || s.user.user != user || !s.desired {
		return
	}
	for len(s.rooms) > 0 {
		l.leaveRoom(s, s.rooms[len(s.rooms)-1], mayReturn, nil)
	}
	u := s.user
	u.sockets = without(u.sockets, s)
	l.desire(&s.fact, false, nil)
	l.desire(&u.fact, len(u.sockets) > 0, nil)
	l.touchSocket(s)
	l.touchMember(u)
}

// join wants the socket's user in the room.
func (l *ledger) join(user, id, room string, done func(error)) {
	s := l.sockets[id]
	if s == nil || s.user.user != user || !s.desired {
		l.finish(done, ErrNoSocket)
		return
	}
	set := l.room(room)
	l.desire(&set.index, true, nil) // it may be about to be crossed out
	l.touchIndex(set)
	m := set.member(user)
	m.sockets = with(m.sockets, s)
	s.rooms = with(s.rooms, m)
	l.desire(&m.fact, true, done)
	l.touchMember(m)
}

// room returns the room's set, made if there is none.
func (l *ledger) room(room string) *presenceSet {
	set := l.rooms[room]
	if set == nil {
		set = &presenceSet{room: room, members: make(map[string]*member), place: len(l.list)}
		l.rooms[room] = set
		l.list = append(l.list, set)
	}
	return set
}

// drop forgets a room of which nothing is left to know.
func (l *ledger) drop(set *presenceSet) {
	delete(l.rooms, set.room)
	last := l.list[len(l.list)-1]
	l.list[set.place], last.place = last, set.place
	l.list[len(l.list)-1] = nil
	l.list = l.list[:len(l.list)-1]
}

// leave no longer wants it on behalf of this socket.
func (l *ledger) leave(user, id, room string, done func(error)) {
	s, set := l.sockets[id], l.rooms[room]
	if s == nil || set == nil || s.user.user != user {
		l.finish(done, nil)
		return
	}
	if m := set.members[user]; m != nil {
		l.leaveRoom(s, m, false, done)
		return
	}
	l.finish(done, nil)
}

// leaveRoom no longer wants the member on behalf of the socket. Whether the user
// may return is what its last socket here says.
func (l *ledger) leaveRoom(s *socket, m *member, mayReturn bool, done func(error)) {
	m.sockets = without(m.sockets, s)
	s.rooms = without(s.rooms, m)
	if len(m.sockets) > 0 {
		l.finish(done, nil) // another socket of the user stays
		return
	}
	if m.desired {
		m.grace = mayReturn
	}
	l.desire(&m.fact, false, done)
	l.touchMember(m)
}

// end wants nothing any more, as soon as it can be. Sockets that nobody has
// disconnected are over; what was on its way with grace stays so.
func (l *ledger) end() {
	l.ending = true
	l.hurry()
	for _, s := range l.sockets {
		l.disconnect(s.user.user, s.id, false)
	}
}

// abandon ends every wait: nothing will be stored any more.
func (l *ledger) abandon() {
	for _, m := range l.online.members {
		l.wake(&m.fact, ErrClosed)
	}
	for _, set := range l.rooms {
		for _, m := range set.members {
			l.wake(&m.fact, ErrClosed)
		}
	}
	for _, s := range l.sockets {
		l.wake(&s.fact, ErrClosed)
	}
}

// member returns the set's member, made if there is none.
func (s *presenceSet) member(user string) *member {
	m := s.members[user]
	if m == nil {
		m = &member{set: s, user: user}
		s.members[user] = m
	}
	return m
}

// with returns list with e, once; without returns it without e.
func with[E comparable](list []E, e E) []E {
	for _, x := range list {
		if x == e {
			return list
		}
	}
	return append(list, e)
}

func without[E comparable](list []E, e E) []E {
	for i, x := range list {
		if x == e {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}
