package state

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// deaf loses the answers of one connection: from a write with the marker on,
// nothing that is read arrives.
type deaf struct {
	marker atomic.Pointer[string]
	mu     sync.Mutex
	conn   net.Conn // the one that has gone deaf
}

type deafConn struct {
	net.Conn
	d    *deaf
	lost atomic.Bool
}

func (c *deafConn) Write(p []byte) (int, error) {
	if m := c.d.marker.Load(); m != nil && bytes.Contains(p, []byte(*m)) {
		c.lost.Store(true)
		c.d.marker.Store(nil)
		c.d.mu.Lock()
		c.d.conn = c.Conn
		c.d.mu.Unlock()
	}
	return c.Conn.Write(p)
}

func (c *deafConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.lost.Load() {
			return n, err
		}
	}
}

// written waits until the marker was written, or is just being.
func (d *deaf) written(t testing.TB) {
	t.Helper()
	eventually(t, "it is written", func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.conn == nil {
			return errNotYet
		}
		return nil
	})
}

// cut ends the connection that has gone deaf.
func (d *deaf) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.conn.Close()
}

// deafen makes the nodes that are opened from now on lose answers.
func (b *backend) deafen() *deaf {
	d := &deaf{}
	dial := b.options.dial
	b.options.dial = func(ctx context.Context, nd *net.Dialer, t *tls.Config) (net.Conn, error) {
		c, err := dial(ctx, nd, t)
		if err != nil {
			return nil, err
		}
		return &deafConn{Conn: c, d: d}, nil
	}
	return d
}

// A claim that was carried out and whose answer was lost is answered the second time.
func TestSessionClaimWhoseAnswerIsLost(t *testing.T) {
	b := realRedis(t)
	one := b.sessionNode(t, "nodeAAAA", nil)
	d := b.deafen()
	two := b.sessionNode(t, "nodeBBBB", nil)
	ref, start := one.create(t, newSession("ann"))
	since := one.joinSession(t, ref, "r", socketio.Offset{})
	b.signed(t, one)
	d.marker.Store(&two.Sessions().scripts[sessionClaim].sha)
	answers := make(chan claimed, 2)
	two.Sessions().Claim(claimOf(socketio.Offset{}), func(s *socketio.ClaimedSession, r metrics.Recovery) { answers <- claimed{s, r} })
	eventually(t, "claim is carried out", func() error {
		if b.session(t, "g") != "2" {
			return errNotYet
		}
		return nil
	})
	d.cut()
	c := await(t, "claim", answers)
	if c.ClaimedSession == nil || c.Generation != 2 || c.Owner != one.Sessions().owner(1) || c.After != start || c.SID != testSID ||
		!slices.Equal(c.Rooms, []socketio.SessionRoom{{Name: "r", Since: since}}) {
		t.Errorf("claimed %v, %+v", c.result, c.ClaimedSession)
	}
	two.closeSession(t, c.ref())
	if b.session(t, "c") == "" {
		t.Error("the new owner cannot close the session")
	}
}

// If another claim came in between, the answer is that the session is another's.
func TestSessionClaimRepeatedTooLate(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		ref, _ := n.create(t, newSession("ann"))
		n.closeSession(t, ref)
		claim := func() sessionResult {
			c := make(chan sessionResult, 2)
			n.Sessions().add(&sessionOp{
				kind: opClaim, ref: socketio.SessionRef{PID: testPID}, claim: claimOf(socketio.Offset{}), nonce: "first",
				done: func(r sessionResult) { c <- r },
			})
			return await(t, "claim", c)
		}
		first, again := claim(), claim()
		if first.claimed == nil || again.claimed == nil || again.claimed.Generation != 2 || again.proved != first.proved || again.claimed.Owner != "" {
			t.Fatalf("%+v, repeated %+v", first, again)
		}
		if c := n.granted(t, claimOf(socketio.Offset{})); c.Generation != 3 {
			t.Errorf("got %+v", c.ClaimedSession)
		}
		if late := claim(); late.claimed != nil || late.recovery != metrics.RecoveryUnknown {
			t.Errorf("a claim that was overtaken got %+v", late)
		}
		if g := b.session(t, "g"); g != "3" {
			t.Errorf("generation %s", g)
		}
	})
}

