package engine

import (
	"errors"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Errors that end a restoration.
var (
	errReplaced      = errors.New("engine: the session was claimed again")
	errEpoch         = errors.New("engine: the journal began anew")
	errTooMuchMissed = errors.New("engine: more was missed than is replayed")
)

// gapPace is the time for each of the conns that must be closed because messages for
// them were lost: their clients come back, and shall not come all at once.
const gapPace = time.Millisecond

// Unheard says that the bus does not hear the rooms any more: Subscribed will be
// called again for each.
func (s *Server) Unheard() { s.hub.Unheard() }

// Missed says that journalled messages did not reach this node and never will.
// Every conn that may have lost one is closed, without a DISCONNECT packet, so
// that its client comes back and is told that it was not recovered; until then it
// gets nothing that came after the hole. Sessions that began in the epoch save
// have lost nothing. It must be called in order with Deliver.
func (s *Server) Missed(save string) {
	if s.recovery != nil {
		s.order.run(func() { s.missed(save) })
	}
}

// missed is Missed in its turn.
func (s *Server) missed(save string) {
	began := s.recovery.epochs.number(save)
	var conns []*conn
	known := make(map[*conn]bool)
	s.sockets.each(func(so *Socket) {
		if began != 0 && so.epoch() == began {
			return
		}
		s.hub.Stop(&so.member)
		if !known[so.conn] {
			known[so.conn] = true
			conns = append(conns, so.conn)
		}
	})
	if len(conns) == 0 {
		return
	}
	s.log.Info("closing the conns that may have missed messages", "conns", len(conns))
	// Also while the node is drained, which may take longer: they get nothing any more.
	go spread(s.stopping, len(conns), time.Duration(len(conns))*gapPace, func(i int) { conns[i].close(metrics.CloseGap, noCode) })
}

// Advanced says that everything in the namespace's journal up to end has been
// handed to Deliver.
func (s *Server) Advanced(ns string, end socketio.Offset) {
	n := s.namespace(ns)
	if n == nil || s.recovery == nil {
		return
	}
	s.order.run(func() {
		n.reached(end)
		s.hub.Advance(n.number, s.recovery.epochs.id(end))
	})
}

// Replaced says that another node took a socket over, as its generation-th owner:
// its client is there, and the conn it had here is of no use.
func (s *Server) Replaced(ns, sid string, generation uint64) {
	n := s.namespace(ns)
	if n == nil {
		return
	}
	if so := s.sockets.get(sid, n); so != nil && so.ref().Generation < generation {
		so.conn.close(metrics.CloseReplaced, noCode)
	}
}
