package state

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Lefts with grace, as in TestWindows; they are told after 1 s.
func TestHeldLefts(t *testing.T) {
	for _, test := range []struct{ name, steps, told string }{
		{"held", "0 ~b, 750 wait", ""},
		{"told when it is due", "0 ~b, 1001 wait", "-b(e1 10-11)"},
		{"back in time", "0 ~b, 500 +b, 2000 wait", ""},
		{"back within the window", "0 ~b, 50 +b, 2000 wait", ""},
		{"back too late", "0 ~b, 1050 +b, 2000 wait", "-b(e1 10-11) +b(e1 11-12)"},
		{"due while a window is open: told with it", "0 ~b, 950 +a, 2000 wait", "+a-b(e1 10-12)"},
		{"a final left is told at once", "0 ~b, 200 +b, 400 -b, 2000 wait", "-b(e1 10-13)"},
		{"the grace begins again", "0 ~b, 800 +b, 900 ~b, 1600 wait, 2000 wait", "-b(e1 10-13)"},
		{"also within a window", "0 ~b, 800 +b, 850 ~b, 1600 wait", ""},
		{"came and went", "0 +a, 50 ~a, 2000 wait", ""},
		{"came, went and came", "0 +a, 50 ~a, 300 +a, 2000 wait", "+a(e1 10-13)"},

		{"other changes do not wait", "0 ~b, 200 +a, 2000 wait", "+a(e1 10-11) -b(e1 11-12)"},
		{"nor those of its window", "0 ~b, 50 +a, 2000 wait", "+a(e1 10-11) -b(e1 11-12)"},
		{"all numbers are told in the end", "0 ~b, 50 +a, 150 +c, 160 -a, 2000 wait", "+a(e1 10-11) +c-a(e1 11-13) -b(e1 13-14)"},
		{"two are held", "0 +a, 150 ~b, 300 ~a, 500 +c, 2000 wait", "+a(e1 10-11) +c(e1 11-12) -b(e1 12-13) -a(e1 13-14)"},
		{"one of two is back", "0 +a, 150 ~b, 300 ~a, 500 +b, 700 +c, 2000 wait", "+a(e1 10-11) +c(e1 11-14) -a(e1 14-15)"},

		{"read meanwhile, and back", "0 ~b, 150 begin, 151 end, 500 +b, 2000 wait", "+b(e1 10-12)"},
		{"read meanwhile, and not back", "0 ~b, 150 begin, 151 end, 2000 wait", "-b(e1 10-11)"},
		{"read meanwhile, before another update", "0 ~b, 150 begin, 151 end, 300 +a, 500 +b, 2000 wait", "+a(e1 10-12) +b(e1 12-13)"},
		{"read after another update", "0 ~b, 150 +a, 300 begin, 301 end, 500 +b, 2000 wait", "+a(e1 10-11) +b(e1 11-13)"},
		{"read before the left", "0 begin, 1 end, 10 ~b, 500 +b, 2000 wait", ""},
		{"read before the left, in its window", "0 +a, 1 begin, 2 end, 10 ~b, 500 +b, 2000 wait", "+a(e1 10-12)"},
		{"read in its window, after it", "0 ~b, 1 begin, 2 end, 10 +a, 500 +b, 2000 wait", "+a(e1 10-12) +b(e1 12-13)"},
		{"read after the return", "0 ~b, 500 +b, 501 begin, 502 end, 2000 wait", ""},
		{"read between two lefts of a window", "0 ~b, 1 begin, 2 end, 10 +b, 20 ~b, 500 +b, 2000 wait", "+b(e1 10-14)"},
		{"read between two lefts", "0 ~b, 500 begin, 501 end, 800 +b, 850 ~b, 1500 +b, 3000 wait", "+b(e1 10-14)"},

		// The number of the left is gone: whoever read has it already.
		{"no number is left", "0 ~b, 150 begin, 151 end, 300 +a, 1010 full, 3000 wait", "+a(e1 10-12) =a(e1 12-12)"},
		{"no number is left, but then comes one", "0 ~b, 150 begin, 151 end, 300 +a, 1010 -a, 3000 wait", "+a(e1 10-12) -a-b(e1 12-13)"},
		{"no number is left, and back", "0 ~b, 150 begin, 151 end, 300 +a, 1010 +b, 3000 wait", "+a(e1 10-12) +b(e1 12-13)"},

		{"gap", "0 ~b, 150 skip, 151 +c, 3000 wait", "+c(e1 12-13)"},
		{"gap, and read again", "0 ~b, 150 skip, 151 +c, 160 full, 300 +b, 3000 wait", "=c=lost(e1 13-13) +b(e1 13-14)"},
		{"another epoch", "0 ~b, 150 epoch, 151 +c, 160 full, 170 +b, 3000 wait", "=c(e2 1-1) +b(e2 1-2)"},
		{"another epoch, read before it came", "0 +a, 150 epoch, 151 begin, 152 end=1, 153 ~b, 154 +c, 500 +b, 2000 wait", "+a(e1 10-11) +c(e2 0-2) +b(e2 2-3)"},
		{"read again", "0 ~b, 150 full=11, 300 +b, 3000 wait", "=then(e1 11-11) +b(e1 11-12)"},
		{"read again as of before its window", "0 ~b, 50 full=10, 3000 wait", "=then(e1 10-10) -b(e1 10-11)"},
		{"read again as of the middle of its window", "0 ~b, 10 +b, 20 ~b, 50 full=11, 300 +b, 3000 wait", "=then(e1 11-11) -b(e1 11-13) +b(e1 13-14)"},
		{"read again as of before another window", "0 ~b, 200 +b, 210 full=11, 3000 wait", "=then(e1 11-11) +b(e1 11-12)"},
		{"forgotten", "0 ~b, 150 forget, 160 +c, 2000 wait", "+c(e1 11-12)"},
	} {
		told, w := story(t, test.steps)
		if got := strings.Join(told, " "); got != test.told {
			t.Errorf("%s: told %q, want %q", test.name, got, test.told)
		}
		if h := w.rooms["r"]; strings.HasSuffix(test.steps, "000 wait") && (len(w.holds) > 0 || h != nil && h.pending.holds+len(h.pending.users)+len(h.pending.due) > 0) {
			t.Errorf("%s: lefts are held in the end", test.name)
		}
	}
}

