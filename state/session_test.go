package state

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// A closed session comes back on another node with all that it had, and what was
// missed can be read.
func TestSessionReturnsElsewhere(t *testing.T) {
	leak.Check(t)
	backends(t, func(t *testing.T, b *backend) {
		one := b.sessionNode(t, "nodeAAAA", nil)
		two := one
		if b.redis != nil {
			two = b.sessionNode(t, "nodeBBBB", nil)
		}
		b.append(t, "before")
		ref, start := one.create(t, newSession("ann"))
		got := b.append(t, "one")
		since := one.joinSession(t, ref, "r", socketio.Offset{})
		if since != got || start == got {
			t.Errorf("started at %v and joined at %v, want before and at %v", start, since, got)
		}
		b.append(t, "two")
		if again := one.joinSession(t, ref, "r", socketio.Offset{}); again != since {
			t.Errorf("joined at %v, and again at %v", since, again)
		}
		one.joinSession(t, ref, "left", socketio.Offset{})
		one.Sessions().Leave(ref, "left", nil)
		one.Sessions().SetData(ref, []byte(`{"b":2}`))
		one.closeSession(t, ref)
		b.append(t, "three")

		c := two.granted(t, claimOf(got))
		want := socketio.ClaimedSession{After: got, Session: socketio.Session{
			PID: testPID, SID: testSID, Namespace: "/", User: "ann", Data: []byte(`{"b":2}`), Start: start, Generation: 2,
			Rooms: []socketio.SessionRoom{{Name: "r", Since: since}},
		}}
		if c.SID != want.SID || c.User != want.User || string(c.Data) != string(want.Data) || c.Start != want.Start ||
			c.Generation != 2 || c.After != got || c.Owner != "" || !slices.Equal(c.Rooms, want.Rooms) || c.Namespace != "/" {
			t.Errorf("got %+v, want %+v", c.ClaimedSession, want)
		}
		if r := two.read(t, c.After); r.err != nil || !slices.Equal(r.payloads(), []string{"two", "three"}) {
			t.Errorf("read %q, %v", r.payloads(), r.err)
		}
		for _, n := range []*node{one, two} { // the generation before has nothing to say any more
			if since := n.joinSession(t, ref, "other", socketio.Offset{}); !since.IsZero() {
				t.Errorf("the old owner joined at %v", since)
			}
			n.closeSession(t, ref)
			done, gone := outcome()
			n.Sessions().Delete(ref, done)
			if err := await(t, "delete", gone); err != nil {
				t.Error(err)
			}
		}
		if b.session(t, "c") != "" || b.session(t, "@other") != "" || b.session(t, "g") != "2" {
			t.Error("the old owner changed the session")
		}
		two.Sessions().Delete(c.ref(), nil)
		two.refused(t, claimOf(got), metrics.RecoveryUnknown)
	})
}

