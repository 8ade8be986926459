package state

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const (
	defaultSessionWindow = 2 * time.Minute
	defaultProofLag      = 108 * time.Second // of a ping interval of 25 s, a ping timeout of 20 s and ticks of 1 s
	sessionMargin        = 10 * time.Second  // sessions outlive the window by it: nobody measures it to the second
	returnTime           = 15 * time.Second  // for a return, from the claim to the last reading
	sessionTTL           = 24 * time.Hour    // of an open session that nobody writes to
	sessionPatience      = 5 * time.Second   // how long creations, claims and reads wait for an absent Redis
	sessionFlight        = 512               // operations in one pipeline
	signEvery            = time.Second
	stallAfter           = 10 * time.Second // without a beat, nobody knows what was delivered meanwhile
	refreshEvery         = 6 * time.Hour    // sessions that are open have their time to live renewed
	refreshPace          = 100              // of them per beat
	sessionQueue         = 1 << 20          // operations that wait; ends, which are as few as sessions, are taken beyond it
)

// Sessions keeps the sessions of sockets in Redis, so that a client that lost its
// connection gets its socket back on any node, and reads what it missed from the
// journal.
//
// A session has one owner at a time, a stint of a node: the time in which the
// node missed nothing of the journal. Operations of one that is the owner no
// more, or on a session that is gone, are no errors and change nothing. What is
// known of a client after its conn ended abruptly is a matter of proof: a conn
// that was open at a time had received everything sent a Config.ProofLag before,
// or would have been closed for want of a pong. While the client catches up with
// what it missed, that says nothing, and the proof stays what it was.
//
// The journal must be kept for at least Config.SessionWindow + 10 s +
// Config.ProofLag + 15 s: what a client did not receive before its conn ended is
// needed until the end of the window, and then for as long as its return takes.
//
// Without Config.Recovery there are none: everything fails with ErrClosed.
//
// Methods may be called from any goroutine and never block. Operations are
// carried out in the order of the calls, each once as far as can be seen, again
// after a lost connection, and wait while Redis is away; Create, Claim, Move, Fence
// and Read do so for 5 s only. Each done is called exactly once, on a goroutine of the
// Sessions, never from inside the call, must return at once, and may be nil; with
// ErrClosed after the end of State.Run, and with ErrQueueFull when a million
// operations wait.
type Sessions struct {
	link    *link
	log     *slog.Logger
	metrics *metrics.Metrics
	journal *journal
	scripts sessionScripts
	key     string // Config.Key
	tails   *tails
	drop    func(incarnation, ns, sid string, generation uint64) // Bus.drop
	dismiss func(ns, sid string)                                 // disconnects a socket of this node; set before run

	incarnation string
	window      time.Duration // with the margin
	lag         time.Duration // Config.ProofLag
	beatEvery   time.Duration // signEvery
	stallAfter  time.Duration // stallAfter
	refreshIn   time.Duration // refreshEvery
	patience    time.Duration // sessionPatience

	wake chan struct{} // capacity 1: there is something to do

	// Owned by run.
	flight   []*sessionOp // sent or about to be, not answered
	open     map[string]openSession
	prepared uint64 // the link's generation that has been prepared
	epoch    string // of the journal, as of the last flight
	beat     sessionBeat
	refresh  sessionRefresh
	refused  bool // Redis refuses, which was logged

	mu      sync.Mutex            // guards the rest; taken alone, never held across I/O or a callback
	queue   []*sessionOp          // not in the flight
	data    map[string]*sessionOp // of the queue: the last data of a session that is to be stored
	sent    int                   // length of the flight
	count   uint64                // operations ever queued
	ended   bool                  // run has returned, or will not run
	stint   uint64                // the present one
	voided  []voided              // stints whose sign is to be deleted
	clock   clock                 // Redis's
	unheard bool                  // disconnects by other nodes may not have been heard, see endBarred
	missing time.Time             // what was published since may not have been delivered; zero if it was
	proven  time.Time             // when, after a repair, that is history; zero while it is not repaired
}

// openSession is a session that a stint of this node has open.
type openSession struct {
	generation, stint uint64
	ns                string
}

// leastRetention is for how long the journal must be kept, see Sessions.
func (c *Config) leastRetention() time.Duration {
	window, lag := c.SessionWindow, c.ProofLag
	if window == 0 {
		window = defaultSessionWindow
	}
	if lag == 0 {
		lag = defaultProofLag
	}
	return window + sessionMargin + lag + returnTime
}

func newSessions(cfg Config, l *link, j *journal, incarnation string, m *metrics.Metrics) *Sessions {
	s := &Sessions{
		link: l, log: cfg.Log, metrics: m, journal: j, scripts: newSessionScripts(), key: cfg.Key,
		incarnation: incarnation, window: cfg.SessionWindow + sessionMargin, lag: cfg.ProofLag,
		beatEvery: signEvery, stallAfter: stallAfter, refreshIn: refreshEvery, patience: sessionPatience, wake: make(chan struct{}, 1),
		open: make(map[string]openSession), data: make(map[string]*sessionOp), stint: 1,
	}
	s.tails = newTails(s)
	return s
}

// sessionKey is the key of a session.
func (s *Sessions) sessionKey(pid string) string { return s.key + "-session#" + pid }

