package test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// fleet is three servers that share a Redis, with clients of their own. All
// clients live in the first server, a Node.js peer as the second is.
type fleet struct {
	t        *testing.T // of the whole fleet: its servers end with it
	redisURL string
	specific bool // whether Node.js servers answer on the channel of who asks
	servers  [3]server
	first    *peer
	second   *peer
	edge     *edge // the third server, nil when that is a Node.js peer, too

	clients [3][2]*client // of each server, in namespace /
	chat    [3]*client    // of each server, in namespace /chat
	names   atomic.Int64
}

// TestFleet tests a fleet of two Node.js servers and an edge: every operation of
// the adapter, from each of them, does what it does on a fleet of three Node.js
// servers. That fleet goes through the same tests, so that they expect nothing
// but what the reference does.
func TestFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("the fleets wait for timeouts of 5 s; -short skips them")
	}
	requirements(t)
	tests := map[string]struct {
		edge, pattern, edgeSpecific, nodeSpecific bool
		slow                                      bool // also what takes seconds and has no modes
	}{
		"Node.js only":                      {slow: true},
		"exact, shared answers":             {edge: true, slow: true},
		"exact, specific answers":           {edge: true, edgeSpecific: true, nodeSpecific: true},
		"pattern, edge answers specific":    {edge: true, pattern: true, edgeSpecific: true},
		"pattern, Node.js answers specific": {edge: true, pattern: true, nodeSpecific: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fleet{t: t, redisURL: startRedis(t), specific: tt.nodeSpecific}
			f.first = startPeer(t, "first", f.redisURL, f.specific)
			f.second = startPeer(t, "second", f.redisURL, f.specific)
			if tt.edge {
				f.edge = startEdge(t, "third", f.redisURL, tt.pattern, tt.edgeSpecific)
				f.servers = [3]server{f.first, f.second, f.edge}
			} else {
				f.servers = [3]server{f.first, f.second, startPeer(t, "third", f.redisURL, f.specific)}
			}
			f.run(t, tt.slow)
		})
	}
}

func (f *fleet) run(t *testing.T, withSlow bool) {
	f.complete(t)
	for i, s := range f.servers {
		for j := range f.clients[i] {
			f.clients[i][j] = f.client(t, s, operation{Namespace: "/", Answer: []any{fmt.Sprintf("%s/%d", s.name(), j), "second"}})
		}
		f.chat[i] = f.client(t, s, operation{Namespace: "/chat", Answer: []any{s.name()}})
	}
	var slow func(*testing.T)
	if withSlow {
		slow = f.startSlow(t)
	}
	for i, s := range f.servers {
		t.Run("from "+s.name(), func(t *testing.T) {
			for _, c := range []struct {
				name string
				test func(*testing.T, int)
			}{
				{"broadcasts", f.broadcasts},
				{"targets", f.targets},
				{"order", f.order},
				{"numeric rooms", f.numericRooms},
				{"namespaces", f.namespaces},
				{"fetch", f.fetch},
				{"join and leave", f.joinAndLeave},
				{"disconnect", f.disconnect},
				{"remote sockets", f.remoteSockets},
				{"all rooms", f.allRooms},
				{"acks", f.acks},
				{"server-side events", f.serverSide},
			} {
				t.Run(c.name, func(t *testing.T) { c.test(t, i) })
			}
		})
	}
	if f.edge != nil {
		t.Run("bytes", f.bytes)
	}
	t.Run("at once", f.atOnce)
	if withSlow {
		t.Run("slow", slow)
	}
	t.Run("cut", f.cut)
	t.Run("leave", f.leave)
	t.Run("killed", f.killed)
	t.Run("last", f.last)
}

// client connects a client under a name of its own.
func (f *fleet) client(t *testing.T, s server, o operation) *client {
	t.Helper()
	return f.first.connect(t, s, f.unique(s.name()), o)
}

// unique returns a name that is used once.
func (f *fleet) unique(kind string) string { return fmt.Sprintf("%s-%d", kind, f.names.Add(1)) }

// everybody is all clients of namespace /.
func (f *fleet) everybody() []*client {
	var all []*client
	for _, c := range f.clients {
		all = append(all, c[0], c[1])
	}
	return all
}

// enter makes the first client of each server a member of a room.
func (f *fleet) enter(t *testing.T, room any) []*client {
	t.Helper()
	var members []*client
	for i := range f.servers {
		f.perform(t, i, operation{Op: "enter", SID: f.clients[i][0].id, Args: []any{room}})
		members = append(members, f.clients[i][0])
	}
	return members
}