// Without grace, and from nodes that know of none, lefts are told at once.
func TestNoGrace(t *testing.T) {
	w := newWindows(0, 0)
	w.add("r", presenceEvent{Epoch: "e", Seq: 1, Left: []string{"u"}, Grace: true}, clockAtStart)
	if got := w.due(clockAtStart); len(got) != 1 || len(got[0].Left) != 1 || len(w.holds) != 0 {
		t.Errorf("told %+v, %d held", got, len(w.holds))
	}
	e, err := parsePresenceEvent(`{"epoch":"e","seq":1,"joined":[],"left":["u"],"count":0}`)
	if err != nil || e.Grace {
		t.Errorf("an event of another version: %+v, %v", e, err)
	}
}

// What nodes tell each other: the keys change at once, and whether members are
// told at once is up to how the socket ended.
func TestGraceBetweenNodes(t *testing.T) {
	const grace = time.Hour // no left is told because it is due
	backends(t, func(t *testing.T, b *backend) {
		watch := b.start(t, "listener", func(c *Config) { c.PresenceGrace = grace })
		plain := b.events(t, "r") // as a node without grace, or of another version
		subscribe(t, watch, "/", "r", 1)
		nodeA, nodeB := b.start(t, "nodeAAAA", nil), b.start(t, "nodeBBBB", nil)
		next := func(n *node, joined, left string, count int) {
			t.Helper()
			if u := nextUpdate(t, n); strings.Join(u.Joined, " ") != joined || strings.Join(u.Left, " ") != left || u.Count != count || u.Full {
				t.Errorf("told %+v, want +%q -%q, %d", u, joined, left, count)
			}
		}
		both := func(joined, left string, count int) {
			t.Helper()
			next(watch, joined, left, count)
			next(plain, joined, left, count)
		}
		enter := func(n *node, user, socket string) {
			t.Helper()
			n.connect(t, user, socket)
			n.join(t, user, socket, "r")
		}
		enter(nodeA, "u", "a1")
		both("u", "", 1)
		enter(nodeA, "v", "a2")
		both("v", "", 2)

		// The connection breaks; the keys do not wait.
		nodeA.Presence().Disconnect("u", "a1", true)
		next(plain, "", "u", 1)
		nodeA.settled(t)
		b.expectSet(t, roomKey("r"), "v")
		b.expectSet(t, onlineKey, "v")
		// It recovers elsewhere.
		enter(nodeB, "u", "b1")
		next(plain, "u", "", 2)

		// An explicit leave, one of two sockets, a final disconnect: told at once.
		done, c := outcome()
		nodeB.Presence().Leave("u", "b1", "r", done)
		if err := await(t, "leave", c); err != nil {
			t.Fatal(err)
		}
		both("", "u", 1)
		nodeB.join(t, "u", "b1", "r")
		both("u", "", 2)
		enter(nodeB, "u", "b2")
		nodeB.Presence().Disconnect("u", "b2", true)
		nodeB.Presence().Disconnect("u", "b1", false)
		both("", "u", 1)

		// Both kinds in one batch: each in an event of its own.
		enter(nodeA, "w", "a3")
		both("w", "", 2)
		nodeA.Presence().Disconnect("v", "a2", true)
		nodeA.Presence().Disconnect("w", "a3", false)
		next(watch, "", "w", 1) // v is still counted
		enter(nodeB, "last", "b3")
		next(watch, "last", "", 2)
	})
}

