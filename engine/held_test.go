package engine

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
)

// A client that goes away at the moment its conn has moved ends the conn.
func TestGoneWhileMoved(t *testing.T) {
	leak.Check(t)
	s, err := New(Config{}, nil, metrics.New(prometheus.NewRegistry(), "test"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		s.hub.Close()
		s.loopback.close()
	}()
	c := &conn{srv: s, onSocket: true}
	s.conns.Add(1)
	s.hub.Attach(&c.fan, c, never)
	h := &held{srv: s}
	closed := make(chan struct{})
	h.mu.Lock()
	go func() {
		h.onClosed(nil)
		close(closed)
	}()
	time.Sleep(20 * time.Millisecond) // so that it waits for the lock, as it does while the conn becomes this node's
	h.phase = heldMoved
	h.moved.Store(c)
	h.mu.Unlock()
	<-closed
	h.feed(c)
	if c.state.Load() != connClosed || s.Conns() != 0 {
		t.Error("the conn is left without a transport")
	}
}
