package trunk

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

// faulty is a connection with faults that begin when the test says so.
type faulty struct {
	net.Conn
	deaf atomic.Bool  // reads wait for their deadline
	cut  atomic.Int64 // bytes that are still written before the connection is cut; 0: any number
}

func (f *faulty) Read(p []byte) (int, error) {
	for {
		n, err := f.Conn.Read(p)
		if err != nil || !f.deaf.Load() {
			return n, err
		}
	}
}

func (f *faulty) Write(p []byte) (int, error) {
	left := f.cut.Load()
	if left == 0 {
		return f.Conn.Write(p)
	}
	n, _ := f.Conn.Write(p[:min(int(left), len(p))])
	_ = f.Conn.Close()
	return n, net.ErrClosed
}

func (f *faulty) RemoteAddr() net.Addr { return pipeAddr("faulty") }

// TestIdle: a trunk with nothing to carry lives, on heartbeats.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pairInBubble(t, echo)
		r := newRecorder()
		s := open(t, a, nodeB, r)
		time.Sleep(time.Hour)
		send(t, s, 1, "still there?")
		if m := r.next(t); m.payload != "still there?" {
			t.Errorf("got %v", m)
		}
		synctest.Wait() // until all is counted
		if n.dials != 1 {
			t.Errorf("%d dials", n.dials)
		}
		for _, m := range []*metrics.Metrics{a.metrics, b.metrics} {
			if trunks := testutil.ToFloat64(m.Trunks); trunks != 1 {
				t.Errorf("%v trunks", trunks)
			}
		}
		sent, received := testutil.ToFloat64(a.metrics.TrunkBytesSent), testutil.ToFloat64(b.metrics.TrunkBytesReceived)
		if sent != received || sent < 3599*headerBytes || sent > 3700*headerBytes {
			t.Errorf("A sent %v bytes, B received %v", sent, received)
		}
	})
}

// TestPeerKilled: a connection that is cut in the middle of a frame ends all
// streams once, and the next Open dials.
func TestPeerKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		received := newRecorder()
		n, a, b := pairInBubble(t, func(*Stream, byte, []byte) Receiver { return received })
		var conn *faulty
		n.wrap = func(c net.Conn) net.Conn {
			conn = &faulty{Conn: c}
			return conn
		}
		receivers := make([]*recorder, 20)
		for i := range receivers {
			receivers[i] = newRecorder()
			send(t, open(t, a, nodeB, receivers[i]), 1, "")
		}
		synctest.Wait()
		conn.cut.Store(headerBytes + 3)
		s := open(t, a, nodeB, newRecorder())
		send(t, s, 1, "half a message")
		for _, r := range receivers {
			if err := r.end(t); err == nil || err == ErrClosed {
				t.Errorf("broken with %v", err)
			}
		}
		for range receivers { // on B they have one receiver
			if err := received.end(t); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("B's streams were broken with %v", err)
			}
		}
		if err := s.Send(1, nil); err != ErrClosed {
			t.Errorf("Send on a broken trunk: %v", err)
		}
		synctest.Wait()
		for _, m := range []*metrics.Metrics{a.metrics, b.metrics} {
			if trunks := testutil.ToFloat64(m.Trunks); trunks != 0 {
				t.Errorf("%v trunks", trunks)
			}
		}
		n.wrap = nil
		again := newRecorder()
		send(t, open(t, a, nodeB, again), 1, "")
		synctest.Wait()
		if n.dials != 2 || len(received.broken) > 0 || len(again.broken) > 0 {
			t.Errorf("%d dials", n.dials)
		}
	})
}

// TestDeafPeer: a peer that takes nothing is given up after the time a write
// may take, and one from which nothing comes after the time it may be silent.
// Until then Send has a bound.
func TestDeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a := testNode(&f, nodeA, nil, nil)
		servePipe(t, &f, &n, a)
		l := n.listen("deaf")
		f.set(nodeB, "deaf")
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, err = greet(c, nodeB, []byte(secret), func() bool { return false })
			}
			if err != nil {
				t.Error(err)
			}
		}() // and never reads or writes again
		r := newRecorder()
		s := open(t, a, nodeB, r)
		began := time.Now()
		payload := make([]byte, 8<<20)
		sent := 0
		for {
			err := s.Send(1, payload)
			if err == ErrFull {
				break
			}
			if err != nil || sent > 20 {
				t.Fatalf("Send: %v after %d messages", err, sent)
			}
			sent++
			synctest.Wait() // the writer has taken the first
		}
		if sent != 9 { // one is being written, eight fill the queue
			t.Errorf("ErrFull after %d messages of 8 MiB", sent)
		}
		other := newRecorder()
		if err := open(t, a, nodeB, other).Send(1, nil); err != ErrFull {
			t.Errorf("another stream: %v", err)
		}
		for _, r := range []*recorder{r, other} {
			if err := r.end(t); !strings.Contains(err.Error(), "write") && !strings.Contains(err.Error(), "nothing came") {
				t.Errorf("broken with %v", err)
			}
		}
		if took := time.Since(began); took != a.times.silence {
			t.Errorf("given up after %v", took)
		}
	})
}

