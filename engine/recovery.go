package engine

import (
	"encoding/json"
	"math"
	"sync"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Recovery turns connection state recovery on: a client that lost its connection
// and returns in time gets its socket back, with its id, rooms and data, and what
// it missed (https://socket.io/docs/v4/connection-state-recovery). It then is
// Socket.Recovered, and middleware does not run again.
//
// Broadcasts are journalled and replayed, private rooms included; what Emit sends
// to one socket, volatile events and Local broadcasts are not.
type Recovery struct {
	// Sessions keeps sessions and reads the journal. Nil with a Bus means no
	// recovery; without a Bus both are kept in memory.
	Sessions Sessions
	// Journal decides which broadcasts are journalled, by namespace and rooms (none:
	// everybody). It must be quick. Nil means all.
	Journal func(namespace string, rooms []string) bool
	// Window is how long a socket can be recovered after its conn ended, where
	// sessions are in memory; 2 min.
	Window time.Duration
}

// Sessions stores the sessions of sockets. No call blocks; operations on one
// session are carried out in the order of the calls. Each done is called once, on
// a goroutine of the Sessions, and must not block; it may be nil. A session that
// another node has taken over, or that is gone, is no error for anything but Claim.
type Sessions interface {
	// Create stores a new session; start is where the namespace's journal was.
	Create(s *socketio.Session, done func(start socketio.Offset, err error))
	// Join adds a room. since is where the journal was when it was stored, if it
	// is not given.
	Join(s socketio.SessionRef, room string, since socketio.Offset, done func(since socketio.Offset, err error))
	Leave(s socketio.SessionRef, room string, done func(error))
	SetData(s socketio.SessionRef, data []byte)
	// CaughtUp says that the client was sent all that it missed.
	CaughtUp(s socketio.SessionRef)
	// Close says that the socket's conn ended; from now on the time for its return runs.
	Close(s socketio.SessionRef, done func(error))
	// Delete says that it shall not be recovered.
	Delete(s socketio.SessionRef, done func(error))
	// Claim takes a session over for this node; s is nil unless the result is
	// metrics.RecoveryComplete.
	Claim(c socketio.SessionClaim, done func(s *socketio.ClaimedSession, result metrics.Recovery))
	// Read returns all journal entries after a position, up to the journal's end
	// at some moment after the call.
	Read(ns string, after socketio.Offset, done func(entries []socketio.JournalEntry, end socketio.Offset, err error))
	// Drop tells the node that owned a socket before that it moved.
	Drop(owner, ns, sid string, generation uint64)

	// Owner is this node's name to another one that is to Move sessions from it.
	Owner() string
	// Fence is done when all that was called before it is.
	Fence(done func(error))
	// GivenAway says that another node has moved a session to itself.
	GivenAway(s socketio.SessionRef)
	// Move takes the session of a socket that is open on another node over for this
	// one. Server.Cut is called on both, at one place in the order of all deliveries. An
	// error that is socketio.ErrNotOwner says that nothing has changed; after any other
	// the session may have moved.
	Move(m socketio.SessionMove, done func(moved *socketio.MovedSession, err error))
}

// Recoverer is what an application adds to the recovery of its sockets.
type Recoverer struct {
	// Authenticate says who the client of a socket is, from what came with its
	// CONNECT: middleware does not run for a recovered socket. It calls done once, from
	// any goroutine. The session must be of the same user (Socket.SetUser). An error
	// refuses the recovery, and the socket goes the ordinary way. Nil: the secret
	// session id is all that counts.
	Authenticate func(s *Socket, done func(user string, err error))
	// Restore makes Socket.Data of what was stored. Until it returns, Socket.Data of a
	// socket that is recovered is what Authenticate has set. Nil: it is the json.RawMessage.
	Restore func(s *Socket, data json.RawMessage) any
	// Keep says whether a socket that is recovered, and restored, may be in a room
	// still. It is asked once for each room the socket was in, its own excepted; what
	// was missed in a room that it is not to keep is not replayed. Nil: it keeps all.
	Keep func(s *Socket, room string) bool
	// Settle calls done when all that names the socket's node elsewhere names this
	// one: the node that had it before then drops it. It runs after the connection
	// handlers. Nil: at once.
	Settle func(s *Socket, done func())
}

// Recover sets what the namespace adds to the recovery of its sockets, before the
// Server serves.
func (n *Namespace) Recover(r Recoverer) { n.recoverer = r }

// session is a socket's side of its stored session.
type session struct {
	pid        string // "" while there is none
	user       string
	generation uint64 // how many nodes have had the socket
	epoch      uint32 // number of the journal's, in which it began
	changing   int16  // calls under way that change what moves with it
	recovered  bool
	kicked     bool     // disconnected by the server while it was on its way back
	joins      *joining // not stored yet
	travel     *travel  // nil if it never came from anywhere, and goes nowhere
}

// travel is what only the session of a socket has that came from another conn or
// another node, or goes to one.
type travel struct {
	since     sinceByRoom  // of the rooms joined, while the socket catches up; nil else
	own       *fanout.Room // the subscription of the socket's own room, if another node made its id
	departure *departure   // the move to another node that is under way
	changed   changes      // since it was cut to come here, until its handlers run; nil else
}

// travels returns what there is of the session's travels, to be read.
func (s *session) travels() (t travel) {
	if s.travel != nil {
		t = *s.travel
	}
	return t
}

// onTravel returns the session's travels, to be changed.
func (s *session) onTravel() *travel {
	if s.travel == nil {
		s.travel = &travel{}
	}
	return s.travel
}

// joining is a Join under way.
type joining struct {
	room string
	void bool     // Leave came first
	next *joining // of the session's
}

// changes are the rooms that were joined or left, and "" if the data was set.
type changes map[string]struct{}

type sinceByRoom map[string]fanout.ID

// recovery is the server's side of recovery; nil without.
type recovery struct {
	Sessions
	journal func(namespace string, rooms []string) bool
	epochs  epochs
	tails   tails
	ending  endings
}

// epochs numbers the journal's epochs in the order in which they are seen, so
// that positions of a later one are later.
type epochs struct {
	mu    sync.RWMutex // taken alone
	names []string     // number - 1 → epoch
}

// number returns the number of an epoch, 0 of "".
func (e *epochs) number(epoch string) uint32 {
	if epoch == "" {
		return 0
	}
	e.mu.RLock()
	for i := len(e.names) - 1; i >= 0; i-- {
		if e.names[i] == epoch {
			e.mu.RUnlock()
			return uint32(i + 1)
		}
	}
	e.mu.RUnlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, name := range e.names { // another goroutine may have been first
		if name == epoch {
			return uint32(i + 1)
		}
	}
	e.names = append(e.names, epoch)
	return uint32(len(e.names))
}

func (e *epochs) name(number uint32) string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if number == 0 || int(number) > len(e.names) {
		return ""
	}
	return e.names[number-1]
}

