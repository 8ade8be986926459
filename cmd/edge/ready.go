package main

import (
	"context"
	"encoding/json"
	"errors"
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
	keys     func() error // nil when there are keys to verify tokens with; nil with AUTH=none
	draining atomic.Bool  // set once, by shutdown
}

var errDraining = errors.New("the node is shutting down")

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
	return r.state()
}

// serve answers /readyz: 200 {"ready":true}, or 503 {"ready":false,"missing":"..."}.
func (r *readiness) serve(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Ready   bool   `json:"ready"`
		Missing string `json:"missing,omitempty"`
	}{Ready: true}
	status := http.StatusOK
	if err := r.err(); err != nil {
		answer.Ready, answer.Missing, status = false, missing(err), http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// readyPoll is the time between looks at the state. Well below the 4 s after which a lost Redis must show.
const readyPoll = 200 * time.Millisecond

// watch keeps the gauge current and logs each change once, until ctx ends.
func (r *readiness) watch(ctx context.Context, gauge prometheus.Gauge, log *slog.Logger) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	was := false
	for {
		was = r.look(was, gauge, log)
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
	if was && !errors.Is(err, errDraining) { // shutdown logs its own line
		log.Warn("not ready", "missing", missing(err))
	}
	return false
}

// missing is the text of err for operators, without the name of the package that found out.
func missing(err error) string { return strings.TrimPrefix(err.Error(), "state: ") }
