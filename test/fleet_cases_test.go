package test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// kinds are arguments of every kind that Socket.IO knows.
func kinds() []any {
	when := time.UnixMilli(1_700_000_000_123)
	return []any{
		"text 😀 \u2028 é \"\\", 1, -1, 1.5, 1<<53 - 1, -(1 << 40), true, nil, []any{}, map[string]any{},
		[]byte{0, 1, 255}, when, map[string]any{"deep": []any{[]byte("x"), when, map[string]any{"": nil}}}, []byte{},
	}
}

// broadcasts tests what events carry.
func (f *fleet) broadcasts(t *testing.T, from int) {
	room, event := f.unique("room"), f.unique("kinds")
	members := f.enter(t, room)
	for _, o := range []operation{{}, {Rooms: []any{room}}, {Rooms: []any{room}, Flags: []string{"uncompressed"}}} {
		o.Event, o.Args = event, kinds()
		f.emit(t, from, o)
	}
	want := canonical(received(kinds()))
	for _, c := range f.everybody() {
		n := 1
		if slices.Contains(members, c) {
			n = 3
		}
		for _, got := range c.events.wait(t, event+" at "+c.key, n, isEvent(event)) {
			if text := canonical(got[1:]); text != want {
				t.Errorf("%s got %s, want %s", c.key, text, want)
			}
		}
	}
	volatile := f.unique("volatile")
	until(t, "a volatile event everywhere", func() error {
		f.emit(t, from, operation{Rooms: []any{room}, Flags: []string{"volatile"}, Event: volatile, Args: []any{[]byte("v")}})
		for _, c := range members {
			if len(c.named(volatile)) == 0 {
				return fmt.Errorf("not at %s", c.key)
			}
		}
		return nil
	})
}

// targets tests whom events reach: all that are selected, once, and nobody else.
func (f *fleet) targets(t *testing.T, from int) {
	one, two, quiet := f.unique("one"), f.unique("two"), f.unique("quiet")
	f.enter(t, one)
	for i := range f.servers {
		f.perform(t, i, operation{Op: "enter", SID: f.clients[i][1].id, Args: []any{two}})
	}
	f.perform(t, 1, operation{Op: "enter", SID: f.clients[1][0].id, Args: []any{two, quiet}})
	c := f.clients
	firsts, seconds := []*client{c[0][0], c[1][0], c[2][0]}, []*client{c[0][1], c[1][1], c[2][1]}
	tests := map[string]struct {
		operation
		want []*client
	}{
		"all":            {operation{}, f.everybody()},
		"room":           {operation{Rooms: []any{one}}, firsts},
		"rooms":          {operation{Rooms: []any{one, two}}, f.everybody()},
		"unknown room":   {operation{Rooms: []any{f.unique("nobody")}}, nil},
		"except room":    {operation{Except: []any{one}}, seconds},
		"room - room":    {operation{Rooms: []any{two}, Except: []any{quiet}}, seconds},
		"room - sockets": {operation{Rooms: []any{one}, Except: []any{c[0][0].id, c[2][0].id, f.unique("nobody")}}, firsts[1:2]},
		"socket 0":       {operation{Rooms: []any{c[0][1].id}}, seconds[:1]},
		"socket 1":       {operation{Rooms: []any{c[1][1].id}}, seconds[1:2]},
		"socket 2":       {operation{Rooms: []any{c[2][1].id}}, seconds[2:]},
		"sockets":        {operation{Rooms: []any{c[2][0].id, c[1][0].id, c[2][0].id}}, firsts[1:]},
		"local":          {operation{Flags: []string{"local"}}, c[from][:]},
		"local room":     {operation{Flags: []string{"local"}, Rooms: []any{one}}, c[from][:1]},
	}
	events := make(map[string]string) // by test
	for name, tt := range tests {
		events[name] = f.unique("event")
		tt.Event, tt.Args = events[name], []any{name}
		f.emit(t, from, tt.operation)
		for _, member := range tt.want {
			member.got(t, events[name])
		}
	}
	f.fence(t, from)
	for name, tt := range tests {
		for _, member := range f.everybody() {
			want := 0
			if slices.Contains(tt.want, member) {
				want = 1
			}
			if n := len(member.named(events[name])); n != want {
				t.Errorf("%s: %s got the event %d times, want %d", name, member.key, n, want)
			}
		}
	}
}

