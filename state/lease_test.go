package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/stellara/edge/metrics"
)

const shortLease = 400 * time.Millisecond

func short(c *Config) { c.Lease = shortLease }

// patient is short for those who store hundreds of users meanwhile: a busy machine must
// not make them miss it.
func patient(c *Config) { c.Lease = 3 * time.Second }

func TestLease(t *testing.T) {
	l := newLease(10 * time.Second)
	now := time.Unix(50, 0)
	if l.valid() || l.margin() != time.Second {
		t.Error("a new lease is none")
	}
	if left := l.renewed(110_000, 100_000, now); left != 0 || !l.valid() || l.steady != 100_000 || !l.next.Equal(now.Add(2500*time.Millisecond)) {
		t.Errorf("first heartbeat: %v left, %+v", left, l)
	}
	if left := l.renewed(112_500, 102_500, now); left != 7500*time.Millisecond || l.steady != 100_000 {
		t.Errorf("second heartbeat: %v left, %+v", left, l)
	}
	if l.refused(); l.valid() || !l.next.IsZero() {
		t.Errorf("refused: %+v", l)
	}
	// The row has a hole as long as a lease.
	if left := l.renewed(122_600, 112_600, now); left != -100*time.Millisecond || !l.valid() || l.steady != 112_600 {
		t.Errorf("late heartbeat: %v left, %+v", left, l)
	}
	if l.broken(now); l.steady != 0 || !l.valid() || !l.next.Equal(now.Add(beatRetry)) {
		t.Errorf("broken: %+v", l)
	}
	l.renewed(130_000, 120_000, now)
	if l.renewed(100_000, 90_000, now); l.steady != 90_000 {
		t.Errorf("Redis's clock went back: %+v", l)
	}
	if at := l.renounce(95_000); at != 101_000 || l.valid() || l.known {
		t.Errorf("renounced: reapable at %d, %+v", at, l)
	}
	if at := l.renounce(95_000); at != 95_000 {
		t.Errorf("renounced without a lease: reapable at %d", at)
	}
}

// crash ends a node as kill -9 does: nothing is released, nobody is told.
func (n *node) crash(t *testing.T) { n.stop(t) }

func TestDeadNodeIsReaped(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		watch := b.start(t, "listener", patient)
		subscribe(t, watch, "/", "r", 1)
		nodeA, nodeB := b.start(t, "nodeAAAA", patient), b.start(t, "nodeBBBB", patient)
		for i := range 300 {
			user := fmt.Sprintf("u%03d", i)
			nodeA.Presence().Connect(user, user+"-a", 0, nil)
			nodeA.Presence().Join(user, user+"-a", "r", nil)
			nodeA.Presence().Join(user, user+"-a", "own"+user, nil)
		}
		nodeA.settled(t)
		nodeB.connect(t, "u000", "u000-b") // two devices
		nodeB.join(t, "u000", "u000-b", "r")
		nodeB.connect(t, "moved", "u001-a") // its id begins anyhow
		joined := 0
		for joined < 300 {
			joined += len(nextUpdate(t, watch).Joined)
		}
		nodeA.crash(t)
		left := map[string]int{}
		for len(left) < 299 {
			u := nextUpdate(t, watch)
			for _, user := range u.Left {
				left[user]++
			}
			if len(u.Joined) > 0 {
				t.Errorf("%q joined", u.Joined)
			}
		}
		for user, n := range left {
			if n != 1 || user == "u000" {
				t.Errorf("%s left %d times", user, n)
			}
		}
		reaped := func() float64 {
			return testutil.ToFloat64(nodeB.metrics.PresenceReaped) + testutil.ToFloat64(watch.metrics.PresenceReaped)
		}
		eventually(t, "the dead node is forgotten", func() error {
			if dead := b.list(t, "ZRANGE", deadKey, "0", "-1"); len(dead) > 0 {
				return fmt.Errorf("dead are %q", dead)
			}
			if reaped() == 0 { // which is counted when whoever did it has given up the key that it held meanwhile
				return errNotYet
			}
			return nil
		})
		b.expectSet(t, onlineKey, "u000", "moved")
		b.expectSet(t, roomKey("r"), "u000")
		if got := b.list(t, "KEYS", "*"+nodeA.incarnation()+"*"); len(got) > 0 {
			t.Errorf("keys of the dead node: %q", got)
		}
		if got := b.text(t, "GET", socketKey("u000")); got != "u000-b" {
			t.Errorf("the socket of the user with two devices is %q", got)
		}
		if got := b.number(t, "EXISTS", socketKey("u002")); got != 0 {
			t.Error("a dead user has a socket")
		}
		if got := reaped(); got != 1 {
			t.Errorf("%v nodes reaped", got)
		}
	})
}

