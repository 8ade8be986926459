package state

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

func TestGapAfterKilledConnections(t *testing.T) {
	realModes(t, func(t *testing.T, b *backend, pattern bool) {
		p, l := pair(t, b, func(c *Config) { c.Recovery, c.Pattern = true, pattern })
		f := startFlow(t, p, time.Millisecond)
		for round := range 4 {
			f.more(t, 100)
			announced := l.announced("/", "r1", 1)
			b.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
			l.repaired(t, metrics.GapConnection, float64(round+1))
			eventually(t, "the room is announced again", func() error {
				if l.announced("/", "r1", 1) == announced {
					return errNotYet
				}
				return nil
			})
		}
		f.more(t, 100)
		f.end(t)
		f.received(t, l)
		f.received(t, p)
		if got := len(l.misses()); got != 0 {
			t.Errorf("missed %d times", got)
		}
		if l.unheard != 4 {
			t.Errorf("Unheard %d times, want 4", l.unheard)
		}
		if testutil.ToFloat64(l.metrics.GapMessages) == 0 {
			t.Error("no message was repaired, so that nothing was tested")
		}
	})
}

// Redis ends a connection that does not take what it is sent.
func TestGapAfterOutputBufferLimit(t *testing.T) {
	b := realRedis(t)
	p, l := pair(t, b, recovering)
	f := startFlow(t, p, time.Millisecond)
	f.more(t, 50)
	b.do(t, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 0 0")
	big := strings.Repeat("x", 4<<20) // more than sockets hold
	for range 8 {
		done, c := outcome()
		if err := p.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte(big), Done: done}); err != nil {
			t.Fatal(err)
		}
		if err := await(t, "done", c); err != nil {
			t.Fatal(err)
		}
	}
	b.do(t, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")
	l.repaired(t, metrics.GapConnection, 1)
	f.more(t, 100)
	f.end(t)
	f.received(t, l)
	f.received(t, p)
}

func TestGapAfterFrozenRedis(t *testing.T) {
	b := realRedis(t)
	p, l := pair(t, b, recovering)
	f := startFlow(t, p, 5*time.Millisecond)
	f.more(t, 50)
	b.redis.freeze(t)
	time.Sleep(3 * time.Second) // long enough that connections may be given up
	b.redis.thaw(t)
	f.more(t, 200)
	eventually(t, "ready", l.Ready)
	f.end(t)
	f.received(t, l)
	f.received(t, p)
}

// A Pub/Sub connection that brings no messages, but whose pings are answered, is
// found by the probes.
func TestProbeFindsADeadConnection(t *testing.T) {
	for _, recovery := range []bool{true, false} {
		t.Run(fmt.Sprint(recovery), func(t *testing.T) {
			b := realRedis(t)
			g := newGate(t, b)
			p := b.start(t, "nodePPPP", func(c *Config) { c.Recovery = recovery })
			l := b.startBehind(t, g, "nodeLLLL", func(c *Config) { c.Recovery = recovery })
			subscribe(t, l, "/", "r1", 1)
			f := startFlow(t, p, 150*time.Millisecond)
			f.more(t, 2)
			// Messages are lost, the answers to pings are not.
			var mu sync.Mutex
			var dead *gated
			g.filter(func(c *gated, value []byte) bool {
				if !bytes.Contains(value[:min(24, len(value))], []byte("message")) {
					return true
				}
				mu.Lock()
				defer mu.Unlock()
				if dead == nil {
					dead = c
				}
				return dead != c
			})
			eventually(t, "the connection is given up", func() error {
				if testutil.ToFloat64(l.metrics.BusReconnects) == 0 {
					return errNotYet
				}
				return nil
			})
			eventually(t, "the probes are named as the reason", func() error {
				if l.log.count("does not bring the node's own probes") != 1 {
					return errNotYet
				}
				return l.Ready()
			})
			f.more(t, 5)
			f.end(t)
			if recovery {
				l.repaired(t, metrics.GapProbe, 1)
				f.received(t, l)
			}
		})
	}
}

