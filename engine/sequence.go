package engine

import "sync"

// sequence keeps what arrives from the bus in order while an earlier request is
// still being carried out on the shards: a Node.js server may move sockets into a
// room and emit to it in the same breath.
type sequence struct {
	mu       sync.Mutex // taken alone
	busy     int        // requests under way
	held     []func()   // what waits for them, in order
	draining bool       // somebody runs held
}

// free reports whether the caller, the bus's one goroutine, may act at once.
func (q *sequence) free() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy == 0 && !q.draining && len(q.held) == 0
}

// run runs f now, or after what is held.
func (q *sequence) run(f func()) {
	q.mu.Lock()
	if q.busy == 0 && !q.draining && len(q.held) == 0 {
		q.mu.Unlock()
		f()
		return
	}
	q.held = append(q.held, f)
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
	if q.draining {
		return
	}
	q.draining = true
	for q.busy == 0 && len(q.held) > 0 {
		f := q.held[0]
		q.held[0] = nil
		q.held = q.held[1:]
		q.mu.Unlock()
		f()
		q.mu.Lock()
	}
	if len(q.held) == 0 {
		q.held = nil
	}
	q.draining = false
}
