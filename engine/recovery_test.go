package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// session is what a client remembers to come back with.
type session struct {
	SID string `json:"sid"`
	PID string `json:"pid"`

	offset string // the last argument of the last event
	events []string
}

// connect sends CONNECT and reads on until it is answered; events before the
// answer are kept, as socket.io-client does.
func (s *session) connect(t *testing.T, c *wire.Client, auth map[string]any) (recovered bool) {
	t.Helper()
	if auth == nil {
		auth = map[string]any{}
	}
	if s.PID != "" {
		auth["pid"] = s.PID
		if s.offset != "" {
			auth["offset"] = s.offset
		}
	}
	b, err := json.Marshal(auth)
	if err != nil {
		t.Fatal(err)
	}
	c.Text("40" + string(b))
	for {
		text := c.Receive()
		if strings.HasPrefix(text, "40") {
			before := s.PID
			if err := json.Unmarshal([]byte(text[2:]), s); err != nil {
				t.Fatalf("CONNECT reply %q: %v", text, err)
			}
			return before != "" && before == s.PID
		}
		s.event(t, text)
	}
}

// event takes one event packet: the last argument is its offset.
func (s *session) event(t *testing.T, text string) []json.RawMessage {
	t.Helper()
	var args []json.RawMessage
	if !strings.HasPrefix(text, "42") || json.Unmarshal([]byte(text[2:]), &args) != nil {
		t.Fatalf("not an event: %q", text)
	}
	if json.Unmarshal(args[len(args)-1], &s.offset) != nil {
		t.Fatalf("no offset at the end of %q", text)
	}
	s.events = append(s.events, string(args[1]))
	return args
}

// expect reads events whose first arguments are want.
func (s *session) expect(t *testing.T, c *wire.Client, want ...string) {
	t.Helper()
	s.events = nil
	for range want {
		s.event(t, c.Receive())
	}
	if fmt.Sprint(s.events) != fmt.Sprint(want) {
		t.Fatalf("events %v, want %v", s.events, want)
	}
}

// rooms is an application with rooms, whose sockets can be recovered.
func rooms(s *engine.Server) {
	n := s.Of("/")
	n.On("join", func(s *engine.Socket, e *engine.Event) {
		var room string
		_ = e.Bind(0, &room)
		release := e.Hold()
		s.Join(room, func(error) {
			_ = e.Ack()
			release()
		})
	})
	n.On("leave", func(s *engine.Socket, e *engine.Event) {
		var room string
		_ = e.Bind(0, &room)
		s.Leave(room, func(error) { _ = e.Ack() })
	})
	n.On("whoami", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.ID(), s.Recovered(), s.Rooms()) })
	n.On("direct", func(s *engine.Socket, e *engine.Event) { _ = s.Emit("direct", e.Raw(0), "text") })
	n.On("data", func(s *engine.Socket, e *engine.Event) { s.SetData(json.RawMessage(e.Raw(0))); _ = e.Ack() })
	n.On("getdata", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.Data()) })
}

func recoverable() engine.Config { return engine.Config{Recovery: &engine.Recovery{}} }

// call sends an event with an ack and returns the answer, taking heartbeats and
// events on the way.
func (s *session) call(t *testing.T, c *wire.Client, event string, args ...any) string {
	t.Helper()
	b, _ := json.Marshal(append([]any{event}, args...))
	c.Text("420" + string(b))
	for {
		text := c.Receive()
		if answer, ok := strings.CutPrefix(text, "430"); ok {
			return answer
		}
		s.event(t, text)
	}
}

