package state

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
)

// events subscribes a node to a room's presence updates, unmerged.
func (b *backend) events(t *testing.T, room string) *node {
	t.Helper()
	n := b.start(t, "listener", nil)
	subscribe(t, n, "/", room, 1)
	return n
}

func nextUpdate(t *testing.T, n *node) PresenceUpdate {
	t.Helper()
	return await(t, "presence update", n.updates)
}

// hold and the like call the scripts of a node as if its packets were delayed,
// repeated or reordered: what the race table is about.
func (n *node) call(t *testing.T, op func(l *ledger) operation) {
	t.Helper()
	c, err := n.link.verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n.presence.mu.Lock()
	until := n.presence.lease.until
	n.presence.mu.Unlock()
	for _, r := range n.presence.send(t.Context(), c, []operation{op(n.presence.ledger)}, until) {
		if r.err != nil {
			t.Fatal(r.err)
		}
	}
}

func (b *backend) expectOnline(t *testing.T, user, socket string, others ...string) {
	t.Helper()
	want := []string{user}
	if socket == "" {
		want = nil
	}
	b.expectSet(t, onlineKey, want...)
	if got := b.text(t, "GET", socketKey(user)); got != socket {
		t.Errorf("%s is %q, want %q", socketKey(user), got, socket)
	}
	if got := b.list(t, "ZRANGE", "{"+socketKey(user)+"}:z", "0", "-1"); !slices.Equal(got, others) && len(got)+len(others) > 0 {
		t.Errorf("other sockets of %s are %q, want %q", user, got, others)
	}
	if got := b.list(t, "HKEYS", "{"+socketKey(user)+"}:o"); len(got) != len(others)+len(want) {
		t.Errorf("owned sockets of %s are %q", user, got)
	}
}

func TestRaceReconnectElsewhere(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		watch := b.events(t, "r")
		nodeA, nodeB := b.start(t, "nodeAAAA", nil), b.start(t, "nodeBBBB", nil)

		// Row 1: A lets go before B holds: left, then joined.
		nodeA.connect(t, "u", "a1")
		nodeA.join(t, "u", "a1", "r")
		joined := nextUpdate(t, watch)
		nodeA.Presence().Disconnect("u", "a1", false)
		nodeA.settled(t)
		b.expectOnline(t, "u", "")
		if left := nextUpdate(t, watch); !slices.Equal(left.Left, []string{"u"}) || left.Count != 0 || left.Seq != joined.Seq+1 || left.Epoch != joined.Epoch {
			t.Errorf("after %+v came %+v", joined, left)
		}
		nodeB.connect(t, "u", "b1")
		nodeB.join(t, "u", "b1", "r")
		if again := nextUpdate(t, watch); !slices.Equal(again.Joined, []string{"u"}) || again.Count != 1 {
			t.Errorf("after the reconnect came %+v", again)
		}
		b.expectOnline(t, "u", "b1")

		// Row 2: A holds before B lets go: nobody notices, online throughout.
		nodeA.connect(t, "u", "a2")
		nodeA.join(t, "u", "a2", "r")
		nodeB.Presence().Disconnect("u", "b1", false)
		nodeB.settled(t)
		b.expectOnline(t, "u", "a2")
		nodeA.join(t, "u", "a2", "end") // an event that would come after any other
		nodeB.connect(t, "v", "b2")
		nodeB.join(t, "v", "b2", "r")
		if got := nextUpdate(t, watch); !slices.Equal(got.Joined, []string{"v"}) || len(got.Left) != 0 {
			t.Errorf("the change of node showed as %+v", got)
		}
	})
}

func TestRaceTwoDevices(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		nodeA, nodeB := b.start(t, "nodeAAAA", nil), b.start(t, "nodeBBBB", nil)
		// Row 3: two devices on A, one closes.
		nodeA.connect(t, "u", "a1")
		nodeA.connect(t, "u", "a2")
		nodeA.join(t, "u", "a1", "r")
		nodeA.join(t, "u", "a2", "r")
		b.expectOnline(t, "u", "a2", "a1")
		nodeA.Presence().Disconnect("u", "a2", false)
		nodeA.settled(t)
		b.expectOnline(t, "u", "a1")
		b.expectSet(t, roomKey("r"), "u")
		// Row 4: devices on A and B, A's closes.
		nodeB.connect(t, "u", "b1")
		b.expectOnline(t, "u", "b1", "a1")
		nodeA.Presence().Disconnect("u", "a1", false)
		nodeA.settled(t)
		b.expectOnline(t, "u", "b1")
		b.expectSet(t, roomKey("r"))
		nodeB.Presence().Disconnect("u", "b1", false)
		nodeB.settled(t)
		b.expectEmpty(t)
	})
}

