package engine

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lesismal/nbio"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// handshakeWriteTimeout bounds the one write of the front door, into an empty
// socket buffer: it never takes long with an honest client.
const handshakeWriteTimeout = 5 * time.Second

// ServeHTTP is the front door: it answers requests below Config.Path in the
// order of checks of engine.io 6, serves long-polling, and turns WebSocket
// handshakes into conns that cost no goroutine.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.locate(r)
	upgrade := strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	if !s.boundBody(w, r, upgrade) {
		return
	}
	if !strings.HasPrefix(r.URL.Path, s.cfg.Path) {
		http.NotFound(w, r)
		return
	}
	if s.foreign(w, r) || s.cors(w, r) {
		return // a preflight, or refused: answered
	}
	if s.plain != nil {
		if s.inTurn(w, r) {
			s.openWebSocket(w, r, nil)
		}
		return
	}
	q := r.URL.Query()
	of, e, why, ok := s.check(r, q, upgrade)
	if ok && of == nil {
		if !s.inTurn(w, r) {
			return
		}
		e, why, ok = s.checkOpening(r, q)
	}
	switch {
	case !ok:
		s.m.Refusals[why].Inc()
		s.engineError(w, r, e, upgrade)
	case upgrade:
		s.openWebSocket(w, r, of)
	case of == nil:
		s.openPolling(w, r)
	case r.Method == http.MethodGet && of.c != nil:
		of.c.poll.get(w, r)
	case r.Method == http.MethodGet:
		s.relayPoll(w, r, of)
	case r.Method == http.MethodPost && of.c != nil:
		of.c.poll.serve(w, r)
	case r.Method == http.MethodPost:
		s.relayPost(w, r, of)
	default:
		w.WriteHeader(http.StatusInternalServerError) // as the reference implementation does
	}
}

// whose says which session a request is for.
type whose struct {
	c     *conn  // the session, if it is of this node; else:
	owner string // the node whose it is
	sid   string
}

// boundBody keeps a request's body from doing harm before anybody reads it, or
// answers the request and reports false.
func (s *Server) boundBody(w http.ResponseWriter, r *http.Request, upgrade bool) bool {
	if r.ContentLength == 0 {
		return true
	}
	if upgrade { // what follows would be taken for frames
		s.m.Refusals[metrics.RefusalBadRequest].Inc()
		s.engineError(w, r, socketio.ErrBadRequest, true)
		return false
	}
	// net/http waits for what is left of a body, after any answer.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
	if len(r.TransferEncoding) > 0 {
		// A Content-Length beside it was dropped by net/http. A proxy may have gone by that, so no further request may
		// be read from this connection (RFC 9112, section 6.1).
		w.Header().Set("Connection", "close")
	}
	return true
}

// check decides by the query, in Engine.IO's order. of is the session the request
// is for, nil if it opens one; what it costs to let it do so comes later.
func (s *Server) check(r *http.Request, q url.Values, upgrade bool) (of *whose, e socketio.EngineError, why metrics.Refusal, ok bool) {
	transport, sid, eio := last(q, "transport"), last(q, "sid"), last(q, "EIO")
	badRequest := func() (*whose, socketio.EngineError, metrics.Refusal, bool) {
		return nil, socketio.ErrBadRequest, metrics.RefusalBadRequest, false
	}
	if transport != "websocket" && transport != "polling" || transport == "polling" && s.cfg.WebSocketOnly {
		return nil, socketio.ErrTransportUnknown, metrics.RefusalTransportUnknown, false
	}
	if sid != "" {
		of = &whose{c: s.sessions.get(sid), sid: sid}
		if of.c == nil {
			of.owner = s.peerOf(sid)
		}
		wrong := upgrade != (transport == "websocket") || eio != "4" || !upgrade && of.c != nil && of.c.poll.overtaken()
		switch {
		case of.c == nil && of.owner == "":
			return nil, socketio.ErrSessionIDUnknown, metrics.RefusalSessionUnknown, false
		case !wrong:
			return of, e, 0, true
		case of.c == nil:
			if a := s.ask(r.Context(), of, msgKnown, nil, peerTime); a.failed != nil {
				return nil, *a.failed, a.why, false
			}
		}
		return badRequest()
	}
	switch {
	case r.Method != http.MethodGet:
		return nil, socketio.ErrBadHandshakeMethod, metrics.RefusalHandshakeMethod, false
	case upgrade != (transport == "websocket"):
		return badRequest()
	}
	return nil, e, 0, true
}

