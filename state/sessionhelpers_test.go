package state

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const (
	testPID = "pidpidpidpidpidpid12"
	testSID = "nodeAAAAsocket000001"
)

// sessionNode starts a node with short times.
func (b *backend) sessionNode(t testing.TB, id string, change func(s *Sessions)) *node {
	t.Helper()
	n := b.open(t, id, func(c *Config) { c.Recovery = true })
	s := n.Sessions()
	s.window, s.lag, s.beatEvery = time.Minute, 10*time.Second, 20*time.Millisecond
	if change != nil {
		change(s)
	}
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "node is ready", n.Ready)
	b.signed(t, n)
	return n
}

// sign is the node's sign in Redis.
func (b *backend) sign(t testing.TB, n *node) string {
	return b.text(t, "HGET", "socket.io-nodes", "@"+n.Sessions().owner(n.Sessions().presentStint()))
}

// signed waits for a sign later than now.
func (b *backend) signed(t testing.TB, n *node) {
	t.Helper()
	now := b.now(t)
	eventually(t, "a sign", func() error {
		at, _, _ := strings.Cut(b.sign(t, n), " ")
		if ms, _ := strconv.ParseInt(at, 10, 64); ms <= now {
			return errNotYet
		}
		return nil
	})
}

// now is Redis's clock in milliseconds.
func (b *backend) now(t testing.TB) int64 {
	t.Helper()
	m := b.do(t, "TIME")
	parts, err := m.AsIntSlice()
	if err != nil {
		t.Fatal(err)
	}
	return parts[0]*1000 + parts[1]/1000
}

// append adds a message to the journal of "/" and returns its position.
func (b *backend) append(t testing.TB, payload string) socketio.Offset {
	t.Helper()
	at, ok := socketio.ParseEntryID(b.text(t, "XADD", "socket.io-journal#/#", "*", "m", payload))
	if !ok {
		t.Fatal("XADD gave no id")
	}
	at.Epoch = b.text(t, "HGET", "socket.io-journal", "epoch")
	return at
}

func (b *backend) session(t testing.TB, field string) string {
	t.Helper()
	return b.text(t, "HGET", "socket.io-session#"+testPID, field)
}

// opened waits until the node counts so many open sessions: the gauge follows the answers.
func (n *node) opened(t testing.TB, want float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v sessions of %s are open", want, n.id), func() error {
		if got := testutil.ToFloat64(n.metrics.Sessions); got != want {
			return fmt.Errorf("%v are", got)
		}
		return nil
	})
}

func newSession(user string) *socketio.Session {
	return &socketio.Session{PID: testPID, SID: testSID, Namespace: "/", User: user, Data: []byte(`{"a":1}`)}
}

func (n *node) create(t testing.TB, s *socketio.Session) (socketio.SessionRef, socketio.Offset) {
	t.Helper()
	type result struct {
		start socketio.Offset
		err   error
	}
	c := make(chan result, 2)
	n.Sessions().Create(s, func(start socketio.Offset, err error) { c <- result{start, err} })
	r := await(t, "create", c)
	if r.err != nil {
		t.Fatal(r.err)
	}
	return socketio.SessionRef{PID: s.PID, Generation: 1}, r.start
}

func (n *node) joinSession(t testing.TB, ref socketio.SessionRef, room string, since socketio.Offset) socketio.Offset {
	t.Helper()
	c := make(chan socketio.Offset, 2)
	n.Sessions().Join(ref, room, since, func(since socketio.Offset, err error) {
		if err != nil {
			t.Errorf("join: %v", err)
		}
		c <- since
	})
	return await(t, "join", c)
}

func (n *node) closeSession(t testing.TB, ref socketio.SessionRef) {
	t.Helper()
	done, c := outcome()
	n.Sessions().Close(ref, done)
	if err := await(t, "close", c); err != nil {
		t.Fatal(err)
	}
}

// caughtUp calls CaughtUp and waits until it is stored.
func (n *node) caughtUp(t testing.TB, ref socketio.SessionRef) {
	t.Helper()
	n.Sessions().CaughtUp(ref)
	done, c := outcome()
	n.Sessions().Leave(ref, "no such room", done)
	await(t, "caught up", c)
}

func claimOf(after socketio.Offset) socketio.SessionClaim {
	return socketio.SessionClaim{PID: testPID, Namespace: "/", User: "ann", Offset: after}
}

type claimed struct {
	*socketio.ClaimedSession
	result metrics.Recovery
}

func (c claimed) ref() socketio.SessionRef {
	return socketio.SessionRef{PID: c.PID, Generation: c.Generation}
}

func (n *node) claim(t testing.TB, c socketio.SessionClaim) claimed {
	t.Helper()
	answers := make(chan claimed, 2)
	n.Sessions().Claim(c, func(s *socketio.ClaimedSession, result metrics.Recovery) { answers <- claimed{s, result} })
	got := await(t, "claim", answers)
	if (got.ClaimedSession != nil) != (got.result == metrics.RecoveryComplete) {
		t.Fatalf("claim: %v with session %+v", got.result, got.ClaimedSession)
	}
	return got
}

func (n *node) refused(t testing.TB, c socketio.SessionClaim, want metrics.Recovery) {
	t.Helper()
	if got := n.claim(t, c); got.result != want {
		t.Errorf("claim is %v, want %v", got.result, want)
	}
}

func (n *node) granted(t testing.TB, c socketio.SessionClaim) claimed {
	t.Helper()
	got := n.claim(t, c)
	if got.ClaimedSession == nil {
		t.Fatalf("claim is refused: %v", got.result)
	}
	return got
}

type readResult struct {
	entries []socketio.JournalEntry
	end     socketio.Offset
	err     error
}

func (r readResult) payloads() (out []string) {
	for _, e := range r.entries {
		out = append(out, string(e.Payload))
	}
	return out
}

func (n *node) read(t testing.TB, after socketio.Offset) readResult {
	t.Helper()
	c := make(chan readResult, 2)
	n.Sessions().Read("/", after, func(e []socketio.JournalEntry, end socketio.Offset, err error) { c <- readResult{e, end, err} })
	return await(t, "read", c)
}

// wasCalled reports whether the node's Responder was called so.
func (r *recorder) wasCalled(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.calls, what)
}
