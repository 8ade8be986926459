package engine_test

import (
	"sync"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// vault is the in-memory twin of what keeps the sessions of several nodes. Each
// node's calls are carried out in order, on one goroutine of its own. Nothing is
// journalled.
type vault struct {
	mu       sync.Mutex // guards the rest; taken alone
	nodes    map[string]*engine.Server
	sessions map[string]*stored // by PID
	refuse   bool               // moves
	moves    int                // asked for
}

// stored is a session in a vault.
type stored struct {
	sid, ns, owner string
	generation     uint64
	closed         bool
}

// epochStart is where the journal of every namespace is.
var epochStart = socketio.Offset{Epoch: "epoch"}

func newVault() *vault {
	return &vault{nodes: make(map[string]*engine.Server), sessions: make(map[string]*stored)}
}

// session is a copy of what is stored of a socket; false if nothing is.
func (v *vault) session(sid string) (stored, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.sessions {
		if s.sid == sid {
			return *s, true
		}
	}
	return stored{}, false
}

// vaultNode is a node's side of a vault. What it is not asked for it has not.
type vaultNode struct {
	engine.Sessions
	v    *vault
	node string

	mu     sync.Mutex // guards the rest; taken alone
	calls  []func()
	busy   bool
	paused bool
}

// pause has the node's calls wait from now on, and resume carries them out.
func (n *vaultNode) pause() {
	n.mu.Lock()
	n.paused = true
	n.mu.Unlock()
}

func (n *vaultNode) resume() {
	n.mu.Lock()
	n.paused = false
	n.mu.Unlock()
	n.do(func() {})
}

func (n *vaultNode) do(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, f)
	if !n.busy && !n.paused {
		n.busy = true
		go n.run()
	}
}

func (n *vaultNode) run() {
	n.mu.Lock()
	for len(n.calls) > 0 && !n.paused {
		f := n.calls[0]
		n.calls = n.calls[1:]
		n.mu.Unlock()
		f()
		n.mu.Lock()
	}
	n.busy = false
	n.mu.Unlock()
}

// owned has f change a session that is the node's under that generation.
func (n *vaultNode) owned(ref socketio.SessionRef, f func(*stored), done func()) {
	n.do(func() {
		n.v.mu.Lock()
		if s := n.v.sessions[ref.PID]; s != nil && s.owner == n.node && s.generation == ref.Generation {
			f(s)
		}
		n.v.mu.Unlock()
		done()
	})
}

func (n *vaultNode) Create(s *socketio.Session, done func(socketio.Offset, error)) {
	n.do(func() {
		n.v.mu.Lock()
		n.v.sessions[s.PID] = &stored{sid: s.SID, ns: s.Namespace, owner: n.node, generation: 1}
		n.v.mu.Unlock()
		done(epochStart, nil)
	})
}

func (n *vaultNode) Join(ref socketio.SessionRef, _ string, since socketio.Offset, done func(socketio.Offset, error)) {
	n.owned(ref, func(*stored) {}, func() { done(since, nil) })
}

func (n *vaultNode) Leave(ref socketio.SessionRef, _ string, done func(error)) {
	n.owned(ref, func(*stored) {}, func() { report(done) })
}

func (n *vaultNode) SetData(socketio.SessionRef, []byte) {}

func (n *vaultNode) Close(ref socketio.SessionRef, done func(error)) {
	n.owned(ref, func(s *stored) { s.closed = true }, func() { report(done) })
}

func (n *vaultNode) Delete(ref socketio.SessionRef, done func(error)) {
	n.owned(ref, func(*stored) { delete(n.v.sessions, ref.PID) }, func() { report(done) })
}

func (n *vaultNode) Claim(_ socketio.SessionClaim, done func(*socketio.ClaimedSession, metrics.Recovery)) {
	n.do(func() { done(nil, metrics.RecoveryUnknown) })
}

func (n *vaultNode) Owner() string { return n.node }

func (n *vaultNode) Fence(done func(error)) { n.do(func() { done(nil) }) }

func (n *vaultNode) GivenAway(socketio.SessionRef) {}

func (n *vaultNode) Move(m socketio.SessionMove, done func(*socketio.MovedSession, error)) {
	n.do(func() {
		v := n.v
		v.mu.Lock()
		v.moves++
		s := v.sessions[m.PID]
		if v.refuse || s == nil || s.closed || s.owner != m.From || s.generation != m.Generation {
			v.mu.Unlock()
			done(nil, socketio.ErrNotOwner)
			return
		}
		s.owner, s.generation = n.node, s.generation+1
		moved := &socketio.MovedSession{Generation: s.generation, At: epochStart}
		from, to := v.nodes[m.From], v.nodes[n.node]
		v.mu.Unlock()
		from.Cut(m.Namespace, m.SID, moved.Generation, epochStart)
		to.Cut(m.Namespace, m.SID, moved.Generation, epochStart)
		done(moved, nil)
	})
}

func report(done func(error)) {
	if done != nil {
		done(nil)
	}
}