func TestRecoveryGivesEverythingBack(t *testing.T) {
	srv := newServer(t, recoverable(), rooms)
	n := srv.Of("/")
	c, me := srv.dial(), &session{}
	me.connect(t, c, nil)
	if len(me.PID) != 20 || me.PID == me.SID {
		t.Fatalf("pid %q", me.PID)
	}
	me.call(t, c, "join", "r1")
	me.call(t, c, "data", map[string]int{"a": 1})
	emit := func(room string, i int) {
		t.Helper()
		if err := n.To(room).Emit("x", i); err != nil {
			t.Fatal(err)
		}
	}
	emit("r1", 1)
	me.expect(t, c, "1")
	sid := me.SID
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return n.Count() == 0 })
	emit("r1", 2)
	emit("r2", 3) // not its room
	emit(sid, 4)
	_ = n.Emit("x", 5)
	_ = n.To("r1").Except(sid).Emit("x", 6)
	_ = n.To("r1").Volatile().Emit("x", 7)
	_ = n.To("r1", sid).Emit("x", 8) // once

	c = srv.dial()
	me.events = nil
	if !me.connect(t, c, nil) || me.SID != sid {
		t.Fatalf("not recovered: %+v", me)
	}
	if got := fmt.Sprint(me.events); got != "[2 4 5 8]" {
		t.Fatalf("missed events before the answer: %s", got)
	}
	if got := me.call(t, c, "whoami"); got != fmt.Sprintf(`[%q,true,[%q,"r1"]]`, sid, sid) {
		t.Errorf("whoami: %s", got)
	}
	if got := me.call(t, c, "getdata"); got != `[{"a":1}]` {
		t.Errorf("data: %s", got)
	}
	emit("r1", 9)
	emit(sid, 10)
	me.expect(t, c, "9", "10")
	if got := testutil.ToFloat64(srv.m.Recoveries[metrics.RecoveryComplete]); got != 1 {
		t.Errorf("complete recoveries: %v", got)
	}
}

// Every event ends with an offset, also one whose last argument is a string.
func TestOffsetsOnEverything(t *testing.T) {
	srv := newServer(t, recoverable(), rooms)
	n := srv.Of("/")
	c, me := srv.dial(), &session{}
	me.connect(t, c, nil)
	check := func(text, prefix string) {
		t.Helper()
		if !strings.HasPrefix(text, prefix) {
			t.Fatalf("%q does not begin with %q", text, prefix)
		}
		me.event(t, text)
		if len(strings.Split(me.offset, ".")) != 2 {
			t.Errorf("offset %q of %q", me.offset, text)
		}
	}
	c.Text(`42["direct",1]`)
	check(c.Receive(), `42["direct",1,"text","`)
	first := me.offset
	_ = n.Local().Emit("local", "text")
	check(c.Receive(), `42["local","text","`)
	if me.offset != first {
		t.Errorf("offset %q after %q without a journalled message", me.offset, first)
	}
	_ = n.Volatile().Emit("volatile", "text")
	check(c.Receive(), `42["volatile","text","`)
	_ = n.Emit("journalled")
	text := c.Receive()
	if !strings.HasPrefix(text, `42["journalled","`) {
		t.Fatalf("%q", text)
	}
	at := strings.TrimSuffix(strings.TrimPrefix(text, `42["journalled","`), `"]`)
	c.Text(`42["direct",2]`)
	check(c.Receive(), `42["direct",2,"text","`+at+`"]`)
	_ = n.Emit("bin", []byte{1, 2, 3}, "text")
	if text := c.Receive(); !strings.HasPrefix(text, `451-["bin",{"_placeholder":true,"num":0},"text","`) {
		t.Errorf("binary event: %q", text)
	}
	c.Receive()
	_ = n.Local().Emit("bin", []byte{4}, "text")
	if text := c.Receive(); !strings.HasPrefix(text, `451-["bin",{"_placeholder":true,"num":0},"text","`) {
		t.Errorf("binary event: %q", text)
	}
	if got, _ := c.Next(); got.Data != "\x04" {
		t.Errorf("attachment: %v", got)
	}
}

func TestRecoveryRefused(t *testing.T) {
	authenticate := func(s *engine.Socket) (string, error) {
		var auth struct{ User, Bad string }
		_ = json.Unmarshal(s.Auth(), &auth)
		if auth.Bad != "" {
			return "", errors.New("bad token")
		}
		return auth.User, nil
	}
	for _, c := range []struct {
		name   string
		change func(s *session, auth map[string]any)
		result metrics.Recovery
	}{
		{"another user", func(_ *session, auth map[string]any) { auth["User"] = "eve" }, metrics.RecoveryUser},
		{"bad token", func(_ *session, auth map[string]any) { auth["Bad"] = "yes" }, metrics.RecoveryToken},
		{"unknown pid", func(s *session, _ map[string]any) { s.PID = "AAAAAAAAAAAAAAAAAAAA" }, metrics.RecoveryUnknown},
		{"pid of a wrong shape", func(s *session, _ map[string]any) { s.PID = "x" }, metrics.RecoveryMalformed},
		{"offset of a wrong shape", func(s *session, _ map[string]any) { s.offset = "x" }, metrics.RecoveryMalformed},
		{"offset of the future", func(s *session, _ map[string]any) { s.offset = s.offset[:9] + "9999999999999-0" }, metrics.RecoveryMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := newServer(t, recoverable(), func(s *engine.Server) {
				rooms(s)
				n := s.Of("/")
				n.Recover(engine.Recoverer{Authenticate: authenticate})
				n.Use(func(s *engine.Socket, next func(error)) {
					user, _ := authenticate(s)
					s.SetUser(user)
					next(nil)
				})
			})
			conn, me := srv.dial(), &session{}
			me.connect(t, conn, map[string]any{"User": "bob"})
			_ = srv.Of("/").Emit("x", 1)
			me.expect(t, conn, "1")
			before := *me
			_ = conn.Conn.Close()
			eventually(t, "the socket is gone", func() bool { return srv.Of("/").Count() == 0 })
			_ = srv.Of("/").Emit("x", 2)

			auth := map[string]any{"User": "bob"}
			c.change(me, auth)
			me.events = nil
			if me.connect(t, srv.dial(), auth) || me.SID == before.SID || me.PID == before.PID || len(me.events) > 0 {
				t.Fatalf("recovered: %+v", me)
			}
			if got := testutil.ToFloat64(srv.m.Recoveries[c.result]); got != 1 {
				t.Errorf("recoveries %s: %v", c.result, got)
			}
		})
	}
}

