package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
)

func TestDynamicNamespaces(t *testing.T) {
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		srv.OfFunc(func(name string, auth json.RawMessage) bool { return strings.HasPrefix(name, "/room-") },
			func(n *engine.Namespace) {
				n.On("where", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.Namespace().Name()) })
			})
	})
	c := s.dial()
	c.Text("40/room-7,")
	if r := c.Receive(); !strings.HasPrefix(r, `40/room-7,{"sid":"`) {
		t.Fatal(r)
	}
	c.Text(`42/room-7,1["where"]`)
	c.Expect(`43/room-7,1["/room-7"]`)
	c.Text("40/other,")
	c.Expect(`44/other,{"message":"Invalid namespace"}`)
}

func TestCatchAllAndSocketHandlers(t *testing.T) {
	seen := make(chan string, 10)
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		n := srv.Of("/")
		n.OnAny(func(_ *engine.Socket, e *engine.Event) { seen <- e.Name() })
		n.On("who", func(_ *engine.Socket, e *engine.Event) { _ = e.Ack("namespace") })
		n.On("mine", func(s *engine.Socket, e *engine.Event) {
			s.On("who", func(_ *engine.Socket, e *engine.Event) { _ = e.Ack("socket") })
			_ = e.Ack()
		})
	})
	c, _ := s.join()
	c.Text(`421["who"]`, `422["mine"]`, `423["who"]`, `42["other"]`)
	c.Expect(`431["namespace"]`, `432[]`, `433["socket"]`)
	for _, want := range []string{"who", "mine", "who", "other"} {
		if got := <-seen; got != want {
			t.Errorf("catch-all saw %q, want %q", got, want)
		}
	}
}

func TestFleetOperations(t *testing.T) {
	s := newServer(t, engine.Config{KeepHeaders: true}, func(srv *engine.Server) {
		srv.Of("/").OnConnection(func(s *engine.Socket) { s.SetData(map[string]int{"n": 1}) })
	})
	n := s.Of("/")
	clients := map[string]*wire.Client{}
	for range 3 {
		c, id := s.join()
		clients[id] = c
	}
	var first string
	for id := range clients {
		first = id
		break
	}
	fetch := func(b engine.Broadcast) []engine.RemoteSocket {
		t.Helper()
		type result struct {
			r   []engine.RemoteSocket
			err error
		}
		done := make(chan result, 1)
		b.FetchSockets(func(r []engine.RemoteSocket, err error) { done <- result{r, err} })
		got := <-done
		if got.err != nil {
			t.Fatal(got.err)
		}
		return got.r
	}
	eventually(t, "everybody's data", func() bool { // a client is told of its connection before there is any
		return !slices.ContainsFunc(fetch(n.To()), func(r engine.RemoteSocket) bool { return string(r.Data) != `{"n":1}` })
	})
	if got := fetch(n.To()); len(got) != 3 || clients[got[0].ID] == nil || string(got[0].Data) != `{"n":1}` || !json.Valid(got[0].Handshake) || !slices.Equal(got[0].Rooms, []string{got[0].ID}) {
		t.Errorf("everybody: %+v", got)
	}
	n.To(first).SocketsJoin("a", "b")
	eventually(t, "joined", func() bool { return len(fetch(n.To("a", "b"))) == 1 })
	n.Except("a").SocketsJoin("c")
	eventually(t, "others joined", func() bool { return len(fetch(n.To("c"))) == 2 })
	n.To("a").SocketsLeave("b")
	eventually(t, "left", func() bool { return len(fetch(n.To("b"))) == 0 })
	rooms := make(chan []string, 1)
	n.AllRooms(func(r []string, _ error) { rooms <- r })
	if r := <-rooms; len(r) != 5 || !slices.Contains(r, "a") || !slices.Contains(r, "c") || !slices.Contains(r, first) {
		t.Errorf("rooms %v", r)
	}

	type answer struct {
		list []*engine.Ack
		err  error
	}
	answers := make(chan answer, 1)
	ask := func(timeout time.Duration) {
		t.Helper()
		err := n.To("c").EmitWithAck(timeout, func(a []*engine.Ack, err error) { answers <- answer{a, err} }, "ask", 1)
		if err != nil {
			t.Fatal(err)
		}
	}
	reply := func(c *wire.Client, i int) {
		r := c.Receive()
		var id int
		if _, err := fmt.Sscanf(r, "42%d[", &id); err != nil || !strings.HasSuffix(r, `["ask",1]`) {
			t.Fatalf("asked %q", r)
		}
		c.Text(fmt.Sprintf(`43%d[{"i":%d}]`, id, i))
	}
	ask(wire.Timeout)
	i := 0
	for id, c := range clients {
		if id != first {
			reply(c, i)
			i++
		}
	}
	if a := <-answers; a.err != nil || len(a.list) != 2 {
		t.Errorf("answers %v, %v", a.list, a.err)
	}
	ask(wire.Timeout)
	for id, c := range clients {
		if id != first {
			var n int
			if _, err := fmt.Sscanf(c.Receive(), "42%d[", &n); err != nil {
				t.Fatal(err)
			}
			c.Text(fmt.Sprintf(`461-%d[{"_placeholder":true,"num":0}]`, n))
			c.Binary([]byte("abc"))
		}
	}
	if a := <-answers; a.err != nil || len(a.list) != 2 {
		t.Errorf("binary answers %v, %v", a.list, a.err)
	} else {
		for _, ack := range a.list {
			var b []byte
			if err := ack.Bind(0, &b); err != nil || string(b) != "abc" {
				t.Errorf("binary answer %q, %v", b, err)
			}
		}
	}
	ask(30 * time.Millisecond)
	if a := <-answers; !errors.Is(a.err, engine.ErrAckTimeout) || len(a.list) != 0 {
		t.Errorf("answers %v, %v", a.list, a.err)
	}
	n.To(first).DisconnectSockets(false)
	clients[first].Expect("41")
	eventually(t, "gone", func() bool { return n.Count() == 2 })
}