// A node that ends releases with grace what was disconnected so, and only that.
func TestFlushWithGrace(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		// A grace no test outlives, cut short by hand below.
		watch := b.start(t, "listener", func(c *Config) { c.PresenceGrace = time.Hour })
		subscribe(t, watch, "/", "r", 1)
		n := b.start(t, "nodeAAAA", nil)
		for _, user := range []string{"back", "gone", "open"} {
			n.connect(t, user, "s-"+user)
			n.join(t, user, "s-"+user, "r")
			nextUpdate(t, watch)
		}
		n.Presence().Disconnect("back", "s-back", true)
		n.Presence().Disconnect("gone", "s-gone", true)
		if err := n.Presence().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.expectSet(t, roomKey("r"))
		if u := nextUpdate(t, watch); !slices.Equal(u.Left, []string{"open"}) || u.Count != 2 {
			t.Errorf("told %+v, want that open left", u)
		}
		other := b.start(t, "nodeBBBB", nil)
		other.connect(t, "back", "s2")
		other.join(t, "back", "s2", "r")
		updates := watch.bus.updates
		eventually(t, "the return has arrived", func() error {
			last := b.text(t, "HGET", "{room:r:users}:m", "s")
			updates.mu.Lock()
			defer updates.mu.Unlock()
			if h := updates.windows.rooms["r"]; h.window != nil || strconv.FormatUint(h.closed, 10) != last {
				return errNotYet
			}
			return nil
		})
		updates.mu.Lock()
		for _, h := range updates.windows.holds {
			h.due = time.Now().Add(20 * time.Millisecond)
		}
		updates.mu.Unlock()
		notify(updates.opened)
		u := nextUpdate(t, watch)
		if len(u.Joined) > 0 || !slices.Equal(u.Left, []string{"gone"}) || u.Count != 1 {
			t.Errorf("told %+v, want that gone left, and not back", u)
		}
	})
}

// A dead node's users were away for a lease: nobody waits any longer.
func TestNoGraceForTheDead(t *testing.T) {
	w := newWorld(t, 1, false)
	dead, living := w.spawn(), w.spawn()
	w.hear()
	defer w.ended()
	dead.p.ledger.connect("u", "s", 0, nil)
	dead.p.ledger.join("u", "s", "r", nil)
	for dead.p.ledger.unsettled > 0 {
		w.send(dead)
		w.deliver(dead, 100)
	}
	dead.alive = false
	for range 20 {
		w.pass(w.lease / 4)
		w.beat(living)
		_, incarnations, err := living.p.claim(w.t.Context(), w.c)
		w.must("claim", err)
		for _, incarnation := range incarnations {
			w.must("reap", living.p.reap(w.t.Context(), w.c, incarnation))
		}
	}
	w.b.expectSet(t, roomKey("r"))
	eventually(t, "the room is told", func() error {
		w.ears.mu.Lock()
		defer w.ears.mu.Unlock()
		events := w.ears.events["r"]
		if len(events) < 2 {
			return errNotYet
		}
		if last := events[len(events)-1]; len(last.Left) != 1 || last.Grace {
			t.Errorf("the last event is %+v", last)
		}
		return nil
	})
}
