package main

import (
	"net/http"
	"time"

	"github.com/stellara/edge/engine"
)

// buildProtocol makes the server of the two protocol suites: an Engine.IO echo
// below /engine.io/ and Socket.IO below /socket.io/.
func buildProtocol(set settings) (http.Handler, []*engine.Server, error) {
	base := engine.Config{
		PingInterval: set.pingInterval, PingTimeout: set.pingTimeout, ConnectTimeout: time.Second,
		MaxPayload: 1e6, Deflate: set.deflate, CORS: &engine.CORS{Origins: []string{"*"}},
	}
	eio := base
	eio.Path = "/engine.io/"
	echo, err := engine.NewEngineIO(eio, func(s *engine.Session, text bool, data []byte) { s.Send(text, data) }, newMetrics())
	if err != nil {
		return nil, nil, err
	}
	srv, err := engine.New(base, nil, newMetrics())
	if err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"/", "/custom"} {
		n := srv.Of(name)
		n.OnConnection(func(s *engine.Socket) { _ = s.Emit("auth", s.Auth()) })
	}
	n := srv.Of("/")
	n.On("message", func(s *engine.Socket, e *engine.Event) {
		_ = s.EmitPayload(&engine.Payload{JSON: array(`"message-back"`, e), Attachments: e.Attachments()})
	})
	n.On("message-with-ack", func(_ *engine.Socket, e *engine.Event) {
		_ = e.AckPayload(&engine.Payload{JSON: array("", e), Attachments: e.Attachments()})
	})
	mux := http.NewServeMux()
	mux.Handle("/engine.io/", echo)
	mux.Handle("/socket.io/", srv)
	return mux, []*engine.Server{echo, srv}, nil
}

// array is a JSON array of first, if any, and the event's arguments as they came.
func array(first string, e *engine.Event) []byte {
	out := append([]byte{'['}, first...)
	for i := range e.Len() {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, e.Raw(i)...)
	}
	return append(out, ']')
}
