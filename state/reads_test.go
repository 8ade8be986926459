package state

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

func (n *node) reads(result metrics.CacheResult) float64 {
	return testutil.ToFloat64(n.metrics.CacheReads[result])
}

func (n *node) socket(t *testing.T, user string) string {
	t.Helper()
	sockets, err := n.Presence().Sockets(t.Context(), []string{user})
	if err != nil {
		t.Fatal(err)
	}
	return sockets[0]
}

func (n *node) members(t *testing.T, room string) []string {
	t.Helper()
	snap, err := n.Presence().Snapshot(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	if snap.Count != len(snap.Users) || snap.Room != room {
		t.Errorf("%d users of %q, but count is %d", len(snap.Users), snap.Room, snap.Count)
	}
	return snap.Users
}

// leave waits until Redis has it.
func (n *node) leave(t *testing.T, user, socket, room string) {
	t.Helper()
	done, c := outcome()
	n.Presence().Leave(user, socket, room, done)
	if err := await(t, "leave "+user, c); err != nil {
		t.Fatal(err)
	}
}

func TestReadsThroughTheCache(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	b.do(t, "SET", socketKey("u"), "foreign1")
	for i, want := range []metrics.CacheResult{metrics.CacheMiss, metrics.CacheHit, metrics.CacheHit} {
		before := n.reads(want)
		if got := n.socket(t, "u"); got != "foreign1" {
			t.Errorf("socket is %q", got)
		}
		if n.reads(want) != before+1 {
			t.Errorf("read %d was not counted as %v", i, want)
		}
	}
	invalidated := testutil.ToFloat64(n.metrics.CacheInvalidations)
	b.do(t, "SET", socketKey("u"), "foreign2")
	eventually(t, "the foreign write is seen", func() error {
		if got := n.socket(t, "u"); got != "foreign2" {
			return fmt.Errorf("socket is %q", got)
		}
		return nil
	})
	if got := testutil.ToFloat64(n.metrics.CacheInvalidations); got <= invalidated {
		t.Errorf("invalidations went from %v to %v", invalidated, got)
	}
	// Nobody is cached, too.
	if n.socket(t, "nobody") != "" || n.socket(t, "nobody") != "" {
		t.Error("nobody has a socket")
	}
	hits := n.reads(metrics.CacheHit)
	online, err := n.Presence().Online(t.Context(), []string{"nobody", "u", "u", "other"})
	if err != nil || !slices.Equal(online, []bool{false, true, true, false}) {
		t.Errorf("online: %v, %v", online, err)
	}
	if got := n.reads(metrics.CacheHit) - hits; got != 3 {
		t.Errorf("%v hits of 3", got)
	}
}

func TestMembersThroughTheCache(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	b.do(t, "SADD", roomKey("r"), "c", "a", "b")
	eventually(t, "a read is answered by the cache", func() error { // before the node has loaded its scripts none is
		hits := n.reads(metrics.CacheHit)
		if got := n.members(t, "r"); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("members %q", got)
		}
		if n.reads(metrics.CacheHit) == hits {
			return errNotYet
		}
		return nil
	})
	b.do(t, "SREM", roomKey("r"), "a")
	eventually(t, "the foreign write is seen", func() error {
		if got := n.members(t, "r"); !slices.Equal(got, []string{"b", "c"}) {
			return fmt.Errorf("members %q", got)
		}
		return nil
	})
	// A large room is not read whole, but in pages.
	add := []string{"SADD", roomKey("big")}
	for i := range smallRoom + 500 {
		add = append(add, "user"+strconv.Itoa(i))
	}
	b.do(t, add...)
	if snap, err := n.Presence().Snapshot(t.Context(), "big"); err != nil || snap.Count != smallRoom+500 || snap.Users != nil {
		t.Errorf("large room: %d users of %d, %v", len(snap.Users), snap.Count, err)
	}
	seen := map[string]bool{}
	for cursor := uint64(0); ; {
		page, err := n.Presence().RoomPage(t.Context(), "big", cursor, 100)
		if err != nil || page.Count != smallRoom+500 || len(page.Users) > 300 {
			t.Fatalf("page of %d, %d in all: %v", len(page.Users), page.Count, err)
		}
		for _, user := range page.Users {
			seen[user] = true
		}
		if cursor = page.Next; cursor == 0 {
			break
		}
	}
	if len(seen) != smallRoom+500 {
		t.Errorf("all pages have %d users", len(seen))
	}
	online, counts, err := n.Presence().Counts(t.Context(), []string{"big", "none", "r"})
	if err != nil || online != 0 || !slices.Equal(counts, []int{smallRoom + 500, 0, 2}) {
		t.Errorf("counts: %d, %v, %v", online, counts, err)
	}
	for _, bad := range []func() error{
		func() error { _, err := n.Presence().Snapshot(t.Context(), "a{b}"); return err },
		func() error { _, err := n.Presence().Room(t.Context(), "a{b}"); return err },
		func() error { _, err := n.Presence().RoomPage(t.Context(), "a{b}", 0, 1); return err },
		func() error { _, _, err := n.Presence().Counts(t.Context(), []string{"a{b}"}); return err },
	} {
		if err := bad(); err == nil {
			t.Error("a room that cannot exist was read")
		}
	}
}

