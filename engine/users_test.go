package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/socketio"
)

// withUsers is an application whose sockets say in auth.user who they are.
func withUsers(srv *engine.Server) {
	n := srv.Of("/")
	n.Use(func(s *engine.Socket, next func(error)) {
		var auth struct{ User string }
		_ = json.Unmarshal(s.Auth(), &auth)
		s.SetUser(auth.User)
		next(nil)
	})
	n.Recover(engine.Recoverer{Authenticate: func(s *engine.Socket, done func(user string, err error)) {
		var auth struct{ User string }
		err := json.Unmarshal(s.Auth(), &auth)
		done(auth.User, err)
	}})
	n.On("join", func(s *engine.Socket, e *engine.Event) {
		var room string
		_ = json.Unmarshal(e.Raw(0), &room)
		s.Join(room, func(error) { _ = e.Ack() })
	})
}

// as connects a socket of a user and returns it with its ids.
func (s *server) as(auth string) (c *wire.Client, sid, pid string) {
	s.t.Helper()
	c = s.dial()
	c.Text("40" + auth)
	var connected struct{ SID, PID string }
	if reply := c.Receive(); !strings.HasPrefix(reply, "40") || json.Unmarshal([]byte(reply[2:]), &connected) != nil {
		s.t.Fatalf("CONNECT of %s answered %s", auth, reply)
	}
	return c, connected.SID, connected.PID
}

// A user's room has all of the user's sockets, of this namespace, as long as they
// are connected, and nobody else; nobody is listed as its member.
func TestUserRooms(t *testing.T) {
	for _, recovery := range []*engine.Recovery{nil, {}} {
		t.Run(fmt.Sprintf("recovery %v", recovery != nil), func(t *testing.T) {
			s := newServer(t, engine.Config{UserRooms: "user:", Recovery: recovery}, withUsers)
			n := s.Of("/")
			s.Of("/other").Use(func(s *engine.Socket, next func(error)) { s.SetUser("ada"); next(nil) })
			first, firstID, _ := s.as(`{"user":"ada"}`)
			second, _, _ := s.as(`{"user":"ada"}`)
			third, _, _ := s.as(`{"user":"ada"}`)
			bob, _, _ := s.as(`{"user":"bob"}`)
			nobody, nobodyID, _ := s.as(``)
			third.Text("40/other,")
			third.Receive()
			all := []*wire.Client{first, second, third, bob, nobody}
			number := 0
			reaches := func(b engine.Broadcast, want ...*wire.Client) {
				t.Helper()
				number++
				if err := b.Emit("e", number); err != nil {
					t.Fatal(err)
				}
				if err := n.Emit("end", number); err != nil {
					t.Fatal(err)
				}
				for i, c := range all {
					got := c.Receive()
					for got == "2" {
						got = c.Receive()
					}
					has := strings.HasPrefix(got, fmt.Sprintf(`42["e",%d`, number))
					if has {
						got = c.Receive()
					}
					if !strings.HasPrefix(got, fmt.Sprintf(`42["end",%d`, number)) {
						t.Fatalf("client %d got %s", i, got)
					}
					if has != slices.Contains(want, c) {
						t.Errorf("message %d: client %d got it: %v", number, i, has)
					}
				}
			}
			reaches(n.To("user:ada"), first, second, third)
			reaches(n.To("user:bob"), bob)
			reaches(n.To("user:eve"))
			reaches(n.To("user:"))
			reaches(n.To("user:"+nobodyID), nobody)
			reaches(n.To("user:"+firstID), []*wire.Client{}...) // it is ada's
			reaches(n.To("user:ada", firstID, "user:bob"), first, second, third, bob)
			reaches(n.Except("user:ada"), bob, nobody)
			reaches(n.To("user:ada").Local(), first, second, third)

			found := make(chan []engine.RemoteSocket, 1)
			n.To("user:ada").FetchSockets(func(r []engine.RemoteSocket, err error) { found <- r })
			if r := <-found; len(r) != 3 || len(r[0].Rooms) != 1 {
				t.Errorf("sockets of ada: %+v", r)
			}
			_ = second.Conn.Close()
			_ = third.Conn.Close()
			all = []*wire.Client{first, bob, nobody}
			eventually(t, "two of ada's are gone", func() bool { return n.Count() == 3 })
			reaches(n.To("user:ada"), first)
			n.To("user:ada").DisconnectSockets(false)
			first.Expect("41")
			all = all[1:]
			reaches(n.To("user:ada"))
		})
	}
}

// What was sent to a user while its client was away is replayed, and what excepted it is not.
func TestUserRoomsAreReplayed(t *testing.T) {
	s := newServer(t, engine.Config{UserRooms: "user:", Recovery: &engine.Recovery{}}, withUsers)
	n := s.Of("/")
	c, sid, pid := s.as(`{"user":"ada"}`)
	_ = n.To("user:ada").Emit("e", 0)
	event := c.Receive()
	var args []json.RawMessage
	var offset string
	if err := json.Unmarshal([]byte(event[2:]), &args); err != nil || json.Unmarshal(args[len(args)-1], &offset) != nil {
		t.Fatal(event)
	}
	if _, ok := socketio.ParseOffset(offset); !ok {
		t.Fatalf("%s has no offset", event)
	}
	_ = c.Conn.Close()
	eventually(t, "away", func() bool { return n.Count() == 0 })
	_ = n.To("user:bob").Emit("e", 1)
	_ = n.To("user:ada").Emit("e", 2)
	_ = n.Except("user:ada").Emit("e", 3)
	accepted := make(chan error, 1)
	if err := n.To("user:ada", sid).EmitPayload(&engine.Payload{JSON: []byte(`["e",4]`)}, func(err error) { accepted <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}

	back := s.dial()
	back.Text(fmt.Sprintf(`40{"user":"ada","pid":%q,"offset":%q}`, pid, offset))
	var got []string
	for len(got) == 0 || got[len(got)-1] != "connected" {
		switch p := back.Receive(); {
		case strings.HasPrefix(p, `42["e",`):
			got = append(got, p[7:8])
		case strings.HasPrefix(p, "40"):
			got = append(got, "connected")
		}
	}
	if want := []string{"2", "4", "connected"}; !slices.Equal(got, want) {
		t.Errorf("replayed %q, want %q", got, want)
	}
	_ = n.To("user:ada").Emit("e", 5)
	if p := back.Receive(); !strings.HasPrefix(p, `42["e",5`) {
		t.Errorf("after the return: %s", p)
	}
}

// Of several events with the same text the first is delivered; those that are
// another event are refused.
func TestOnceOf(t *testing.T) {
	s := newServer(t, engine.Config{Recovery: &engine.Recovery{}}, withUsers)
	c, sid, _ := s.as(``)
	emit := func(n int, text, digest string) error {
		t.Helper()
		done := make(chan error, 1)
		p := &engine.Payload{JSON: fmt.Appendf(nil, `["e",%d]`, n)}
		if err := s.Of("/").To(sid).OnceOf(text, digest).EmitPayload(p, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		return <-done
	}
	for i, e := range []struct {
		text, digest string
		want         error
	}{{"k", "A", nil}, {"k", "A", nil}, {"k", "B", socketio.ErrOnceConflict}, {"l", "B", nil}} {
		if err := emit(i, e.text, e.digest); !errors.Is(err, e.want) {
			t.Errorf("event %d: %v, want %v", i, err, e.want)
		}
	}
	for _, want := range []string{`42["e",0,`, `42["e",3,`} {
		if got := c.Receive(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s…", got, want)
		}
	}
}
