package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/stellara/edge/engine"
)

// buildClient makes the server of socket.io-client's own tests, with connection
// state recovery.
func buildClient(set settings) (http.Handler, []*engine.Server, error) {
	srv, err := engine.New(engine.Config{
		PingInterval: 2 * time.Second, KeepHeaders: true, CORS: &engine.CORS{Origins: []string{"*"}},
		Recovery: &engine.Recovery{}, Deflate: set.deflate,
	}, nil, newMetrics())
	if err != nil {
		return nil, nil, err
	}
	main := srv.Of("/")
	main.Use(func(s *engine.Socket, next func(error)) {
		if s.Handshake().Query.Has("fail") {
			next(errors.New("Auth failed (main namespace)"))
			return
		}
		next(nil)
	})
	answers(main)
	binaryOrder(main)
	srv.Of("/foo").On("getId", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.ID()) })
	srv.Of("/timeout_socket")
	srv.Of("/valid")
	srv.Of("/asd")
	srv.Of("/abc").OnConnection(func(s *engine.Socket) { _ = s.Emit("handshake", s.Handshake().JSON()) })
	srv.Of("/no").Use(func(_ *engine.Socket, next func(error)) { next(errors.New("Auth failed (custom namespace)")) })

	// Every handshake takes a little time, as the suite wants it.
	delayed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("sid") == "" {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		srv.ServeHTTP(w, r)
	})
	return delayed, []*engine.Server{srv}, nil
}

// answers adds the events that are answered at once.
func answers(n *engine.Namespace) {
	emit := func(event string, args ...any) engine.Handler {
		return func(s *engine.Socket, _ *engine.Event) { _ = s.Emit(event, args...) }
	}
	n.On("hi", emit("hi"))
	n.On("false", emit("false", false))
	n.On("doge", emit("doge", []byte("asdfasdf")))
	n.On("getbin", emit("takebin", []byte("asdfasdf")))
	n.On("echo", func(_ *engine.Socket, e *engine.Event) { _ = e.Ack(e.Raw(0)) })
	n.On("ack", func(s *engine.Socket, _ *engine.Event) {
		_ = s.EmitWithAck(10*time.Second, func(a *engine.Ack, err error) {
			if err == nil && len(a.Args) == 2 && string(a.Args[0]) == "5" && string(a.Args[1]) == `{"test":true}` {
				_ = s.Emit("got it")
			}
		}, "ack")
	})
	n.On("getAckDate", func(_ *engine.Socket, e *engine.Event) { _ = e.Ack(time.Now()) })
	n.On("getDate", func(s *engine.Socket, _ *engine.Event) { _ = s.Emit("takeDate", time.Now()) })
	n.On("getDateObj", func(s *engine.Socket, _ *engine.Event) {
		_ = s.Emit("takeDateObj", map[string]any{"date": time.Now()})
	})
	n.On("getUtf8", func(s *engine.Socket, _ *engine.Event) {
		for _, text := range []string{"てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"} {
			_ = s.Emit("takeUtf8", text)
		}
	})
	n.On("getHandshake", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.Handshake().JSON()) })
	n.On("getId", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.ID()) })
}

// binaryOrder adds the events that check that binary and text keep their order.
func binaryOrder(n *engine.Namespace) {
	// ack emits answer when the event came with what it should have.
	ack := func(event, answer string, ok func(e *engine.Event) bool) {
		n.On(event, func(s *engine.Socket, e *engine.Event) {
			if ok(e) {
				_ = s.Emit(answer)
			}
		})
	}
	binary := func(e *engine.Event) bool { return len(e.Attachments()) == 1 && e.Len() == 1 }
	object := func(e *engine.Event) bool {
		var o struct{ Hello, Goodbye string }
		return binary(e) && e.Bind(0, &o) == nil && o.Hello == "lol" && o.Goodbye == "gotcha"
	}
	ack("buffa", "buffack", binary)
	ack("jsonbuff", "jsonbuff-ack", object)
	ack("blob", "back", binary)
	ack("jsonblob", "jsonblob-ack", object)
	inOrder(n, "abuff2-ack", "abuff1", "abuff2")
	inOrder(n, "blob3-ack", "blob1", "blob2", "blob3")
}

// inOrder emits answer to a socket that sent the events in this order.
func inOrder(n *engine.Namespace, answer string, events ...string) {
	for i, event := range events {
		n.On(event, func(s *engine.Socket, _ *engine.Event) {
			step, _ := s.Data().(int)
			if step != i {
				return
			}
			s.SetData(step + 1)
			if i == len(events)-1 {
				s.SetData(0)
				_ = s.Emit(answer)
			}
		})
	}
}
