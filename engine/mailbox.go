package engine

import (
	"sync"

	"github.com/stellara/edge/metrics"
)

// mailbox runs a socket's handlers one at a time and in order. Work that cannot
// run now waits in it, bounded in bytes; packets that need no handler (Engine.IO
// pongs) never come here.
type mailbox struct {
	mu      sync.Mutex // taken within Socket.mu or alone
	queue   []task
	bytes   int
	holds   int32 // Event.Hold calls not released
	owed    int32 // acknowledgements that the client waits for
	running bool  // somebody runs the socket's handlers, or is about to
	closed  bool  // nothing is accepted any more
}

// task is one piece of a socket's work; bytes is what it keeps in memory.
type task struct {
	run   func()
	bytes int
}

// owes counts an acknowledgement that the client asked for.
func (b *mailbox) owes(n int32) {
	b.mu.Lock()
	b.owed += n
	b.mu.Unlock()
}

// quiet reports whether nothing runs or waits, and nobody waits for an answer.
func (b *mailbox) quiet() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.running && b.holds == 0 && len(b.queue) == 0 && b.owed == 0 && !b.closed
}

// begin reports whether the caller may run work at once, on its own goroutine;
// it must then call end.
func (b *mailbox) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running || b.holds > 0 || len(b.queue) > 0 || b.closed {
		return false
	}
	b.running = true
	return true
}

// end finishes what begin allowed.
func (s *Socket) end() {
	b := &s.box
	b.mu.Lock()
	more := len(b.queue) > 0 && b.holds == 0
	b.running = more
	b.mu.Unlock()
	if more {
		s.conn.srv.pool.submit(s)
	}
}

// post queues work for the pool. A socket that lets too much pile up is closed.
func (s *Socket) post(t task) {
	b := &s.box
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	if t.bytes > 0 && b.bytes+t.bytes > s.conn.srv.cfg.InboundBytes {
		b.mu.Unlock()
		s.conn.close(metrics.CloseInboundOverflow, noCode)
		return
	}
	start := b.add(t)
	b.mu.Unlock()
	if start {
		s.conn.srv.pool.submit(s)
	}
}

// finish queues the last work of the socket, after what is queued; nothing is
// accepted after it, and nothing waits for a pending operation any more.
func (s *Socket) finish(run func()) {
	b := &s.box
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.closed = true
	// The client is gone: what it sent is still handled, but a pending operation
	// (Redis may be away) must not delay the disconnect.
	b.holds = 0
	start := b.add(task{run: run})
	b.mu.Unlock()
	if start {
		s.conn.srv.pool.submit(s)
	}
}

// add appends t and reports whether the pool must be told. The caller holds b.mu.
func (b *mailbox) add(t task) bool {
	b.queue = append(b.queue, t)
	b.bytes += t.bytes
	if b.running || b.holds > 0 {
		return false
	}
	b.running = true
	return true
}

// hold makes later work wait; the returned function lets it go on.
func (s *Socket) hold() (release func()) {
	b := &s.box
	b.mu.Lock()
	if !b.closed {
		b.holds++
	}
	b.mu.Unlock()
	return sync.OnceFunc(func() {
		b.mu.Lock()
		if b.holds > 0 { // finish may have lifted all holds
			b.holds--
		}
		start := b.holds == 0 && !b.running && len(b.queue) > 0
		if start {
			b.running = true
		}
		b.mu.Unlock()
		if start {
			s.conn.srv.pool.submit(s)
		}
	})
}

// drain runs queued work until there is none or it must wait.
func (s *Socket) drain() {
	b := &s.box
	for {
		b.mu.Lock()
		if len(b.queue) == 0 || b.holds > 0 {
			b.running = false
			if len(b.queue) == 0 {
				b.queue = nil
			}
			b.mu.Unlock()
			return
		}
		t := b.queue[0]
		b.queue[0] = task{}
		b.queue = b.queue[1:]
		b.bytes -= t.bytes
		b.mu.Unlock()
		s.guard(t.run)
	}
}
