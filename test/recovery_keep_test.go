package test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stellara/edge/engine"
)

// keeps are scenarios of clients that come back and may not be in all their rooms any more.
func keeps() map[string]scenario {
	return map[string]scenario{
		"without rooms that are not kept": {setup: withKept, run: comeBackToLess},
	}
}

// withKept lets sockets keep the rooms that their CONNECT names. What its
// authentication leaves is there when a socket is restored.
func withKept(s *engine.Server) {
	s.Of("/").Recover(engine.Recoverer{
		Authenticate: func(s *engine.Socket, done func(string, error)) {
			var auth struct{ Keep []string }
			_ = json.Unmarshal(s.Auth(), &auth)
			s.SetData(auth.Keep)
			go done("", nil)
		},
		Restore: func(s *engine.Socket, _ json.RawMessage) any { return s.Data() },
		Keep: func(s *engine.Socket, room string) bool {
			for _, kept := range s.Data().([]string) {
				if kept == room {
					return true
				}
			}
			return false
		},
	})
}

// comeBackToLess: what was missed in a room that is not kept is not replayed, and what
// is sent there later does not arrive, also after one more return that would keep it.
func comeBackToLess(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	for _, room := range []string{"kept", "lost"} {
		g.call(t, "join", room)
	}
	to := func(room string) engine.Broadcast { return n.Of("/").To(room) }
	publish(t, to("kept"), 1)
	g.expect(t, "1")
	sid := g.SID
	for _, keep := range [][]string{{"kept"}, {"kept", "lost"}} {
		g.away(t, n)
		publish(t, to("lost"), "secret")
		publish(t, to("kept"), 2)
		if !g.connect(t, n.dial(t), map[string]any{"Keep": keep}) || g.SID != sid {
			t.Fatalf("not recovered: %+v", g)
		}
		if got := g.call(t, "whoami"); !strings.Contains(got, `"kept"`) || strings.Contains(got, "lost") {
			t.Errorf("it is %s", got)
		}
		publish(t, to("lost"), "secret")
		publish(t, to("kept"), 3)
		g.expect(t, "2", "3")
	}
}