func TestSessionCreateWhoseAnswerIsLost(t *testing.T) {
	b := realRedis(t)
	d := b.deafen()
	n := b.sessionNode(t, "nodeAAAA", nil)
	d.marker.Store(&n.Sessions().scripts[sessionCreate].sha)
	type result struct {
		start socketio.Offset
		err   error
	}
	answers := make(chan result, 2)
	n.Sessions().Create(newSession("ann"), func(start socketio.Offset, err error) { answers <- result{start, err} })
	eventually(t, "creation is carried out", func() error {
		if b.session(t, "g") != "1" {
			return errNotYet
		}
		return nil
	})
	last := b.append(t, "meanwhile")
	d.cut()
	if r := await(t, "create", answers); r.err != nil || r.start != last {
		t.Errorf("created at %v, %v, want at %v", r.start, r.err, last)
	}
	n.opened(t, 1)
}

// While Redis is away, operations wait, and some of them no longer than they may.
func TestSessionsWaitForRedis(t *testing.T) {
	leak.Check(t)
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.patience = 300 * time.Millisecond })
	ref, _ := n.create(t, newSession("ann"))
	other := newSession("ann")
	other.PID = "other"
	b.redis.freeze(t)
	created, claims := make(chan error, 2), make(chan metrics.Recovery, 2)
	n.Sessions().Create(other, func(_ socketio.Offset, err error) { created <- err })
	n.Sessions().Claim(claimOf(socketio.Offset{}), func(_ *socketio.ClaimedSession, r metrics.Recovery) { claims <- r })
	reads := make(chan error, 2)
	n.Sessions().Read("/", socketio.Offset{Epoch: "epoch001"}, func(_ []socketio.JournalEntry, _ socketio.Offset, err error) { reads <- err })
	joined, closed := make(chan error, 2), make(chan error, 2)
	n.Sessions().Join(ref, "r", socketio.Offset{}, func(_ socketio.Offset, err error) { joined <- err })
	if err := await(t, "create", created); !errors.Is(err, ErrUnavailable) {
		t.Errorf("create: %v", err)
	}
	if r := await(t, "claim", claims); r != metrics.RecoveryUnavailable {
		t.Errorf("claim: %v", r)
	}
	if err := await(t, "read", reads); !errors.Is(err, ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	n.Sessions().Close(ref, func(err error) { closed <- err })
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := n.Sessions().Flush(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush without Redis: %v", err)
	}
	select {
	case err := <-joined:
		t.Errorf("joined: %v", err)
	default:
	}
	b.redis.thaw(t)
	if err := await(t, "join", joined); err != nil {
		t.Error(err)
	}
	if err := await(t, "close", closed); err != nil {
		t.Error(err)
	}
	if err := n.Sessions().Flush(t.Context()); err != nil {
		t.Error(err)
	}
	b.observe(t)
	if exists := b.number(t, "EXISTS", "socket.io-session#other"); exists != 0 {
		t.Error("a session is there that was given up")
	}
	if sign := b.sign(t, n); sign != "" {
		t.Errorf("the node has the sign %q after it was flushed without sessions", sign)
	}
	if got := testutil.ToFloat64(n.metrics.Sessions); got != 0 {
		t.Errorf("%v sessions are open", got)
	}
	n.create(t, newSession("ann")) // it goes on if it is asked to
	b.signed(t, n)
}

// The operations of a session are carried out in order, in one pipeline and
// across lost connections.
func TestSessionOrder(t *testing.T) {
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", nil)
	const sessions, rounds = 20, 60
	var refs []socketio.SessionRef
	for i := range sessions {
		s := newSession("ann")
		s.PID = "pid" + strconv.Itoa(i)
		n.Sessions().Create(s, nil)
		refs = append(refs, socketio.SessionRef{PID: s.PID, Generation: 1})
	}
	for round := range rounds {
		for _, ref := range refs {
			n.Sessions().Join(ref, "r", socketio.Offset{}, nil)
			n.Sessions().SetData(ref, []byte(strconv.Itoa(round)))
			n.Sessions().Join(ref, strconv.Itoa(round), socketio.Offset{}, nil)
			n.Sessions().Leave(ref, "r", nil)
			if round > 0 {
				n.Sessions().Leave(ref, strconv.Itoa(round-1), nil)
			}
		}
		if round%10 == 5 {
			b.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}
	}
	if err := n.Sessions().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		fields := b.list(t, "HKEYS", "socket.io-session#"+ref.PID)
		rooms := slices.DeleteFunc(fields, func(f string) bool { return f[0] != '@' })
		if data := b.text(t, "HGET", "socket.io-session#"+ref.PID, "data"); data != strconv.Itoa(rounds-1) || !slices.Equal(rooms, []string{"@59"}) {
			t.Fatalf("%s has the data %q and the rooms %q", ref.PID, data, rooms)
		}
	}
}

