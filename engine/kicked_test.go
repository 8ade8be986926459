package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// Who is disconnected while a socket of theirs is on its way here, and not to be
// found, does not slip through: neither a new one, nor one that comes back.
func TestDisconnectOfSocketsOnTheirWay(t *testing.T) {
	sessions := engine.NewGatedSessions()
	t.Cleanup(sessions.End)
	s := newServer(t, engine.Config{UserRooms: "user:", Recovery: &engine.Recovery{Sessions: sessions}}, withUsers)
	n := s.Of("/")
	reached := func(want string) {
		t.Helper()
		if got := <-sessions.Reached; got != want {
			t.Fatalf("%s was reached, want %s", got, want)
		}
	}
	c := s.dial()
	c.Text(`40{"user":"ada"}`)
	reached("create")
	n.To("user:ada").DisconnectSockets(false)
	sessions.Open <- struct{}{}
	if p := c.Receive(); !strings.HasPrefix(p, "40{") {
		t.Fatalf("CONNECT: %s", p)
	}
	c.Expect("41")

	// One that is excepted, or in another namespace, is not meant.
	other := s.Of("/other")
	sessions.Open <- struct{}{}
	c, sid, pid := s.as(`{"user":"ada"}`)
	reached("create")
	_ = c.Conn.Close()
	eventually(t, "away", func() bool { return n.Count() == 0 })
	back := s.dial()
	back.Text(fmt.Sprintf(`40{"user":"ada","pid":%q}`, pid))
	reached("claim")
	n.To("user:ada").Except(sid).DisconnectSockets(true)
	other.To("user:ada").DisconnectSockets(true)
	sessions.Open <- struct{}{}
	if p := back.Receive(); !strings.HasPrefix(p, fmt.Sprintf(`40{"sid":%q`, sid)) {
		t.Fatalf("who was excepted got %s, want %s", p, sid)
	}
	_ = back.Conn.Close()
	eventually(t, "away", func() bool { return n.Count() == 0 })

	sessions.Open <- struct{}{} // after the kick everything is as before
	c, sid, pid = s.as(`{"user":"ada"}`)
	reached("create")
	_ = c.Conn.Close()
	eventually(t, "away", func() bool { return n.Count() == 0 })
	for i := range 2 {
		room := "user:ada"
		if i == 1 {
			room = sid
		}
		back := s.dial()
		back.Text(fmt.Sprintf(`40{"user":"ada","pid":%q}`, pid))
		reached("claim")
		n.To(room).DisconnectSockets(false)
		sessions.Open <- struct{}{}
		if p := back.Receive(); p != `44{"message":"disconnected by the server"}` {
			t.Fatalf("kick of %s: the return was answered %s (pid was %s)", room, p, pid)
		}
		eventually(t, "abandoned", func() bool { return counter(s.m.Recoveries[metrics.RecoveryAbandoned]) == float64(i+1) })
		_ = back.Conn.Close()
		again := s.dial()
		again.Text(fmt.Sprintf(`40{"user":"ada","pid":%q}`, pid))
		reached("claim")
		sessions.Open <- struct{}{}
		reached("create") // it is another socket's session
		sessions.Open <- struct{}{}
		p := again.Receive()
		if strings.Contains(p, pid) || !strings.HasPrefix(p, `40{"sid":"`) {
			t.Fatalf("the session was given back: %s", p)
		}
		sid, pid = p[len(`40{"sid":"`):][:20], p[strings.Index(p, `"pid":"`)+7:][:20]
		_ = again.Conn.Close()
		eventually(t, "away again", func() bool { return n.Count() == 0 })
	}
}