// fence sends an event to everybody after which nothing of the server's earlier ones comes.
func (f *fleet) fence(t *testing.T, from int) {
	t.Helper()
	event := f.unique("fence")
	f.emit(t, from, operation{Event: event})
	for _, c := range f.everybody() {
		c.got(t, event)
	}
}

// emit makes a server emit in namespace /.
func (f *fleet) emit(t *testing.T, from int, o operation) {
	t.Helper()
	o.Op = "emit"
	f.perform(t, from, o)
}

// perform makes a server do what has no result.
func (f *fleet) perform(t *testing.T, from int, o operation) {
	t.Helper()
	if o.Namespace == "" {
		o.Namespace = "/"
	}
	if r := f.servers[from].do(o); r.Error != "" {
		t.Fatalf("%s of %s: %s", o.Op, f.servers[from].name(), r.Error)
	}
}

// subscribers is how many servers hear the requests of namespaces / and /chat.
func (f *fleet) subscribers(t *testing.T) (int, int) {
	t.Helper()
	r := f.first.redis(t, "PUBSUB", "NUMSUB", "socket.io-request#/#", "socket.io-request#/chat#")
	counts := as[[]any](t, reply{Result: r})
	n, _ := counts[1].(float64)
	m, _ := counts[3].(float64)
	return int(n), int(m)
}

// counted waits until there are n servers in both namespaces, and fails when there are more.
func (f *fleet) counted(t *testing.T, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d servers", n), func() error {
		a, b := f.subscribers(t)
		if a > n || b > n {
			t.Fatalf("%d and %d servers are counted, there are %d", a, b, n)
		}
		if a < n || b < n {
			return fmt.Errorf("counted %d and %d", a, b)
		}
		return nil
	})
}

// complete waits until all servers take part.
func (f *fleet) complete(t *testing.T) {
	t.Helper()
	f.counted(t, len(f.servers))
	if f.edge != nil {
		until(t, "the edge to be ready", f.edge.state.Ready)
	}
}

// startSlow starts requests that take seconds. What it returns waits for them.
func (f *fleet) startSlow(t *testing.T) func(t *testing.T) {
	t.Helper()
	type result struct {
		from server
		what string
		reply
	}
	late, partial := f.unique("late"), f.unique("partial")
	for i, s := range f.servers {
		// Answers that take longer than requests may, but not longer than who asks wants to wait.
		c := f.client(t, s, operation{Namespace: "/", Answer: []any{s.name()}, Delay: 5_500})
		f.perform(t, i, operation{Op: "enter", SID: c.id, Args: []any{late}})
		answers := []any{s.name()}
		if i == 1 {
			answers = nil // silent
		}
		c = f.client(t, s, operation{Namespace: "/", Answer: answers})
		f.perform(t, i, operation{Op: "enter", SID: c.id, Args: []any{partial}})
	}
	results := make(chan result, 3*len(f.servers))
	for _, s := range f.servers {
		for what, o := range map[string]operation{
			"late":    {Op: "ask", Rooms: []any{late}, Event: "late", Timeout: 12_000},
			"partial": {Op: "ask", Rooms: []any{partial}, Event: "partial", Timeout: 5_000},
			"mute":    {Op: "question", Event: "mute"},
		} {
			o.Namespace = "/"
			go func() { results <- result{s, what, s.do(o)} }()
		}
	}
	return func(t *testing.T) {
		late := time.After(patience)
		for range cap(results) {
			select {
			case r := <-results:
				f.judgeSlow(t, r.from, r.what, r.reply)
			case <-late:
				t.Fatalf("requests have not ended after %v", patience)
			}
		}
	}
}

func (f *fleet) judgeSlow(t *testing.T, from server, what string, r reply) {
	t.Helper()
	want, text := []any{}, ""
	switch what {
	case "late":
		want = []any{"first", "second", "third"}
	case "partial":
		want, text = []any{"first", "third"}, from.partial(2, 3, 3, 3)
	case "mute":
		text = "timeout reached: only 0 responses received out of 2"
	}
	if got := as[[]any](t, r); !sameSet(got, want) || r.Error != text {
		t.Errorf("%s: %s got %v and error %q, want %v and %q", what, from.name(), got, r.Error, want, text)
	}
}
