package main

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
)

// entrance bounds the clients' connections that are no conns: those whose request is
// being waited for, each with the buffers and the goroutine of net/http, and those that
// are idle between two requests. Who comes beyond the first bound is accepted and waits
// for a place, which costs a descriptor and less than 1 KB; what a storm needs
// at its peak so hardly grows with the storm. Safe for concurrent use.
type entrance struct {
	most  int        // whose request is awaited; half as many may be idle
	spare func() int // how many descriptors are free for conns: as many may wait
	m     *metrics.Metrics
	log   *slog.Logger

	changed chan struct{} // holds a token when somebody came, or a place became free
	taken   chan struct{} // holds a token when somebody waits no longer
	closed  chan struct{} // the listener was closed

	mu      sync.Mutex // guards the fields below; a leaf
	waiting []arrival  // accepted, in order
	pending *pending
	idle    map[net.Conn]struct{}
	glance  glance
}

func newEntrance(most int, spare func() int, m *metrics.Metrics, log *slog.Logger) *entrance {
	return &entrance{
		most: most, spare: spare, m: m, log: log,
		changed: make(chan struct{}, 1), taken: make(chan struct{}, 1), closed: make(chan struct{}),
		pending: newPending(most), idle: map[net.Conn]struct{}{},
	}
}

// raise leaves a token, unless there is one.
func raise(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// watch is the http.Server's ConnState: a connection counts as pending until its
// first request has been read, whatever that waits for then.
func (e *entrance) watch(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		return // counted when it was accepted
	}
	e.mu.Lock()
	was := e.pending.remove(c)
	if state == http.StateIdle {
		e.idle[c] = struct{}{}
	} else {
		delete(e.idle, c)
	}
	e.mu.Unlock()
	if was {
		e.m.Pending.Dec()
		raise(e.changed)
	}
}

// handler ends connections with their answer instead of keeping them for another
// request while too many are kept already. The client is told so, and no request is lost.
func (e *entrance) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		crowded := len(e.idle) >= max(1, e.most/2)
		e.mu.Unlock()
		if crowded {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// next returns the connection whose turn it is, and one that is to be closed because it
// was silent for too long, in its place or before it had one; each nil if there is none.
// If there is neither, ask again when something changed, or wait is over, unless it is 0.
func (e *entrance) next(now time.Time) (c, victim net.Conn, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) == 0 {
		return nil, nil, 0
	}
	if victim, wait = e.pending.room(now); wait > 0 {
		if c = e.spoken(now); c != nil {
			return c, nil, 0
		}
		wait = min(wait, lookEvery)
		// Those that wait must not be silent for longer than those that have a place:
		// few silent ones per second would make all others wait for minutes.
		silent, more := e.pending.silent(e.waiting[0], now)
		switch {
		case silent:
			return nil, e.first().conn, 0
		case more > 0:
			wait = min(wait, more)
		}
		return nil, nil, wait
	}
	a := e.first()
	e.pending.add(a, now)
	return a.conn, victim, 0
}

// first takes the first of those that wait, with mu held.
func (e *entrance) first() arrival {
	a := e.waiting[0]
	e.waiting[0] = arrival{}
	if e.waiting = e.waiting[1:]; len(e.waiting) == 0 {
		e.waiting = nil // what a storm needed is not kept
	}
	return a
}

// listener gives out the connections that l accepts when it is their turn. To be called once.
func (e *entrance) listener(l net.Listener) net.Listener {
	b := &boundListener{Listener: l, entrance: e, ended: make(chan struct{})}
	go b.accept()
	return b
}

// boundListener is a listener behind an entrance.
type boundListener struct {
	net.Listener
	*entrance
	once  sync.Once
	ended chan struct{} // closed when accept has ended
}

// Accept waits for a connection, and for a place for it. The only error is net.ErrClosed.
func (l *boundListener) Accept() (net.Conn, error) {
	for waited := false; ; {
		c, victim, wait := l.next(time.Now())
		if victim != nil {
			l.m.Pending.Dec()
			l.m.Refusals[metrics.RefusalNoRequest].Inc()
			_ = victim.Close()
		}
		if c != nil || victim != nil {
			raise(l.taken)
		}
		if c != nil {
			return c, nil
		}
		if victim != nil {
			continue
		}
		if wait > 0 && !waited {
			waited = true
			l.m.PendingFull.Inc()
		}
		if !l.awaitChange(wait) {
			return nil, net.ErrClosed
		}
	}
}

// awaitChange returns true when something changed or limit, unless it is 0, is over; false
// when the listener was closed.
func (l *boundListener) awaitChange(limit time.Duration) bool {
	var over <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-l.changed:
	case <-over:
	case <-l.closed:
		return false
	}
	return true
}

// Close closes the listener, and the connections that wait.
func (l *boundListener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
		<-l.ended
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, a := range l.waiting {
			l.m.Pending.Dec()
			_ = a.conn.Close()
		}
		l.waiting = nil
	})
	return err
}

// Pauses after an error, for want of descriptors as a rule: they grow from the first to
// the last. Logged is one error in a while.
const (
	firstPause, lastPause = 5 * time.Millisecond, time.Second
	failureLogged         = time.Minute
)

// accept takes connections from the kernel until the listener is closed.
func (l *boundListener) accept() {
	defer close(l.ended)
	var logged time.Time
	pause := firstPause
	for l.mayWait() {
		c, err := l.Listener.Accept()
		if err == nil {
			pause = firstPause
			l.came(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		l.m.AcceptErrors.Inc()
		if now := time.Now(); now.Sub(logged) >= failureLogged {
			logged = now
			l.log.Error("clients cannot be accepted", "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// came puts a connection behind those that wait.
func (l *boundListener) came(c net.Conn) {
	l.m.Pending.Inc()
	l.mu.Lock()
	l.waiting = append(l.waiting, arrival{conn: c, at: time.Now()})
	l.mu.Unlock()
	raise(l.changed)
}

// fewWaiting is how many wait on a full node.
const fewWaiting = 64

// mayWait returns true when one more may wait, false when the listener was closed. As
// many may as there are descriptors for conns, or they were more than the kernel has
// room for; on a full node a few, who are told that it is: all that are no conns must
// fit into the descriptors that MAX_CONNS leaves, or Redis could not be dialled either.
func (l *boundListener) mayWait() bool {
	for {
		l.mu.Lock()
		n := len(l.waiting)
		l.mu.Unlock()
		if n < min(l.most, fewWaiting) || n < l.spare() {
			return true
		}
		select {
		case <-l.taken:
		case <-l.closed:
			return false
		}
	}
}