// id is a position as the fan-out compares it.
func (e *epochs) id(o socketio.Offset) fanout.ID {
	if o.IsZero() {
		return fanout.ID{}
	}
	return fanout.ID{Epoch: e.number(o.Epoch), Ms: o.Ms, Seq: uint32(min(o.Seq, math.MaxUint32))}
}

// offset is the position as clients see it.
func (e *epochs) offset(id fanout.ID) socketio.Offset {
	return socketio.Offset{Epoch: e.name(id.Epoch), Ms: id.Ms, Seq: uint64(id.Seq)}
}

// journals reports whether a broadcast is journalled.
func (b *Broadcast) journals() bool {
	r := b.nsp.srv.recovery
	return r != nil && !b.flags.Volatile && (r.journal == nil || r.journal(b.nsp.name, b.rooms))
}

// create stores a session for a socket that was admitted, then welcomes it.
func (r *recovery) create(s *Socket) {
	pid, kicks := newPID().String(), s.conn.srv.kicks.now()
	var joined []socketio.SessionRoom // by middleware
	for _, room := range s.Rooms()[1:] {
		joined = append(joined, socketio.SessionRoom{Name: room})
	}
	stored := &socketio.Session{
		Rooms: joined,
		PID:   pid, SID: s.ID(), Namespace: s.nsp.name, User: s.session.user, Data: encodeData(s.Data()),
	}
	r.Create(stored, func(start socketio.Offset, err error) {
		if err != nil {
			s.conn.srv.log.Debug("socket connected without a session", "socket", s.ID(), "error", err)
			start = socketio.Offset{}
		} else {
			s.mu.Lock()
			s.session.pid, s.session.generation, s.session.epoch = pid, 1, r.epochs.number(start.Epoch)
			gone := s.state == socketDisconnected
			s.mu.Unlock()
			if gone { // nobody was told of it
				r.Delete(socketio.SessionRef{PID: pid, Generation: 1}, nil)
				return
			}
		}
		s.post(task{run: func() { s.nsp.welcome(s, r.epochs.id(start), kicks, true) }})
	})
}