// Whatever is missing is said before anything that came after it.
func TestMissedWhenTheJournalIsTrimmed(t *testing.T) {
	b := realRedis(t)
	g := newGate(t, b)
	p := b.start(t, "nodePPPP", func(c *Config) { c.Recovery, c.Retention = true, 50*time.Millisecond })
	var voids atomic.Int64
	l := b.startBehindWith(t, g, "nodeLLLL", recovering, func(n *node) {
		n.journal.onVoid = func(context.Context, *clients) error {
			if len(n.misses()) > 0 && voids.Load() == 0 {
				t.Error("Missed came before the sessions were void")
			}
			voids.Add(1)
			return nil
		}
	})
	if err := await(t, "before", p.journalled(t, "/", "", "before")); err != nil {
		t.Fatal(err)
	}
	expectTexts(t, l, "before")
	g.set(func(*gated, bool, []byte) action { return cut }) // deaf, and for long
	eventually(t, "not ready", func() error {
		if l.Ready() == nil {
			return errNotYet
		}
		return nil
	})
	for _, text := range []string{"lost1", "lost2"} {
		if err := await(t, text, p.journalled(t, "/", "", text)); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := p.link.get()
	eventually(t, "the journal is trimmed", func() error {
		if err := p.journal.trim(t.Context(), c, false); err != nil {
			return err
		}
		if gone := b.text(t, "HGET", "socket.io-journal", "gone:socket.io-journal#/#"); gone != b.tail(t, "/") {
			return fmt.Errorf("gone is %q", gone)
		}
		return nil
	})
	g.set(nil)
	eventually(t, "ready", l.Ready)
	if err := await(t, "after", p.journalled(t, "/", "", "after")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "after arrives", func() error {
		if got := l.texts(); !slices.Contains(got, "after") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	if got := l.misses(); !slices.Equal(got, []int{1}) || voids.Load() != 1 {
		t.Errorf("missed after %v deliveries, want once after 1; %d times void", got, voids.Load())
	}
	if got := testutil.ToFloat64(l.metrics.GapFailures[metrics.GapTrimmed]); got != 1 {
		t.Errorf("%v failures counted", got)
	}
}

// Trimming what a node has is no miss, however little is left.
func TestTrimmedJournalOfAQuietNamespace(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Recovery, c.Retention = true, time.Millisecond })
		for _, text := range []string{"a", "b"} {
			if err := await(t, text, n.journalled(t, "/", "", text)); err != nil {
				t.Fatal(err)
			}
		}
		expectTexts(t, n, "a", "b")
		c, _ := n.link.get()
		last := n.delivered()[1].payload
		o, _ := socketio.EntryOf([]byte(last))
		eventually(t, "all is trimmed", func() error {
			if err := n.journal.trim(t.Context(), c, true); err != nil {
				return err
			}
			// The first one may be old enough before the last one is.
			if got := b.text(t, "HGET", "socket.io-journal", "gone:socket.io-journal#/#"); got != o.String()[9:] {
				return fmt.Errorf("gone is %s, want %s", got, o.String()[9:])
			}
			if b.redis == nil && b.number(t, "XLEN", "socket.io-journal#/#") > 0 {
				return errNotYet
			}
			return nil
		})
		if got := b.text(t, "HGET", "socket.io-journal", "cut:socket.io-journal#/#"); got != strconv.FormatUint(o.Ms+1, 10) {
			t.Errorf("cut is %s, want %d", got, o.Ms+1)
		}
		if b.redis == nil {
			return
		}
		b.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
		n.repaired(t, metrics.GapConnection, 1)
		if err := await(t, "c", n.journalled(t, "/", "", "c")); err != nil {
			t.Fatal(err)
		}
		expectTexts(t, n, "a", "b", "c")
		if got := n.misses(); len(got) > 0 {
			t.Errorf("missed %v", got)
		}
	})
}

// A namespace's tail is known before its base channel is subscribed, so that it
// hears everything from then on and nothing from before.
func TestNamespaceOpenedLater(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		p := b.start(t, "nodePPPP", recovering)
		p.Bus().Open("/late")
		eventually(t, "open", p.Ready)
		for _, text := range []string{"1", "2"} {
			if err := await(t, text, p.journalled(t, "/late", "", text)); err != nil {
				t.Fatal(err)
			}
		}
		l := b.start(t, "nodeLLLL", recovering)
		l.Bus().Open("/late")
		l.Bus().Subscribe("/late", "r", 3)
		eventually(t, "announced", func() error {
			if l.announced("/late", "r", 3) == 0 {
				return errNotYet
			}
			return l.Ready()
		})
		if err := await(t, "3", p.journalled(t, "/late", "r", "3")); err != nil {
			t.Fatal(err)
		}
		expectTexts(t, l, "3")
		if got := l.repairs(metrics.GapNamespace); got != 1 || l.unheard != 0 {
			t.Errorf("%v repairs for the namespace, Unheard %d times", got, l.unheard)
		}
	})
}

