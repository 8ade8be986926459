package state

import (
	"errors"
	"strconv"
	"time"

	"github.com/stellara/edge/metrics"
)

const (
	batchMembers = 256 // of one HOLD or RELEASE
	batchSockets = 64  // of one ATTACH or DETACH
	retryMin     = 100 * time.Millisecond
	retryMax     = 10 * time.Second
)

var errSocketTaken = errors.New("state: socket id belongs to another user")

// stored is what we know Redis to have.
type stored uint8

const (
	absent  stored = iota
	held           // confirmed
	unknown        // sent, or confirmed before the connection was lost
)

// fact is something that shall, or shall no longer, be in Redis.
type fact struct {
	desired  bool
	stored   stored
	queued   bool // waits to be sent
	inflight bool
	counted  bool // in ledger.unsettled
	waiters  []func(error)
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
	attached int       // in presence:online: the user's sockets that Redis may have
}

// presenceSet is one public set: presence:online or a room's users.
type presenceSet struct {
	room    string // "" is presence:online
	members map[string]*member
	dirty   []*member
	queued  bool // in ledger.sets or ledger.delayed
	backoff time.Duration
}

// socket is the fact that a socket of a user is open on this node.
type socket struct {
	fact
	id      string
	owner   string
	user    *member // in presence:online
	rooms   []*member
	before  bool // Redis confirmed it once
	backoff time.Duration
}

// operation is one script call.
type operation struct {
	op      metrics.PresenceOp
	set     *presenceSet // HOLD, RELEASE
	members []*member
	sockets []*socket // ATTACH, DETACH
}

// completion is a callback that is due.
type completion struct {
	done func(error)
	err  error
}

// delayed is a set or a socket that waits before it is tried again.
type delayed struct {
	at     time.Time
	set    *presenceSet
	socket *socket
}

// ledger is the presence this node wants, what of it Redis has, and the
// difference: pure state, guarded by its owner. Whoever calls next sends the
// operations, reports each with settle, and only then calls next again: one
// batch in flight, so that operations on a key keep their order.
//
// Two rules span keys: a socket is attached after its user is held online, and
// a user is released from online after all its sockets are detached.
type ledger struct {
	incarnation string
	attaches    uint64
	online      *presenceSet
	rooms       map[string]*presenceSet
	sockets     map[string]*socket
	sets        []*presenceSet // with dirty members, in turn
	attach      []*socket      // to be attached or detached, in turn
	delayed     []delayed
	waiting     int          // facts queued
	unsettled   int          // facts not as desired
	finished    []completion // for the owner to call
}

func newLedger(incarnation string) *ledger {
	return &ledger{
		incarnation: incarnation,
		online:      &presenceSet{members: make(map[string]*member)},
		rooms:       make(map[string]*presenceSet),
		sockets:     make(map[string]*socket),
	}
}

// connect wants the socket attached and its user online.
func (l *ledger) connect(user, id string, done func(error)) {
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
		l.attaches++
		s = &socket{id: id, owner: l.incarnation + "." + strconv.FormatUint(l.attaches, 36)}
		l.sockets[id] = s
	}
	s.user = u // the same, unless Redis was never told of either
	u.sockets = with(u.sockets, s)
	l.desire(&u.fact, true, nil)
	l.desire(&s.fact, true, done)
	l.touchMember(u)
	l.touchSocket(s)
}

// disconnect wants the socket detached, out of its rooms, and its user offline
// if it was the last.
func (l *ledger) disconnect(user, id string) {
	s := l.sockets[id]
	if s == nil || s.user.user != user || !s.desired {
		return
	}
	for len(s.rooms) > 0 {
		l.leaveRoom(s, s.rooms[len(s.rooms)-1], nil)
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
	set := l.rooms[room]
	if set == nil {
		set = &presenceSet{room: room, members: make(map[string]*member)}
		l.rooms[room] = set
	}
	m := set.member(user)
	m.sockets = with(m.sockets, s)
	s.rooms = with(s.rooms, m)
	l.desire(&m.fact, true, done)
	l.touchMember(m)
}

// leave no longer wants it on behalf of this socket.
func (l *ledger) leave(user, id, room string, done func(error)) {
	s, set := l.sockets[id], l.rooms[room]
	if s == nil || set == nil || s.user.user != user {
		l.finish(done, nil)
		return
	}
	if m := set.members[user]; m != nil {
		l.leaveRoom(s, m, done)
		return
	}
	l.finish(done, nil)
}

func (l *ledger) leaveRoom(s *socket, m *member, done func(error)) {
	m.sockets = without(m.sockets, s)
	s.rooms = without(s.rooms, m)
	if len(m.sockets) > 0 {
		l.finish(done, nil) // another socket of the user stays
		return
	}
	l.desire(&m.fact, false, done)
	l.touchMember(m)
}

// releaseAll wants nothing any more.
func (l *ledger) releaseAll() {
	for _, s := range l.sockets {
		l.disconnect(s.user.user, s.id)
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
		f.waiters = append(f.waiters, done)
	}
}

// wake ends the wait of a fact's waiters.
func (l *ledger) wake(f *fact, err error) {
	for _, done := range f.waiters {
		l.finish(done, err)
	}
	f.waiters = nil
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

// forgetMember drops a member, and its room, once nothing is left to know.
func (l *ledger) forgetMember(m *member) {
	if m.desired || m.attached > 0 || m.queued || len(m.sockets) > 0 {
		return
	}
	delete(m.set.members, m.user)
	if m.set != l.online && len(m.set.members) == 0 {
		delete(l.rooms, m.set.room)
	}
}

func (l *ledger) forgetSocket(s *socket) {
	if !s.desired && !s.queued && l.sockets[s.id] == s {
		delete(l.sockets, s.id)
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
