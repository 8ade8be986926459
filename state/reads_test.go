package state

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

func (n *node) reads(result metrics.CacheResult) float64 {
	return testutil.ToFloat64(n.metrics.CacheReads[result])
}

func (n *node) socket(t *testing.T, user string) string {
	t.Helper()
	socket, online, err := n.Presence().Socket(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	if online != (socket != "") {
		t.Errorf("online is %v with socket %q", online, socket)
	}
	return socket
}

func (n *node) members(t *testing.T, room string) []string {
	t.Helper()
	users, count, err := n.Presence().Members(t.Context(), room, 0)
	if err != nil {
		t.Fatal(err)
	}
	if count != len(users) {
		t.Errorf("%d users, but count is %d", len(users), count)
	}
	return users
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
	if got := n.members(t, "r"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("members %q", got)
	}
	hits := n.reads(metrics.CacheHit)
	if got := n.members(t, "r"); !slices.Equal(got, []string{"a", "b", "c"}) || n.reads(metrics.CacheHit) != hits+2 {
		t.Errorf("members %q, %v hits", got, n.reads(metrics.CacheHit)-hits)
	}
	b.do(t, "SREM", roomKey("r"), "a")
	eventually(t, "the foreign write is seen", func() error {
		if got := n.members(t, "r"); !slices.Equal(got, []string{"b", "c"}) {
			return fmt.Errorf("members %q", got)
		}
		return nil
	})
	if users, count, err := n.Presence().Members(t.Context(), "r", 1); err != nil || count != 2 || !slices.Equal(users, []string{"b"}) {
		t.Errorf("first of two: %q %d %v", users, count, err)
	}
	// A large room is paged.
	add := []string{"SADD", roomKey("big")}
	for i := range smallRoom + 500 {
		add = append(add, "user"+strconv.Itoa(i))
	}
	b.do(t, add...)
	for _, limit := range []int{10, smallRoom + 100, 0} {
		users, count, err := n.Presence().Members(t.Context(), "big", limit)
		want := limit
		if limit == 0 {
			want = smallRoom + 500
		}
		slices.Sort(users)
		if err != nil || count != smallRoom+500 || len(slices.Compact(users)) != want {
			t.Errorf("limit %d: %d users of %d, %v", limit, len(users), count, err)
		}
	}
	if _, _, err := n.Presence().Members(t.Context(), "a{b}", 0); err == nil {
		t.Error("a room that cannot exist was read")
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
			n.Presence().Connect(user, socket, nil)
			if got := n.socket(t, user); got != socket {
				t.Fatalf("round %d: socket is %q before it is stored", i, got)
			}
			n.Presence().Connect("both", socket+"b", nil)
			if got := n.socket(t, "both"); got != socket+"b" {
				t.Fatalf("round %d: socket is %q", i, got)
			}
			n.join(t, user, socket, "r")
			if got := n.members(t, "r"); !slices.Equal(got, []string{user}) {
				t.Fatalf("round %d: members %q after the join", i, got)
			}
			n.Presence().Leave(user, socket, "r", nil)
			if got := n.members(t, "r"); len(got) != 0 {
				t.Fatalf("round %d: members %q after the leave", i, got)
			}
			n.Presence().Disconnect("both", socket+"b")
			n.Presence().Disconnect(user, socket)
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
		n.presence.mu.Lock()
		clear(n.presence.recent.at) // so that the read is cached
		n.presence.mu.Unlock()
		n.members(t, "r")
		done, c := outcome()
		n.Presence().Leave("u", "s", "r", done)
		if err := await(t, "leave", c); err != nil {
			t.Fatal(err)
		}
		if got := n.members(t, "r"); len(got) != 0 {
			t.Fatalf("round %d: members %q after the leave was stored", i, got)
		}
	}
}

func TestRecentRooms(t *testing.T) {
	r := newRecentRooms(writePeriod)
	start := time.Unix(100, 0)
	r.mark("a", start)
	if !r.has("a", start.Add(writePeriod)) || r.has("a", start.Add(writePeriod+1)) || r.has("b", start) {
		t.Error("the period is wrong")
	}
	r.mark("b", start.Add(3*writePeriod))
	if len(r.at) != 1 {
		t.Errorf("%d rooms remembered, one is recent", len(r.at))
	}
}
