package trunk

import (
	"fmt"
	"runtime/debug"
)

// Receiver gets what arrives on a stream. All calls come from the trunk's
// reader, one at a time, and must not block. A panic closes the stream.
type Receiver interface {
	// Receive takes a message, in the order in which it was sent; payload is
	// valid during the call only. A call that has begun when another goroutine
	// closes the stream goes on.
	Receive(kind byte, payload []byte)
	// Broken is the last call: the peer closed the stream (ErrClosed), or the
	// trunk ended (any other error). It is not called for a stream that was
	// closed on this side before.
	Broken(err error)
}

// Stream is one conversation with a peer. All methods may be called from any
// goroutine, from within Receive too, and none of them blocks.
type Stream struct {
	// Set when it is made, then read-only.
	trunk *trunk
	id    uint64

	// Owned by the reader once the peer may send on the stream.
	receiver Receiver

	// Guarded by trunk.mu.
	opened bool // the peer was told of it, or told us
	closed bool // by either side
}

// Peer is the name of the node at the other end.
func (s *Stream) Peer() string { return s.trunk.peer }

// Send queues a copy of a message. kind is not 0. The error is ErrClosed if the
// stream has ended, ErrFull if the peer does not take what is sent to it, or
// ErrTooBig; nothing was queued then, and the stream is as before.
func (s *Stream) Send(kind byte, payload []byte) error {
	if kind == closing {
		panic("trunk: kind 0 closes a stream and cannot be sent")
	}
	if len(payload) > MaxMessage {
		return ErrTooBig
	}
	t := s.trunk
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.closed || t.ending {
		return ErrClosed
	}
	if len(t.queue) >= maxQueue {
		return ErrFull
	}
	id := s.id
	if !s.opened {
		s.opened = true
		id |= opening
	}
	t.enqueue(id, kind, payload)
	return nil
}

// Close ends the stream. The peer gets what was sent before, and then its
// Receiver's Broken. Closing again does nothing.
func (s *Stream) Close() {
	t := s.trunk
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	delete(t.streams, s.id)
	if s.opened && !t.ending {
		t.enqueue(s.id, closing, nil) // beyond the bound too: a stream has one such frame
	}
}

// receive hands a message to the receiver. Called by the reader only.
func (s *Stream) receive(kind byte, payload []byte) {
	defer s.recovered("Receive")
	s.receiver.Receive(kind, payload)
}

// broken tells the receiver that the stream, closed by then, has ended. Called
// by the reader only.
func (s *Stream) broken(err error) {
	defer s.recovered("Broken")
	if s.receiver != nil {
		s.receiver.Broken(err)
	}
}

// accept asks the application for the stream's receiver. Called by the reader only.
func (s *Stream) accept(kind byte, payload []byte) {
	defer s.recovered("Accept")
	if s.receiver = s.trunk.home.cfg.Accept(s, kind, payload); s.receiver == nil {
		s.Close()
	}
}

// recovered closes the stream after a panic, which is a bug, confined to it.
func (s *Stream) recovered(where string) {
	if p := recover(); p != nil {
		s.Close()
		s.trunk.log.Error("panic on a stream", "in", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}
