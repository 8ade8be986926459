package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

// Drain refuses new conns from now on, and closes those that are open one after the
// other, evenly spread over the window, without a DISCONNECT packet: their clients
// come back by themselves, with recovery to another node, and not all at once. It
// returns nil when all are gone; when ctx ends first, the error says how many are left,
// which stay open. There is no way back; Shutdown ends the rest, and must not be
// called before Drain has returned.
func (s *Server) Drain(ctx context.Context, window time.Duration) error {
	s.draining.Store(true)
	leaving, err := s.leaving(ctx)
	if err == nil {
		rand.Shuffle(len(leaving), func(i, k int) { leaving[i], leaving[k] = leaving[k], leaving[i] })
		stop, ended := s.untilEmpty(ctx)
		spread(stop.Done(), len(leaving), window, func(i int) { leaving[i].sendAway() })
		ended()
		if err = ctx.Err(); err == nil {
			err = s.clear(ctx, metrics.CloseDrain) // handshakes and moves were under way when it began
		}
	}
	if err != nil {
		return fmt.Errorf("engine: drain: %d conns are left: %w", s.conns.Load(), err)
	}
	return nil
}

// leaver is what has a place among the conns: a conn, or a WebSocket of another node's.
type leaver interface{ sendAway() }

func (c *conn) sendAway() { c.close(metrics.CloseDrain, websocket.CodeGoingAway) }

func (h *held) sendAway() {
	h.write(websocket.AppendClose(nil, websocket.CodeGoingAway, ""))
	h.end(nil)
}

// leaving is everything that has a place among the conns.
func (s *Server) leaving(ctx context.Context) ([]leaver, error) {
	var mu sync.Mutex // several shards
	var all []leaver
	seen := make(chan struct{})
	s.hub.VisitConns(func(sink fanout.Sink) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, sink.(*conn))
	}, func() { close(seen) })
	select {
	case <-seen:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for _, h := range s.holds.all() {
		all = append(all, h)
	}
	return all, nil
}

// untilEmpty is a context that ends with ctx, when there are no conns, or by ended.
func (s *Server) untilEmpty(ctx context.Context) (until context.Context, ended func()) {
	until, ended = context.WithCancel(ctx)
	go func() {
		defer ended()
		for s.conns.Load() > 0 {
			select {
			case <-s.empty:
			case <-until.Done():
				return
			}
		}
	}()
	return until, ended
}

// clearStep is how often clear looks for conns that opened meanwhile.
const clearStep = 100 * time.Millisecond

// clear closes all conns until none is left or ctx ends, whose error it returns.
func (s *Server) clear(ctx context.Context, reason metrics.Close) error {
	again := time.NewTicker(clearStep)
	defer again.Stop()
	for s.conns.Load() > 0 {
		s.hub.VisitConns(func(sink fanout.Sink) { sink.(*conn).close(reason, websocket.CodeGoingAway) }, nil)
		for _, h := range s.holds.all() {
			h.sendAway()
		}
		select {
		case <-s.empty:
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// spreadStep is the shortest wait of spread: what is due within it is done at once.
const spreadStep = 10 * time.Millisecond

// spread calls do for 0 to n-1, spread over a window, until stop is closed.
func spread(stop <-chan struct{}, n int, window time.Duration, do func(i int)) {
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range n {
		if wait := dueAfter(i, n, window, rand.Float64()) - time.Since(began); wait > 0 {
			timer.Reset(max(wait, spreadStep))
			select {
			case <-timer.C:
			case <-stop:
				return
			}
		}
		do(i)
	}
}

// dueAfter is how long after the beginning of a window number i of n is due: each has
// a share of the window, and its own place in that, which chance, from 0 to 1, says.
// So they are even, and yet keep no time with another node that does the same.
func dueAfter(i, n int, window time.Duration, chance float64) time.Duration {
	return time.Duration((float64(i) + chance) / float64(n) * float64(window))
}
