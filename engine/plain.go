package engine

import (
	"net/http"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// PlainHandler handles one message of a plain WebSocket. It runs on the poller
// and must not wait; data is valid only while it runs.
type PlainHandler func(w *WebSocket, text bool, data []byte)

// WebSocket is a plain WebSocket connection on the engine's transport.
type WebSocket struct{ c *conn }

// Send sends one message as one frame, in order with the others. A client that
// does not read is closed when Config.OutboxBytes is reached.
func (w *WebSocket) Send(text bool, data []byte) {
	op := websocket.Binary
	if text {
		op = websocket.Text
	}
	w.c.srv.hub.Send(&w.c.fan, &fanout.Message{Frame: websocket.AppendFrame(nil, op, data)})
}

// NewPlain makes a server that speaks plain WebSocket below cfg.Path, on the
// same front door, event loop and fan-out as Socket.IO, so that WebSocket
// conformance suites can be pointed at them.
func NewPlain(cfg Config, h PlainHandler, m *metrics.Metrics) (*Server, error) {
	s, err := New(cfg, nil, m)
	if err != nil {
		return nil, err
	}
	s.plain = h
	return s, nil
}

// EngineHandler handles one Engine.IO message, the layer below Socket.IO. It
// runs on the goroutine that read it and must not wait; data is valid only while
// it runs.
type EngineHandler func(s *Session, text bool, data []byte)

// Session is an Engine.IO session without Socket.IO.
type Session struct{ c *conn }

// Send sends one message, in order with the others.
func (s *Session) Send(text bool, data []byte) {
	var frame []byte
	if text {
		frame = websocket.AppendHeader(nil, websocket.Text, true, len(data)+1)
		frame = append(append(frame, byte(socketio.EngineMessage)), data...)
	} else {
		frame = websocket.AppendFrame(nil, websocket.Binary, data)
	}
	s.c.srv.hub.Send(&s.c.fan, &fanout.Message{Frame: frame, Packets: 1})
}

// NewEngineIO makes a server that speaks Engine.IO without Socket.IO, on both
// transports.
func NewEngineIO(cfg Config, h EngineHandler, m *metrics.Metrics) (*Server, error) {
	s, err := New(cfg, nil, m)
	if err != nil {
		return nil, err
	}
	s.engine = h
	return s, nil
}

var _ http.Handler = (*Server)(nil)
