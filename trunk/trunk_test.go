package trunk

import (
	"errors"
	"testing"

	"github.com/stellara/edge/internal/leak"
)

func TestRoundTrip(t *testing.T) {
	leak.Check(t)
	var f fleet
	a, b := testNode(&f, "node-A..", nil, nil), testNode(&f, "node-B..", echo, nil)
	serveTCP(t, &f, a)
	serveTCP(t, &f, b)
	r := newRecorder()
	s := open(t, a, "node-B..", r)
	if s.Peer() != "node-B.." {
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