// checkOpening decides about a request that opens a session.
func (s *Server) checkOpening(r *http.Request, q url.Values) (e socketio.EngineError, why metrics.Refusal, ok bool) {
	if s.cfg.Allow != nil {
		if err := s.cfg.Allow(r); err != nil {
			e = socketio.ErrForbidden
			e.Message = err.Error()
			return e, metrics.RefusalForbidden, false
		}
	}
	if last(q, "EIO") != "4" {
		return socketio.ErrUnsupportedProtocol, metrics.RefusalProtocolVersion, false
	}
	return e, 0, true
}

// inTurn lets a request open a session, or answers it if it comes too soon: before
// anything is looked at that costs more than the answer.
func (s *Server) inTurn(w http.ResponseWriter, r *http.Request) bool {
	if s.limiter == nil {
		return true
	}
	from, now := remoteAddress(r), int64(time.Since(s.born))
	v, wait := s.limiter.decide(from, now)
	if v == letIn {
		return true
	}
	status, why, text := http.StatusServiceUnavailable, metrics.RefusalRate, "too many clients connect at the moment"
	if v == tooMany {
		status, why, text = http.StatusTooManyRequests, metrics.RefusalRateSource, "too many connections from this address at the moment"
		s.warnOfRate(from, now)
	}
	s.m.Refusals[why].Inc()
	w.Header().Set("Connection", "close")
	w.Header().Set("Retry-After", strconv.FormatInt(comeBackAfter(time.Duration(wait), rand.Int64N), 10))
	http.Error(w, text, status)
	return false
}

// last is the last of repeated query parameters, which is the one that counts.
func last(q url.Values, name string) string {
	v := q[name]
	if len(v) == 0 {
		return ""
	}
	return v[len(v)-1]
}

// openWebSocket turns a WebSocket handshake into a conn, or into a candidate for
// a session.
func (s *Server) openWebSocket(w http.ResponseWriter, r *http.Request, of *whose) {
	u, err := s.checkUpgrade(r)
	if err != nil {
		s.m.Refusals[metrics.RefusalBadRequest].Inc()
		status := http.StatusBadRequest
		w.Header().Set("Connection", "close")
		var he *websocket.HandshakeError
		if errors.As(err, &he) {
			status = he.Status
			maps.Copy(w.Header(), he.Header)
		}
		http.Error(w, err.Error(), status)
		return
	}
	switch {
	case of == nil:
		if s.admit(w, remoteAddress(r)) {
			s.open(w, r, u)
		}
	case of.c != nil:
		s.upgrade(w, r, of.c, u)
	default:
		s.relayUpgrade(w, r, of, u)
	}
}

// admit reserves a place for one conn from an address, or answers the request.
func (s *Server) admit(w http.ResponseWriter, from netip.Addr) bool {
	why, text, ok := s.admission(from)
	if !ok {
		status := http.StatusServiceUnavailable
		if why == metrics.RefusalMaxConnsSource {
			status = http.StatusTooManyRequests
		}
		s.m.Refusals[why].Inc()
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
		http.Error(w, text, status)
	}
	return ok
}

// openPolling opens a session and answers with its open packet. Its first GET
// makes it writable.
func (s *Server) openPolling(w http.ResponseWriter, r *http.Request) {
	if !s.admit(w, remoteAddress(r)) {
		return
	}
	c := &conn{srv: s, handshake: newHandshake(r, s.cfg.KeepHeaders)}
	c.poll = &polling{c: c, sid: newSessionID(s.cfg.Node)}
	s.m.Connects.Inc()
	s.m.ConnsPolling.Inc()
	s.sessions.put(c.poll.sid, c)
	s.hub.Attach(&c.fan, c, c.startHeartbeat(s.hub.Now()))
	if s.cfg.Cookie != nil {
		cookie := *s.cfg.Cookie
		cookie.Value = c.poll.sid.String()
		http.SetCookie(w, &cookie)
	}
	body := append([]byte{byte(socketio.EngineOpen)}, s.openPacket(c.poll.sid, true)...)
	s.m.FramesSent.Inc() // the shard counts what it sends itself
	s.m.BytesSent.Add(float64(len(body)))
	s.respondPoll(w, r, answer{status: http.StatusOK, body: body})
}

