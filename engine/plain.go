package engine

import (
	"net/http"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
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

var _ http.Handler = (*Server)(nil)
