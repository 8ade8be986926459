package engine

import (
	"bufio"
	"errors"
	"maps"
	"net"
	"net/http"
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

// ServeHTTP is the front door: it answers requests below Config.Path, in the
// order of checks of engine.io 6, and turns WebSocket handshakes into conns that
// cost no goroutine.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, s.cfg.Path) {
		http.NotFound(w, r)
		return
	}
	upgrade := websocketRequested(r)
	if e, why, ok := s.check(r, upgrade); !ok && s.plain == nil {
		s.m.Refusals[why].Inc()
		s.engineError(w, r, e, upgrade)
		return
	}
	u, err := websocket.CheckUpgrade(r)
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
	if why, text, ok := s.admission(); !ok {
		s.m.Refusals[why].Inc()
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	s.open(w, r, u)
}

// websocketRequested reports whether the request asks for an upgrade to WebSocket.
func websocketRequested(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// check decides by the query, in Engine.IO's order.
func (s *Server) check(r *http.Request, upgrade bool) (e socketio.EngineError, why metrics.Refusal, ok bool) {
	q := r.URL.Query()
	last := func(name string) string { // the last of repeated parameters counts
		v := q[name]
		if len(v) == 0 {
			return ""
		}
		return v[len(v)-1]
	}
	switch {
	case last("transport") != "websocket":
		return socketio.ErrTransportUnknown, metrics.RefusalTransportUnknown, false
	case last("sid") != "":
		// A session that began on WebSocket takes no second transport.
		return socketio.ErrSessionIDUnknown, metrics.RefusalSessionUnknown, false
	case r.Method != http.MethodGet:
		return socketio.ErrBadHandshakeMethod, metrics.RefusalHandshakeMethod, false
	case !upgrade:
		return socketio.ErrBadRequest, metrics.RefusalBadRequest, false
	case last("EIO") != "4":
		return socketio.ErrUnsupportedProtocol, metrics.RefusalProtocolVersion, false
	}
	return e, 0, true
}

// admission reserves a place for one conn.
func (s *Server) admission() (why metrics.Refusal, text string, ok bool) {
	if s.draining.Load() {
		return metrics.RefusalShutdown, "the server is shutting down", false
	}
	if n := s.conns.Add(1); s.cfg.MaxConns > 0 && n > int64(s.cfg.MaxConns) {
		s.conns.Add(-1)
		return metrics.RefusalMaxConns, "the server has reached its limit of connections", false
	}
	return 0, "", true
}

// open takes the TCP connection from net/http and gives it to the event loop.
// The order matters: nothing may be written to the connection before the loop
// has it, and what the client sent early must be handled before what it sends next.
func (s *Server) open(w http.ResponseWriter, r *http.Request, u websocket.Upgrade) {
	nc, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.conns.Add(-1)
		s.log.Error("front door cannot take over the connection", "error", err)
		http.Error(w, "the server cannot upgrade this connection", http.StatusInternalServerError)
		return
	}
	c := &conn{srv: s, sid: newSessionID(), handshake: newHandshake(r, s.cfg.KeepHeaders)}
	if err := s.greet(nc, c, u); err != nil {
		s.conns.Add(-1)
		_ = nc.Close()
		return
	}
	nb, err := nbio.NBConn(nc) // closes nc: its socket lives on in nb
	if err != nil {
		s.conns.Add(-1)
		_ = nc.Close()
		s.log.Error("front door cannot hand over the connection", "error", err)
		return
	}
	c.nb = nb
	s.m.Connects.Inc()
	s.m.ConnsWebSocket.Inc()
	s.hub.Attach(&c.fan, c, c.startHeartbeat(s.hub.Now()))
	if early := buffered(buf.Reader); len(early) > 0 {
		c.onData(early)
	}
	nb.SetSession(c)
	c.shared.Store(true)
	if err := s.loop.add(nb); err != nil {
		s.log.Error("event loop refused the connection", "error", err)
		c.transportClosed(err)
		return
	}
	c.polled.Store(true)
	if c.aborted.Load() { // given up meanwhile
		_ = nb.Close()
	}
	s.hub.Open(&c.fan)
}

// greet writes the 101 response and the open packet in one write.
func (s *Server) greet(nc net.Conn, c *conn, u websocket.Upgrade) error {
	out := websocket.AppendSwitchingProtocols(make([]byte, 0, 512), u, nil)
	if s.plain == nil {
		out = s.appendOpen(out, c)
	}
	if err := nc.SetDeadline(time.Now().Add(handshakeWriteTimeout)); err != nil {
		return err
	}
	if _, err := nc.Write(out); err != nil {
		return err
	}
	s.m.BytesSent.Add(float64(len(out)))
	s.m.FramesSent.Inc()
	return nc.SetDeadline(time.Time{})
}

// appendOpen appends the frame of Engine.IO's open packet.
func (s *Server) appendOpen(dst []byte, c *conn) []byte {
	open := socketio.AppendOpen([]byte{byte(socketio.EngineOpen)}, socketio.Open{
		SID: c.sid.String(), PingInterval: s.cfg.PingInterval, PingTimeout: s.cfg.PingTimeout, MaxPayload: s.cfg.MaxPayload,
	})
	return websocket.AppendFrame(dst, websocket.Text, open)
}

// buffered returns what net/http had read beyond the request.
func buffered(r *bufio.Reader) []byte {
	b, err := r.Peek(r.Buffered())
	if err != nil {
		return nil
	}
	return b
}

// controlFrame builds a control frame with a payload of the client's.
func controlFrame(op websocket.Opcode, data []byte) *fanout.Message {
	return &fanout.Message{Frame: websocket.AppendFrame(nil, op, data)}
}
