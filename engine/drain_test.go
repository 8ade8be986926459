package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// draining drains in the background; the result is that of Drain.
func (s *server) draining(window time.Duration) chan error {
	ended := make(chan error, 1)
	go func() { ended <- s.Drain(context.Background(), window) }()
	return ended
}

// sentAway checks that the server closes the conn, and leaves.
func sentAway(t *testing.T, c *wire.Client) {
	t.Helper()
	if f, err := c.Next(); err != nil || f.String() != "close 1001" {
		t.Errorf("the client read %v, %v", f, err)
	}
	_ = c.Conn.Close()
}

// TestDrain: everybody is sent away without a DISCONNECT, whatever the transport, and nobody is let in.
func TestDrain(t *testing.T) {
	reasons := make(chan string, 3)
	s := newServer(t, engine.Config{}, func(s *engine.Server) {
		echo(s)
		s.Of("/").OnDisconnect(func(_ *engine.Socket, r string) { reasons <- r })
	})
	first, _ := s.join()
	second, _ := s.join()
	polling := s.pollJoined()
	parked := polling.park()
	polling.post(`420["echo"]`) // the GET was taken, or the answer waits for it
	if got := <-parked; got != "200 430[]" {
		t.Fatalf("GET: %s", got)
	}
	parked = polling.park()
	ended := s.draining(50 * time.Millisecond)
	sentAway(t, first)
	sentAway(t, second)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// The GET may have come after its session was closed.
	if got := <-parked; got != "200 1" && !strings.HasPrefix(got, "400 ") {
		t.Errorf("the poll was answered %s", got)
	}
	for range 3 {
		if r := <-reasons; r != engine.ReasonServerShuttingDown {
			t.Errorf("reason %q", r)
		}
	}
	if n := counter(s.m.Closes[metrics.CloseDrain]); n != 3 || s.Conns() != 0 {
		t.Errorf("%v closed, %d left", n, s.Conns())
	}
	s.expectOpening("127.0.0.1", "websocket", 503, metrics.RefusalShutdown)
	s.expectOpening("127.0.0.1", "polling", 503, metrics.RefusalShutdown)
}

// TestDrainInterrupted: whose turn has not come is served as before.
func TestDrainInterrupted(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	c, _ := s.join()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Drain(ctx, 1000*time.Hour) }()
	eventually(t, "new conns to be refused", func() bool { return s.opening("127.0.0.1", "polling").StatusCode == 503 })
	c.Text(`420["echo","still here"]`)
	c.Expect(`430["still here"]`)
	cancel()
	// One that asked before it was refused has a session, too.
	if err, left := <-ended, fmt.Sprintf("%d conns are left", s.Conns()); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), left) {
		t.Errorf("drain: %v, want %s", err, left)
	}
	c.Text(`421["echo"]`)
	c.Expect(`431[]`)
	ended = s.draining(0) // a second one hurries
	sentAway(t, c)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDrainHeldWebSockets: the WebSockets of other nodes' conns have their turn as well.
func TestDrainHeldWebSockets(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	ws := p.upgrade(p.session())
	ws.Text(`420["echo"]`)
	ws.Expect("430[]")
	ended := p.other.draining(50 * time.Millisecond)
	sentAway(t, ws)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the owner to end the conn", func() bool { return p.owner.Conns() == 0 })
}

// TestDrainOfTheOwner: a client whose WebSocket is on another node is told there.
func TestDrainOfTheOwner(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	ws := p.upgrade(p.session())
	ws.Text(`420["echo"]`)
	ws.Expect("430[]")
	ended := p.owner.draining(50 * time.Millisecond)
	sentAway(t, ws)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node to let go", func() bool { return p.other.Conns() == 0 })
}

// TestMaxConnAge: an old conn is closed so that its client comes back, on WebSocket and polling.
func TestMaxConnAge(t *testing.T) {
	cfg := engine.Config{PingTimeout: 100 * time.Millisecond, PingInterval: 10 * time.Second, MaxConnAge: 200 * time.Millisecond}
	s := newServer(t, cfg, func(srv *engine.Server) {
		srv.Of("/", engine.Inline()) // joined as soon as asked
		echo(srv)
	})
	c := wire.Dial(t, s.addr, query, nil, "40") // not later: it may be too old
	parked := s.poll().park()
	c.Receive() // open
	if r := c.Receive(); !strings.HasPrefix(r, "40{") {
		t.Errorf("CONNECT reply: %q", r)
	}
	sentAway(t, c)
	// The GET may have come after its session was closed.
	if got := <-parked; got != "200 1" && !strings.HasPrefix(got, "400 ") {
		t.Errorf("the poll was answered %s", got)
	}
	eventually(t, "both to be gone", func() bool { return s.Conns() == 0 })
	counts(t, s.m.Closes[metrics.CloseMaxAge], 2)
	s.dial() // a client comes back
}

// TestDrainEndsEarly: nobody is waited for who has left by itself.
func TestDrainEndsEarly(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	c, _ := s.join()
	ended := s.draining(1000 * time.Hour)
	eventually(t, "new conns to be refused", func() bool { // one that asks before has left when that is told
		resp, _ := exchange(t, s.addr, "GET", query, upgradeHeaders)
		return resp.StatusCode == 503
	})
	_ = c.Conn.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := counter(s.m.Closes[metrics.CloseDrain]); n != 0 {
		t.Errorf("%v conns sent away", n)
	}
}