// encodeData is a socket's data as it is stored and shown to other nodes.
func encodeData(v any) []byte {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

// fate is what becomes of a socket's session when the socket ends.
type fate uint8

const (
	keepSession fate = iota // its client may come back
	deleteSession
	sessionMoved // another node has it
)

// fateOf says whether the client of a conn that closed for the reason may have
// its sockets back. Where messages were lost for it, it must not.
func fateOf(c metrics.Close) fate {
	switch c {
	case metrics.CloseGap, metrics.CloseOverloaded, metrics.CloseParseError, metrics.CloseServer, metrics.CloseConnectTimeout, metrics.CloseTokenExpired:
		return deleteSession
	}
	return keepSession
}

// end closes or deletes the session of a socket that ended.
func (r *recovery) end(s *Socket, f fate) {
	switch ref := s.ref(); {
	case ref.PID == "":
	case f == sessionMoved:
		r.GivenAway(ref)
	case f == keepSession:
		r.Close(ref, nil)
	default:
		r.Delete(ref, nil)
	}
}

// epoch is the number of that of the socket's session, 0 if it has none.
func (s *Socket) epoch() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return 0
	}
	return s.session.epoch
}

// ref names the socket's session, "" if it has none.
func (s *Socket) ref() socketio.SessionRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return socketio.SessionRef{}
	}
	return socketio.SessionRef{PID: s.session.pid, Generation: s.session.generation}
}

// endings orders a socket's return to the same node after its end there: who
// asks for a socket id waits until the disconnect handlers have run.
type endings struct {
	mu sync.Mutex // taken within Socket.mu or alone
	m  map[id]*leaving
}

// leaving is what is known of a socket id of which sockets are ending.
type leaving struct {
	sockets int
	waiting []func()
}

// begin says that a socket is ending.
func (e *endings) begin(i id) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.m == nil {
		e.m = make(map[id]*leaving)
	}
	if e.m[i] == nil {
		e.m[i] = &leaving{}
	}
	e.m[i].sockets++
}

// finish says that its handlers have run.
func (e *endings) finish(i id) {
	e.mu.Lock()
	at := e.m[i]
	if at.sockets--; at.sockets > 0 {
		e.mu.Unlock()
		return
	}
	delete(e.m, i)
	e.mu.Unlock()
	for _, f := range at.waiting {
		f()
	}
}

// after calls f when no socket of that id is ending.
func (e *endings) after(i id, f func()) {
	e.mu.Lock()
	if at := e.m[i]; at != nil {
		at.waiting = append(at.waiting, f)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	f()
}
