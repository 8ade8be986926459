package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What others do to the public keys is repaired by the next pass of an audit.
func TestForeignRemovalsAreRepaired(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", nil)
		for _, user := range []string{"u", "v", "w"} {
			n.connect(t, user, user+"-1")
			n.join(t, user, user+"-1", "r")
		}
		b.do(t, "SREM", onlineKey, "u")
		b.do(t, "SREM", roomKey("r"), "u", "v")
		b.do(t, "DEL", socketKey("u"))
		b.do(t, "SET", socketKey("v"), "of a server that died since")
		n.presence.link.flushed <- struct{}{} // audit now
		eventually(t, "all is as before", func() error {
			var errs []error
			for key, want := range map[string]int64{onlineKey: 3, roomKey("r"): 3} {
				if got := b.number(t, "SCARD", key); got != want {
					errs = append(errs, fmt.Errorf("%s has %d", key, got))
				}
			}
			for _, user := range []string{"u", "v", "w"} {
				if got := b.text(t, "GET", socketKey(user)); got != user+"-1" {
					errs = append(errs, fmt.Errorf("socket of %s is %q", user, got))
				}
			}
			return errors.Join(errs...)
		})
		if got := testutil.ToFloat64(n.metrics.PresenceDrift[0]); got != 5 {
			t.Errorf("%v differences counted, want 5", got)
		}
	})
}

// While Redis refuses, nothing is lost and nothing is added; the lease comes first.
func TestExpiredLeaseRefuses(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", nil)
		n.connect(t, "first", "s0") // there is a lease
		n.Presence().Disconnect("first", "s0", false)
		n.settled(t)
		n.presence.mu.Lock()
		n.presence.lease.until = 1                        // long ago
		n.presence.lease.next = time.Now().Add(time.Hour) // no heartbeat renews it before it is refused
		n.presence.mu.Unlock()
		n.connect(t, "u", "s") // refused once, then renewed
		b.expectOnline(t, "u", "s")
		if got := testutil.ToFloat64(n.metrics.PresenceExpired); got != 1 {
			t.Errorf("%v refusals counted", got)
		}
	})
}

// Who missed events is told who is there.
func TestMissedEventsAreMadeUpFor(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern, c.PresenceWindow = pattern, 10*time.Millisecond })
		other := b.start(t, "nodeBBBB", nil)
		subscribe(t, n, "/", "r", 1)
		subscribe(t, n, "/", "quiet", 1)
		n.connect(t, "u", "s")
		n.join(t, "u", "s", "r")
		n.join(t, "u", "s", "quiet")
		nextUpdate(t, n)
		nextUpdate(t, n)
		other.connect(t, "v", "s2")
		if b.redis != nil {
			// The Pub/Sub connection breaks, and before it is back somebody joins.
			n.bus.subsMu.Lock() // holds up whatever the node does about it
			b.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
			other.join(t, "v", "s2", "r")
			n.bus.subsMu.Unlock()
		} else {
			b.do(t, "HINCRBY", "{room:r:users}:m", "s", "1") // as if an event had been lost
			other.join(t, "v", "s2", "r")
		}
		for {
			u := nextUpdate(t, n)
			if u.Room != "r" {
				t.Fatalf("told %+v of a room where nothing happened", u)
			}
			if !u.Full {
				continue // the event came through, or the one after the gap
			}
			if !slices.Equal(u.Users, []string{"u", "v"}) || u.Count != 2 || u.Prev != u.Seq || u.Seq < 2 {
				t.Errorf("told %+v", u)
			}
			return
		}
	})
}

