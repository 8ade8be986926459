package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// readiness decides whether load balancers should send clients here. Its
// methods may be called from any goroutine.
type readiness struct {
	state    func() error // nil when Redis answers and the subscriptions are live
	capacity *capacity    // nil: no limit
	keys     func() error // nil when there are keys to verify tokens with; nil with AUTH=none
	peers    bool         // other nodes pass on what concerns this node's sessions
	draining atomic.Bool  // set once, by drain or by shutdown
}

var errDraining = errors.New("the node is being drained")

// err is nil when the node takes traffic, else what is missing.
func (r *readiness) err() error {
	if r.draining.Load() {
		return errDraining
	}
	if r.keys != nil {
		if err := r.keys(); err != nil {
			return err
		}
	}
	if err := r.state(); err != nil {
		return err
	}
	return r.capacity.err()
}

// capacity says whether there is room for more conns. Safe for concurrent use.
type capacity struct {
	most  int
	conns func() int
	full  atomic.Bool
}

// err is nil while there is room.
func (c *capacity) err() error {
	if c == nil {
		return nil
	}
	n := c.conns()
	full := isFull(c.full.Load(), n, c.most)
	c.full.Store(full)
	if !full {
		return nil
	}
	return fmt.Errorf("room for more connections: %d are open, the limit MAX_CONNS is %d, and there is room again at %d", n, c.most, c.most-margin(c.most))
}

// margin is how many of its conns a node that was full must lose before it takes new
// ones: it would otherwise be ready for a moment with every client that leaves.
func margin(most int) int { return max(1, most/20) }

// isFull reports whether a node with n of most conns, which was full or was not, is.
func isFull(was bool, n, most int) bool {
	if was {
		return n > most-margin(most)
	}
	return n >= most
}

// sessionsErr is nil when balancers should send requests of open sessions here, as
// they should while Redis is away. A node that is being drained wants none, so that
// nobody has one under way here when its listener closes; other nodes pass them on.
func (r *readiness) sessionsErr() error {
	if r.draining.Load() && r.peers {
		return errDraining
	}
	return nil
}

// serve answers /readyz: 200 {"ready":true}, or 503 {"ready":false,"missing":"..."}.
func (r *readiness) serve(w http.ResponseWriter, _ *http.Request) { answerReady(w, r.err()) }

// serveSessions answers /readyz/sessions likewise.
func (r *readiness) serveSessions(w http.ResponseWriter, _ *http.Request) {
	answerReady(w, r.sessionsErr())
}

func answerReady(w http.ResponseWriter, err error) {
	answer := struct {
		Ready   bool   `json:"ready"`
		Missing string `json:"missing,omitempty"`
	}{Ready: true}
	status := http.StatusOK
	if err != nil {
		answer.Ready, answer.Missing, status = false, missing(err), http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// readyPoll is the time between looks at the state. Well below the 4 s after which a lost Redis must show.
const readyPoll = 200 * time.Millisecond

// watch keeps the gauges current and logs each change once, until ctx ends.
func (r *readiness) watch(ctx context.Context, gauge, draining prometheus.Gauge, log *slog.Logger) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	was := false
	for {
		was = r.look(was, gauge, log)
		if r.draining.Load() {
			draining.Set(1)
		}
		select {
		case <-ctx.Done():
			gauge.Set(0)
			return
		case <-tick.C:
		}
	}
}

// look compares the present readiness with the one before, reports a change, and returns it.
func (r *readiness) look(was bool, gauge prometheus.Gauge, log *slog.Logger) bool {
	err := r.err()
	if err == nil {
		gauge.Set(1)
		if !was {
			log.Info("ready")
		}
		return true
	}
	gauge.Set(0)
	if was && !errors.Is(err, errDraining) { // the drain logs its own line
		log.Warn("not ready", "missing", missing(err))
	}
	return false
}

// missing is the text of err for operators, without the name of the package that found out.
func missing(err error) string { return strings.TrimPrefix(err.Error(), "state: ") }