// A Redis that was emptied has neither sessions nor a journal; what comes after is good.
func TestSessionsAfterFlushAll(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		ref, _ := n.create(t, newSession("ann"))
		old := b.append(t, "old")
		b.do(t, "FLUSHALL")
		if b.redis != nil {
			b.do(t, "SCRIPT", "FLUSH")
		}
		if r := n.read(t, old); r.err != nil || len(r.entries) != 0 || r.end.Epoch == old.Epoch {
			t.Errorf("read %+v", r)
		}
		n.joinSession(t, ref, "r", socketio.Offset{})
		n.closeSession(t, ref)
		n.refused(t, claimOf(old), metrics.RecoveryUnknown)
		ref, start := n.create(t, newSession("ann"))
		if start.Epoch == old.Epoch {
			t.Errorf("started at %v in the old epoch", start)
		}
		n.closeSession(t, ref)
		b.append(t, "new")
		c := n.granted(t, claimOf(old)) // of another epoch: as if it were none
		if c.After != start {
			t.Errorf("goes on after %v, want %v", c.After, start)
		}
		if r := n.read(t, c.After); !slices.Equal(r.payloads(), []string{"new"}) {
			t.Errorf("read %+v", r)
		}
	})
}

// A conn that is older than a day keeps its session.
func TestSessionsAreKept(t *testing.T) {
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.refreshIn = time.Millisecond })
	n.create(t, newSession("ann"))
	b.do(t, "PEXPIRE", "socket.io-session#"+testPID, "60000")
	eventually(t, "a longer life", func() error {
		if b.number(t, "PTTL", "socket.io-session#"+testPID) <= 60_000 {
			return errNotYet
		}
		return nil
	})
	b.do(t, "DEL", "socket.io-session#"+testPID)
	eventually(t, "it is noticed that it is gone", func() error {
		if testutil.ToFloat64(n.metrics.Sessions) != 0 {
			return errNotYet
		}
		return nil
	})
}

// An error that is no outage fails the operation and holds up nothing.
func TestSessionRefusedByRedis(t *testing.T) {
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", nil)
	ref, _ := n.create(t, newSession("ann"))
	b.do(t, "SET", "socket.io-session#"+testPID, "a string")
	done, c := outcome()
	n.Sessions().Leave(ref, "r", done)
	if err := await(t, "leave", c); err == nil {
		t.Error("no error")
	}
	other := newSession("ann")
	other.PID = "other"
	n.create(t, other)
}

// After a standstill nobody knows when what was published meanwhile was delivered:
// it proves nothing until it has been received.
func TestSessionsAfterAStandstill(t *testing.T) {
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.lag, s.stallAfter = time.Minute, 300*time.Millisecond })
	ref, _ := n.create(t, newSession("ann"))
	b.redis.freeze(t)
	frozen := time.Now()
	before := frozen.UnixMilli() // Redis's clock is this machine's
	eventually(t, "time passes", func() error {
		if time.Since(frozen) < time.Second {
			return errNotYet
		}
		return nil
	})
	done, closed := outcome()
	n.Sessions().Close(ref, done)
	b.redis.thaw(t)
	if err := await(t, "close", closed); err != nil {
		t.Fatal(err)
	}
	const known = 600 // the time of the standstill that was not noticed, and reserve
	if at, _ := strconv.ParseInt(b.session(t, "s"), 10, 64); at > before+known-60_000 {
		t.Errorf("proved until %d ms after the standstill began", at-before+60_000)
	}
	eventually(t, "a sign with a limit", func() error {
		_, limit, ok := strings.Cut(b.sign(t, n), " ")
		if !ok {
			return errNotYet
		}
		if at, _ := strconv.ParseInt(limit, 10, 64); at > before+known {
			t.Errorf("the sign's limit is %d ms after the standstill began", at-before)
		}
		return nil
	})
}

// While the node does not hear what is published, its sign proves no more, and
// does so again some time after the repair.
func TestSessionsWhileTheNodeHearsNothing(t *testing.T) {
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.lag = 300 * time.Millisecond })
	limited := func(want bool) {
		t.Helper()
		eventually(t, "the sign has a limit: "+strconv.FormatBool(want), func() error {
			if sign := b.sign(t, n); sign == "" || strings.Contains(sign, " ") != want {
				return errNotYet
			}
			return nil
		})
	}
	limited(false)
	func() {
		n.recorder.mu.Lock() // Unheard waits for it, and the repair for that: the limit stays until it was seen
		defer n.recorder.mu.Unlock()
		b.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
		limited(true)
	}()
	limited(false)
}
