package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
)

// presenceWindow is how long intents are collected before they are sent, so
// that a reconnect within it costs Redis nothing.
const presenceWindow = 5 * time.Millisecond

// Presence keeps the three public presence keys in step with the sockets of
// this node, and reads them:
//
//	presence:online        Set     users with an open socket on any node
//	room:<room>:users      Set     users in the room on any node
//	user:<user>:socket     String  the user's active socket
//
// Intents are desired state: they are stored in Redis in batches, again after
// everything that may have lost them, and are never dropped; opposite intents
// that meet before they are sent cancel. What this node holds counts only while
// it renews its lease; what a node held that does so no more is removed by the
// others (janitor.go). Methods may be called from any goroutine; those that
// change presence never block. Callbacks come on the presence goroutine (never
// from inside the call), must return at once, and may be nil.
type Presence struct {
	link    *link
	log     *slog.Logger
	metrics *metrics.Metrics
	scripts scripts
	updates *updates      // are told of reads
	wake    chan struct{} // capacity 1: the ledger changed
	term    time.Duration // length of a lease

	// Owned by run; what of the ledger an audit looks at is guarded by mu all the same.
	audit    audit
	prepared uint64 // the link's generation whose Redis knows the scripts
	redis    string // run_id of the Redis before
	refusals seldom // of operations, for the log

	mu          sync.Mutex // guards the fields below; taken alone, never held across I/O or a callback
	ledger      *ledger
	lease       lease
	pace        pace
	renounced   []renounced         // incarnations to be nominated
	nodes       int                 // incarnations registered, as of the last heartbeat
	rooms       recent[writtenRoom] // changed by this node: a cached read might not know yet
	users       recent[struct{}]    // their sockets were, likewise
	ending      bool                // Flush was called
	struck      bool                // deregistered: no heartbeat any more
	ended       bool                // run has returned, or will not run
	idle        []chan struct{}     // closed when nothing is unsettled
	scrubWanted bool                // there was a sign that Redis lost something

	failedMu sync.Mutex      // guards failed; taken alone
	failed   map[string]bool // what fails at the moment, and was said to
}

// renounced is an incarnation that this node gave up.
type renounced struct {
	incarnation string
	rooms       []string // written down once more: where Redis lost them, what was under way came after
	reapable    int64    // the earliest time for it, milliseconds of Redis's clock
}

// writtenRoom is where a room's events were after this node changed it.
type writtenRoom struct {
	epoch string
	seq   uint64
}

func newPresence(cfg Config, l *link, incarnation string, u *updates, m *metrics.Metrics) *Presence {
	m.PresenceIncarnations.Inc()
	return &Presence{
		link: l, log: cfg.Log, metrics: m, scripts: newScripts(), updates: u,
		term: cfg.Lease, wake: make(chan struct{}, 1),
		ledger: newLedger(incarnation), lease: newLease(cfg.Lease), nodes: 1,
		rooms: newRecent[writtenRoom](clientTTL), users: newRecent[struct{}](clientTTL),
	}
}

// failing says once that Redis refuses something, and once that it works again
// (nil). A lost connection is neither: the link tells of it. It may be called
// from any goroutine.
func (p *Presence) failing(what string, err error) {
	if lostConnection(err) {
		return
	}
	p.failedMu.Lock()
	was := p.failed[what]
	if p.failed == nil {
		p.failed = make(map[string]bool)
	}
	p.failed[what] = err != nil
	p.failedMu.Unlock()
	switch {
	case err != nil:
		p.metrics.PresenceErrors.Inc()
		if !was {
			p.log.Warn("presence: redis refuses", "what", what, "error", err)
		}
	case was:
		p.log.Info("presence: it works again", "what", what)
	}
}

// Connect says that user opened socket on this node, which is its generation-th
// move to another node (0 for a new socket). done is called with nil when
// presence:online and user:<user>:socket say so, with ErrReleased when
// Disconnect came first, and with another error when an id is refused (see
// ValidID). While Redis is away it waits.
func (p *Presence) Connect(user, socket string, generation uint64, done func(error)) {
	err := errors.Join(ValidID("user", user), ValidID("socket", socket))
	p.change(done, err, func(l *ledger) { l.connect(user, socket, generation, done) })
}

// Held is how many sockets of user are open on this node, as Connect and
// Disconnect said.
func (p *Presence) Held(user string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.ledger.online.members[user]; m != nil {
		return len(m.sockets)
	}
	return 0
}

// Disconnect says that user closed socket, or that another node has it now. It
// leaves the socket's rooms, too. mayReturn says that only its connection broke:
// the keys change at once all the same, but the members of the rooms are told
// later, and nothing if the user is back in time (Config.PresenceGrace).
func (p *Presence) Disconnect(user, socket string, mayReturn bool) {
	p.change(nil, nil, func(l *ledger) { l.disconnect(user, socket, mayReturn) })
}

// Join says that the user's socket entered room. done is called with nil when
// room:<room>:users says so, with ErrReleased when a Leave or Disconnect came
// first, with ErrNoSocket when the socket is not connected, and with another
// error when the room is refused (see ValidID).
func (p *Presence) Join(user, socket, room string, done func(error)) {
	p.change(done, ValidID("room", room), func(l *ledger) { l.join(user, socket, room, done) })
}

// Leave says that the user's socket left room. done is called with nil when
// room:<room>:users says so, or need not, as the user is still in the room
// through another socket or has come back.
func (p *Presence) Leave(user, socket, room string, done func(error)) {
	p.change(done, nil, func(l *ledger) { l.leave(user, socket, room, done) })
}

// change applies one intent, or refuses it with err.
func (p *Presence) change(done func(error), err error, apply func(*ledger)) {
	p.mu.Lock()
	switch ended := p.ended; {
	case ended:
		p.mu.Unlock()
		if done != nil {
			go done(ErrClosed) // the presence goroutine is gone
		}
		return
	case err != nil:
		p.ledger.finish(done, err)
	case p.ending:
		p.ledger.finish(done, ErrClosed)
	default:
		apply(p.ledger)
	}
	p.mu.Unlock()
	notify(p.wake)
}

// Flush releases everything this node holds, takes nothing new, waits until
// Redis has stored that, and strikes the node off Redis's register, so that
// nobody waits for its lease to run out. No longer than ctx. Run must still run.
// Sockets that were not disconnected before are taken for gone: nobody's left is
// delayed for them.
func (p *Presence) Flush(ctx context.Context) error {
	p.mu.Lock()
	p.ending = true
	p.ledger.end()
	idle := make(chan struct{})
	p.idle = append(p.idle, idle)
	p.mu.Unlock()
	notify(p.wake)
	select {
	case <-idle:
		p.deregister(ctx)
		return nil
	case <-p.link.refused:
		return nil
	case <-ctx.Done():
		p.mu.Lock()
		left := p.ledger.unsettled
		p.mu.Unlock()
		return fmt.Errorf("state: %d presence facts are not released: %w", left, ctx.Err())
	}
}
