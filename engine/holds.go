package engine

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lesismal/nbio"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// relayUpgrade opens a WebSocket for a session of another node, or refuses.
func (s *Server) relayUpgrade(w http.ResponseWriter, r *http.Request, of *whose, u websocket.Upgrade) {
	from := remoteAddress(r)
	if !s.admit(w, from) {
		return
	}
	s.m.RelayedRequests[metrics.RelayUpgrade].Inc()
	h := &held{srv: s, of: of, from: from, seat: &seat{}, question: question{answered: make(chan answer, 1)}}
	a := s.refusal(h.open(r.Context()))
	if a.status != http.StatusOK {
		h.end(nil)
		e := socketio.ErrBadRequest
		if a.failed != nil {
			e = *a.failed
		}
		if e == socketio.ErrBadRequest {
			s.m.Refusals[metrics.RefusalBadRequest].Inc()
		}
		s.engineError(w, r, e, true)
		return
	}
	if string(a.body) != readsDeflate {
		u.Extensions = ""
	}
	nb, early, err := s.takeConn(w, websocket.AppendSwitchingProtocols(make([]byte, 0, 256), u, s.corsHeader(r)))
	if err != nil {
		h.end(err)
		return
	}
	if h.deflate = s.agreed(&u); h.deflate {
		h.reader.AcceptDeflate()
	}
	h.begin(nb, early)
}

// open asks the owner whether a WebSocket may probe.
func (h *held) open(ctx context.Context) answer {
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	st, err := h.srv.cfg.Peers.Open(ctx, h.of.owner, h)
	if err != nil {
		return h.srv.noPeer(h.of, err)
	}
	h.st = st
	if err := st.Send(msgUpgrade, []byte(h.of.sid)); err != nil {
		return h.srv.noPeer(h.of, err)
	}
	select {
	case a := <-h.answered:
		if a.status == 0 {
			return h.srv.noPeer(h.of, h.broken())
		}
		a.why = metrics.RefusalSessionUnknown
		return a
	case <-ctx.Done():
		return h.srv.noPeer(h.of, ctx.Err())
	}
}

// begin gives the connection to the event loop, in the order that Server.open explains.
func (h *held) begin(nb *nbio.Conn, early []byte) {
	s := h.srv
	h.mu.Lock()
	h.nb = nb
	h.timer = time.AfterFunc(upgradeTimeout, func() {
		h.mu.Lock()
		late := h.phase == heldProbing
		h.mu.Unlock()
		if late {
			h.end(nil)
		}
	})
	h.mu.Unlock()
	s.holds.add(h)
	nb.SetSession(h.seat)
	h.seat.give(h)
	if len(early) > 0 {
		h.onData(early)
	}
	if err := s.loop.add(nb); err != nil {
		h.onClosed(err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polled = true
	if len(h.out) > 0 {
		_, _ = nb.Write(h.out)
		h.out = nil
	}
	if h.phase == heldOver || h.lost || s.draining.Load() {
		hangUp(nb)
	}
}

// holds are the WebSockets that this node holds for others.
type holds struct {
	mu sync.Mutex // taken alone
	m  map[*held]struct{}
}

func (l *holds) add(h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[*held]struct{})
	}
	l.m[h] = struct{}{}
}

func (l *holds) remove(h *held) {
	l.mu.Lock()
	delete(l.m, h)
	l.mu.Unlock()
}

// all is those that there are now.
func (l *holds) all() []*held {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.m))
}
