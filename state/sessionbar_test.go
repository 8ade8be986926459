package state

import (
	"context"
	"errors"
	"testing"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// TestBarredSessions: who was sent away does not get back what there was before, on
// no node, and everything that began afterwards.
func TestBarredSessions(t *testing.T) {
	user := func(name string) func(*Sessions) error {
		return func(s *Sessions) error { return s.BarUser(context.Background(), name) }
	}
	socket := func(sid string) func(*Sessions) error {
		return func(s *Sessions) error { return s.BarSocket(context.Background(), sid) }
	}
	for _, test := range []struct {
		name string
		user string // of the session
		bar  func(*Sessions) error
		want metrics.Recovery
	}{
		{"the user", "ann", user("ann"), metrics.RecoveryDisconnected},
		{"another user", "ann", user("bob"), metrics.RecoveryComplete},
		{"the socket", "ann", socket(testSID), metrics.RecoveryDisconnected},
		{"another socket", "ann", socket("nodeAAAAsocket000002"), metrics.RecoveryComplete},
		{"a user like the socket's id", "ann", user(testSID), metrics.RecoveryComplete},
		{"who is a user by the socket's id", "", user(testSID), metrics.RecoveryDisconnected},
	} {
		for _, open := range []bool{false, true} {
			name := test.name + ", closed"
			if open {
				name = test.name + ", open"
			}
			t.Run(name, func(t *testing.T) {
				backends(t, func(t *testing.T, b *backend) {
					one := b.sessionNode(t, "nodeAAAA", nil)
					two := one
					if b.redis != nil {
						two = b.sessionNode(t, "nodeBBBB", nil)
					}
					ref, start := one.create(t, newSession(test.user))
					if !open {
						one.closeSession(t, ref)
					}
					if err := test.bar(two.Sessions()); err != nil {
						t.Fatal(err)
					}
					claim := claimOf(start)
					claim.User = test.user
					two.refused(t, claim, test.want)
					if test.want == metrics.RecoveryComplete {
						return
					}
					two.refused(t, claim, metrics.RecoveryUnknown) // it is deleted
					// What begins afterwards is not concerned.
					before := b.now(t)
					eventually(t, "the next millisecond", func() error {
						if b.now(t) == before {
							return errNotYet
						}
						return nil
					})
					ref, _ = one.create(t, newSession(test.user))
					one.closeSession(t, ref)
					claim.Offset = socketio.Offset{}
					two.refused(t, claim, metrics.RecoveryComplete)
				})
			})
		}
	}
}

// A claim that was carried out, and whose answer was lost, is not answered again
// when its user was sent away meanwhile.
func TestBarredBetweenAClaimAndItsAnswer(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		ref, start := n.create(t, newSession("ann"))
		n.closeSession(t, ref)
		s, c := n.Sessions(), claimOf(start)
		o := &sessionOp{kind: opClaim, ref: socketio.SessionRef{PID: testPID}, claim: c, nonce: "nonce", stint: 1}
		clients, _ := n.link.get()
		send := func() sessionResult {
			return o.read(clients.cmd.Do(context.Background(), s.command(clients, o, start.Epoch)), start.Epoch)
		}
		if r := send(); r.err != nil || r.recovery != metrics.RecoveryComplete {
			t.Fatalf("%+v", r)
		}
		if r := send(); r.err != nil || r.recovery != metrics.RecoveryComplete {
			t.Fatalf("again: %+v", r)
		}
		if err := s.BarUser(context.Background(), "ann"); err != nil {
			t.Fatal(err)
		}
		if r := send(); r.err != nil || r.recovery != metrics.RecoveryDisconnected {
			t.Errorf("after the user was sent away: %+v", r)
		}
	})
}

// The bar outlives every session it is against, and then goes.
func TestBarsExpire(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.sessionNode(t, "nodeAAAA", nil)
		if err := n.Sessions().BarUser(context.Background(), "ann"); err != nil {
			t.Fatal(err)
		}
		least, most := n.Sessions().window.Milliseconds(), sessionTTL.Milliseconds()
		if ttl := b.number(t, "PTTL", "socket.io-barred#user#ann"); ttl < least || ttl > most {
			t.Errorf("the bar lives for %d ms, want %d to %d", ttl, least, most)
		}
	})
}

func TestBarWithoutRedis(t *testing.T) {
	b := realRedis(t)
	n := b.open(t, "nodeAAAA", func(c *Config) { c.Recovery = true })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.Sessions().BarUser(ctx, "ann"); !errors.Is(err, context.Canceled) {
		t.Errorf("not running, and the caller gave up: %v", err)
	}
	if err := n.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := n.Sessions().BarSocket(context.Background(), testSID); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