func TestSessionRefusals(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, b *backend, n *node, ref socketio.SessionRef)
		claim   func(c *socketio.SessionClaim)
		want    metrics.Recovery
		stays   bool
	}{
		{"pid", nil, func(c *socketio.SessionClaim) { c.PID = "x" }, metrics.RecoveryUnknown, true},
		{"namespace", nil, func(c *socketio.SessionClaim) { c.Namespace = "/other" }, metrics.RecoveryUnknown, true},
		{"user", nil, func(c *socketio.SessionClaim) { c.User = "bob" }, metrics.RecoveryUser, true},
		{"offset beyond the end", nil, func(c *socketio.SessionClaim) { c.Offset.Ms++ }, metrics.RecoveryMalformed, true},
		{"epoch", func(t *testing.T, b *backend, _ *node, _ socketio.SessionRef) {
			b.do(t, "HSET", "socket.io-journal", "epoch", "epoch002")
		}, nil, metrics.RecoveryEpoch, false},
		{"closed too long", func(t *testing.T, b *backend, n *node, ref socketio.SessionRef) {
			n.closeSession(t, ref)
			b.do(t, "HSET", "socket.io-session#"+testPID, "c", strconv.FormatInt(b.now(t)-60_001, 10))
		}, nil, metrics.RecoveryExpired, false},
		{"owner without a sign", func(t *testing.T, b *backend, _ *node, _ socketio.SessionRef) {
			b.do(t, "HSET", "socket.io-session#"+testPID, "o", "other.1")
		}, nil, metrics.RecoveryVoid, false},
		{"owner dead too long", func(t *testing.T, b *backend, _ *node, _ socketio.SessionRef) {
			b.do(t, "HSET", "socket.io-session#"+testPID, "o", "other.1")
			b.do(t, "HSET", "socket.io-nodes", "@other.1", strconv.FormatInt(b.now(t)-60_001, 10))
		}, nil, metrics.RecoveryExpired, false},
		{"journal too short", func(t *testing.T, b *backend, n *node, ref socketio.SessionRef) {
			n.closeSession(t, ref)
			b.do(t, "HSET", "socket.io-journal", "cut:socket.io-journal#/#", strconv.FormatInt(b.now(t)+1, 10))
		}, nil, metrics.RecoveryIncomplete, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			backends(t, func(t *testing.T, b *backend) {
				n := b.sessionNode(t, "nodeAAAA", nil)
				ref, _ := n.create(t, newSession("ann"))
				c := claimOf(b.append(t, "x"))
				if test.prepare != nil {
					test.prepare(t, b, n, ref)
				}
				if test.claim != nil {
					test.claim(&c)
				}
				n.refused(t, c, test.want)
				if stays := b.number(t, "EXISTS", "socket.io-session#"+testPID) == 1; stays != test.stays {
					t.Errorf("the session is there: %v", stays)
				}
			})
		})
	}
}

// What counts is the later of what the client says and what is proved.
func TestSessionProof(t *testing.T) {
	set := func(t *testing.T, b *backend, ms int64) {
		b.do(t, "HSET", "socket.io-journal", "cut:socket.io-journal#/#", strconv.FormatInt(ms, 10))
	}
	number := func(s string) int64 {
		n, _ := strconv.ParseInt(s, 10, 64)
		return n
	}
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.lag = 0 })
		ref, start := n.create(t, newSession("ann"))
		b.signed(t, n)
		set(t, b, b.now(t)-1)
		n.closeSession(t, ref)
		if s, c := number(b.session(t, "s")), number(b.session(t, "c")); s > c || s < c-10_000 {
			t.Errorf("proved %d of a session that was closed at %d", s, c)
		}
		set(t, b, number(b.session(t, "s")))
		c := n.granted(t, claimOf(socketio.Offset{})) // the offset is before the cut, what is proved is not
		if c.After != start {
			t.Errorf("goes on after %v, want the start %v", c.After, start)
		}
		if r := n.read(t, c.After); r.err != nil {
			t.Errorf("read: %v", r.err)
		}
		n.Sessions().tails.mu.Lock()
		clear(n.Sessions().tails.vouched)
		n.Sessions().tails.mu.Unlock()

		// It did not catch up: another end does not prove more.
		behind := b.session(t, "b")
		n.closeSession(t, c.ref())
		if got := b.session(t, "b"); got != behind || number(b.session(t, "s")) < number(strings.TrimSuffix(behind, "-0")) {
			t.Errorf("behind %q, and %q when it was closed", behind, got)
		}
		c = n.granted(t, claimOf(socketio.Offset{}))
		n.closeSession(t, c.ref())
		set(t, b, number(strings.TrimSuffix(behind, "-0"))+1)
		n.refused(t, claimOf(socketio.Offset{}), metrics.RecoveryIncomplete)
	})
}

