package state

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// movedTo waits until the session has a generation in Redis.
func (b *backend) movedTo(t testing.TB, generation string) {
	t.Helper()
	eventually(t, "the move is carried out", func() error {
		if b.session(t, "g") != generation {
			return errNotYet
		}
		return nil
	})
}

// toldOnce checks that the nodes were told of one cut, and nothing after it.
func (b *backend) toldOnce(t testing.TB, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		b.do(t, "PUBLISH", n.bus.control, "drop 9 next /")
		eventually(t, "the node is told", func() error {
			if !n.wasCalled("replaced / next 9") {
				return errNotYet
			}
			return nil
		})
		n.recorder.mu.Lock()
		if len(n.cuts) != 1 {
			t.Errorf("%s was told of %d cuts", n.id, len(n.cuts))
		}
		n.recorder.mu.Unlock()
	}
}

// A move that was carried out and whose answer was lost is not carried out again.
// It is said that nobody knows, and the session can be closed, and claimed.
func TestSessionMoveWhoseAnswerIsLost(t *testing.T) {
	leak.Check(t)
	b := realRedis(t)
	one := b.sessionNode(t, "nodeAAAA", nil)
	d := b.deafen()
	two := b.sessionNode(t, "nodeBBBB", nil)
	ref, start := one.create(t, newSession("ann"))
	b.signed(t, one)
	d.marker.Store(&two.Sessions().scripts[sessionMove].sha)
	moved := two.startMove(moveFrom(one, ref))
	b.movedTo(t, "2")
	d.cut()
	if r := await(t, "move", moved); !errors.Is(r.err, ErrUnknown) || r.MovedSession != nil {
		t.Fatalf("moved: %+v, %v", r.MovedSession, r.err)
	}
	b.toldOnce(t, one, two)
	two.opened(t, 1)
	next := socketio.SessionRef{PID: testPID, Generation: 2}
	two.closeSession(t, next)
	if b.session(t, "c") == "" {
		t.Error("the new owner cannot close the session")
	}
	if c := one.granted(t, claimOf(socketio.Offset{})); c.Generation != 3 || c.After != start {
		t.Errorf("claimed %+v", c.ClaimedSession)
	}
}

// A move that has waited too long, and may have been carried out, leaves a session
// that its client gets back.
func TestSessionMoveGivenUp(t *testing.T) {
	b := realRedis(t)
	one := b.sessionNode(t, "nodeAAAA", nil)
	d := b.deafen()
	two := b.sessionNode(t, "nodeBBBB", func(s *Sessions) { s.patience = time.Nanosecond })
	ref, _ := one.create(t, newSession("ann"))
	b.signed(t, one)
	d.marker.Store(&two.Sessions().scripts[sessionMove].sha)
	moved := two.startMove(moveFrom(one, ref))
	b.movedTo(t, "2")
	d.cut()
	if r := await(t, "move", moved); !errors.Is(r.err, ErrUnavailable) {
		t.Fatalf("moved: %+v, %v", r.MovedSession, r.err)
	}
	eventually(t, "the session is closed", func() error {
		if b.session(t, "c") == "" {
			return errNotYet
		}
		return nil
	})
	b.toldOnce(t, one, two)
	if got := testutil.ToFloat64(two.metrics.Sessions); got != 0 {
		t.Errorf("%v sessions are open where it was given up", got)
	}
	one.granted(t, claimOf(socketio.Offset{}))
}

// Without Redis a move and a fence wait, but not for ever; what was not sent
// changes nothing.
func TestSessionMoveWithoutRedis(t *testing.T) {
	leak.Check(t)
	b := realRedis(t)
	one := b.sessionNode(t, "nodeAAAA", nil)
	two := b.sessionNode(t, "nodeBBBB", func(s *Sessions) { s.patience = 300 * time.Millisecond })
	ref, _ := one.create(t, newSession("ann"))
	b.signed(t, one)
	b.redis.freeze(t)
	eventually(t, "redis is lost", func() error {
		if two.link.down() == nil {
			return errNotYet
		}
		return nil
	})
	done, fenced := outcome()
	two.Sessions().Fence(done)
	if r := two.move(t, moveFrom(one, ref)); !errors.Is(r.err, ErrUnavailable) {
		t.Errorf("moved: %v", r.err)
	}
	if err := await(t, "fence", fenced); !errors.Is(err, ErrUnavailable) {
		t.Errorf("fence: %v", err)
	}
	b.redis.thaw(t)
	two.fence(t)
	b.observe(t)
	if g, c := b.session(t, "g"), b.session(t, "c"); g != "1" || c != "" {
		t.Errorf("generation %s, closed %q", g, c)
	}
}

