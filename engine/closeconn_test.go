package engine_test

import (
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// TestCloseConn: the client is told that it was disconnected, everywhere, and the
// reason is the one that was given.
func TestCloseConn(t *testing.T) {
	reasons := make(chan string, 2)
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		echo(srv)
		for _, name := range []string{"/", "/chat"} {
			srv.Of(name).OnDisconnect(func(_ *engine.Socket, reason string) { reasons <- reason })
		}
		srv.Of("/").On("expire", func(s *engine.Socket, _ *engine.Event) { s.CloseConn(metrics.CloseTokenExpired) })
	})
	c, _ := s.join()
	c.Text("40/chat,")
	c.Receive()
	c.Text(`42["expire"]`)
	c.Expect("41")
	c.Expect("41/chat,")
	c.ExpectClosed()
	for range 2 {
		if got := receive(t, "a disconnect", reasons); got != engine.ReasonServerNamespaceDisconnect {
			t.Errorf("disconnected for %q", got)
		}
	}
	counts(t, s.m.Closes[metrics.CloseTokenExpired], 1)
}
