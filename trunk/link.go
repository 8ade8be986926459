package trunk

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxQueue is how much may wait for a peer: Send is refused while it does.
	// One message may go beyond it, or the largest would be refused behind
	// the smallest.
	maxQueue = 64 << 20

	// writeBytes is the most of one write, if more waits: each is given the
	// time that a peer may be silent.
	writeBytes = 1 << 20

	// keepBytes is the capacity up to which a buffer of the writer is kept
	// whatever there is to do.
	keepBytes = 1 << 20
)

// trunk is one connection to a peer, after the handshake.
type trunk struct {
	// Set when it is made, then read-only.
	home    *Trunks
	conn    net.Conn
	peer    string
	dialled bool // by this node: it opens the streams
	log     *slog.Logger
	wake    chan struct{} // capacity 1: the queue is not empty any more, or the trunk is ending
	gone    chan struct{} // closed when the connection is given up

	// Owned by the writer.
	spare []byte // the other buffer of the queue, empty

	mu      sync.Mutex // guards the rest and the streams' flags; innermost, never held across I/O or a callback
	queue   []byte     // frames that wait for the writer
	streams map[uint64]*Stream
	last    uint64 // the id of the last stream opened here
	ending  bool   // no more streams, nothing more is sent
	cause   error  // why the connection was given up
}

func newTrunk(home *Trunks, conn net.Conn, peer string, dialled bool) *trunk {
	direction := "incoming"
	if dialled {
		direction = "outgoing"
	}
	return &trunk{
		home: home, conn: conn, peer: peer, dialled: dialled,
		log:  home.cfg.Log.With("peer", peer, "address", conn.RemoteAddr().String(), "direction", direction),
		wake: make(chan struct{}, 1), gone: make(chan struct{}), streams: map[uint64]*Stream{},
	}
}

// open makes a stream, or returns nil if the trunk takes no more.
func (t *trunk) open(r Receiver) *Stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return nil
	}
	t.last++
	s := &Stream{trunk: t, id: t.last, receiver: r}
	t.streams[s.id] = s
	return s
}

// enqueue adds a frame to the queue. Called with t.mu held.
func (t *trunk) enqueue(stream uint64, kind byte, payload []byte) {
	first := len(t.queue) == 0
	t.queue = appendFrame(t.queue, stream, kind, payload)
	if first {
		t.signal()
	}
}

// signal wakes the writer.
func (t *trunk) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// finish ends the trunk in order: what waits is sent, and a goodbye.
func (t *trunk) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ending {
		t.enqueue(controlStream, goodbye, nil)
		t.ending = true
		t.signal()
	}
}

// fail gives the connection up. The reader does what follows.
func (t *trunk) fail(cause error) {
	t.mu.Lock()
	first := t.cause == nil
	if first {
		if t.ending {
			cause = errEnding // whatever comes of it, it began here
		}
		t.cause, t.ending, t.queue = cause, true, nil
		close(t.gone)
	}
	t.mu.Unlock()
	if first {
		_ = t.conn.Close()
	}
}

// read is the reader: it runs until the trunk has ended, and ends its streams.
func (t *trunk) read() {
	d := newDecoder(&watchedReader{t.conn, t.home.times.silence, t.home.metrics.TrunkBytesReceived})
	for {
		f, err := d.next()
		if err == nil {
			err = t.take(f)
		}
		if err != nil {
			t.fail(readError(err, t.home.times.silence))
			break
		}
	}
	t.mu.Lock()
	streams, cause := t.streams, t.cause
	t.streams = nil
	for _, s := range streams {
		s.closed = true
	}
	t.mu.Unlock()
	t.home.forget(t, cause)
	for _, s := range streams {
		s.broken(cause)
	}
}

// readError says what an error of the reader means.
func readError(err error, silence time.Duration) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("trunk: nothing came from the peer for %v", silence)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("trunk: the peer closed the connection: %w", err)
	case errors.Is(err, errPeerEnding), errors.Is(err, errProtocol):
		return err
	}
	return fmt.Errorf("trunk: read: %w", err)
}

