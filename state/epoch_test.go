package state

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// startVoid starts a node that counts how often its sessions became void.
func (b *backend) startVoid(t *testing.T, id string, change func(*Config)) (*node, *atomic.Int64) {
	t.Helper()
	var voids atomic.Int64
	n := b.open(t, id, change)
	n.journal.onVoid = func(context.Context, *clients) error {
		if voids.Add(1) == 1 {
			return errNotYet // it is called again until it has worked
		}
		return nil
	}
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "node is ready", n.Ready)
	subscribe(t, n, "/", "r1", 1)
	return n, &voids
}

func (n *node) accepted(t testing.TB, room, text string) {
	t.Helper()
	if err := await(t, text, n.journalled(t, "/", room, text)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// A Redis that was restarted may have lost the tail of the journal: another epoch
// begins, the old journal is gone, and everybody is told.
func TestEpochAfterRestart(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(map[bool]string{false: "empty", true: "old data"}[old], func(t *testing.T) {
			b := realRedis(t)
			n, voids := b.startVoid(t, "nodeAAAA", recovering)
			n.accepted(t, "r1", "a")
			n.accepted(t, "", "b")
			if old {
				if got := b.number(t, "XLEN", "socket.io-journal#/#"); got != 2 {
					t.Errorf("%d entries are saved", got)
				}
				b.save(t)
			}
			n.accepted(t, "r1", "c")
			expectTexts(t, n, "a", "b", "c")
			epoch := b.text(t, "HGET", "socket.io-journal", "epoch")
			b.redis.stop()
			b.redis.start(t)
			b.observe(t)
			if old {
				b.wentBack(t)
			}
			eventually(t, "missed", func() error {
				if len(n.misses()) == 0 {
					return errNotYet
				}
				return n.Ready()
			})
			if got := b.text(t, "HGET", "socket.io-journal", "epoch"); got == epoch || len(got) != 8 {
				t.Errorf("the epoch is %q after %q", got, epoch)
			}
			n.accepted(t, "r1", "d")
			expectTexts(t, n, "a", "b", "c", "d")
			if got := b.stream(t, "/"); !slices.Equal(got, []string{"d"}) {
				t.Errorf("the journal is %q", got)
			}
			// Sessions of another epoch cannot be claimed: none is void.
			if got := n.misses(); !slices.Equal(got, []int{3}) || voids.Load() > 0 {
				t.Errorf("missed after %v deliveries, %d times void", got, voids.Load())
			}
			if got := testutil.ToFloat64(n.metrics.GapFailures[metrics.GapEpochChanged]); got != 1 {
				t.Errorf("%v failures counted", got)
			}
		})
	}
}

// A Redis that was emptied begins another epoch, under load, too. Whoever heard it
// all the time misses nothing.
func TestEpochAfterFlush(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		p, _ := b.startVoid(t, "nodePPPP", recovering)
		l, voids := b.startVoid(t, "nodeLLLL", recovering)
		f := startFlow(t, p, time.Millisecond)
		epochs := map[string]bool{b.text(t, "HGET", "socket.io-journal", "epoch"): true}
		for round := range 4 {
			f.more(t, 50)
			b.do(t, "FLUSHALL")
			p.repaired(t, metrics.GapEpoch, float64(round+1))
			l.repaired(t, metrics.GapEpoch, float64(round+1))
			epochs[b.text(t, "HGET", "socket.io-journal", "epoch")] = true
		}
		f.more(t, 50)
		f.end(t)
		f.received(t, l)
		f.received(t, p)
		if len(epochs) != 5 {
			t.Errorf("%d epochs, want 5: %v", len(epochs), epochs)
		}
		if len(l.misses())+len(p.misses()) > 0 {
			t.Errorf("missed %v and %v", l.misses(), p.misses())
		}
		if voids.Load() > 0 {
			t.Errorf("%d times void", voids.Load())
		}
		for text, err := range f.outcomes {
			if err != nil {
				t.Errorf("message %s: %v", text, err)
			}
		}
	})
}

// A quiet node finds out by its probes.
func TestEpochAfterFlushWhileQuiet(t *testing.T) {
	b := realRedis(t)
	n, voids := b.startVoid(t, "nodeAAAA", recovering)
	b.do(t, "FLUSHALL")
	n.repaired(t, metrics.GapEpoch, 1)
	if voids.Load() > 0 || len(n.misses()) > 0 {
		t.Errorf("%d times void, missed %v", voids.Load(), n.misses())
	}
}

// A batch whose answer was lost with its epoch stays unknown, and is not sent in
// the next one.
func TestUnknownOutcomeAcrossEpochs(t *testing.T) {
	b := realRedis(t)
	d := b.deafen()
	n := b.start(t, "nodeAAAA", recovering)
	n.accepted(t, "", "a")
	expectTexts(t, n, "a")
	b.redis.freeze(t)
	d.marker.Store(&n.journal.scripts[metrics.JournalPublish].sha)
	c := n.underWay(t, "b")
	d.written(t) // what is not may well be sent in the next one
	b.redis.stop()
	b.redis.start(t)
	b.observe(t)
	if err := await(t, "b", c); err != ErrUnknown {
		t.Errorf("b: %v, want ErrUnknown", err)
	}
	eventually(t, "ready", n.Ready)
	n.accepted(t, "", "c")
	expectTexts(t, n, "a", "c")
}

