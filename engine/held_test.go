package engine

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
)

// newUnstarted is a server without an event loop, closed when the test ends.
func newUnstarted(t *testing.T) *Server {
	t.Helper()
	leak.Check(t)
	s, err := New(Config{}, nil, metrics.New(prometheus.NewRegistry(), "test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.hub.Close()
		s.loopback.close()
	})
	return s
}

// closing is a stream that counts how often it is closed.
type closing struct{ times int }

func (*closing) Send(byte, []byte) error { return nil }
func (s *closing) Close()                { s.times++ }

// A conn that is given up while a WebSocket takes it over closes that.
func TestAbortedWhileTakenOver(t *testing.T) {
	s := newUnstarted(t)
	c := &conn{srv: s, handshake: &handshake{}}
	c.poll = &polling{c: c}
	s.conns.Add(1)
	s.sessions.m[c.poll.sid] = c
	s.hub.Attach(&c.fan, c, never)
	st := &closing{}
	if s.serveUpgrade(st, c) == nil {
		t.Fatal("no candidate")
	}
	a := c.poll.candidate.away
	c.mark(markAborted) // as abort does, which then finds no transport
	a.take()
	if st.times != 1 || s.Conns() != 0 {
		t.Errorf("closed %d times, %d conns", st.times, s.Conns())
	}
}

// A client that goes away at the moment its conn has moved ends the conn.
func TestGoneWhileMoved(t *testing.T) {
	s := newUnstarted(t)
	c := &conn{srv: s, handshake: &handshake{}, onSocket: true}
	s.conns.Add(1)
	s.hub.Attach(&c.fan, c, never)
	h := &held{seat: &seat{}, srv: s}
	h.phase = heldMoved // the conn has just become this node's, and has not read what was kept
	h.moved.Store(c)
	h.onClosed(nil)
	if c.state.Load() != connOpen {
		t.Error("the conn ended before what came first was read")
	}
	h.feed(c)
	if c.state.Load() != connClosed || s.Conns() != 0 {
		t.Error("the conn is left without a transport")
	}
}