// A node that was given up while its sockets live goes on as another incarnation.
func TestUnknownNodeGoesOn(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", short)
		n.connect(t, "u", "s")
		n.join(t, "u", "s", "r")
		old := n.incarnation()
		b.do(t, "ZREM", instKey, old)
		b.do(t, "ZADD", deadKey, "1", old) // as CLAIM does
		eventually(t, "another incarnation begins", func() error {
			if n.incarnation() == old {
				return errNotYet
			}
			return nil
		})
		n.settled(t)
		eventually(t, "the old one is reaped", func() error {
			if keys := b.list(t, "KEYS", "*"+old+"*"); len(keys) > 0 {
				return fmt.Errorf("left: %q", keys)
			}
			return nil
		})
		b.expectOnline(t, "u", "s")
		b.expectSet(t, roomKey("r"), "u")
		if got := testutil.ToFloat64(n.metrics.PresenceIncarnations); got != 2 {
			t.Errorf("%v incarnations counted", got)
		}
		if n.log.count("does not know this node any more") != 1 {
			t.Error("the log does not say it once")
		}
		n.Presence().Disconnect("u", "s", false)
		n.settled(t)
		b.expectEmpty(t)
	})
}

func TestFlushStrikesTheNodeOff(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", nil)
		n.connect(t, "u", "s")
		n.join(t, "u", "s", "r")
		if got := b.list(t, "ZRANGE", instKey, "0", "-1"); !slices.Equal(got, []string{n.incarnation()}) {
			t.Errorf("registered are %q", got)
		}
		if err := n.Presence().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, key := range b.list(t, "KEYS", "*") {
			if key != "{room:r:users}:m" && !ofJournal(key) {
				t.Errorf("%s is left", key)
			}
		}
	})
}

// mayJudge waits until the node has seen Redis work for long enough to take
// others for dead, and has looked at them since.
func (n *node) mayJudge(t *testing.T) {
	t.Helper()
	claims := -1
	eventually(t, "the node looks at others", func() error {
		n.presence.mu.Lock()
		l := n.presence.lease
		n.presence.mu.Unlock()
		if l.steady == 0 || l.last-l.steady < (l.length+l.margin()).Milliseconds() {
			claims = -1
			return errNotYet
		}
		var m dto.Metric
		if err := n.metrics.Presence[metrics.PresenceClaim].(prometheus.Histogram).Write(&m); err != nil {
			return err
		}
		if claims < 0 {
			claims = int(m.GetHistogram().GetSampleCount())
		}
		if int(m.GetHistogram().GetSampleCount()) < claims+2 {
			return errNotYet
		}
		return nil
	})
}

// A Redis that stands still for longer than a lease, so that nobody could renew
// it, costs nobody their presence: whoever wakes first takes nobody for dead.
func TestStalledRedisKillsNobody(t *testing.T) {
	t.Parallel()
	b := realRedis(t)
	lease := func(c *Config) { c.Lease = 1500 * time.Millisecond }
	watch := b.start(t, "listener", lease)
	subscribe(t, watch, "/", "r", 1)
	nodes := []*node{b.start(t, "nodeAAAA", lease), b.start(t, "nodeBBBB", lease), watch}
	for _, n := range nodes[:2] {
		n.connect(t, n.id, n.id+"-1")
		n.join(t, n.id, n.id+"-1", "r")
	}
	for joined := 0; joined < 2; {
		joined += len(nextUpdate(t, watch).Joined)
	}
	// Below and above the silence after which a connection is given up.
	for _, stall := range []time.Duration{2 * time.Second, silence + 1500*time.Millisecond} {
		for _, n := range nodes {
			n.mayJudge(t)
		}
		b.redis.freeze(t)
		time.Sleep(stall)
		b.redis.thaw(t)
		for _, n := range nodes {
			eventually(t, "the node renews its lease", func() error {
				n.presence.mu.Lock()
				defer n.presence.mu.Unlock()
				if !n.presence.lease.valid() || n.presence.lease.steady == 0 {
					return errNotYet
				}
				return nil
			})
		}
	}
	for _, n := range nodes {
		n.mayJudge(t)
	}
	for _, n := range nodes {
		if got := testutil.ToFloat64(n.metrics.PresenceIncarnations); got != 1 {
			t.Errorf("%s was taken for dead and is its incarnation %v", n.id, got)
		}
	}
	select {
	case u := <-watch.updates:
		if len(u.Left) > 0 {
			t.Errorf("told that %q left", u.Left)
		}
	default:
	}
	b.observe(t) // its connection is lost as well
	b.expectSet(t, roomKey("r"), "nodeAAAA", "nodeBBBB")
}
