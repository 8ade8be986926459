package engine

import (
	"encoding/json"
	"time"

	"github.com/stellara/edge/metrics"
)

// moveBounds bound the steps of a move. The client's packets wait meanwhile.
type moveBounds struct {
	fence  time.Duration // of the owner, for what was to be stored before: after it they are relayed
	listen time.Duration // of the other node, for the subscriptions of the rooms: after it the move is declined
	claim  time.Duration // of the other node, for all that follows: after it the conn is closed, and its client recovers
	offer  time.Duration // of the owner, from the offer to the cut: the same. The other node decides sooner
}

var usualMoveBounds = moveBounds{fence: time.Second, listen: 2 * time.Second, claim: 5 * time.Second, offer: 10 * time.Second}

const (
	// A conn that cannot move now is asked again: soon at first, because what is under
	// way after CONNECT is a join most of the time.
	firstRetry = 10 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// movable reports whether the conn could move now, as far as its sockets are concerned.
func (c *conn) movable() bool {
	if c.srv.recovery == nil || c.state.Load() != connOpen {
		return false
	}
	for _, s := range c.all() {
		if !s.quiet() {
			return false
		}
	}
	return true
}

// all is a copy of the conn's sockets.
func (c *conn) all() []*Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Socket(nil), c.sockets...)
}

// move offers the conn to the node that holds its WebSocket, or lets it stay for
// now. The client's bytes are kept there; it is called by the goroutine that reads.
func (a *away) move() {
	c := a.c
	sockets := c.all()
	for _, s := range sockets { // from here on what changes them waits
		s.mu.Lock()
		if s.session != nil {
			s.session.onTravel().departure = &departure{}
		}
		s.mu.Unlock()
	}
	a.mu.Lock()
	if a.phase != awayFreezing {
		a.mu.Unlock()
		for _, s := range sockets {
			s.resume()
		}
		return
	}
	a.phase, a.leaving, a.uncut = awayFencing, sockets, len(sockets)
	a.tries++
	try := a.tries
	a.mu.Unlock()
	if !c.whole() || !c.movable() || len(sockets) != len(c.all()) {
		a.stay(try)
		return
	}
	a.mu.Lock()
	a.stopTimer()
	a.timer = time.AfterFunc(c.srv.bounds.fence, func() { a.stay(try) })
	a.mu.Unlock()
	c.srv.recovery.Fence(func(err error) { // what was called before must not come after the move
		if err != nil {
			a.stay(try)
			return
		}
		a.offer(try, sockets)
	})
}

// offer sends the offer. A conn without sockets is the other node's at once.
func (a *away) offer(try int, sockets []*Socket) {
	a.mu.Lock()
	if a.phase != awayFencing || a.tries != try {
		a.mu.Unlock()
		return
	}
	a.phase = awayOffered
	a.stopTimer()
	a.timer = time.AfterFunc(a.c.srv.bounds.offer, func() { a.finish(errMoveLate) })
	a.mu.Unlock()
	h := a.c.handshake
	d := h.details()
	o := offer{
		Handshake: offeredHandshake{Header: d.header, Time: h.time, Address: h.address(), Path: d.path, Query: d.query, XDomain: h.xdomain, Secure: h.secure},
		Owner:     a.c.srv.recovery.Owner(),
	}
	for _, s := range sockets {
		o.Sockets = append(o.Sockets, s.offered())
	}
	text, err := json.Marshal(&o)
	if err != nil || a.st.Send(msgOffer, text) != nil {
		a.finish(errPeerLost)
		return
	}
	if len(sockets) == 0 {
		a.release()
	}
}

// stay calls a move off that was not offered.
func (a *away) stay(try int) {
	a.mu.Lock()
	off := a.phase == awayFencing && a.tries == try
	a.mu.Unlock()
	if off {
		a.c.srv.m.Moves[metrics.MovePostponed].Inc()
		a.relay(awayFencing)
	}
}

// relay has the conn's bytes relayed instead of the move that is in a phase; it is
// tried again later.
func (a *away) relay(instead awayPhase) {
	a.mu.Lock()
	if a.phase != instead {
		a.mu.Unlock()
		return
	}
	sockets := a.leaving
	a.phase, a.leaving = awayRelaying, nil
	a.stopTimer()
	a.mu.Unlock()
	for _, s := range sockets {
		s.resume()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayRelaying { // the conn ended
		return
	}
	a.tell(msgRelay, nil)
	if a.c.srv.recovery != nil { // not before: msgFreeze must not come first
		a.timer = time.AfterFunc(retryAfter(a.tries), a.again)
	}
}

// declined takes the other node's word that it does not take the conn. Where
// sessions may have moved, the conn ends, and its client comes back.
func (a *away) declined(moved bool) {
	switch {
	case moved:
		a.c.close(metrics.CloseReplaced, noCode)
	case a.is(awayCut): // a conn without sockets, which was given away unasked
		a.finish(errMoveUncertain)
	default:
		a.relay(awayOffered)
	}
}

// retryAfter is how long to wait after so many tries.
func retryAfter(tries int) time.Duration {
	return min(firstRetry<<min(tries-1, 15), lastRetry)
}

// again begins another move if nothing seems to be in its way.
func (a *away) again() {
	ready := a.c.movable()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayRelaying {
		return
	}
	if !ready {
		a.tries++
		a.timer = time.AfterFunc(retryAfter(a.tries), a.again)
		return
	}
	a.phase = awayFreezing
	a.timer = time.AfterFunc(a.c.srv.bounds.offer, func() {
		if a.is(awayFreezing) {
			a.finish(errMoveLate)
		}
	})
	a.tell(msgFreeze, nil)
}
