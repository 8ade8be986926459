package engine

import "sync"

// heldMax bounds what waits in a sequence. A request takes the shards one pass,
// so only a node in trouble gets there; the bus then waits, and Redis with it.
const heldMax = 65536

// sequence keeps what arrives from the bus in order while an earlier request is
// still being carried out on the shards: a Node.js server may move sockets into a
// room and emit to it in the same breath.
type sequence struct {
	mu       sync.Mutex // taken alone
	room     sync.Cond  // held got shorter
	busy     int        // requests under way
	held     []func()   // what waits for them, in order
	draining bool       // somebody runs held
}

func newSequence() *sequence {
	q := &sequence{}
	q.room.L = &q.mu
	return q
}

// free reports whether the caller, the bus's one goroutine, may act at once.
func (q *sequence) free() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy == 0 && !q.draining && len(q.held) == 0
}

// run runs f now, or after what is held. It must not be called from a shard.
func (q *sequence) run(f func()) {
	q.mu.Lock()
	if q.busy == 0 && !q.draining && len(q.held) == 0 {
		q.mu.Unlock()
		f()
		return
	}
	for len(q.held) >= heldMax {
		q.room.Wait()
	}
	q.held = append(q.held, f)
	idle := q.busy == 0 && !q.draining // it drained while the caller waited
	if idle {
		q.drain()
	}
	q.mu.Unlock()
}

// begin says that a request is under way; what arrives is held until end.
func (q *sequence) begin() {
	q.mu.Lock()
	q.busy++
	q.mu.Unlock()
}

// end lets the next ones go, on the caller's goroutine.
func (q *sequence) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	if !q.draining {
		q.drain()
	}
}

// drain runs what is held until a request is under way. The caller holds mu,
// which is released while a function runs.
func (q *sequence) drain() {
	q.draining = true
	for q.busy == 0 && len(q.held) > 0 {
		f := q.held[0]
		q.held[0] = nil
		q.held = q.held[1:]
		q.room.Signal()
		q.mu.Unlock()
		f()
		q.mu.Lock()
	}
	if len(q.held) == 0 {
		q.held = nil
	}
	q.draining = false
}