// take handles a frame.
func (t *trunk) take(f frame) error {
	switch {
	case f.stream == controlStream:
		if f.kind == goodbye {
			return errPeerEnding
		}
		if f.kind != heartbeat {
			return fmt.Errorf("%w: control frame %d", errProtocol, f.kind)
		}
	case f.stream&opening != 0:
		return t.takeFirst(f.stream&^opening, f.kind, f.payload)
	case f.kind == closing:
		if s := t.closedByPeer(f.stream); s != nil {
			s.broken(ErrClosed)
		}
	default:
		t.mu.Lock()
		s := t.streams[f.stream]
		ending := t.ending
		t.mu.Unlock()
		if s != nil && !ending { // else it was closed here meanwhile
			s.receive(f.kind, f.payload)
		}
	}
	return nil
}

// takeFirst handles the first message of a stream.
func (t *trunk) takeFirst(id uint64, kind byte, payload []byte) error {
	if t.dialled || kind == closing || id == controlStream {
		return fmt.Errorf("%w: a stream that the peer may not open", errProtocol)
	}
	s := &Stream{trunk: t, id: id, opened: true}
	t.mu.Lock()
	ending, known := t.ending, t.streams[id] != nil
	if !ending && !known {
		t.streams[id] = s
	}
	t.mu.Unlock()
	if known {
		return fmt.Errorf("%w: stream %d is open already", errProtocol, id)
	}
	if !ending {
		s.accept(kind, payload)
	}
	return nil
}

// closedByPeer removes a stream, or returns nil if it was closed here before.
func (t *trunk) closedByPeer(id uint64) *Stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.streams[id]
	if s != nil {
		s.closed = true
		delete(t.streams, id)
	}
	return s
}

// write is the writer: it runs until the trunk has ended.
func (t *trunk) write() {
	timer := time.NewTimer(t.home.times.heartbeat)
	defer timer.Stop()
	for {
		timer.Reset(t.home.times.heartbeat)
		select {
		case <-t.wake:
		case <-timer.C:
			t.mu.Lock()
			if !t.ending {
				t.queue = appendFrame(t.queue, controlStream, heartbeat, nil)
			}
			t.mu.Unlock()
		case <-t.gone:
			return
		}
		last, err := t.flush()
		if err != nil {
			t.fail(fmt.Errorf("trunk: write: %w", err))
			return
		}
		if last {
			t.halfClose()
			return
		}
	}
}

// flush writes what waits. It reports whether nothing will follow.
func (t *trunk) flush() (last bool, err error) {
	t.mu.Lock()
	out := t.queue
	t.queue = t.spare
	last = t.ending
	t.mu.Unlock()
	for rest := out; len(rest) > 0; {
		part := rest[:min(len(rest), writeBytes)]
		if err := t.conn.SetWriteDeadline(time.Now().Add(t.home.times.silence)); err != nil {
			return false, err
		}
		n, err := t.conn.Write(part)
		t.home.metrics.TrunkBytesSent.Add(float64(n))
		if err != nil {
			return false, err
		}
		rest = rest[n:]
	}
	if cap(out) > keepBytes && len(out) < cap(out)/4 {
		out = nil // grown by a burst that is over
	}
	t.spare = out[:0]
	return last, nil
}

// halfClose ends what this side sends. The connection stays until the peer has
// closed it: closing it with something unread would take from the peer what it
// has not read yet.
func (t *trunk) halfClose() {
	if c, ok := t.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

// watchedReader is a connection whose peer must not be silent for long.
type watchedReader struct {
	conn     net.Conn
	silence  time.Duration
	received prometheus.Counter
}

func (r *watchedReader) Read(p []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.silence)); err != nil {
		return 0, err
	}
	n, err := r.conn.Read(p)
	r.received.Add(float64(n))
	return n, err
}