// What was sent while catching up is proved only later.
func TestSessionCaughtUpIsNoProofYet(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.lag = 50 * time.Millisecond })
		ref, _ := n.create(t, newSession("ann"))
		n.closeSession(t, ref)
		c := n.granted(t, claimOf(socketio.Offset{}))
		n.caughtUp(t, c.ref())
		if b.session(t, "u") == "" || b.session(t, "b") == "" {
			t.Error("it is not stored that the client is behind until it had caught up")
		}
		lagged := time.Now().Add(100 * time.Millisecond)
		eventually(t, "time passes", func() error {
			if time.Now().Before(lagged) {
				return errNotYet
			}
			return nil
		})
		n.closeSession(t, c.ref())
		if b.session(t, "u") != "" || b.session(t, "b") != "" {
			t.Error("the client is still behind")
		}
		c = n.granted(t, claimOf(socketio.Offset{}))
		n.Sessions().lag = time.Hour // read by nobody at the moment
		n.caughtUp(t, c.ref())
		n.closeSession(t, c.ref())
		if b.session(t, "b") == "" {
			t.Error("the client had not received what it was sent, and is not behind")
		}
	})
}

// An open session is taken over; the old owner is named.
func TestSessionTakeover(t *testing.T) {
	b := realRedis(t)
	one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
	ref, _ := one.create(t, newSession("ann"))
	b.signed(t, one)
	c := two.granted(t, claimOf(socketio.Offset{}))
	if want := one.Sessions().owner(1); c.Owner != want {
		t.Errorf("the owner before is %q, want %q", c.Owner, want)
	}
	one.closeSession(t, ref)
	if since := one.joinSession(t, ref, "r", socketio.Offset{}); !since.IsZero() || b.session(t, "@r") != "" || b.session(t, "c") != "" {
		t.Error("the old owner changed the session")
	}
	two.Sessions().Drop(c.Owner, "/", testSID, c.Generation)
	eventually(t, "the old owner is told", func() error {
		if one.wasCalled("replaced / " + testSID + " 2") {
			return nil
		}
		return errNotYet
	})
	b.signed(t, two)
	if back := one.granted(t, claimOf(socketio.Offset{})); back.Generation != 3 || back.Owner != two.Sessions().owner(1) {
		t.Errorf("taken back: %+v", back.ClaimedSession)
	}
}

// Two nodes claim at once: one of them has it in the end.
func TestSessionTwoClaimers(t *testing.T) {
	b := realRedis(t)
	one, two := b.sessionNode(t, "nodeAAAA", nil), b.sessionNode(t, "nodeBBBB", nil)
	ref, _ := one.create(t, newSession("ann"))
	one.closeSession(t, ref)
	answers := make(chan claimed, 2)
	for _, n := range []*node{one, two} {
		n.Sessions().Claim(claimOf(socketio.Offset{}), func(s *socketio.ClaimedSession, r metrics.Recovery) { answers <- claimed{s, r} })
	}
	first, second := await(t, "claim", answers), await(t, "claim", answers)
	if first.ClaimedSession == nil || second.ClaimedSession == nil || first.Generation == second.Generation {
		t.Fatalf("claimed %+v and %+v", first, second)
	}
	winners := 0
	for _, c := range []claimed{first, second} {
		for _, n := range []*node{one, two} {
			if !n.joinSession(t, c.ref(), "r", socketio.Offset{}).IsZero() {
				winners++
			}
		}
	}
	if winners != 1 {
		t.Errorf("%d own the session", winners)
	}
}

// A node that is killed closes nothing: its last sign tells.
func TestSessionOfADeadNode(t *testing.T) {
	b := realRedis(t)
	two := b.sessionNode(t, "nodeBBBB", nil)
	one := b.open(t, "nodeAAAA", func(c *Config) { c.Recovery = true })
	one.Sessions().beatEvery, one.Sessions().lag = 20*time.Millisecond, 10*time.Second
	one.Bus().Open("/")
	one.run(t)
	eventually(t, "node is ready", one.Ready)
	one.create(t, newSession("ann"))
	b.signed(t, one)
	one.cancel()
	await(t, "Run returns", one.done)
	sign := b.sign(t, one)
	b.append(t, "missed")
	c := two.granted(t, claimOf(socketio.Offset{}))
	if c.Owner != one.Sessions().owner(1) || sign != b.sign(t, one) {
		t.Errorf("claimed from %q", c.Owner)
	}
	if r := two.read(t, c.After); !slices.Equal(r.payloads(), []string{"missed"}) {
		t.Errorf("read %+v", r)
	}
}

