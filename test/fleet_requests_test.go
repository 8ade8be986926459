package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// find makes a server fetch sockets.
func (f *fleet) find(t *testing.T, from int, o operation) []found {
	t.Helper()
	o.Op = "fetch"
	if o.Namespace == "" {
		o.Namespace = "/"
	}
	return good[[]found](t, "fetch from "+f.servers[from].name(), f.servers[from].do(o))
}

// found waits until a server finds these sockets and no others.
func (f *fleet) found(t *testing.T, from int, o operation, want ...*client) {
	t.Helper()
	f.foundIn(t, from, o, want)
}

func (f *fleet) foundIn(t *testing.T, from int, o operation, want []*client) {
	t.Helper()
	ids := make([]string, len(want))
	for i, c := range want {
		ids[i] = c.id
	}
	slices.Sort(ids)
	until(t, "sockets to be found", func() error {
		var got []string
		for _, s := range f.find(t, from, o) {
			got = append(got, s.ID)
		}
		if slices.Sort(got); !slices.Equal(got, ids) {
			return fmt.Errorf("got %q, want %q", got, ids)
		}
		return nil
	})
}

// fetch tests who is found, and what is told about them.
func (f *fleet) fetch(t *testing.T, from int) {
	room, number := f.unique("room"), 1_000_000+int(f.names.Add(1))
	members := f.enter(t, room)
	f.enter(t, number)
	f.found(t, from, operation{Rooms: []any{room}}, members...)
	f.found(t, from, operation{Rooms: []any{room, members[0].id}}, members...)
	f.found(t, from, operation{Rooms: []any{room}, Except: []any{members[2].id}}, members[:2]...)
	f.found(t, from, operation{Rooms: []any{members[1].id}}, members[1])
	f.found(t, from, operation{Rooms: []any{f.unique("nobody")}})
	f.found(t, from, operation{Rooms: []any{room}, Flags: []string{"local"}}, members[from])
	all := f.find(t, from, operation{})
	for _, c := range f.everybody() {
		n := 0
		for _, s := range all {
			if s.ID == c.id {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is found %d times", c.key, n)
		}
	}
	for _, s := range f.find(t, from, operation{Rooms: []any{room}}) {
		i := slices.IndexFunc(members, func(c *client) bool { return c.id == s.ID })
		f.describedWell(t, i, s, room, number)
	}
}

// describedWell tests the description of the first client of server i.
func (f *fleet) describedWell(t *testing.T, i int, s found, room string, number int) {
	t.Helper()
	rooms := texts(s.Rooms)
	if len(rooms) < 3 || rooms[0] != s.ID || !slices.Contains(rooms, room) ||
		!slices.ContainsFunc(rooms, func(r string) bool { return sameRoom(r, fmt.Sprint(number)) }) {
		t.Errorf("%s has rooms %q", s.ID, rooms)
	}
	if s.Data["server"] != f.servers[i].name() || s.Data["client"] != f.clients[i][0].key {
		t.Errorf("%s has data %v", s.ID, s.Data)
	}
	var h struct {
		Headers map[string]any
		Time    string
		Address string
		XDomain *bool
		Secure  *bool
		Issued  float64
		URL     string
		Query   map[string]any
		Auth    map[string]any
	}
	if err := json.Unmarshal(s.Handshake, &h); err != nil {
		t.Fatalf("handshake %s: %v", s.Handshake, err)
	}
	if h.Headers["upgrade"] != "websocket" || h.Time == "" || !strings.HasSuffix(h.Address, "127.0.0.1") || h.XDomain == nil || *h.XDomain ||
		h.Secure == nil || *h.Secure || h.Issued == 0 || !strings.HasPrefix(h.URL, "/socket.io/?") || h.Query["EIO"] != "4" ||
		h.Query["transport"] != "websocket" || h.Auth["client"] != f.clients[i][0].key {
		t.Errorf("handshake of %s: %s", f.clients[i][0].key, s.Handshake)
	}
}

// joinAndLeave tests moves of sockets of all servers.
func (f *fleet) joinAndLeave(t *testing.T, from int) {
	room, a, b := f.unique("room"), f.unique("a"), f.unique("b")
	members := f.enter(t, room)
	watcher := (from + 1) % len(f.servers) // another server sees the same
	f.perform(t, from, operation{Op: "join", Rooms: []any{room}, Except: []any{members[1].id}, Args: []any{a, b}})
	for _, s := range []int{from, watcher} {
		f.found(t, s, operation{Rooms: []any{a}}, members[0], members[2])
		f.found(t, s, operation{Rooms: []any{b}}, members[0], members[2])
	}
	event := f.unique("event")
	until(t, "an event in the new room", func() error { // an edge's subscription may follow the request
		f.emit(t, from, operation{Rooms: []any{a}, Event: event})
		for _, c := range []*client{members[0], members[2]} {
			if len(c.named(event)) == 0 {
				return fmt.Errorf("not at %s", c.key)
			}
		}
		return nil
	})
	f.perform(t, from, operation{Op: "leave", Rooms: []any{a}, Except: []any{members[0].id}, Args: []any{a}})
	for _, s := range []int{from, watcher} {
		f.found(t, s, operation{Rooms: []any{a}}, members[0])
		f.found(t, s, operation{Rooms: []any{b}}, members[0], members[2])
	}
	f.perform(t, from, operation{Op: "join", Rooms: []any{members[1].id}, Flags: []string{"local"}, Args: []any{a}})
	f.perform(t, from, operation{Op: "leave", Args: []any{b}})
	f.found(t, watcher, operation{Rooms: []any{b}})
	want := []*client{members[0]}
	if from == 1 {
		want = append(want, members[1])
	}
	f.found(t, watcher, operation{Rooms: []any{a}}, want...)
	after := f.unique("event")
	f.emit(t, from, operation{Rooms: []any{b}, Event: after})
	f.fence(t, from)
	for _, c := range members {
		if len(c.named(after)) > 0 {
			t.Errorf("%s has left and got an event", c.key)
		}
	}
}

// disconnect tests that sockets of all servers can be sent away.
func (f *fleet) disconnect(t *testing.T, from int) {
	for _, closeConn := range []bool{false, true} {
		room, spared := f.unique("room"), f.unique("spared")
		var gone []*client
		var stays *client
		for i, s := range f.servers {
			c := f.client(t, s, operation{Namespace: "/"})
			f.perform(t, i, operation{Op: "enter", SID: c.id, Args: []any{room}})
			gone = append(gone, c)
			if i == (from+1)%len(f.servers) {
				stays = f.client(t, s, operation{Namespace: "/"})
				f.perform(t, i, operation{Op: "enter", SID: stays.id, Args: []any{room, spared}})
			}
		}
		f.perform(t, from, operation{Op: "disconnect", Rooms: []any{room}, Except: []any{spared}, Close: closeConn})
		for _, c := range gone {
			reason := c.got(t, "disconnect")[0]
			if reason != "io server disconnect" && (!closeConn || reason != "transport close") {
				t.Errorf("close %v: %s was disconnected with %q", closeConn, c.key, reason)
			}
		}
		f.found(t, from, operation{Rooms: []any{room}}, stays)
		f.perform(t, from, operation{Op: "disconnect", Rooms: []any{stays.id}, Close: closeConn})
		stays.got(t, "disconnect")
	}
}

// remoteSockets tests the methods of sockets that fetchSockets returned.
func (f *fleet) remoteSockets(t *testing.T, from int) {
	for _, s := range f.servers {
		room, event := f.unique("room"), f.unique("event")
		c := f.client(t, s, operation{Namespace: "/"})
		do := func(method string, args ...any) {
			t.Helper()
			f.perform(t, from, operation{Op: "remote", SID: c.id, Method: method, Args: args})
		}
		do("emit", event, []byte{7}, "x")
		if got := canonical(c.got(t, event)); got != canonical(received([]any{[]byte{7}, "x"})) {
			t.Errorf("%s got %s", c.key, got)
		}
		do("join", room)
		f.found(t, from, operation{Rooms: []any{room}}, c)
		do("leave", room)
		f.found(t, from, operation{Rooms: []any{room}})
		do("disconnect", from == 1)
		c.got(t, "disconnect")
	}
}

// acks tests broadcasts that clients acknowledge.
func (f *fleet) acks(t *testing.T, from int) {
	room, event := f.unique("room"), f.unique("ask")
	members := f.enter(t, room)
	ask := func(o operation) reply {
		t.Helper()
		o.Op, o.Namespace, o.Timeout = "ask", "/", 10_000
		if o.Event == "" {
			o.Event = event
		}
		return f.servers[from].do(o)
	}
	tests := map[string]struct {
		operation
		want []any
	}{
		"room":   {operation{Rooms: []any{room}, Args: kinds()}, []any{"first/0", "second/0", "third/0"}},
		"except": {operation{Rooms: []any{room}, Except: []any{members[from].id}}, withoutOne([]any{"first/0", "second/0", "third/0"}, from)},
		"rooms":  {operation{Rooms: []any{room, f.clients[1][1].id}}, []any{"first/0", "second/0", "third/0", "second/1"}},
		"nobody": {operation{Rooms: []any{f.unique("nobody")}}, []any{}},
		"local":  {operation{Rooms: []any{room}, Flags: []string{"local"}}, []any{f.servers[from].name() + "/0"}},
	}
	if f.servers[from] != server(f.edge) {
		delete(tests, "local") // Node.js waits for the other servers in vain
	}
	for name, tt := range tests {
		if got := good[[]any](t, name, ask(tt.operation)); !sameSet(got, tt.want) {
			t.Errorf("%s: answers %v, want %v", name, got, tt.want)
		}
	}
	for _, c := range members { // what was asked arrived whole
		for _, e := range c.events.all(func(e []any) bool { return e[0] == event && len(e) > 1 }) {
			if got, want := canonical(e[1:]), canonical(received(kinds())); got != want {
				t.Errorf("%s was asked %s, want %s", c.key, got, want)
			}
		}
	}

	// Answers of every kind: structures, binary, and none at all.
	special := f.unique("special")
	deep := map[string]any{"a": []any{1.5, nil, "😀"}}
	for i, s := range f.servers {
		answer := [][]any{{deep}, {[]byte{0, 255}}, {}}[(i+from)%3]
		c := f.client(t, s, operation{Namespace: "/", Answer: answer})
		f.perform(t, i, operation{Op: "enter", SID: c.id, Args: []any{special}})
	}
	want := []any{deep, tagged([]byte{0, 255}), nil}
	if f.servers[from] == server(f.edge) {
		want[1] = nil // EmitWithAck has JSON only
	}
	if got := good[[]any](t, "special", ask(operation{Rooms: []any{special}})); !sameSet(got, want) {
		t.Errorf("answers %s, want %s", canonical(got), canonical(want))
	}
}

func withoutOne(list []any, i int) []any { return slices.Delete(slices.Clone(list), i, i+1) }

// serverSide tests events between servers: the others hear them, not the one that sent them.
func (f *fleet) serverSide(t *testing.T, from int) {
	args := []any{f.unique("note"), 1, map[string]any{"a": []any{nil, 1.5}}}
	f.perform(t, from, operation{Op: "tell", Event: "note", Args: args})
	mine := func(n note) bool { return len(n.Args) > 0 && n.Args[0] == args[0] }
	r := f.servers[from].do(operation{Op: "question", Namespace: "/", Event: "question", Args: args}) // comes after the note
	var want []any
	for i, s := range f.servers {
		if i == from {
			continue
		}
		want = append(want, map[string]any{"server": s.name(), "nsp": "/", "args": received(args)})
		if got := s.heard().wait(t, "a note at "+s.name(), 1, mine); len(got) != 1 || canonical(got[0].Args) != canonical(received(args)) || got[0].Namespace != "/" {
			t.Errorf("%s heard %v", s.name(), got)
		}
	}
	if got := good[[]any](t, "question", r); !sameSet(got, want) {
		t.Errorf("answers %s, want %s", canonical(got), canonical(want))
	}
	if got := f.servers[from].heard().all(mine); len(got) > 0 {
		t.Errorf("%s heard itself: %v", f.servers[from].name(), got)
	}
}

// atOnce tests many requests of all servers at the same time: each gets all its
// answers, and none of another's.
func (f *fleet) atOnce(t *testing.T) {
	type result struct {
		from server
		op   operation
		reply
	}
	const times = 8
	results := make(chan result)
	requests := 0
	for i := range times {
		room := f.unique("room")
		f.enter(t, room)
		for _, s := range f.servers {
			for _, o := range []operation{
				{Op: "fetch", Rooms: []any{room}},
				{Op: "rooms"},
				{Op: "question", Event: "question", Args: []any{i}},
				{Op: "ask", Rooms: []any{room}, Event: f.unique("ask"), Timeout: 10_000},
			} {
				o.Namespace = "/"
				requests++
				go func() { results <- result{s, o, s.do(o)} }()
			}
		}
	}
	want := map[string]int{"fetch": 3, "question": 2, "ask": 3}
	for range requests {
		r := <-results // do has a deadline
		got := good[[]any](t, r.op.Op+" of "+r.from.name(), r.reply)
		if n, exact := want[r.op.Op]; exact && len(got) != n || len(got) < 2 {
			t.Errorf("%s of %s: %d results, want %d", r.op.Op, r.from.name(), len(got), n)
		}
	}
}