// A Redis that comes back with old data has lost the last changes, and would
// give their numbers again. Members learn what is so.
func TestRedisGoesBackInTime(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", func(c *Config) { c.PresenceWindow = 10 * time.Millisecond })
	subscribe(t, n, "/", "r", 1)
	for _, user := range []string{"old1", "old2", "stays"} {
		n.connect(t, user, user+"-1")
		n.join(t, user, user+"-1", "r")
	}
	n.join(t, "stays", "stays-1", "gone")
	snap, err := n.Presence().Snapshot(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	b.save(t)
	n.connect(t, "new1", "new1-1")
	n.join(t, "new1", "new1-1", "r")
	n.Presence().Disconnect("old1", "old1-1", false)
	n.leave(t, "old2", "old2-1", "r") // as many came as went, so that numbers of members say nothing
	n.connect(t, "new2", "new2-1")
	n.join(t, "new2", "new2-1", "r")
	n.leave(t, "stays", "stays-1", "gone")
	n.settled(t)
	list := map[string]bool{}
	last := position{snap.Epoch, 0}
	follow := func(want ...string) {
		t.Helper()
		for {
			u := nextUpdate(t, n)
			if u.Room != "r" {
				continue
			}
			if u.Full {
				clear(list)
			}
			for _, user := range append(u.Joined, u.Users...) {
				list[user] = true
			}
			for _, user := range u.Left {
				delete(list, user)
			}
			if u.Epoch == last.epoch && u.Seq < last.seq {
				t.Errorf("number %d comes after %d in one epoch", u.Seq, last.seq)
			}
			last = position{u.Epoch, u.Seq}
			if got := slices.Sorted(maps.Keys(list)); slices.Equal(got, want) {
				return
			}
		}
	}
	follow("new1", "new2", "stays")
	b.redis.stop()
	b.redis.start(t)
	b.observe(t)
	b.wentBack(t)
	eventually(t, "the keys are right", func() error {
		users := b.list(t, "SMEMBERS", roomKey("r"))
		online := b.list(t, "SMEMBERS", onlineKey)
		gone := b.list(t, "SMEMBERS", roomKey("gone"))
		slices.Sort(users)
		slices.Sort(online)
		if !slices.Equal(users, []string{"new1", "new2", "stays"}) || !slices.Equal(online, []string{"new1", "new2", "old2", "stays"}) || len(gone) > 0 ||
			b.number(t, "EXISTS", socketKey("old1")) == 1 || b.text(t, "GET", socketKey("new1")) != "new1-1" {
			return fmt.Errorf("in the room %q, online %q, in the other room %q", users, online, gone)
		}
		return nil
	})
	list["old1"] = true // whatever was told before: a list is replaced
	for {
		u := nextUpdate(t, n)
		if u.Room == "r" && u.Full && slices.Equal(u.Users, []string{"new1", "new2", "stays"}) {
			if u.Epoch == snap.Epoch {
				t.Error("the epoch is the old one")
			}
			return
		}
	}
}

// A node that ends does not wait for what failed often before.
func TestLedgerEndsWithoutLongWaits(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLedger("I")
	l.connect("u", "s", 0, nil)
	for range 12 { // Redis refuses, again and again
		for _, op := range l.next(now, 1000, true) {
			l.settle(op, errNotYet, now)
		}
		now = now.Add(retryMax)
	}
	if at, ok := l.retryAt(); !ok || at.Before(now) {
		t.Fatalf("the next try is at %v, %v", at, ok)
	}
	l.end()
	for range 3 {
		ops := l.next(now, 1000, true)
		if len(ops) == 0 {
			t.Fatal("what failed is not tried at once")
		}
		for _, op := range ops {
			l.settle(op, errNotYet, now)
		}
		if at, ok := l.retryAt(); !ok || at.Sub(now) != retryMin {
			t.Fatalf("the try after that is %v later, %v", at.Sub(now), ok)
		}
		now = now.Add(retryMin)
	}
}

// A key that somebody else made unusable holds nobody else up: audits pass it
// over, and people come and go.
func TestOneBadKeyHoldsNobodyUp(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	for _, user := range []string{"u", "v"} {
		n.connect(t, user, user+"-1")
		n.join(t, user, user+"-1", "bad")
		n.join(t, user, user+"-1", "good")
	}
	b.do(t, "SET", roomKey("bad"), "of another kind")
	b.do(t, "SREM", roomKey("good"), "u")
	b.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") // everything is in doubt
	eventually(t, "the good key is repaired", func() error {
		if got := b.number(t, "SCARD", roomKey("good")); got != 2 {
			return fmt.Errorf("the room has %d", got)
		}
		return nil
	})
	n.Presence().Disconnect("u", "u-1", false)
	eventually(t, "who leaves is offline", func() error {
		if got := b.list(t, "SMEMBERS", onlineKey); !slices.Equal(got, []string{"v"}) {
			return fmt.Errorf("online are %q", got)
		}
		return nil
	})
	if n.log.count(`what=audit`) == 0 {
		t.Error("nobody says that the audit is refused")
	}
	b.do(t, "DEL", roomKey("bad"))
	if err := n.Presence().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range b.list(t, "KEYS", "*") {
		if !strings.HasSuffix(key, "}:m") && !ofJournal(key) {
			t.Errorf("%s is left", key)
		}
	}
}

// A node that ends just when Redis went back in time does not leave what came back.
func TestFlushAfterRedisWentBack(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	n.connect(t, "u", "u-1")
	n.join(t, "u", "u-1", "r")
	b.save(t)
	n.Presence().Disconnect("u", "u-1", false)
	n.settled(t)
	b.redis.stop()
	b.redis.start(t)
	b.observe(t)
	b.wentBack(t)
	if _, err := n.link.verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is back", func() error {
		n.presence.mu.Lock()
		defer n.presence.mu.Unlock()
		if !n.presence.ledger.gated && n.presence.audit.count < 2 {
			return errNotYet
		}
		return nil
	})
	if err := n.Presence().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expectEmpty(t)
}

// A Redis that becomes a replica answers, and takes nothing: that is as good as gone.
func TestReplicaIsNoRedis(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	n.connect(t, "u", "u-1")
	b.do(t, "REPLICAOF", "127.0.0.1", "1")
	eventually(t, "the node is not ready", func() error {
		if n.Ready() == nil {
			return errNotYet
		}
		return nil
	})
	n.Presence().Connect("v", "v-1", 0, nil)
	b.do(t, "REPLICAOF", "NO", "ONE")
	eventually(t, "the node is ready again", n.Ready)
	n.settled(t)
	b.expectSet(t, onlineKey, "u", "v")
}

func TestScrubber(t *testing.T) {
	const term = 10 * time.Second
	start := time.Unix(1000, 0)
	s := scrubber{next: start.Add(time.Hour)}
	at := func(sec int) time.Time { return start.Add(time.Duration(sec) * time.Second) }
	for _, step := range []struct {
		sec       int
		sign, due bool
		complete  bool // of the scrub, if one is due
	}{
		{0, false, false, false},
		{1, true, false, false}, // a sign: after two leases
		{20, false, false, false},
		{21, false, true, false}, // but it fails
		{22, false, false, false},
		{41, false, true, true}, // and is begun again
		{3000, false, false, false},
		{3700, false, false, false}, // the regular one was put off by six hours
		{41 + 6*3600, false, true, true},
	} {
		if got := s.due(step.sign, true, at(step.sec), term); got != step.due {
			t.Errorf("at %d s: due is %v", step.sec, got)
		}
		if step.due {
			if s.due(false, false, at(step.sec), term) {
				t.Error("due without a connection")
			}
			s.done(step.complete, at(step.sec), term)
		}
	}
}