// After a hole, what was open cannot be recovered, and what was closed can.
func TestSessionVoid(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		ref, _ := n.create(t, newSession("ann"))
		other := newSession("ann")
		other.PID = "another"
		open, _ := n.create(t, other)
		third := newSession("ann")
		third.PID = "third"
		dead, _ := n.create(t, third)
		n.closeSession(t, ref)
		before := n.Sessions().owner(1)
		if err := n.Sessions().void(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if sign := b.text(t, "HGET", "socket.io-nodes", "@"+before); sign != "" {
			t.Errorf("the old stint has the sign %q", sign)
		}
		n.closeSession(t, dead)
		c := claimOf(socketio.Offset{})
		n.granted(t, c)
		c.PID = "another"
		n.refused(t, c, metrics.RecoveryVoid)
		c.PID = "third"
		n.refused(t, c, metrics.RecoveryUnknown)
		n.closeSession(t, open)
		b.signed(t, n) // of the new stint
		if sign := b.text(t, "HGET", "socket.io-nodes", "@"+before); sign != "" {
			t.Errorf("the old stint has the sign %q again", sign)
		}
		c.PID = "fresh"
		fresh := newSession("ann")
		fresh.PID = "fresh"
		n.create(t, fresh)
		n.granted(t, c)
	})
}

// While messages may be missing, nothing more is proved.
func TestSessionWhileMessagesAreMissing(t *testing.T) {
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", func(s *Sessions) { s.lag = time.Second })
	s := n.Sessions()
	ref, _ := n.create(t, newSession("ann"))
	s.missingSince(time.Now())
	from := b.now(t)
	eventually(t, "a sign with a limit", func() error {
		if at, limit, ok := strings.Cut(b.sign(t, n), " "); !ok || at == limit {
			return errNotYet
		}
		return nil
	})
	c := n.granted(t, claimOf(socketio.Offset{}))
	if c.Owner == "" {
		t.Error("the session was open")
	}
	if ms, _ := socketio.ParseEntryID(b.session(t, "b")); int64(ms.Ms) > from-1000 {
		t.Errorf("proved until %d, though all since %d was missing", ms.Ms, from)
	}
	proven := time.Now().Add(s.lag) // or a bit later
	s.repaired()
	_ = ref
	second := newSession("ann")
	second.PID = "second"
	ref, _ = n.create(t, second)
	n.closeSession(t, ref)
	at, _ := strconv.ParseInt(b.text(t, "HGET", "socket.io-session#second", "s"), 10, 64)
	if at > from-1000 && time.Now().Before(proven) {
		t.Errorf("proved until %d right after the repair of what was missing since %d", at, from)
	}
	eventually(t, "a sign without a limit", func() error {
		if strings.Contains(b.sign(t, n), " ") {
			return errNotYet
		}
		return nil
	})
}

func TestSessionsAfterTheEnd(t *testing.T) {
	leak.Check(t)
	b := inProcess(t)
	n := b.open(t, "nodeAAAA", nil)
	done, waiting := outcome()
	n.Sessions().Leave(socketio.SessionRef{}, "r", done)
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "waiting", waiting); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	n.Sessions().Close(socketio.SessionRef{}, done)
	if err := await(t, "late", waiting); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	reads := make(chan error, 1)
	n.Sessions().Read("/", socketio.Offset{}, func(_ []socketio.JournalEntry, _ socketio.Offset, err error) { reads <- err })
	if err := await(t, "read", reads); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
