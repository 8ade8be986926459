package trunk

import (
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stellara/edge/internal/leak"
)

// TestClose: what was sent before arrives, at the peer all streams end, and
// nothing works afterwards.
func TestClose(t *testing.T) {
	leak.Check(t)
	theirs := &sizes{make(chan int, 1000)}
	a, b := pair(t, func(_ *Stream, kind byte, payload []byte) Receiver {
		theirs.Receive(kind, payload)
		return theirs
	})
	ours := newRecorder()
	s := open(t, a, nodeB, ours)
	payload := make([]byte, 100_000)
	for range 200 {
		if err := s.Send(1, payload); err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	a.Close()
	if err := ours.end(t); !errors.Is(err, errEnding) {
		t.Errorf("broken with %v", err)
	}
	for i := range 200 {
		if n := <-theirs.got; n != len(payload) {
			t.Fatalf("message %d has %d bytes", i, n)
		}
	}
	if n := <-theirs.got; n != -1 {
		t.Error("more than was sent")
	}
	if err := s.Send(1, nil); err != ErrClosed {
		t.Errorf("Send: %v", err)
	}
	s.Close()
	if _, err := a.Open(t.Context(), nodeB, newRecorder()); err != ErrClosed {
		t.Errorf("Open: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Serve(l); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := b.Open(t.Context(), nodeA, newRecorder()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Open of a node that ended: %v", err)
	}
}

// TestCloseBothNodes: nodes that end at the same time do not wait for each other.
func TestCloseBothNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pairInBubble(t, echo)
		r := newRecorder()
		open(t, a, nodeB, r)
		began := time.Now()
		var both sync.WaitGroup
		both.Go(a.Close)
		both.Go(b.Close)
		both.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		if len(r.broken) != 1 {
			t.Errorf("%d calls of Broken", len(r.broken))
		}
	})
}

// TestCloseWithDeafPeer: a peer that takes nothing does not hold up the end.
func TestCloseWithDeafPeer(t *testing.T) {
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
		}()
		r := newRecorder()
		send(t, open(t, a, nodeB, r), 1, "to nobody")
		began := time.Now()
		a.Close()
		if took := time.Since(began); took != a.times.linger {
			t.Errorf("took %v", took)
		}
		r.end(t)
	})
}

// TestCloseWhileDialling: a dial under way does not hold up the end.
func TestCloseWhileDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a := testNode(&f, nodeA, nil, nil)
		servePipe(t, &f, &n, a)
		l := n.listen("silent")
		f.set(nodeB, "silent")
		go func() { _, _ = l.Accept() }()
		failed := make(chan error, 1)
		go func() {
			_, err := a.Open(t.Context(), nodeB, newRecorder())
			failed <- err
		}()
		synctest.Wait()
		began := time.Now()
		a.Close()
		if err := <-failed; !errors.Is(err, ErrUnreachable) {
			t.Errorf("Open: %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

// sizes is a receiver that tells how large messages are, -1 at the end.
type sizes struct{ got chan int }

func (s *sizes) Receive(_ byte, payload []byte) {
	select {
	case s.got <- len(payload):
	default:
	}
}
func (s *sizes) Broken(error) {
	select {
	case s.got <- -1:
	default:
	}
}
