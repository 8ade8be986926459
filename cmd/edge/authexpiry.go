package main

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// expiries ends sockets whose token has expired, and warns them before: one heap
// and one goroutine for all, and memory only for sockets with such a token. Its
// methods may be called from any goroutine.
type expiries struct {
	// Set when it is made, then read-only.
	terms  expiryTerms
	warn   func(s socket, expires int64)
	end    func(s socket, expires int64)
	now    func() time.Time
	gauge  prometheus.Gauge
	sooner chan struct{} // the first one is another; holds one

	mu   sync.Mutex // guards heap, and the due of every identity; taken alone
	heap dueHeap
}

// expiryTerms are AUTH_EXPIRY_WARNING and AUTH_JWT_LEEWAY in milliseconds: until
// the leeway is over a token is good everywhere.
type expiryTerms struct{ warning, leeway int64 }

// expiryAct is what becomes of a socket at some time.
type expiryAct uint8

const (
	expiryWait expiryAct = iota
	expiryWarn
	expiryEnd
)

// act says what is to be done now for a token, and when to look again. All times are
// in Unix milliseconds.
func (t expiryTerms) act(expires int64, warned bool, now int64) (act expiryAct, next int64) {
	end, warning := expires+t.leeway, expires-t.warning
	switch {
	case now >= end:
		return expiryEnd, 0
	case warned || t.warning == 0:
		return expiryWait, end
	case now >= warning:
		return expiryWarn, end
	}
	return expiryWait, warning
}

// due is one socket in the heap.
type due struct {
	socket  socket
	expires int64 // of its token, Unix ms
	at      int64 // when to look at it, Unix ms
	index   int32 // in the heap
	warned  bool
}

// maxSleep bounds the time until the clock is read again, which may be set.
const maxSleep = 30 * time.Second

func newExpiries(warning, leeway time.Duration, gauge prometheus.Gauge, now func() time.Time) *expiries {
	return &expiries{
		terms: expiryTerms{warning.Milliseconds(), leeway.Milliseconds()}, gauge: gauge, now: now,
		warn: warnOfExpiry, end: endExpired, sooner: make(chan struct{}, 1),
	}
}

// set says when the token of a connected socket expires, in Unix milliseconds; 0 is
// never. It takes the place of what was said before.
func (e *expiries) set(s socket, who *identity, expires int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(who)
	if expires == 0 {
		return
	}
	d := &due{socket: s, expires: expires}
	if act, next := e.terms.act(expires, false, e.now().UnixMilli()); act == expiryWait {
		d.at = next
	} // else at once
	who.due = d
	heap.Push(&e.heap, d)
	e.gauge.Inc()
	if d.index == 0 {
		select {
		case e.sooner <- struct{}{}:
		default:
		}
	}
}

// remove forgets a socket.
func (e *expiries) remove(who *identity) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(who)
}

// drop takes a socket out of the heap. The caller holds e.mu.
func (e *expiries) drop(who *identity) {
	if d := who.due; d != nil {
		who.due = nil
		if d.index >= 0 {
			heap.Remove(&e.heap, int(d.index))
			e.gauge.Dec()
		}
	}
}

// step does what is due, and says when to come again.
func (e *expiries) step() (next time.Duration) {
	for {
		now := e.now().UnixMilli()
		act, d, wait := e.take(now)
		switch act {
		case expiryWarn:
			e.warn(d.socket, d.expires)
		case expiryEnd:
			e.end(d.socket, d.expires)
		default:
			return wait
		}
	}
}

// take takes the first of what is due, or says how long nothing is.
func (e *expiries) take(now int64) (act expiryAct, d *due, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.heap) > 0 {
		d = e.heap[0]
		if d.at > now {
			return expiryWait, nil, min(time.Duration(d.at-now)*time.Millisecond, maxSleep)
		}
		act, d.at = e.terms.act(d.expires, d.warned, now)
		if act == expiryEnd {
			heap.Remove(&e.heap, 0)
			e.gauge.Dec()
			return act, d, 0
		}
		heap.Fix(&e.heap, 0)
		if act == expiryWarn {
			d.warned = true
			return act, d, 0
		}
	}
	return expiryWait, nil, maxSleep
}

// run does what is due when it is, until ctx ends.
func (e *expiries) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.sooner:
		}
		timer.Reset(e.step())
	}
}

// dueHeap is a heap.Interface: what is to be looked at first is first.
type dueHeap []*due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}

// Push adds a *due at the end, for heap.Push.
func (h *dueHeap) Push(x any) {
	d := x.(*due)
	d.index = int32(len(*h))
	*h = append(*h, d)
}

// Pop removes the last one, for heap.Pop.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	d.index = -1
	return d
}
