package test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/websocket"
)

// bytes tests what a client of the edge reads when Node.js servers emit.
func (f *fleet) bytes(t *testing.T) {
	c := wire.Dial(t, f.edge.listener.Addr().String(), "/socket.io/?EIO=4&transport=websocket", nil)
	c.Pong = true
	if open := c.Receive(); !strings.HasPrefix(open, `0{"sid":"`) {
		t.Fatal(open)
	}
	c.Text("40")
	connected := c.Receive()
	match := regexp.MustCompile(`^40\{"sid":"([\w-]{20})"\}$`).FindStringSubmatch(connected)
	if match == nil {
		t.Fatal(connected)
	}
	sid := match[1]
	room, number := f.unique("room"), 3_000_000+int(f.names.Add(1))
	f.perform(t, 2, operation{Op: "enter", SID: sid, Args: []any{room, number}})
	expect := func(want string, attachments ...[]byte) {
		t.Helper()
		c.Expect(want)
		for _, a := range attachments {
			expectBinary(t, c, a)
		}
	}
	for i, rooms := range [][]any{{room}, {number}, {sid}, {room, number}} {
		f.emit(t, i%2, operation{Rooms: rooms, Event: "bin", Args: []any{[]byte{1, 2, 3}, []byte{9, 8}}})
		expect(`452-["bin",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, []byte{1, 2, 3}, []byte{9, 8})
	}
	second := time.UnixMilli(1_700_000_000_000)
	f.emit(t, 1, operation{Rooms: []any{room}, Event: "d", Args: []any{second, nil, second.Add(123 * time.Millisecond), map[string]any{"k": 1}}})
	expect(`42["d","2023-11-14T22:13:20.000Z",null,"2023-11-14T22:13:20.123Z",{"k":1}]`)
	f.emit(t, 1, operation{Rooms: []any{room}, Event: "x", Args: []any{-1, -200, 70000, 1 << 32, -(1<<32 + 1), 1.5, "é€😀"}})
	expect(`42["x",-1,-200,70000,4294967296,-4294967297,1.5,"é€😀"]`)

	// A question, and what the client answers: the first value of several.
	done, err := f.second.start(operation{Op: "ask", Namespace: "/", Rooms: []any{number}, Event: "q", Args: []any{[]byte{5}}, Timeout: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	asked := c.Receive()
	match = regexp.MustCompile(`^451-(\d+)\["q",\{"_placeholder":true,"num":0\}\]$`).FindStringSubmatch(asked)
	if match == nil {
		t.Fatalf("asked %q", asked)
	}
	expectBinary(t, c, []byte{5})
	c.Text(`461-` + match[1] + `[{"b":{"_placeholder":true,"num":0},"n":1.50},"second"]`)
	c.Binary([]byte{6, 7})
	select {
	case r := <-done:
		want := []any{tagged(map[string]any{"b": []byte{6, 7}, "n": 1.5})}
		if got := good[[]any](t, "ask", r); canonical(got) != canonical(want) {
			t.Errorf("answers %s, want %s", canonical(got), canonical(want))
		}
	case <-time.After(patience):
		t.Fatal("the answer has not come")
	}
	f.perform(t, 0, operation{Op: "disconnect", Rooms: []any{sid}})
	c.Expect("41")
}

func expectBinary(t *testing.T, c *wire.Client, want []byte) {
	t.Helper()
	if got, err := c.Next(); err != nil || got.Op != websocket.Binary || got.Data != string(want) {
		t.Fatalf("got %v, %v, want the attachment %x", got, err, want)
	}
}

// works tests that servers, by their numbers, are the whole fleet, and that each
// can ask all others and reach everybody.
func (f *fleet) works(t *testing.T, alive ...int) {
	t.Helper()
	room, event := f.unique("room"), f.unique("event")
	var members []*client
	var names []any
	for _, i := range alive {
		s := f.servers[i]
		f.perform(t, i, operation{Op: "enter", SID: f.clients[i][0].id, Args: []any{room}})
		members = append(members, f.clients[i][0])
		names = append(names, s.name()+"/0")
	}
	for _, i := range alive {
		s := f.servers[i]
		for _, nsp := range []string{"/", "/chat"} {
			r := s.do(operation{Op: "question", Namespace: nsp, Event: "question"})
			if got := good[[]map[string]any](t, "question of "+s.name(), r); len(got) != len(alive)-1 {
				t.Errorf("%s got %d answers of servers in %s, want %d: %v", s.name(), len(got), nsp, len(alive)-1, got)
			}
		}
		f.found(t, i, operation{Rooms: []any{room}}, members...)
		rooms := texts(good[[]any](t, "rooms", s.do(operation{Op: "rooms", Namespace: "/"})))
		for _, c := range members {
			if !slices.Contains(rooms, c.id) {
				t.Errorf("%s does not know the room of %s", s.name(), c.key)
			}
		}
		r := s.do(operation{Op: "ask", Namespace: "/", Rooms: []any{room}, Event: event + "-ask", Timeout: 10_000})
		if got := good[[]any](t, "ask", r); !sameSet(got, names) {
			t.Errorf("%s got answers %v, want %v", s.name(), got, names)
		}
		// After an outage an event may come too early for another server, but none comes twice.
		try := 0
		until(t, "an event everywhere", func() error {
			try++
			f.emit(t, i, operation{Rooms: []any{room}, Event: event, Args: []any{s.name(), try}})
			for _, c := range members {
				if !slices.ContainsFunc(c.named(event), func(e []any) bool { return e[1] == s.name() }) {
					return fmt.Errorf("not at %s", c.key)
				}
			}
			return nil
		})
	}
	for _, i := range alive {
		fence := f.unique("fence")
		f.emit(t, i, operation{Rooms: []any{room}, Event: fence})
		for _, c := range members {
			c.got(t, fence)
		}
	}
	for _, c := range members {
		seen := make(map[string]bool)
		for _, e := range c.named(event) {
			if key := fmt.Sprint(e[1:]); seen[key] {
				t.Errorf("%s got %s twice", c.key, key)
			} else {
				seen[key] = true
			}
		}
	}
}

// cut tests that Pub/Sub connections that are lost, the edge's alone and then
// everybody's, leave no server that is counted twice.
func (f *fleet) cut(t *testing.T) {
	f.works(t, 0, 1, 2)
	if f.edge != nil {
		list := as[string](t, reply{Result: f.first.redis(t, "CLIENT", "LIST", "TYPE", "pubsub")})
		match := regexp.MustCompile(`(?m)^id=(\d+) .*\bname=edge-\S*-ps `).FindAllStringSubmatch(list, -1)
		if len(match) != 1 {
			t.Fatalf("the edge has %d Pub/Sub connections:\n%s", len(match), list)
		}
		f.first.redis(t, "CLIENT", "KILL", "ID", match[0][1])
		f.complete(t)
		f.works(t, 0, 1, 2)
	}
	f.first.redis(t, "CLIENT", "KILL", "TYPE", "pubsub")
	f.complete(t)
	f.works(t, 0, 1, 2)
}

// leave tests that a server that has closed is waited for no longer, and that another may take its place.
func (f *fleet) leave(t *testing.T) {
	gone := f.clients[1]
	if r := f.second.do(operation{Op: "close"}); r.Error != "" {
		t.Fatal(r.Error)
	}
	f.counted(t, 2) // at once: never more
	for _, c := range gone {
		c.got(t, "disconnect")
	}
	f.works(t, 0, 2)

	f.second = startPeer(f.t, "second", f.redisURL, f.specific)
	f.servers[1] = f.second
	f.complete(t)
	for j := range f.clients[1] {
		f.clients[1][j] = f.client(t, f.second, operation{Namespace: "/", Answer: []any{fmt.Sprintf("second/%d", j)}})
	}
	f.works(t, 0, 1, 2)
}

// last tests that the third server, the edge where there is one, leaves as well,
// and that the one that remains is a fleet of its own.
func (f *fleet) last(t *testing.T) {
	if f.edge != nil {
		f.edge.close(t)
	} else {
		f.perform(t, 2, operation{Op: "close"})
	}
	f.counted(t, 1) // at once: never more
	f.works(t, 0)
}

// killed tests a server that hangs, so that requests time out, and is then
// killed: as soon as Redis knows, nobody waits for it.
func (f *fleet) killed(t *testing.T) {
	room := f.unique("room")
	f.enter(t, room)
	f.found(t, 0, operation{Rooms: []any{room}}, f.clients[0][0], f.clients[1][0], f.clients[2][0])
	if err := suspend(f.second.cmd); err != nil {
		t.Skipf("a process cannot be suspended here: %v", err)
	}
	type result struct {
		from server
		what string
		reply
	}
	results := make(chan result, 8)
	for _, i := range []int{0, 2} {
		for what, o := range map[string]operation{
			"fetchSockets": {Op: "fetch", Rooms: []any{room}},
			"allRooms":     {Op: "rooms"},
			"question":     {Op: "question", Event: "question"},
			"ask":          {Op: "ask", Rooms: []any{room}, Event: f.unique("ask"), Timeout: 5_000},
		} {
			o.Namespace = "/"
			s := f.servers[i]
			go func() { results <- result{s, what, s.do(o)} }()
		}
	}
	late := time.After(patience)
	for range cap(results) {
		select {
		case r := <-results:
			f.judgeHanging(t, r.from, r.what, r.reply)
		case <-late:
			t.Fatalf("requests have not ended after %v", patience)
		}
	}
	if err := endGroup(f.second.cmd); err != nil {
		t.Fatal(err)
	}
	<-f.second.ended
	until(t, "Redis to know", func() error {
		if n, m := f.subscribers(t); n != 2 || m != 2 {
			return fmt.Errorf("counted %d and %d", n, m)
		}
		return nil
	})
	f.works(t, 0, 2)
}

// judgeHanging judges what a request came to that one of three servers did not answer.
func (f *fleet) judgeHanging(t *testing.T, from server, what string, r reply) {
	t.Helper()
	text := "timeout reached while waiting for " + what + " response"
	switch what {
	case "question":
		text = "timeout reached: only 1 responses received out of 2"
		if got := as[[]any](t, r); len(got) != 1 {
			t.Errorf("%s: %s got %v", what, from.name(), got)
		}
	case "ask":
		text = from.partial(2, 2, 2, 3)
		if got := as[[]any](t, r); !sameSet(got, []any{"first/0", "third/0"}) {
			t.Errorf("%s: %s got %v", what, from.name(), got)
		}
	case "fetchSockets":
		if got := as[[]found](t, r); from == server(f.edge) && len(got) != 2 { // Node.js has no partial result
			t.Errorf("%s: %s got %v", what, from.name(), got)
		}
	}
	if r.Error != text {
		t.Errorf("%s: %s got error %q, want %q", what, from.name(), r.Error, text)
	}
}