// order tests that events of one server come in order.
func (f *fleet) order(t *testing.T, from int) {
	room, event := f.unique("room"), f.unique("event")
	members := f.enter(t, room)
	const n = 60
	for i := range n {
		o := operation{Rooms: []any{room}, Event: event, Args: []any{i}}
		if i%3 == 1 { // another channel
			o.Rooms = []any{room, "other"}
		}
		f.emit(t, from, o)
	}
	for _, c := range members {
		for i, e := range c.events.wait(t, event+" at "+c.key, n, isEvent(event)) {
			if e[1] != float64(i) {
				t.Fatalf("%s got number %v in place %d", c.key, e[1], i)
			}
		}
	}
}

// numericRooms tests rooms that Node.js servers name by a number. On an edge a
// room's name is text; Node.js tells 42 from "42".
func (f *fleet) numericRooms(t *testing.T, from int) {
	base := 1_000 + int(f.names.Add(1))
	for _, number := range []any{base, -base, 0.5 + float64(base), 1<<40 + base} {
		f.numericRoom(t, from, number)
	}
	if _, byNumber := f.servers[from].(*peer); !byNumber {
		return // an edge has no numbers
	}
	// Moving sockets into such a room and out of it.
	members, room := f.clients, 500_000+base
	f.perform(t, from, operation{Op: "join", Rooms: []any{members[0][0].id, members[2][0].id}, Args: []any{room}})
	f.found(t, from, operation{Rooms: []any{room}}, members[0][0], members[2][0])
	f.perform(t, from, operation{Op: "leave", Rooms: []any{members[2][0].id}, Args: []any{room}})
	f.found(t, from, operation{Rooms: []any{room}}, members[0][0])
}

func (f *fleet) numericRoom(t *testing.T, from int, number any) {
	t.Helper()
	f.enter(t, number)
	text := fmt.Sprint(number)
	_, byNumber := f.servers[from].(*peer)
	members := []*client{f.clients[0][0], f.clients[1][0], f.clients[2][0]}
	var asText []*client
	if f.edge != nil {
		asText = members[2:]
	}
	for _, tt := range []struct {
		room   any
		want   []*client
		number bool
	}{{number, members, true}, {text, asText, false}} {
		if tt.number && !byNumber {
			continue // an edge has no numbers
		}
		event := f.unique("event")
		f.emit(t, from, operation{Rooms: []any{tt.room}, Event: event})
		f.emit(t, from, operation{Rooms: []any{tt.room, f.unique("other")}, Event: event})
		f.fence(t, from)
		for _, c := range f.everybody() {
			want := 0
			if slices.Contains(tt.want, c) {
				want = 2
			}
			if n := len(c.named(event)); n != want {
				t.Errorf("room %#v: %s got the event %d times, want %d", tt.room, c.key, n, want)
			}
		}
		f.found(t, from, operation{Rooms: []any{tt.room}}, tt.want...)
		f.found(t, from, operation{Rooms: []any{f.clients[0][0].id, f.clients[2][0].id}, Except: []any{tt.room}},
			without(members, append(slices.Clone(tt.want), members[1])...)...)
		var answers []any
		for i, c := range members {
			if slices.Contains(tt.want, c) {
				answers = append(answers, f.servers[i].name()+"/0")
			}
		}
		r := f.servers[from].do(operation{Op: "ask", Namespace: "/", Rooms: []any{tt.room}, Event: event, Timeout: 10_000})
		if got := good[[]any](t, "ask", r); !sameSet(got, answers) {
			t.Errorf("room %#v: answers %v, want %v", tt.room, got, answers)
		}
	}
}