// aside reports whether a key may be there without anybody's presence: rooms'
// epochs, and what running nodes keep of themselves.
func aside(key string) bool {
	return strings.HasSuffix(key, "}:m") || strings.HasPrefix(key, "{edge") || ofJournal(key)
}

// ofJournal reports whether a key is the journal's: nodes that run for a second leave a sign of life.
func ofJournal(key string) bool { return strings.HasPrefix(key, "socket.io-") }

// expectEmpty wants nobody's presence.
func (b *backend) expectEmpty(t *testing.T) {
	t.Helper()
	for _, key := range b.list(t, "KEYS", "*") {
		if !aside(key) {
			t.Errorf("%s is left", key)
		}
	}
}

func TestRaceRepeatedAndLatePackets(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		nodeA, nodeB := b.start(t, "nodeAAAA", nil), b.start(t, "nodeBBBB", nil)
		nodeA.connect(t, "u", "old")
		first := *nodeA.presence.ledger.sockets["old"] // as it was when it was first attached
		first.before = false
		attach := operation{op: metrics.PresenceAttach, sockets: []*socket{&first}, calls: []socketCall{first.call()}}
		detach := attach
		detach.op = metrics.PresenceDetach
		// Row 5: DETACH(old) after ATTACH(new).
		nodeB.connect(t, "u", "new")
		nodeA.call(t, func(*ledger) operation { return detach })
		b.expectOnline(t, "u", "new")
		nodeA.call(t, func(*ledger) operation { return detach })
		b.expectOnline(t, "u", "new")
		nodeA.call(t, func(*ledger) operation { return attach })
		b.expectOnline(t, "u", "old", "new")
		// Row 6: ATTACH applied, its reply lost, tried again; also when superseded since.
		nodeA.call(t, func(*ledger) operation { return attach })
		b.expectOnline(t, "u", "old", "new")
		nodeB.connect(t, "u", "newer")
		nodeA.call(t, func(*ledger) operation { return attach })
		b.expectOnline(t, "u", "newer", "new", "old")

		// Row 7: HOLD tried again does not count twice. Row 8: nor does RELEASE.
		online := func(op func(operation) operation) func(*ledger) operation {
			return func(l *ledger) operation {
				return op(operation{set: l.online, members: []*member{{user: "u"}}})
			}
		}
		hold := online(func(o operation) operation { return o })
		release := online(func(o operation) operation { o.op = metrics.PresenceRelease; return o })
		nodeA.call(t, hold)
		nodeA.call(t, release)
		nodeA.call(t, release)
		b.expectSet(t, onlineKey, "u")
		nodeB.call(t, release)
		nodeB.call(t, release)
		b.expectSet(t, onlineKey)
		if got := b.list(t, "KEYS", "{presence:online}*"); len(got) != 0 {
			t.Errorf("left: %q", got)
		}
	})
}

// Row 22: a reconnect within the batch window costs nothing.
func TestRaceReconnectWithinTheWindow(t *testing.T) {
	l := newLedger("I")
	l.connect("u", "s1", 0, nil)
	run(t, l)
	l.disconnect("u", "s1", false)
	l.connect("u", "s1", 0, nil)
	if ops := l.next(time.Time{}, 1000, true); len(ops) != 0 {
		t.Errorf("%d operations for a socket that came back", len(ops))
	}
	l.disconnect("u", "s1", false)
	l.connect("u", "s2", 0, nil)
	for _, op := range run(t, l) {
		if op.set != nil {
			t.Errorf("presence:online is touched for a user that came back")
		}
	}
	l.join("u", "s2", "r", nil)
	l.leave("u", "s2", "r", nil)
	l.connect("v", "s3", 0, nil)
	l.disconnect("v", "s3", false)
	if ops := l.next(time.Time{}, 1000, true); len(ops) != 0 || l.unsettled != 0 {
		t.Errorf("%d operations, %d unsettled, want none", len(ops), l.unsettled)
	}
	if len(l.rooms) != 0 || len(l.online.members) != 1 || len(l.sockets) != 1 {
		t.Errorf("ledger keeps %d rooms, %d users, %d sockets", len(l.rooms), len(l.online.members), len(l.sockets))
	}
}