// A client that failed to recover and does so at its next return gets nothing
// from the session before, although socket.io-client sends the old offset.
func TestOldOffsetIsNotOfTheNewSession(t *testing.T) {
	srv := newServer(t, recoverable(), rooms)
	n := srv.Of("/")
	c, me := srv.dial(), &session{}
	me.connect(t, c, nil)
	_ = n.Emit("x", 1)
	me.expect(t, c, "1")
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return n.Count() == 0 })
	_ = n.Emit("x", 2)
	me.PID = "AAAAAAAAAAAAAAAAAAAA"
	c = srv.dial()
	if me.connect(t, c, nil) {
		t.Fatal("recovered by a wrong pid")
	}
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return n.Count() == 0 })
	_ = n.Emit("x", 3)
	me.events = nil
	if !me.connect(t, srv.dial(), nil) || fmt.Sprint(me.events) != "[3]" {
		t.Fatalf("%+v", me)
	}
}

// Who joined a room gets nothing from before, now or after a recovery.
func TestRecoveryOfLateJoin(t *testing.T) {
	srv := newServer(t, recoverable(), rooms)
	n := srv.Of("/")
	c, me := srv.dial(), &session{}
	me.connect(t, c, nil)
	accepted := make(chan error)
	for i := range 3 {
		p := &engine.Payload{JSON: fmt.Appendf(nil, `["x",%d]`, i)}
		if err := n.To("r1").EmitPayload(p, func(err error) { accepted <- err }); err != nil {
			t.Fatal(err)
		}
		<-accepted
	}
	me.call(t, c, "join", "r1")
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return n.Count() == 0 })
	_ = n.To("r1").Emit("x", 3)
	if !me.connect(t, srv.dial(), nil) || fmt.Sprint(me.events) != "[3]" {
		t.Fatalf("%+v", me)
	}
}

// A client comes back while its old conn is still open here.
func TestRecoveryReplacesHalfOpenConn(t *testing.T) {
	order := make(chan string, 8)
	srv := newServer(t, recoverable(), func(s *engine.Server) {
		rooms(s)
		s.Of("/").OnConnection(func(s *engine.Socket) { order <- "connect" })
		s.Of("/").OnDisconnect(func(s *engine.Socket, reason string) { order <- reason })
	})
	old, me := srv.dial(), &session{}
	me.connect(t, old, nil)
	me.call(t, old, "join", "r1")
	sid := me.SID
	c := srv.dial()
	if !me.connect(t, c, nil) || me.SID != sid {
		t.Fatalf("not recovered: %+v", me)
	}
	for _, want := range []string{"connect", engine.ReasonForcedServerClose, "connect"} {
		if got := <-order; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if f, _ := old.Next(); f.String() != "close 1005" {
		t.Errorf("the old conn got %v", f)
	}
	_ = srv.Of("/").To("r1").Emit("x", 1)
	me.expect(t, c, "1")
	if got := testutil.ToFloat64(srv.m.Closes[metrics.CloseReplaced]); got != 1 {
		t.Errorf("replaced: %v", got)
	}
	// The end of the old conn was not the end of the session.
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return srv.Of("/").Count() == 0 })
	if !me.connect(t, srv.dial(), nil) || me.SID != sid {
		t.Fatalf("not recovered the second time: %+v", me)
	}
}

