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
	backlog *backlog   // what waits; nil if nothing does
	holds   int32      // Event.Hold calls not released
	owed    int32      // acknowledgements that the client waits for
	asked   int32      // acknowledgements that the client is to give
	running bool       // somebody runs the socket's handlers, or is about to
	closed  bool       // nothing is accepted any more
}

// backlog is the work that waits, in order.
type backlog struct {
	queue []task
	bytes int
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

// asks counts an acknowledgement that the client is asked for.
func (b *mailbox) asks(n int32) {
	b.mu.Lock()
	b.asked += n
	b.mu.Unlock()
}

// quiet reports whether nothing runs or waits, and nobody waits for an answer, on
// either side.
func (b *mailbox) quiet() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.running && b.holds == 0 && b.backlog == nil && b.owed == 0 && b.asked == 0 && !b.closed
}

// begin reports whether the caller may run work at once, on its own goroutine;
// it must then call end.
func (b *mailbox) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running || b.holds > 0 || b.backlog != nil || b.closed {
		return false
	}
	b.running = true
	return true
}

// end finishes what begin allowed.
func (s *Socket) end() {
	b := &s.box
	b.mu.Lock()
	more := b.backlog != nil && b.holds == 0
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
	if t.bytes > 0 && b.bytes()+t.bytes > s.conn.srv.cfg.InboundBytes {
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
	if b.backlog == nil {
		b.backlog = &backlog{}
	}
	b.backlog.queue = append(b.backlog.queue, t)
	b.backlog.bytes += t.bytes
	if b.running || b.holds > 0 {
		return false
	}
	b.running = true
	return true
}

// bytes is what the work that waits keeps in memory. The caller holds b.mu.
func (b *mailbox) bytes() int {
	if b.backlog == nil {
		return 0
	}
	return b.backlog.bytes
}

// take returns the first piece of work, which must be there.
func (b *backlog) take() task {
	t := b.queue[0]
	b.queue[0] = task{}
	b.queue = b.queue[1:]
	b.bytes -= t.bytes
	return t
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
		start := b.holds == 0 && !b.running && b.backlog != nil
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
		if b.backlog == nil || b.holds > 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		t := b.backlog.take()
		if len(b.backlog.queue) == 0 {
			b.backlog = nil
		}
		b.mu.Unlock()
		s.guard(t.run)
	}
}
