package trunk

import (
	"errors"
	"testing"

	"github.com/stellara/edge/internal/leak"
)

func TestRoundTrip(t *testing.T) {
	leak.Check(t)
	a, b := pair(t, echo)
	r := newRecorder()
	s := open(t, a, nodeB, r)
	if s.Peer() != nodeB {
		t.Errorf("peer %q", s.Peer())
	}
	send(t, s, 7, "hello")
	if m := r.next(t); m != (message{7, "hello"}) {
		t.Errorf("got %v", m)
	}
	b.Close()
	if err := r.end(t); !errors.Is(err, errPeerEnding) {
		t.Errorf("broken with %v", err)
	}
	if err := s.Send(1, nil); err != ErrClosed {
		t.Errorf("Send after the end: %v", err)
	}
}