// A fence comes behind what was called before it, also where that takes several tries.
func TestSessionFence(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		ref, _ := n.create(t, newSession("ann"))
		n.Sessions().SetData(ref, []byte("first"))
		n.fence(t)
		if data := b.session(t, "data"); data != "first" {
			t.Errorf("the data is %q behind the fence", data)
		}
		saves := operations(t, n, metrics.JournalSessionSave)
		for range 100 {
			n.fence(t)
		}
		if got := operations(t, n, metrics.JournalSessionSave); got != saves {
			t.Errorf("fences cost Redis %d operations", got-saves)
		}
		b.do(t, "SCRIPT", "FLUSH") // the next operation has to be sent again
		for i := range 20 {
			text := fmt.Sprint(i)
			n.Sessions().SetData(ref, []byte(text))
			done, fenced := outcome()
			n.Sessions().Fence(done)
			n.Sessions().Leave(ref, "no such room", nil)
			if err := await(t, "fence", fenced); err != nil {
				t.Fatal(err)
			}
			if data := b.session(t, "data"); data != text {
				t.Errorf("the data is %q behind fence %d", data, i)
			}
		}
		n.cancel()
		await(t, "Run returns", n.done)
		done, late := outcome()
		n.Sessions().Fence(done)
		if err := await(t, "late fence", late); !errors.Is(err, ErrClosed) {
			t.Errorf("fence after the end: %v", err)
		}
		if r := n.move(t, moveFrom(n, ref)); !errors.Is(r.err, ErrClosed) {
			t.Errorf("move after the end: %v", r.err)
		}
	})
}

// repeatable is a move with a nonce of the test.
func (n *node) repeatable(t testing.TB, m socketio.SessionMove, set func(*sessionOp)) sessionResult {
	t.Helper()
	c := make(chan sessionResult, 2)
	o := &sessionOp{
		kind: opMove, ref: socketio.SessionRef{PID: m.PID, Generation: m.Generation + 1}, move: m, nonce: "first",
		done: func(r sessionResult) { c <- r },
	}
	if set != nil {
		set(o)
	}
	n.Sessions().add(o)
	return await(t, "move", c)
}

// A move that is repeated is known by its nonce, until somebody else took the
// session; a claim that is repeated is so behind a move.
func TestSessionMoveRepeated(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
		ref, _ := one.create(t, newSession("ann"))
		one.closeSession(t, ref)
		claim := func() sessionResult {
			c := make(chan sessionResult, 2)
			one.Sessions().add(&sessionOp{
				kind: opClaim, ref: socketio.SessionRef{PID: testPID}, claim: claimOf(socketio.Offset{}), nonce: "claim",
				done: func(r sessionResult) { c <- r },
			})
			return await(t, "claim", c)
		}
		if c := claim(); c.claimed == nil || c.claimed.Generation != 2 {
			t.Fatalf("claimed %+v", c)
		}
		b.signed(t, one)
		ref.Generation = 2
		m := moveFrom(one, ref)
		if r := two.repeatable(t, m, nil); r.moved == nil {
			t.Fatalf("moved %+v", r)
		}
		before := b.hash(t, "socket.io-session#"+testPID)
		if r := two.repeatable(t, m, nil); !errors.Is(r.refused, ErrUnknown) || r.moved != nil {
			t.Errorf("repeated %+v", r)
		}
		if r := two.move(t, m); !errors.Is(r.err, ErrNotOwner) {
			t.Errorf("another move of what has moved: %v", r.err)
		}
		if c := claim(); c.claimed != nil || c.recovery != metrics.RecoveryUnknown {
			t.Errorf("a claim that was overtaken by a move got %+v", c)
		}
		b.expectHash(t, "socket.io-session#"+testPID, before)
		b.toldOnce(t, one, two)
		one.granted(t, claimOf(socketio.Offset{}))
		if r := two.repeatable(t, m, nil); !errors.Is(r.refused, ErrNotOwner) {
			t.Errorf("repeated after it was claimed: %+v", r)
		}
	})
}

// A move whose answer was lost in a time of which messages were missed is one of
// that time: the session cannot be recovered.
func TestSessionMoveIntoATimeThatIsVoid(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
		ref, _ := one.create(t, newSession("ann"))
		b.signed(t, one)
		if err := two.Sessions().void(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		r := two.repeatable(t, moveFrom(one, ref), func(o *sessionOp) { o.stint, o.sent = 1, true })
		if owner := b.session(t, "o"); r.moved == nil || owner != two.Sessions().owner(1) {
			t.Fatalf("moved %+v to %s", r, owner)
		}
		ref.Generation = 2
		if since := two.joinSession(t, ref, "r", socketio.Offset{}); since.IsZero() {
			t.Error("the session is not open where it moved to")
		}
		two.closeSession(t, ref)
		one.refused(t, claimOf(socketio.Offset{}), metrics.RecoveryUnknown)
	})
}

// The first session of a node that had struck its sign is one that moves there.
func TestSessionMovesToANodeWithoutASign(t *testing.T) {
	b := realRedis(t)
	one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
	ref, _ := one.create(t, newSession("ann"))
	b.signed(t, one)
	if err := two.Sessions().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sign := b.sign(t, two); sign != "" {
		t.Fatalf("the node has the sign %q", sign)
	}
	two.moved(t, moveFrom(one, ref))
	b.signed(t, two)
	one.granted(t, claimOf(socketio.Offset{}))
}