func without(list []*client, gone ...*client) []*client {
	return slices.DeleteFunc(slices.Clone(list), func(c *client) bool { return slices.Contains(gone, c) })
}

// namespaces tests that they have nothing to do with each other.
func (f *fleet) namespaces(t *testing.T, from int) {
	room, event := f.unique("room"), f.unique("event")
	f.enter(t, room)
	for i := range f.servers {
		f.perform(t, i, operation{Op: "enter", Namespace: "/chat", SID: f.chat[i].id, Args: []any{room}})
	}
	f.emit(t, from, operation{Namespace: "/chat", Rooms: []any{room}, Event: event, Args: []any{[]byte("c")}})
	f.emit(t, from, operation{Namespace: "/chat", Event: event})
	for _, c := range f.chat {
		c.events.wait(t, event+" at "+c.key, 2, isEvent(event))
	}
	f.fence(t, from)
	for _, c := range f.everybody() {
		if n := len(c.named(event)); n > 0 {
			t.Errorf("%s of / got an event of /chat", c.key)
		}
	}
	chat := f.chat[:]
	f.foundIn(t, from, operation{Namespace: "/chat", Rooms: []any{room}}, chat)
	f.foundIn(t, from, operation{Namespace: "/chat"}, chat)
	r := f.servers[from].do(operation{Op: "ask", Namespace: "/chat", Event: event, Timeout: 10_000})
	if got := good[[]any](t, "ask", r); !sameSet(got, []any{"first", "second", "third"}) {
		t.Errorf("answers %v", got)
	}
	r = f.servers[from].do(operation{Op: "rooms", Namespace: "/chat"})
	rooms := texts(good[[]any](t, "rooms", r))
	if !slices.Contains(rooms, room) || slices.Contains(rooms, f.clients[0][0].id) || !slices.Contains(rooms, f.chat[2].id) {
		t.Errorf("rooms of /chat: %v", rooms)
	}
	r = f.servers[from].do(operation{Op: "question", Namespace: "/chat", Event: "question"})
	if got := good[[]map[string]any](t, "question", r); len(got) != 2 || got[0]["nsp"] != "/chat" || got[1]["nsp"] != "/chat" {
		t.Errorf("answers of servers %v", got)
	}
	f.partOfFleet(t, from)
}

// partOfFleet tests a namespace that only Node.js servers have: nobody waits for the edge.
func (f *fleet) partOfFleet(t *testing.T, from int) {
	t.Helper()
	if f.servers[from] == server(f.edge) {
		return
	}
	others := 2
	if f.edge != nil {
		others = 1
	}
	r := f.servers[from].do(operation{Op: "question", Namespace: "/node", Event: "question"})
	if got := good[[]any](t, "question in /node", r); len(got) != others {
		t.Errorf("answers of servers in /node %v, want %d", got, others)
	}
	f.foundIn(t, from, operation{Namespace: "/node"}, nil)
}

// allRooms tests that the rooms of all servers are known, each once.
func (f *fleet) allRooms(t *testing.T, from int) {
	room, number := f.unique("room"), 2_000_000+int(f.names.Add(1))
	f.enter(t, room)
	f.enter(t, number)
	rooms := texts(good[[]any](t, "rooms", f.servers[from].do(operation{Op: "rooms", Namespace: "/"})))
	want := []string{room, fmt.Sprintf("%v", any(float64(number)))}
	for _, c := range f.everybody() {
		want = append(want, c.id)
	}
	for _, name := range want {
		if !slices.ContainsFunc(rooms, func(r string) bool { return sameRoom(r, name) }) {
			t.Errorf("%q is missing in %q", name, rooms)
		}
	}
	if n := len(slices.DeleteFunc(rooms, func(r string) bool { return r != room })); n != 1 {
		t.Errorf("%q is named %d times", room, n)
	}
}