// The streams a node serves are deleted when an epoch begins, those of others, too.
func TestBind(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		open := func(id string) *node {
			n := b.open(t, id, recovering)
			n.Bus().Open("/" + id)
			return n
		}
		a, o := open("nodeAAAA"), open("nodeBBBB")
		at := func(n *node, gen uint64, run string) string {
			t.Helper()
			epoch, err := n.journal.bind(t.Context(), &clients{gen: gen, cmd: b.observer, run: run})
			if err != nil || len(epoch) != 8 {
				t.Fatalf("bind: %q, %v", epoch, err)
			}
			return epoch
		}
		first := at(a, 1, "run1")
		if got := at(o, 1, "run1"); got != first {
			t.Errorf("the same run is another epoch: %s, %s", first, got)
		}
		b.do(t, "XADD", a.journal.streamKey("/nodeAAAA"), "5-5", "m", "x")
		b.do(t, "HSET", "socket.io-nodes", a.journal.incarnation, "9")
		_, tails, err := a.journal.tails(t.Context(), &clients{gen: 1, cmd: b.observer, run: "run1"})
		if want := (socketio.Offset{Epoch: first, Ms: 5, Seq: 5}); err != nil || tails[a.journal.streamKey("/nodeAAAA")] != want {
			t.Errorf("tails are %v, %v", tails, err)
		}
		if got := a.journal.epochOf(&clients{gen: 2}); got != "" {
			t.Errorf("the epoch of clients not bound is %q", got)
		}
		second := at(o, 2, "run2")
		if second == first {
			t.Error("another run is the same epoch")
		}
		if got := at(a, 1, "run1"); got != first {
			t.Errorf("bound twice with the same clients: %s, %s", first, got)
		}
		if got := b.number(t, "EXISTS", a.journal.streamKey("/nodeAAAA"), "socket.io-nodes"); got != 0 {
			t.Errorf("%d keys of the old epoch are left", got)
		}
		if got, err := a.journal.rebind(t.Context(), &clients{gen: 1, cmd: b.observer, run: "run2"}, first); got != second || err != nil {
			t.Errorf("rebind gives %s, %v; want %s", got, err, second)
		}
	})
}

// Trimming removes by age and by length, and remembers how far.
func TestTrim(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.open(t, "nodeAAAA", func(c *Config) { c.Recovery, c.Retention, c.JournalMax = true, time.Minute, 1000 })
		n.Bus().Open("/")
		c := &clients{gen: 1, cmd: b.observer}
		if _, err := n.journal.bind(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		key := n.journal.streamKey("/")
		now := time.Now().UnixMilli()
		add := func(ms int64, seq, count int) {
			for i := range count {
				b.do(t, "XADD", key, fmt.Sprintf("%d-%d", ms, seq+i), "m", "x")
			}
		}
		add(now-120_000, 0, 300) // too old
		add(now-90_000, 7, 1)
		add(now, 0, 5)
		trim := func() {
			t.Helper()
			if err := n.journal.trim(t.Context(), c, true); err != nil {
				t.Fatal(err)
			}
		}
		trim()
		field := func(name string) string { return b.text(t, "HGET", n.journal.hashKey(), name+key) }
		if gone, cut := field("gone:"), field("cut:"); gone != fmt.Sprintf("%d-7", now-90_000) || cut != strconv.FormatInt(now-90_000+1, 10) {
			t.Errorf("gone %s, cut %s", gone, cut)
		}
		if got := b.number(t, "XLEN", key); got < 5 || got > 150 {
			t.Errorf("%d entries are left", got)
		}
		add(now, 5, 2000)
		trim()
		length := b.number(t, "XLEN", key)
		if length < 1000 || length > 1100 {
			t.Errorf("%d entries are left, want 1000", length)
		}
		page := b.do(t, "XRANGE", key, "-", "+", "COUNT", "1")
		first, err := page.AsXRange()
		if err != nil {
			t.Fatal(err)
		}
		o, _ := socketio.ParseEntryID(first[0].ID)
		if gone, cut := field("gone:"), field("cut:"); gone != fmt.Sprintf("%d-%d", now, o.Seq-1) || cut != strconv.FormatInt(now+1, 10) {
			t.Errorf("the first is %s; gone %s, cut %s", first[0].ID, gone, cut)
		}
		before := field("gone:")
		trim()
		if got := field("gone:"); got != before {
			t.Errorf("gone went from %s to %s without a cause", before, got)
		}
	})
}

// Nodes that were not seen for an hour are forgotten, with all that is theirs.
func TestSweepForgetsDeadNodes(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.open(t, "nodeAAAA", recovering)
		c := &clients{gen: 1, cmd: b.observer}
		long := strconv.FormatInt(time.Now().Add(-61*time.Minute).UnixMilli(), 10)
		short := strconv.FormatInt(time.Now().Add(-59*time.Minute).UnixMilli(), 10)
		b.do(t, "HSET", "socket.io-nodes", "DEAD", "7", "^DEAD", long, "@DEAD.1", "5", "@DEAD.22", "5",
			"LIFE", "7", "^LIFE", short, "@LIFE.1", "5", "NONE", "3", "@NONE.1", "5")
		if err := n.journal.trim(t.Context(), c, true); err != nil {
			t.Fatal(err)
		}
		got := b.list(t, "HKEYS", "socket.io-nodes")
		slices.Sort(got)
		want := []string{"@LIFE.1", "@NONE.1", "LIFE", "NONE", "^LIFE", "^NONE"}
		if !slices.Equal(got, want) {
			t.Errorf("left are %q, want %q", got, want)
		}
	})
}