// What this node wrote, it reads, whatever the cache has heard of.
func TestReadYourWrites(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n, other := b.start(t, "nodeAAAA", nil), b.start(t, "nodeBBBB", nil)
		other.connect(t, "both", "nodeBBBB-elsewhere--")
		for i := range 50 {
			user, socket := "u"+strconv.Itoa(i%3), n.id+fmt.Sprintf("%012d", i)
			if got := n.socket(t, user); got != "" {
				t.Fatalf("round %d: %s has socket %q before it connects", i, user, got)
			}
			n.Presence().Connect(user, socket, 0, nil)
			if got := n.socket(t, user); got != socket {
				t.Fatalf("round %d: socket is %q before it is stored", i, got)
			}
			n.Presence().Connect("both", socket+"b", 0, nil)
			if got := n.socket(t, "both"); got != socket+"b" {
				t.Fatalf("round %d: socket is %q", i, got)
			}
			n.join(t, user, socket, "r")
			if got := n.members(t, "r"); !slices.Equal(got, []string{user}) {
				t.Fatalf("round %d: members %q after the join", i, got)
			}
			n.leave(t, user, socket, "r")
			if got := n.members(t, "r"); len(got) != 0 {
				t.Fatalf("round %d: members %q after the leave", i, got)
			}
			n.Presence().Disconnect("both", socket+"b", false)
			n.Presence().Disconnect(user, socket, false)
			if got := n.socket(t, user); got != "" {
				t.Fatalf("round %d: socket is %q after the disconnect", i, got)
			}
			n.settled(t)
			if got := n.socket(t, user); got != "" {
				t.Fatalf("round %d: socket is %q after the disconnect was stored", i, got)
			}
			if got := n.socket(t, "both"); got != "nodeBBBB-elsewhere--" {
				t.Fatalf("round %d: the other device is %q", i, got)
			}
			if got := n.members(t, "r"); len(got) != 0 {
				t.Fatalf("round %d: members %q after the leave was stored", i, got)
			}
		}
		if n.reads(metrics.CacheOverlay) == 0 {
			t.Error("no read was answered from this node's own sockets")
		}
	})
}

// A read is tried again while this node ends the socket that it found. When that is stored during the last try, the
// socket is still not the answer; another node's is.
func TestReadOvertakenToTheLast(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry(), "test")
	p := newPresence(Config{Lease: time.Minute}, nil, "I", newUpdates(0, 0), m)
	stored := func() {
		t.Helper()
		for ops := p.ledger.next(time.Now(), batchCommands, true); len(ops) > 0; ops = p.ledger.next(time.Now(), batchCommands, true) {
			p.record(ops, make([]scriptResult, len(ops)))
		}
	}
	p.ledger.connect("u", "ours", 0, nil)
	p.ledger.connect("v", "another", 0, nil)
	stored()
	p.ledger.disconnect("u", "ours", false)
	p.ledger.disconnect("v", "another", false)
	users, which := []string{"u", "v"}, []int{0, 1}
	before := p.written(users, which)
	sockets := []string{"ours", "elsewhere"}
	gone := make([]string, 2)
	again := p.overtaken(users, which, sockets, gone, before)
	if !slices.Equal(again, []int{0}) || !slices.Equal(gone, []string{"ours", ""}) || !slices.Equal(sockets, []string{"", "elsewhere"}) {
		t.Errorf("while it ends: again %v, gone %q, sockets %q", again, gone, sockets)
	}
	stored()
	sockets = []string{"ours", "elsewhere"} // as they were read before that
	again = p.overtaken(users, which, sockets, gone, before)
	if !slices.Equal(again, which) || !slices.Equal(sockets, []string{"", "elsewhere"}) {
		t.Errorf("when it is stored: again %v, sockets %q", again, sockets)
	}
	sockets[0] = "ours" // it came back since, elsewhere
	again = p.overtaken(users, which, sockets, gone, p.written(users, which))
	if len(again) != 0 || sockets[0] != "ours" {
		t.Errorf("afterwards: again %v, sockets %q", again, sockets)
	}
}

// A cached room, a write of ours stored, and at once a read: the invalidation
// may not have arrived yet.
func TestReadYourStoredWrites(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	n.connect(t, "u", "s")
	for i := range 300 {
		n.join(t, "u", "s", "r")
		if got := n.members(t, "r"); !slices.Equal(got, []string{"u"}) {
			t.Fatalf("round %d: members %q after the join", i, got)
		}
		n.members(t, "r") // cached by now
		n.leave(t, "u", "s", "r")
		if got := n.members(t, "r"); len(got) != 0 {
			t.Fatalf("round %d: members %q after the leave was stored", i, got)
		}
	}
}

func TestRecent(t *testing.T) {
	const period = time.Second
	r := newRecent[int](period)
	start := time.Unix(100, 0)
	r.mark("a", 1, start)
	for _, test := range []struct {
		key string
		at  time.Time
		ok  bool
	}{{"a", start.Add(period), true}, {"a", start.Add(period + 1), false}, {"b", start, false}} {
		if got, ok := r.get(test.key, test.at); ok != test.ok || ok && got != 1 {
			t.Errorf("%s at %v: %d, %v", test.key, test.at.Sub(start), got, ok)
		}
	}
	r.mark("b", 2, start.Add(3*period))
	if len(r.last) != 1 {
		t.Errorf("%d keys remembered, one is recent", len(r.last))
	}
}
