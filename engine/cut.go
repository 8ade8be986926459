package engine

import (
	"encoding/json"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Cut says that a socket moved between two nodes, as its generation-th owner: at
// this place in the order of deliveries it leaves the one and is at the other. at is
// where the namespace's journal was; it is zero on a node that has not delivered
// everything before it. It must be called in order with Deliver.
func (s *Server) Cut(ns, sid string, generation uint64, at socketio.Offset) {
	n := s.namespace(ns)
	if n == nil || s.recovery == nil {
		return
	}
	s.order.run(func() {
		if v := s.arrivals.get(sid); v != nil && v.generation == generation {
			v.cut(at)
			return
		}
		so := s.sockets.get(sid, n)
		if so == nil || so.ref().Generation+1 != generation {
			return
		}
		if so.conn.poll == nil || so.conn.poll.away == nil || !so.conn.poll.away.cut(so, at) {
			so.conn.close(metrics.CloseReplaced, noCode) // it is another node's, and this one has given it up
		}
	})
}

// cut is Cut on the node that gives the socket away; false if it does not offer it.
func (a *away) cut(s *Socket, at socketio.Offset) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayOffered {
		return false
	}
	if at.IsZero() { // what came before may be missing
		go a.finish(errMoveUncertain)
		return true
	}
	s.mu.Lock()
	if s.state != socketConnected {
		s.mu.Unlock()
		return false
	}
	s.state = socketMoved
	s.mu.Unlock()
	srv := a.c.srv
	srv.sockets.remove(s)
	srv.hub.CloseMember(&s.member)
	if a.uncut--; a.uncut == 0 {
		a.releaseLocked()
	}
	return true
}

// release makes the conn the other node's: what is queued for it is sent, and
// then the stream's msgEnd.
func (a *away) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == awayOffered {
		a.releaseLocked()
	}
}

func (a *away) releaseLocked() {
	if !a.c.state.CompareAndSwap(connOpen, connClosing) {
		go a.finish(errMoveUncertain)
		return
	}
	a.c.srv.m.Closes[metrics.CloseMoved].Inc()
	a.stopTimer()
	a.phase, a.flushing = awayCut, true
	a.c.fan.Wrote(a.unread)
	a.unread = 0
	a.c.srv.hub.End(&a.c.fan, nil)
	a.c.srv.hub.Wake(&a.c.fan) // sets the deadline for msgSettled
}

// drained is called by the shard when everything was sent; false if the conn does
// not move.
func (a *away) drained() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayCut || a.ended {
		return false
	}
	a.ended = true
	var e ending
	var done []func()
	for i, s := range a.leaving {
		s.mu.Lock()
		d := s.session.travels().departure
		waiting := d.deferred
		d.deferred = nil
		s.mu.Unlock()
		for _, w := range waiting {
			err := ErrDisconnected
			if w.op.Op != "" {
				w.op.Socket = i
				if w.op.Op == opData {
					w.op.Data = encodeData(w.data)
				}
				e.Ops = append(e.Ops, w.op)
				err = nil
			}
			done = append(done, func() { settled(w.done, err) })
		}
	}
	text, _ := json.Marshal(&e) // names and JSON
	a.tell(msgEnd, text)
	if len(done) > 0 {
		go func() { // not on the shard
			for _, f := range done {
				f()
			}
		}()
	}
	return true
}