// owner is the name under which a stint of this node has sessions.
func (s *Sessions) owner(stint uint64) string { return owner(s.incarnation, stint) }

// Create stores the session of a new socket; its Generation becomes 1. start is
// where the namespace's journal was then. The error is ErrUnavailable if Redis
// was away for 5 s: there is no session then.
func (s *Sessions) Create(session *socketio.Session, done func(start socketio.Offset, err error)) {
	s.add(&sessionOp{
		kind: opCreate, ref: socketio.SessionRef{PID: session.PID, Generation: 1}, session: session, impatient: true,
		done: func(r sessionResult) {
			if done != nil {
				done(r.at, r.err)
			}
		},
	})
}

// Join adds a room. since is where the namespace's journal was when it was
// stored, if it is not given; a room that was joined before keeps what it has. It
// is zero if the session is another owner's or gone.
func (s *Sessions) Join(ref socketio.SessionRef, room string, since socketio.Offset, done func(since socketio.Offset, err error)) {
	s.add(&sessionOp{kind: opJoin, ref: ref, text: room, since: since, done: func(r sessionResult) {
		if done != nil {
			done(r.at, r.err)
		}
	}})
}

// Leave removes a room.
func (s *Sessions) Leave(ref socketio.SessionRef, room string, done func(error)) {
	s.add(&sessionOp{kind: opLeave, ref: ref, text: room, done: errorOf(done)})
}

// SetData stores the socket's data, nil for none.
func (s *Sessions) SetData(ref socketio.SessionRef, data []byte) {
	s.add(&sessionOp{kind: opData, ref: ref, text: string(data)})
}

// CaughtUp says that a client whose session was claimed was sent all that it missed.
func (s *Sessions) CaughtUp(ref socketio.SessionRef) {
	s.add(&sessionOp{kind: opCaughtUp, ref: ref})
}

// Close says that the socket's conn ended, or that a claim is abandoned: the
// session can be claimed for the window from when it is stored. If messages for
// the conn were lost since the session was stored, it is deleted instead.
func (s *Sessions) Close(ref socketio.SessionRef, done func(error)) {
	s.add(&sessionOp{kind: opClose, ref: ref, done: errorOf(done)})
}

// Delete says that the socket shall not be recovered.
func (s *Sessions) Delete(ref socketio.SessionRef, done func(error)) {
	s.add(&sessionOp{kind: opDelete, ref: ref, done: errorOf(done)})
}

// Claim takes a session over for this node. done is given nil and why not, or the
// session and metrics.RecoveryComplete: then Read returns everything that the
// client missed. Nothing is counted here.
func (s *Sessions) Claim(c socketio.SessionClaim, done func(session *socketio.ClaimedSession, result metrics.Recovery)) {
	s.add(&sessionOp{
		kind: opClaim, ref: socketio.SessionRef{PID: c.PID}, claim: c, nonce: rand.Text()[:16], impatient: true,
		done: func(r sessionResult) {
			if done == nil {
				return
			}
			if r.err != nil {
				r.claimed, r.recovery = nil, metrics.RecoveryUnavailable
			}
			done(r.claimed, r.recovery)
		},
	})
}

// Drop tells the node that had a socket before that it moved.
func (s *Sessions) Drop(owner, ns, sid string, generation uint64) {
	incarnation, _, _ := strings.Cut(owner, ".")
	s.drop(incarnation, ns, sid, generation)
}

// errorOf is a done that wants only the error.
func errorOf(done func(error)) func(sessionResult) {
	if done == nil {
		return nil
	}
	return func(r sessionResult) { done(r.err) }
}

// add queues an operation.
func (s *Sessions) add(o *sessionOp) {
	if o.called.IsZero() {
		o.called = time.Now()
	}
	if err := s.enqueue(o); err != nil {
		if o.done != nil {
			go o.done(sessionResult{err: err}) // that of the sessions may be gone
		}
		return
	}
	notify(s.wake)
}

func (s *Sessions) enqueue(o *sessionOp) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrClosed
	}
	switch before := s.data[o.ref.PID]; o.kind {
	case opClose, opDelete, opGivenAway, opCaughtUp, opFlush:
	case opData:
		if before != nil && before.ref == o.ref {
			before.text = o.text
			return nil
		}
		s.data[o.ref.PID] = o
	default:
		if len(s.queue) >= sessionQueue {
			return ErrQueueFull
		}
	}
	s.count++
	o.number = s.count
	s.queue = append(s.queue, o)
	return nil
}

// Flush waits until everything that was called before it is stored, no longer
// than ctx, and takes the node's sign away if it has no session open then. Run
// must still run.
func (s *Sessions) Flush(ctx context.Context) error {
	if s.waiting() == 0 && s.link.down() != nil {
		return nil
	}
	flushed := make(chan error, 1)
	s.add(&sessionOp{kind: opFlush, done: func(r sessionResult) { flushed <- r.err }})
	select {
	case err := <-flushed:
		return err
	case <-s.link.refused:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("state: %d operations on sessions are not stored: %w", s.waiting(), ctx.Err())
	}
}

// waiting is the number of operations that are not carried out.
func (s *Sessions) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) + s.sent
}
