package state

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// What a move proves is what the owner's sign proved, as for a claim; no more than
// was proved before, unless that was long enough ago; and what the client is sent
// from then on proves itself later.
func TestSessionMoveProof(t *testing.T) {
	const lag = 10_000 // of sessionNode
	// All times are from now, milliseconds; 0 is none.
	tests := []struct {
		name         string
		sign, limit  int64
		start        int64
		behind, sent int64 // b and u before
		proved       int64 // b after; 0: the start
		catching     bool  // there is no u after
	}{
		{name: "a session that began lately", sign: -100, start: -200},
		{name: "an older one", sign: -100, start: -60_000, proved: -100 - lag},
		{name: "an owner that may have missed messages", sign: -100, limit: -5_000, start: -60_000, proved: -5_000 - lag},
		{name: "an owner that has missed them for long", sign: -100, limit: -55_000, start: -60_000},
		{name: "while it catches up", sign: -100, start: -60_000, behind: -50_000, proved: -50_000, catching: true},
		{name: "caught up, which is not proved", sign: -100, start: -60_000, behind: -50_000, sent: -5_000, proved: -50_000},
		{name: "caught up, which is almost proved", sign: -100, start: -60_000, behind: -50_000, sent: -100 - lag + 1, proved: -50_000},
		{name: "caught up, which is proved", sign: -100, start: -60_000, behind: -50_000, sent: -100 - lag, proved: -100 - lag},
		{name: "caught up, which an owner does not prove that missed messages", sign: -100, limit: -5_000, start: -60_000, behind: -50_000, sent: -12_000, proved: -50_000},
		{name: "more was proved than the sign proves", sign: -30_000, start: -60_000, behind: -35_000, sent: -45_000, proved: -35_000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			backends(t, func(t *testing.T, b *backend) {
				two := b.sessionNode(t, "nodeBBBB", nil)
				two.create(t, newSession("ann"))
				const key = "socket.io-session#" + testPID
				now := b.now(t)
				at := func(ms int64) string { return strconv.FormatInt(now+ms, 10) }
				b.do(t, "HSET", key, "o", "other.3", "start", at(test.start)+"-0")
				if test.behind != 0 {
					b.do(t, "HSET", key, "b", at(test.behind)+"-0")
				}
				if test.sent != 0 {
					b.do(t, "HSET", key, "u", at(test.sent))
				}
				sign := at(test.sign)
				if test.limit != 0 {
					sign += " " + at(test.limit)
				}
				b.do(t, "HSET", "socket.io-nodes", "@other.3", sign)
				b.do(t, "PEXPIRE", key, "60000")
				two.moved(t, socketio.SessionMove{
					SessionRef: socketio.SessionRef{PID: testPID, Generation: 1}, SID: testSID, Namespace: "/", From: "other",
				})
				want := at(test.proved) + "-0"
				if test.proved == 0 {
					want = at(test.start) + "-0"
				}
				if got := b.session(t, "b"); got != want {
					t.Errorf("proved is %q, want %q", got, want)
				}
				u, _ := strconv.ParseInt(b.session(t, "u"), 10, 64)
				if test.catching && u != 0 || !test.catching && (u < now || u > b.now(t)) {
					t.Errorf("all was sent at %d, moved at %d", u, now)
				}
				if ttl := b.number(t, "PTTL", key); ttl < sessionTTL.Milliseconds()-60_000 {
					t.Errorf("the session lives for %d ms", ttl)
				}
			})
		})
	}
}

// A client that is back after a move has everything, or is told that it has not:
// as its offset and what was proved say.
func TestSessionMoveThenClaim(t *testing.T) {
	type world struct {
		*backend
		two, three *node
		behind     int64 // proved by the move
	}
	cut := func(w *world, t *testing.T, ms int64) {
		w.do(t, "HSET", "socket.io-journal", "cut:socket.io-journal#/#", strconv.FormatInt(ms, 10))
	}
	tests := []struct {
		name   string
		lag    time.Duration
		before func(w *world, t *testing.T) (offset socketio.Offset)
		close  bool
		want   metrics.Recovery
	}{
		{"open, the journal reaches back to what is proved", time.Minute, func(w *world, t *testing.T) socketio.Offset {
			cut(w, t, w.behind)
			return socketio.Offset{}
		}, false, metrics.RecoveryComplete},
		{"open, it does not", time.Minute, func(w *world, t *testing.T) socketio.Offset {
			cut(w, t, w.behind+1)
			return socketio.Offset{}
		}, false, metrics.RecoveryIncomplete},
		{"closed, the journal reaches back to what is proved", time.Minute, func(w *world, t *testing.T) socketio.Offset {
			cut(w, t, w.behind)
			return socketio.Offset{}
		}, true, metrics.RecoveryComplete},
		{"closed, it does not", time.Minute, func(w *world, t *testing.T) socketio.Offset {
			cut(w, t, w.behind+1)
			return socketio.Offset{}
		}, true, metrics.RecoveryIncomplete},
		{"it reaches back to the client's offset", time.Minute, func(w *world, t *testing.T) socketio.Offset {
			at := w.append(t, "got")
			cut(w, t, int64(at.Ms))
			return at
		}, true, metrics.RecoveryComplete},
		{"not even to that", time.Minute, func(w *world, t *testing.T) socketio.Offset {
			at := w.append(t, "got")
			cut(w, t, int64(at.Ms)+1)
			return at
		}, true, metrics.RecoveryIncomplete},
		{"what was sent at the move is proved since", 50 * time.Millisecond, func(w *world, t *testing.T) socketio.Offset {
			moved := w.now(t)
			eventually(t, "a sign that proves more", func() error {
				at, _, _ := strings.Cut(w.sign(t, w.two), " ")
				if ms, _ := strconv.ParseInt(at, 10, 64); ms < moved+100 {
					return errNotYet
				}
				return nil
			})
			cut(w, t, moved)
			return socketio.Offset{}
		}, false, metrics.RecoveryComplete},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := realRedis(t)
			set := func(s *Sessions) { s.lag = test.lag }
			one, two, three := b.sessionNode(t, "nodeAAAA", set), b.sessionNode(t, "nodeBBBB", set), b.sessionNode(t, "nodeCCCC", set)
			ref, start := one.create(t, newSession("ann"))
			b.signed(t, one)
			b.do(t, "HSET", "socket.io-session#"+testPID, "start", "1-0") // long ago
			start.Ms, start.Seq = 1, 0
			r := two.moved(t, moveFrom(one, ref))
			proved, _ := socketio.ParseEntryID(b.session(t, "b"))
			w := &world{b, two, three, int64(proved.Ms)}
			b.signed(t, two)
			offset := test.before(w, t)
			missed := b.append(t, "missed")
			if test.close {
				two.closeSession(t, r.ref())
			}
			c := three.claim(t, claimOf(offset))
			if c.result != test.want {
				t.Fatalf("claim is %v, want %v", c.result, test.want)
			}
			if c.ClaimedSession == nil {
				return
			}
			want := start
			if !offset.IsZero() {
				want = offset
			}
			if owner := two.Sessions().owner(1); c.After != want || c.Generation != 3 || !test.close && c.Owner != owner || test.close && c.Owner != "" {
				t.Errorf("claimed %+v", c.ClaimedSession)
			}
			if got := three.read(t, c.After); got.err != nil || len(got.entries) == 0 || got.entries[len(got.entries)-1].Offset != missed {
				t.Errorf("read %q, %v", got.payloads(), got.err)
			}
		})
	}
}