// A node knows where the journal is, though nothing happens in it: from the start,
// and after a gap.
func TestPositionOfAQuietNamespace(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", recovering)
	n.accepted(t, "", "a")
	want := b.text(t, "HGET", "socket.io-journal", "epoch") + "." + b.tail(t, "/")
	l := b.start(t, "nodeLLLL", recovering)
	b.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
	l.repaired(t, metrics.GapConnection, 1)
	l.recorder.mu.Lock()
	defer l.recorder.mu.Unlock()
	if len(l.advanced) < 2 {
		t.Fatalf("told %v, want the position at the start and after the gap", l.advanced)
	}
	for _, o := range l.advanced {
		if o.String() != want {
			t.Errorf("told %v, want %s", o, want)
		}
	}
}

// The control channel of a node brings word that a socket has moved.
func TestDrop(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		a := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern = pattern })
		o := b.start(t, "nodeBBBB", func(c *Config) { c.Pattern = pattern })
		o.bus.drop(a.journal.incarnation, "/a b", "nodeAAAA000000000001", 7)
		eventually(t, "it is told", func() error {
			a.recorder.mu.Lock()
			defer a.recorder.mu.Unlock()
			if !slices.Equal(a.calls, []string{"replaced /a b nodeAAAA000000000001 7"}) {
				return fmt.Errorf("%q", a.calls)
			}
			return nil
		})
		if len(o.calls) != 0 {
			t.Errorf("the other was told %q", o.calls)
		}
	})
}

// tail is the last id of a journal.
func (b *backend) tail(t testing.TB, ns string) string {
	t.Helper()
	ctx := t.Context()
	info, err := b.observer.Do(ctx, b.observer.B().XinfoStream().Key("socket.io-journal#"+ns+"#").Build()).AsMap()
	if err != nil {
		t.Fatal(err)
	}
	id := info["last-generated-id"]
	text, err := id.ToString()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestProbing(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var p probing
	for i, step := range []struct {
		at       float64
		live     bool
		received uint64
		want     bool
	}{
		{0, true, 2, false}, {1, true, 4, false}, {2, true, 4, false}, {3.9, true, 4, false}, {4, true, 4, true},
		{5, true, 6, false}, {7, false, 6, false}, {9, true, 6, false}, {10, true, 6, true},
	} {
		if got := p.published(at(step.at), step.live, step.received); got != step.want {
			t.Errorf("step %d: dead %v", i, got)
		}
	}
}

// A gap of too many entries is given up, one that cannot be read in time, too; what
// comes afterwards arrives.
func TestGapThatCannotBeRepaired(t *testing.T) {
	for name, c := range map[string]struct {
		cause  metrics.GapFailure
		change func(*node)
		decide func(c *gated, toRedis bool, chunk []byte) action
	}{
		"too many": {metrics.GapTooMany, func(n *node) { n.bus.gapEntries = 10 }, nil},
		"unreachable": {metrics.GapUnreachable, func(n *node) { n.bus.gapPatience = 200 * time.Millisecond },
			func(_ *gated, toRedis bool, chunk []byte) action {
				if toRedis && bytes.Contains(chunk, []byte("XRANGE")) {
					return cut
				}
				return pass
			}},
	} {
		t.Run(name, func(t *testing.T) {
			b := realRedis(t)
			g := newGate(t, b)
			p := b.start(t, "nodePPPP", recovering)
			l := b.startBehindWith(t, g, "nodeLLLL", recovering, c.change)
			p.accepted(t, "", "before")
			expectTexts(t, l, "before")
			g.set(func(*gated, bool, []byte) action { return cut })
			eventually(t, "not ready", func() error {
				if l.Ready() == nil {
					return errNotYet
				}
				return nil
			})
			for i := range 30 {
				p.accepted(t, "", "lost"+strconv.Itoa(i))
			}
			g.set(c.decide)
			eventually(t, "the gap is given up", func() error {
				if got := testutil.ToFloat64(l.metrics.GapFailures[c.cause]); got != 1 {
					return fmt.Errorf("%v failures counted", got)
				}
				return l.Ready()
			})
			p.accepted(t, "", "after")
			expectTexts(t, l, "before", "after")
			if got := l.misses(); !slices.Equal(got, []int{1}) {
				t.Errorf("missed after %v deliveries, want once after 1", got)
			}
		})
	}
}