// admission reserves a place for one conn from an address; release gives it back.
func (s *Server) admission(from netip.Addr) (why metrics.Refusal, text string, ok bool) {
	n := s.conns.Add(1)
	if s.draining.Load() { // looked at when the place is taken: who drains sees one or the other
		s.release(netip.Addr{})
		return metrics.RefusalShutdown, "the server takes no new connections: it is about to stop", false
	}
	if s.cfg.MaxConns > 0 && n > int64(s.cfg.MaxConns) {
		s.release(netip.Addr{})
		return metrics.RefusalMaxConns, "the server has reached its limit of connections", false
	}
	if !s.sources.take(from) {
		s.release(netip.Addr{})
		s.warnOfSource(from)
		return metrics.RefusalMaxConnsSource, "this address has reached its limit of connections", false
	}
	return 0, "", true
}

// open takes the TCP connection from net/http and gives it to the event loop.
// The order matters: nothing may be written to the connection before the loop
// has it, and what the client sent early must be handled before what it sends next.
func (s *Server) open(w http.ResponseWriter, r *http.Request, u websocket.Upgrade) {
	c := &conn{srv: s, handshake: newHandshake(r, s.cfg.KeepHeaders), onSocket: true}
	greeting := websocket.AppendSwitchingProtocols(make([]byte, 0, 512), u, s.corsHeader(r))
	if s.plain == nil {
		open := s.openPacket(newSessionID(s.cfg.Node), false)
		greeting = websocket.AppendHeader(greeting, websocket.Text, true, len(open)+1)
		greeting = append(append(greeting, byte(socketio.EngineOpen)), open...)
	}
	nb, early, err := s.takeConn(w, greeting)
	if err != nil {
		s.release(c.handshake.remote)
		return
	}
	c.nb = nb
	if s.agreed(&u) {
		c.acceptDeflate()
	}
	s.m.FramesSent.Inc()
	s.m.Connects.Inc()
	s.m.ConnsWebSocket.Inc()
	s.hub.Attach(&c.fan, c, c.startHeartbeat(s.hub.Now()))
	if len(early) > 0 {
		c.onData(early)
	}
	nb.SetSession(c)
	c.mark(markShared)
	if err := s.loop.add(nb); err != nil {
		s.log.Error("event loop refused the connection", "error", err)
		c.transportClosed(err)
		return
	}
	c.mark(markPolled)
	if c.marked(markAborted) { // given up meanwhile
		hangUp(nb)
	}
	s.hub.Open(&c.fan)
}

// openPacket is the JSON of a session's open packet. Only a session that polls is
// ever named by its id again.
func (s *Server) openPacket(sid id, polls bool) []byte {
	open := socketio.Open{SID: sid.String(), PingInterval: s.cfg.PingInterval, PingTimeout: s.cfg.PingTimeout, MaxPayload: s.cfg.MaxPayload}
	if polls {
		open.Upgrades = []string{"websocket"}
	}
	return socketio.AppendOpen(nil, open)
}

// takeConn takes the TCP connection from net/http, writes the greeting and
// returns the connection for the event loop, with what the client sent early.
// After an error the connection is closed.
func (s *Server) takeConn(w http.ResponseWriter, greeting []byte) (nb *nbio.Conn, early []byte, err error) {
	nc, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.log.Error("front door cannot take over the connection", "error", err)
		http.Error(w, "the server cannot upgrade this connection", http.StatusInternalServerError)
		return nil, nil, err
	}
	if err = nc.SetDeadline(time.Now().Add(handshakeWriteTimeout)); err == nil {
		_, err = nc.Write(greeting)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err == nil {
		s.m.BytesSent.Add(float64(len(greeting)))
		if wrapped, ok := nc.(interface{ NetConn() net.Conn }); ok { // a listener's own, which has read nothing ahead
			nc = wrapped.NetConn()
		}
		nb, err = nbio.NBConn(nc) // closes nc: its socket lives on in nb
		forget(nc.LocalAddr())
		forget(nc.RemoteAddr())
	}
	if err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	if early, err = buf.Peek(buf.Reader.Buffered()); err != nil {
		early = nil
	}
	return nb, early, nil
}

// forget empties an address, which nbio keeps for as long as the connection lives
// and nobody asks for: the handshake has what is of interest.
func forget(a net.Addr) {
	if tcp, ok := a.(*net.TCPAddr); ok {
		*tcp = net.TCPAddr{}
	}
}

// controlFrame builds a control frame with a payload of the client's.
func controlFrame(op websocket.Opcode, data []byte) *fanout.Message {
	return &fanout.Message{Frame: websocket.AppendFrame(nil, op, data)}
}
