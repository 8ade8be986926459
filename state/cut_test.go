package state

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// What a node is told of a cut is read strictly, and the position given only if it
// is the node's own.
func TestCutMessages(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		tail := b.append(t, "x")
		channel := n.bus.control
		for _, text := range []string{
			"cut", "cut ", "cut 2", "cut 2 sid", "cut 2 sid epoch001", "cut 2 sid epoch001 1-1", "cut 2 sid epoch001 1-1 ",
			"cut x sid epoch001 1-1 /", "cut -1 sid epoch001 1-1 /", "cut 2  epoch001 1-1 /", "cut 2 sid  1-1 /",
			"cut 2 sid epoch001 1 /", "cut 2 sid epoch001 1-x /", "cut 18446744073709551616 sid epoch001 1-1 /", "cuts 2 sid epoch001 1-1 /",
		} {
			b.do(t, "PUBLISH", channel, text)
		}
		b.do(t, "PUBLISH", channel, "cut 2 sid "+tail.Epoch+" "+idOf(tail)+" /")
		b.do(t, "PUBLISH", channel, "cut 3 sid "+tail.Epoch+" 1-1 /") // it has delivered more already
		b.do(t, "PUBLISH", channel, "cut 4 sid "+tail.Epoch+" "+idOf(tail)+" /a b")
		want := []string{"cut / sid 2 " + tail.String(), "cut / sid 3 ", "cut /a b sid 4 "}
		eventually(t, "the node is told", func() error {
			n.recorder.mu.Lock()
			defer n.recorder.mu.Unlock()
			if !slices.Equal(n.calls, want) {
				return fmt.Errorf("told %q, want %q", n.calls, want)
			}
			return nil
		})
		if got := testutil.ToFloat64(n.metrics.Drops[metrics.DropMalformed]); got != 15 {
			t.Errorf("%v malformed messages counted, want 15", got)
		}
	})
}

// While what was missed is read, and where more was read than has arrived, a node
// cannot say where the cut is.
func TestCutWithinAGap(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		at := b.append(t, "x")
		tell := func(generation int) {
			n.bus.receiveControl(fmt.Sprintf("cut %d sid %s %s /", generation, at.Epoch, idOf(at)))
		}
		n.bus.ears.Lock()
		n.bus.openGap(metrics.GapConnection, "")
		tell(2)
		n.bus.ears.Unlock()
		notify(n.bus.repair)
		eventually(t, "the gap is repaired", func() error {
			if n.bus.gaps.Load() > 0 {
				return errNotYet
			}
			return nil
		})
		n.bus.ears.Lock()
		tell(3) // the repair read as far
		at.Ms--
		tell(4) // the repair had read more
		at.Epoch = "epoch00X"
		tell(5)
		n.bus.ears.Unlock()
		at, _ = socketio.ParseEntryID(b.tail(t, "/"))
		at.Epoch = b.text(t, "HGET", "socket.io-journal", "epoch")
		n.recorder.mu.Lock()
		defer n.recorder.mu.Unlock()
		want := []heardCut{{sid: "sid", generation: 2}, {sid: "sid", generation: 3, at: at}, {sid: "sid", generation: 4}, {sid: "sid", generation: 5}}
		if got := slices.Clone(n.cuts); !slices.EqualFunc(got, want, func(a, b heardCut) bool {
			a.before = 0
			return a == b
		}) {
			t.Errorf("told of %+v, want %+v", got, want)
		}
	})
}

// Whatever a cut says is said again by what was read of it.
func FuzzParseCut(f *testing.F) {
	for _, seed := range []string{"2 sid epoch001 1-2 /", "2 sid epoch001 0-0 /a b", "18446744073709551615 s e 5-5 x", "x", "1 2 3 4 5", "  1-1  "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseCut(text)
		if !ok {
			return
		}
		again := strconv.FormatUint(c.generation, 10) + " " + c.sid + " " + c.at.Epoch + " " + idOf(c.at) + " " + c.ns
		if d, ok := parseCut(again); !ok || c != d {
			t.Errorf("%q is read as %+v, and that as %+v", text, c, d)
		}
		if c.sid == "" || c.ns == "" || c.at.IsZero() {
			t.Errorf("%q is read as %+v", text, c)
		}
	})
}