// A socket that ended for good stays so.
func TestNoRecoveryAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(srv *server, c *wire.Client, sid string){
		"the client left":   func(_ *server, c *wire.Client, _ string) { c.Text("41") },
		"the server kicked": func(srv *server, _ *wire.Client, sid string) { srv.Of("/").To(sid).DisconnectSockets(false) },
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, recoverable(), rooms)
			c, me := srv.dial(), &session{}
			me.connect(t, c, nil)
			end(srv, c, me.SID)
			eventually(t, "the socket is gone", func() bool { return srv.Of("/").Count() == 0 })
			if me.connect(t, srv.dial(), nil) {
				t.Fatal("recovered")
			}
		})
	}
}

// What was missed is more than one write: a part comes before the answer, the
// rest after it, all of it in order and before what is new.
func TestRecoveryOfMuch(t *testing.T) {
	srv := newServer(t, recoverable(), rooms)
	n := srv.Of("/")
	c, me := srv.dial(), &session{}
	me.connect(t, c, nil)
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return n.Count() == 0 })
	const messages = 600
	body := strings.Repeat("x", 1000)
	for i := range messages {
		_ = n.Emit("x", i, body)
	}
	c = srv.dial()
	if !me.connect(t, c, nil) {
		t.Fatal("not recovered")
	}
	if first := len(me.events); first < 20 || first > 64 {
		t.Errorf("%d messages of 1 kB before the answer, want a write of up to 64 KiB", first)
	}
	for i := range 50 {
		_ = n.Emit("x", messages+i, body)
	}
	for len(me.events) < messages+50 {
		f, err := c.Next()
		if err != nil {
			t.Fatalf("after %d events: %v", len(me.events), err)
		}
		me.event(t, f.String())
	}
	for i, got := range me.events {
		if got != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, got)
		}
	}
}

func TestTooMuchMissed(t *testing.T) {
	cfg := recoverable()
	cfg.OutboxBytes, cfg.MaxPayload = 64<<10, 16<<10
	srv := newServer(t, cfg, rooms)
	n := srv.Of("/")
	c, me := srv.dial(), &session{}
	me.connect(t, c, nil)
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return n.Count() == 0 })
	for i := range 8 {
		_ = n.Emit("x", i, strings.Repeat("x", 10000))
	}
	_ = n.Emit("x", 8)
	if me.connect(t, srv.dial(), nil) || len(me.events) > 0 {
		t.Fatalf("recovered: %d", len(me.events))
	}
	if got := testutil.ToFloat64(srv.m.Recoveries[metrics.RecoveryTooMuch]); got != 1 {
		t.Errorf("too much: %v", got)
	}
}

// Two conns ask for the same session at the same time: one has the socket in the
// end, the other is closed or told, and neither waits for ever.
func TestRecoveryOfOneSessionTwiceAtOnce(t *testing.T) {
	srv := newServer(t, recoverable(), rooms)
	n := srv.Of("/")
	c, me := srv.dial(), &session{}
	me.connect(t, c, nil)
	me.call(t, c, "join", "r1")
	sid, pid := me.SID, me.PID
	_ = c.Conn.Close()
	eventually(t, "the socket is gone", func() bool { return n.Count() == 0 })
	for round := range 10 {
		conns := []*wire.Client{srv.dial(), srv.dial(), srv.dial()}
		for _, c := range conns {
			c.Text(`40{"pid":"` + pid + `"}`)
		}
		var same []*wire.Client
		for _, c := range conns {
			f, err := c.Next()
			for err == nil && strings.HasPrefix(f.String(), "42") { // missed
				f, err = c.Next()
			}
			if err == nil && strings.HasPrefix(f.String(), `40{"sid":"`+sid) {
				same = append(same, c)
			}
		}
		_ = n.To(sid).Emit("x", round)
		got := 0
		for _, c := range same {
			f, err := c.Next()
			for err == nil && strings.HasPrefix(f.String(), "42") {
				if strings.HasPrefix(f.String(), fmt.Sprintf(`42["x",%d,`, round)) {
					got++
					break
				}
				f, err = c.Next()
			}
		}
		if got != 1 {
			t.Fatalf("%d of %d have the socket", got, len(same))
		}
		for _, c := range conns {
			_ = c.Conn.Close()
		}
		eventually(t, "the sockets are gone", func() bool { return n.Count() == 0 })
	}
}
