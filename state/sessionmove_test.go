package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// moveFrom is a move of the session of the tests.
func moveFrom(n *node, ref socketio.SessionRef) socketio.SessionMove {
	return socketio.SessionMove{SessionRef: ref, SID: testSID, Namespace: "/", From: n.Sessions().Owner()}
}

type moveResult struct {
	*socketio.MovedSession
	err error
}

func (r moveResult) ref() socketio.SessionRef {
	return socketio.SessionRef{PID: testPID, Generation: r.Generation}
}

// startMove calls Move.
func (n *node) startMove(m socketio.SessionMove) <-chan moveResult {
	c := make(chan moveResult, 2)
	n.Sessions().Move(m, func(moved *socketio.MovedSession, err error) { c <- moveResult{moved, err} })
	return c
}

func (n *node) move(t testing.TB, m socketio.SessionMove) moveResult {
	t.Helper()
	r := await(t, "move", n.startMove(m))
	if (r.MovedSession == nil) != (r.err != nil) {
		t.Fatalf("moved: %+v, %v", r.MovedSession, r.err)
	}
	return r
}

func (n *node) moved(t testing.TB, m socketio.SessionMove) moveResult {
	t.Helper()
	r := n.move(t, m)
	if r.err != nil {
		t.Fatalf("move: %v", r.err)
	}
	return r
}

func (n *node) fence(t testing.TB) {
	t.Helper()
	done, c := outcome()
	n.Sessions().Fence(done)
	if err := await(t, "fence", c); err != nil {
		t.Fatal(err)
	}
}

// cut waits until the node was told of a cut.
func (n *node) cut(t testing.TB, generation uint64, at socketio.Offset) {
	t.Helper()
	want := "cut / " + testSID + " " + strconv.FormatUint(generation, 10) + " " + at.String()
	eventually(t, want, func() error {
		if n.wasCalled(want) {
			return nil
		}
		return errNotYet
	})
}

// An open session moves with all that it has, both nodes are told where, and what
// the old owner says late changes nothing.
func TestSessionMoves(t *testing.T) {
	leak.Check(t)
	backends(t, func(t *testing.T, b *backend) {
		one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
		ref, start := one.create(t, newSession("ann"))
		b.append(t, "one")
		since := one.joinSession(t, ref, "r", socketio.Offset{})
		at := b.append(t, "two")
		one.fence(t)
		r := two.moved(t, moveFrom(one, ref))
		if r.Generation != 2 || r.At != at {
			t.Fatalf("moved as generation %d at %v, want 2 at %v", r.Generation, r.At, at)
		}
		one.cut(t, 2, at)
		two.cut(t, 2, at)
		two.opened(t, 1)
		if got := operations(t, two, metrics.JournalSessionMove); got != 1 {
			t.Errorf("%d moves are counted", got)
		}

		before := b.hash(t, "socket.io-session#"+testPID)
		one.Sessions().SetData(ref, []byte("late"))
		one.Sessions().CaughtUp(ref)
		one.Sessions().Leave(ref, "r", nil)
		if since := one.joinSession(t, ref, "late", socketio.Offset{}); !since.IsZero() {
			t.Errorf("the old owner joined at %v", since)
		}
		one.closeSession(t, ref)
		one.Sessions().Delete(ref, nil)
		one.fence(t)
		b.expectHash(t, "socket.io-session#"+testPID, before)
		if got := testutil.ToFloat64(one.metrics.Sessions); got != 0 {
			t.Errorf("%v sessions are open where it was", got)
		}

		joined := two.joinSession(t, r.ref(), "s", socketio.Offset{})
		if joined != at {
			t.Errorf("joined at %v where it moved to, want %v", joined, at)
		}
		two.Sessions().Leave(r.ref(), "s", nil)
		two.closeSession(t, r.ref())
		c := one.granted(t, claimOf(at))
		if c.Generation != 3 || c.Owner != "" || c.Start != start || len(c.Rooms) != 1 || c.Rooms[0].Since != since {
			t.Errorf("claimed after the move: %+v", c.ClaimedSession)
		}
	})
}

