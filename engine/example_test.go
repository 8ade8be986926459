package engine_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// A chat server: rooms, broadcasts and acknowledgements.
func Example() {
	srv, err := engine.New(engine.Config{}, nil, metrics.New(prometheus.NewRegistry(), "example"))
	if err != nil {
		fmt.Println(err)
		return
	}
	chat := srv.Of("/")
	chat.On("join", func(s *engine.Socket, e *engine.Event) {
		var room string
		if err := e.Bind(0, &room); err != nil {
			_ = e.Ack(map[string]any{"error": err.Error()})
			return
		}
		s.Join(room, func(error) { _ = e.Ack("joined " + room) })
	})
	chat.On("say", func(s *engine.Socket, e *engine.Event) {
		_ = s.Namespace().To("lobby").Emit("said", e.Raw(0))
	})
	if err := srv.Start(); err != nil {
		fmt.Println(err)
		return
	}
	front := httptest.NewServer(srv)
	defer front.Close()

	// What a client sees; any Socket.IO client does the same.
	c := wire.Dial(&testing.T{}, strings.TrimPrefix(front.URL, "http://"), "/socket.io/?EIO=4&transport=websocket", nil)
	c.Receive() // the open packet
	c.Text("40")
	c.Receive() // the CONNECT reply
	c.Text(`420["join","lobby"]`)
	fmt.Println(c.Receive())
	c.Text(`42["say","hello"]`)
	fmt.Println(c.Receive())
	// Output:
	// 430["joined lobby"]
	// 42["said","hello"]
}