// run lets everything succeed.
func run(t *testing.T, l *ledger) []operation {
	t.Helper()
	var all []operation
	for {
		ops := l.next(time.Time{}, 1000, true)
		if len(ops) == 0 {
			if l.unsettled != 0 || l.waiting != 0 {
				t.Fatalf("%d unsettled, %d waiting with nothing to do", l.unsettled, l.waiting)
			}
			return all
		}
		for _, op := range ops {
			l.settle(op, nil, time.Time{})
		}
		all = append(all, ops...)
	}
}

func TestForeignWritersLeaveNoGhost(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", nil)
		b.do(t, "SADD", onlineKey, "u") // by a service that does the same its own way
		n.connect(t, "u", "s1")
		n.Presence().Disconnect("u", "s1", false)
		n.settled(t)
		b.expectEmpty(t)
		b.do(t, "SET", socketKey("u"), "foreign")
		n.connect(t, "u", "s2")
		b.expectOnline(t, "u", "s2")
		n.Presence().Disconnect("u", "s2", false)
		n.settled(t)
		b.expectEmpty(t)
	})
}

func TestSocketTakenOverKeepsItsID(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		nodeA, nodeB := b.start(t, "nodeAAAA", nil), b.start(t, "nodeBBBB", nil)
		nodeA.connect(t, "u", "s")
		nodeB.connect(t, "u", "s") // recovered there, under its id
		nodeA.Presence().Disconnect("u", "s", false)
		nodeA.settled(t)
		b.expectOnline(t, "u", "s")
		nodeB.Presence().Disconnect("u", "s", false)
		nodeB.settled(t)
		b.expectEmpty(t)
	})
}

func TestPresenceCallbacks(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", nil)
		p := n.Presence()
		outcomes := func(name string, want error, do func(done func(error))) {
			t.Helper()
			done, c := outcome()
			do(done)
			if got := await(t, name, c); !errors.Is(got, want) || (want == nil) != (got == nil) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		outcomes("join before connect", ErrNoSocket, func(d func(error)) { p.Join("u", "s", "r", d) })
		outcomes("connect", nil, func(d func(error)) { p.Connect("u", "s", 0, d) })
		outcomes("connect again", nil, func(d func(error)) { p.Connect("u", "s", 0, d) })
		outcomes("another user's socket", errSocketTaken, func(d func(error)) { p.Connect("v", "s", 0, d) })
		outcomes("join", nil, func(d func(error)) { p.Join("u", "s", "r", d) })
		outcomes("join again", nil, func(d func(error)) { p.Join("u", "s", "r", d) })
		outcomes("leave", nil, func(d func(error)) { p.Leave("u", "s", "r", d) })
		outcomes("leave again", nil, func(d func(error)) { p.Leave("u", "s", "r", d) })
		for _, bad := range []func(d func(error)){
			func(d func(error)) { p.Connect("a{b", "s2", 0, d) },
			func(d func(error)) { p.Connect("a", "s}2", 0, d) },
			func(d func(error)) { p.Join("u", "s", "r\n", d) },
		} {
			done, c := outcome()
			bad(done)
			if err := await(t, "refusal", c); err == nil || !strings.Contains(err.Error(), "id contains") {
				t.Errorf("refusal: %v", err)
			}
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		b.expectEmpty(t)
		outcomes("connect after Flush", ErrClosed, func(d func(error)) { p.Connect("u", "s", 0, d) })
		n.stop(t)
		outcomes("connect after the end", ErrClosed, func(d func(error)) { p.Connect("u", "s", 0, d) })
	})
}

func TestFlushLeavesNothing(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n, other := b.start(t, "nodeAAAA", nil), b.start(t, "nodeBBBB", nil)
		for i := range 600 {
			user := "u" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			n.Presence().Connect(user, user+"-1", 0, nil)
			n.Presence().Join(user, user+"-1", "r", nil)
			n.Presence().Join(user, user+"-1", "r"+user, nil)
		}
		other.connect(t, "uaa", "elsewhere")
		n.settled(t)
		if got := b.number(t, "SCARD", roomKey("r")); got != 600 {
			t.Errorf("%d users in the room, want 600", got)
		}
		if err := n.Presence().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.expectOnline(t, "uaa", "elsewhere")
		if got := b.list(t, "KEYS", "*"+n.incarnation()+"*"); len(got) != 0 {
			t.Errorf("keys of the node: %q", got)
		}
		b.expectSet(t, roomKey("r"))
	})
}

func TestFlushWithoutRedisSaysWhatIsLeft(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	n.connect(t, "u", "s")
	b.redis.stop()
	ctx := canceled(t)
	if err := n.Presence().Flush(ctx); err == nil || !strings.Contains(err.Error(), "2 presence facts") {
		t.Errorf("got %v", err)
	}
}