func TestSessionMoveRefusals(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, b *backend, one *node, ref socketio.SessionRef)
		move    func(m *socketio.SessionMove)
		want    error
	}{
		{"pid", nil, func(m *socketio.SessionMove) { m.PID = "x" }, ErrNotOwner},
		{"sid", nil, func(m *socketio.SessionMove) { m.SID = "x" }, ErrNotOwner},
		{"namespace", nil, func(m *socketio.SessionMove) { m.Namespace = "/other" }, ErrNotOwner},
		{"an older generation", nil, func(m *socketio.SessionMove) { m.Generation-- }, ErrNotOwner},
		{"a later generation", nil, func(m *socketio.SessionMove) { m.Generation++ }, ErrNotOwner},
		{"another owner", nil, func(m *socketio.SessionMove) { m.From = "other" }, ErrNotOwner},
		{"part of the owner's name", nil, func(m *socketio.SessionMove) { m.From = m.From[:8] }, ErrNotOwner},
		{"a stint for an owner", nil, func(m *socketio.SessionMove) { m.From += ".1" }, ErrNotOwner},
		{"closed", func(t *testing.T, _ *backend, one *node, ref socketio.SessionRef) { one.closeSession(t, ref) }, nil, ErrNotOwner},
		{"deleted", func(t *testing.T, _ *backend, one *node, ref socketio.SessionRef) {
			one.Sessions().Delete(ref, nil)
			one.fence(t)
		}, nil, ErrNotOwner},
		{"claimed meanwhile", func(t *testing.T, _ *backend, one *node, _ socketio.SessionRef) {
			one.granted(t, claimOf(socketio.Offset{}))
		}, nil, ErrNotOwner},
		{"owner void", func(t *testing.T, _ *backend, one *node, _ socketio.SessionRef) {
			if err := one.Sessions().void(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}, nil, ErrNotOwner},
		{"owner without a sign", func(t *testing.T, b *backend, _ *node, _ socketio.SessionRef) {
			b.do(t, "HSET", "socket.io-session#"+testPID, "o", "gone.1")
		}, func(m *socketio.SessionMove) { m.From = "gone" }, ErrNotOwner},
		{"epoch", func(t *testing.T, b *backend, _ *node, _ socketio.SessionRef) {
			b.do(t, "HSET", "socket.io-session#"+testPID, "e", "epoch002")
		}, nil, ErrEpoch},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			backends(t, func(t *testing.T, b *backend) {
				one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
				ref, _ := one.create(t, newSession("ann"))
				b.signed(t, one)
				m := moveFrom(one, ref)
				if test.prepare != nil {
					test.prepare(t, b, one, ref)
				}
				if test.move != nil {
					test.move(&m)
				}
				before := b.hash(t, "socket.io-session#"+testPID)
				if r := two.move(t, m); !errors.Is(r.err, test.want) {
					t.Errorf("move is %v, want %v", r.err, test.want)
				}
				b.expectHash(t, "socket.io-session#"+testPID, before)
				if got := testutil.ToFloat64(two.metrics.Sessions); got != 0 {
					t.Errorf("%v sessions are open where it did not move to", got)
				}
				for _, n := range []*node{one, two} { // what it is told next is this
					b.do(t, "PUBLISH", n.bus.control, "drop 9 next /")
					eventually(t, "the node is told", func() error {
						n.recorder.mu.Lock()
						defer n.recorder.mu.Unlock()
						if want := []string{"replaced / next 9"}; !slices.Equal(n.calls, want) {
							return fmt.Errorf("told %q, want %q", n.calls, want)
						}
						return nil
					})
				}
			})
		})
	}
}

// hash is the content of a hash.
func (b *backend) hash(t testing.TB, key string) map[string]string {
	t.Helper()
	m := b.do(t, "HGETALL", key)
	fields, err := m.AsStrMap()
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func (b *backend) expectHash(t testing.TB, key string, want map[string]string) {
	t.Helper()
	if got := b.hash(t, key); !maps.Equal(got, want) {
		t.Errorf("%s is %q, want %q", key, got, want)
	}
}

// operations is how often something was done to the journal or the sessions.
func operations(t testing.TB, n *node, op metrics.JournalOp) uint64 {
	t.Helper()
	var m dto.Metric
	if err := n.metrics.Journal[op].(prometheus.Metric).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetHistogram().GetSampleCount()
}

// A node that gave a session away keeps nothing of it, and Redis is not asked.
func TestSessionGivenAway(t *testing.T) {
	leak.Check(t)
	backends(t, func(t *testing.T, b *backend) {
		one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
		ref, _ := one.create(t, newSession("ann"))
		one.fence(t)
		two.moved(t, moveFrom(one, ref))
		before := operations(t, one, metrics.JournalSessionClose) + operations(t, one, metrics.JournalSessionSave)
		one.Sessions().GivenAway(socketio.SessionRef{PID: ref.PID, Generation: ref.Generation + 1}) // not this node's
		one.fence(t)
		if got := testutil.ToFloat64(one.metrics.Sessions); got != 1 {
			t.Errorf("%v sessions are open where it was", got)
		}
		one.Sessions().GivenAway(ref)
		one.Sessions().GivenAway(ref)
		one.fence(t)
		one.opened(t, 0)
		if got := operations(t, one, metrics.JournalSessionClose) + operations(t, one, metrics.JournalSessionSave); got != before {
			t.Errorf("giving away took %d operations", got-before)
		}
	})
}
