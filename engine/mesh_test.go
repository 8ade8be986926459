package engine_test

import (
	"context"
	"errors"
	"sync"

	"github.com/stellara/edge/engine"
)

// mesh is the in-memory twin of what connects nodes: each message of a stream
// arrives in order, on one goroutine per direction.
type mesh struct {
	mu    sync.Mutex // guards nodes, cut; taken alone
	nodes map[string]*engine.Server
	cut   map[string]error // what Open fails with, by node
	gates map[byte]*gate   // by the kind of message
	ends  []*end
}

// gate stops the first message of a kind, and what follows it on its stream.
type gate struct {
	reached chan struct{} // closed when the message is there
	open    chan struct{} // close it to let the message go on
}

var errCut = errors.New("mesh: cut")

func newMesh() *mesh {
	return &mesh{nodes: make(map[string]*engine.Server), cut: make(map[string]error), gates: make(map[byte]*gate)}
}

func (m *mesh) add(name string, s *engine.Server) {
	m.mu.Lock()
	m.nodes[name] = s
	m.mu.Unlock()
}

// fail has Open fail for a node; nil ends that.
func (m *mesh) fail(node string, err error) {
	m.mu.Lock()
	m.cut[node] = err
	m.mu.Unlock()
}

// stop has the next message of a kind wait.
func (m *mesh) stop(kind byte) *gate {
	g := &gate{reached: make(chan struct{}), open: make(chan struct{})}
	m.mu.Lock()
	m.gates[kind] = g
	m.mu.Unlock()
	return g
}

// pass waits at the gate for messages of a kind, if there is one.
func (m *mesh) pass(kind byte) {
	m.mu.Lock()
	g := m.gates[kind]
	delete(m.gates, kind)
	m.mu.Unlock()
	if g != nil {
		close(g.reached)
		<-g.open
	}
}

// breakAll breaks every stream, as a network that is cut.
func (m *mesh) breakAll() {
	m.mu.Lock()
	ends := m.ends
	m.ends = nil
	m.mu.Unlock()
	for _, e := range ends {
		e.put(sent{broken: errCut})
	}
}

// Open implements engine.Peers.
func (m *mesh) Open(_ context.Context, node string, r engine.Receiver) (engine.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.cut[node]; err != nil {
		return nil, err
	}
	s := m.nodes[node]
	if s == nil {
		return nil, engine.ErrNoPeer
	}
	near, far := newEnd(m), newEnd(m)
	near.other, far.other = far, near
	near.to = r
	far.accept = func(kind byte, payload []byte) engine.Receiver { return s.Accept(far, kind, payload) }
	m.ends = append(m.ends, near, far)
	go near.run()
	go far.run()
	return near, nil
}

// end is one side of a stream.
type end struct {
	mesh   *mesh
	other  *end
	accept func(kind byte, payload []byte) engine.Receiver // until the first message
	to     engine.Receiver

	mu     sync.Mutex // guards the rest
	some   sync.Cond
	queue  []sent
	closed bool // by this side
	over   bool // told that it is broken
}

type sent struct {
	kind    byte
	payload []byte
	broken  error
}

func newEnd(m *mesh) *end {
	e := &end{mesh: m}
	e.some.L = &e.mu
	return e
}

// put has e receive something.
func (e *end) put(s sent) {
	e.mu.Lock()
	e.queue = append(e.queue, s)
	e.some.Signal()
	e.mu.Unlock()
}

func (e *end) isOver() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed || e.over
}

// Send implements engine.Stream.
func (e *end) Send(kind byte, payload []byte) error {
	if e.isOver() {
		return errCut
	}
	e.other.put(sent{kind: kind, payload: append([]byte{}, payload...)})
	return nil
}

// Close implements engine.Stream.
func (e *end) Close() {
	e.mu.Lock()
	was := e.closed
	e.closed = true
	e.some.Signal()
	e.mu.Unlock()
	if !was {
		e.other.put(sent{broken: errCut})
	}
}

// run passes on what arrives.
func (e *end) run() {
	for {
		e.mu.Lock()
		for len(e.queue) == 0 && !e.closed {
			e.some.Wait()
		}
		if e.closed {
			e.mu.Unlock()
			return
		}
		s := e.queue[0]
		e.queue = e.queue[1:]
		e.over = s.broken != nil
		e.mu.Unlock()
		if s.broken == nil {
			e.mesh.pass(s.kind)
		}
		switch {
		case s.broken != nil:
			if e.to != nil {
				e.to.Broken(s.broken)
			}
			return
		case e.to == nil:
			if e.to = e.accept(s.kind, s.payload); e.to == nil {
				e.Close()
				return
			}
		default:
			e.to.Receive(s.kind, s.payload)
		}
	}
}