// TestSilentPeer: a peer that reads and says nothing.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pairInBubble(t, echo)
		var conn *faulty
		n.wrap = func(c net.Conn) net.Conn {
			conn = &faulty{Conn: c}
			return conn
		}
		r := newRecorder()
		s := open(t, a, nodeB, r)
		send(t, s, 1, "hello")
		r.next(t)
		began := time.Now()
		conn.deaf.Store(true)
		if err := r.end(t); !strings.Contains(err.Error(), "nothing came from the peer for 4s") {
			t.Errorf("broken with %v", err)
		}
		if took := time.Since(began); took > a.times.silence+a.times.heartbeat {
			t.Errorf("given up after %v", took)
		}
		synctest.Wait()
		if trunks := testutil.ToFloat64(b.metrics.Trunks); trunks != 0 {
			t.Errorf("B has %v trunks", trunks)
		}
	})
}

// TestProtocolErrors: what a peer may not send ends the trunk.
func TestProtocolErrors(t *testing.T) {
	first := appendFrame(nil, 1|opening, 1, nil)
	tests := map[string][]byte{
		"too large":            {255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1},
		"unknown control":      appendFrame(nil, controlStream, 9, nil),
		"opened twice":         append(first, first...),
		"opened and closed":    appendFrame(nil, 1|opening, closing, nil),
		"opening of no stream": appendFrame(nil, controlStream|opening, 1, nil),
	}
	for name, wire := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fleet
				var n network
				r := newRecorder()
				b := testNode(&f, nodeB, func(*Stream, byte, []byte) Receiver { return r }, nil)
				servePipe(t, &f, &n, b)
				c, err := n.dial(t.Context(), "of "+nodeB)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := introduce(c, nodeA, nodeB, []byte(secret)); err != nil {
					t.Fatal(err)
				}
				ignored := appendFrame(nil, 99, 1, []byte("of a stream that was closed meanwhile"))
				if _, err := c.Write(append(appendFrame(ignored, 2|opening, 1, nil), wire...)); err != nil {
					t.Fatal(err)
				}
				if err := r.end(t); !errors.Is(err, errProtocol) {
					t.Errorf("broken with %v", err)
				}
				synctest.Wait()
				if trunks := testutil.ToFloat64(b.metrics.Trunks); trunks != 0 {
					t.Errorf("%v trunks", trunks)
				}
			})
		})
	}
}

// TestListenerMayNotOpen: streams are opened by the node that dialled.
func TestListenerMayNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a := testNode(&f, nodeA, nil, nil)
		servePipe(t, &f, &n, a)
		l := n.listen("rude")
		f.set(nodeB, "rude")
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, err = greet(c, nodeB, []byte(secret), func() bool { return false })
			}
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, headerBytes))
			}
			if err == nil {
				_, err = c.Write(appendFrame(nil, 1|opening, 1, nil))
			}
			if err != nil {
				t.Error(err)
			}
		}()
		r := newRecorder()
		send(t, open(t, a, nodeB, r), 1, "")
		if err := r.end(t); !errors.Is(err, errProtocol) {
			t.Errorf("broken with %v", err)
		}
	})
}

// failingListener fails with one error after the other.
type failingListener struct {
	*pipeListener
	errs chan error
}

func (l failingListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.errs:
		return nil, err
	default:
		return l.pipeListener.Accept()
	}
}

// TestListenerFails: a lack of files passes, other failures are Serve's.
func TestListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		b := testNode(&f, nodeB, echo, nil)
		defer b.Close()
		l := failingListener{n.listen("x"), make(chan error, 3)}
		l.errs <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		l.errs <- &net.OpError{Op: "accept", Err: syscall.ECONNABORTED}
		l.errs <- errors.New("broken for good")
		began := time.Now()
		if err := b.Serve(l); err == nil || err.Error() != "broken for good" {
			t.Errorf("Serve: %v", err)
		}
		if took := time.Since(began); took != 15*time.Millisecond {
			t.Errorf("paused for %v", took)
		}
	})
}
