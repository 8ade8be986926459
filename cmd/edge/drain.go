package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// drain is a node's way out of service: it is not ready any more, and goes on as before
// for DRAIN_DELAY, in which balancers notice; then its conns leave, spread over
// DRAIN_WINDOW; then it ends, or stays without clients. There is no way back. Its
// methods may be called from any goroutine.
type drain struct {
	// Set once, read-only.
	delay, window, grace time.Duration
	ready                *readiness
	log                  *slog.Logger

	begun, exiting, hurried chan struct{} // closed when it is so

	mu    sync.Mutex // guards the fields below; a leaf
	phase drainPhase
	began time.Time // zero before
	exits bool      // exiting is closed
}

// drainPhase is how far a drain is. The names are those of the state that operators are shown.
type drainPhase string

const (
	phaseServing  drainPhase = "serving"
	phaseDelaying drainPhase = "delaying" // not ready; everything else goes on
	phaseClosing  drainPhase = "closing"  // conns are closed, and no new ones taken
	phaseDrained  drainPhase = "drained"  // no conns are left, and the node stays
	phaseStopping drainPhase = "stopping" // what is left is flushed, and the process ends
)

func newDrain(cfg *Config, ready *readiness, log *slog.Logger) *drain {
	return &drain{
		delay: cfg.DrainDelay, window: cfg.DrainWindow, grace: cfg.ShutdownGrace, ready: ready, log: log,
		begun: make(chan struct{}), exiting: make(chan struct{}), hurried: make(chan struct{}), phase: phaseServing,
	}
}

// begin starts the drain, unless it goes on already. With exit the process ends after
// it; a later call may still say so, and none takes it back. cause is for the log.
func (d *drain) begin(exit bool, cause string) {
	d.mu.Lock()
	first, ends := d.phase == phaseServing, exit && !d.exits
	if first {
		d.phase, d.began = phaseDelaying, time.Now()
		d.ready.draining.Store(true)
		close(d.begun)
	}
	if ends {
		d.exits = true
		close(d.exiting)
	}
	d.mu.Unlock()
	switch {
	case first:
		d.log.Info("draining", "cause", cause, "delay", d.delay.String(), "window", d.window.String(), "exit", exit)
	case ends:
		d.log.Info("stopping after the drain", "cause", cause)
	}
}

// hurry starts the drain, or has the one under way skip what is left of its delay and its window.
func (d *drain) hurry(cause string) {
	d.begin(true, cause)
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.hurried:
	default:
		close(d.hurried)
	}
}

func (d *drain) enter(p drainPhase) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase = p
}

// drainState is a drain as operators see it.
type drainState struct {
	Phase  drainPhase `json:"phase"`
	Exit   bool       `json:"exit"`            // the process ends after it
	Began  *time.Time `json:"began,omitempty"` // absent before
	Conns  int        `json:"conns"`           // that are open
	Delay  float64    `json:"delay_seconds"`
	Window float64    `json:"window_seconds"`
	Grace  float64    `json:"grace_seconds"`
}

func (d *drain) state(conns int) drainState {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := drainState{
		Phase: d.phase, Exit: d.exits, Conns: conns,
		Delay: d.delay.Seconds(), Window: d.window.Seconds(), Grace: d.grace.Seconds(),
	}
	if !d.began.IsZero() {
		began := d.began.UTC()
		s.Began = &began
	}
	if s.Phase == phaseClosing && conns == 0 {
		s.Phase = phaseDrained
	}
	return s
}

// handler answers POST, which begins the drain and ends the process after it unless
// exit=false says that it stays, with 202, and GET with 200; both with the state.
func (d *drain) handler(conns func() int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodPost:
			exit, err := exitWanted(r.URL.Query().Get("exit"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			d.begin(exit, "POST "+r.URL.Path)
			status = http.StatusAccepted
		default:
			w.Header().Set("Allow", "GET, HEAD, POST")
			http.Error(w, "GET shows the drain, POST begins it", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(d.state(conns()))
	})
}

// exitWanted reads the query parameter exit.
func exitWanted(v string) (bool, error) {
	if v == "" {
		return true, nil
	}
	exit, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("exit=%q is neither true nor false", v)
	}
	return exit, nil
}

// farewell ends connections with their answer once the node is being drained, so that
// none is idle, and perhaps about to be used, when the listener closes.
func farewell(ready *readiness, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ready.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// leave returns when the node is to stop: after its drain, or at once when ctx ends, a
// part has failed, which is the error, or somebody is in a hurry.
func (n *node) leave(ctx context.Context, failed <-chan error) error {
	d := n.drain
	wait := func(c <-chan struct{}, limit <-chan time.Time) (goOn bool, err error) {
		select {
		case <-c:
		case <-limit:
		case <-d.hurried:
			return false, nil
		case <-ctx.Done():
			return false, nil
		case err := <-failed:
			return false, err
		}
		return true, nil
	}
	if goOn, err := wait(d.begun, nil); !goOn {
		return err
	}
	if goOn, err := wait(nil, time.After(d.delay)); !goOn {
		return err
	}
	d.enter(phaseClosing)
	n.log.Info("closing conns", "conns", n.engine.Conns())
	ctx, stop := context.WithCancel(ctx)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_ = n.engine.Drain(ctx, d.window) // who is left is sent away by the shutdown
	}()
	defer func() {
		stop()
		<-drained
	}()
	if goOn, err := wait(drained, time.After(d.window)); !goOn {
		return err
	}
	_, err := wait(d.exiting, nil)
	return err
}
