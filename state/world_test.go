package state

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/metrics"
)

// A world is a few nodes and one Redis, of which a test decides what happens
// when: every operation that a node sends waits until the world lets it reach
// Redis, once, twice, late or never. It runs the real ledger, scripts, audits
// and janitors. Time is Redis's: virtual in-process, real on a redis-server.
type world struct {
	t       testing.TB
	r       *rand.Rand
	b       *backend
	c       *clients
	clock   *miniredis.Miniredis // nil on a redis-server
	now     time.Time
	lease   time.Duration
	mutate  func(*scripts)
	swapped bool // mutation: reapers release users before their sockets
	deadly  bool // more nodes die, with operations that arrive late
	calm    bool // no loss of data, no foreign writers: more holds then

	nodes   []*simNode
	zombies []zombie // operations of dead nodes, still on their way
	sockets map[string]*simSocket
	serial  int
	copy    map[string]copied // of Redis, to which a failover goes back
	foreign map[string]bool   // public entries that others wrote: "<key> <member>"
	ears    *ears
	ended   func()
	trace   []string
}

// simNode is one node's presence, driven by hand.
type simNode struct {
	p       *Presence
	sent    []operation // under way to Redis, in order
	until   int64
	done    int // of sent, those that Redis has carried out
	replies []scriptResult
	beats   time.Time // when the next heartbeat is due
	alive   bool
}

// simSocket is an open socket: what is true.
type simSocket struct {
	node       *simNode
	user       string
	generation uint64
	rooms      map[string]bool
}

type zombie struct {
	n     *simNode
	op    operation
	until int64
}

// inVirtualTime is an in-process Redis whose clock the world sets.
func inVirtualTime(t testing.TB, w *world) *backend {
	m := miniredis.NewMiniRedis()
	w.clock, w.now = m, time.Unix(1_700_000_000, 0)
	m.SetTime(w.now)
	m.ClockTTL(true)
	t.Cleanup(m.Close)
	return observed(t, &backend{name: "in-process", options: redisOptions{
		name: "in-process", basic: true,
		dial: func(context.Context, *net.Dialer, *tls.Config) (net.Conn, error) { return m.Dial() },
	}})
}

func newWorld(t testing.TB, seed uint64, real bool) *world {
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 11)), lease: defaultLease,
		sockets: map[string]*simSocket{}, foreign: map[string]bool{},
	}
	if real {
		w.b, w.lease = realRedis(t), 400*time.Millisecond
	} else {
		w.b = inVirtualTime(t, w)
	}
	w.c = &clients{gen: 1, cmd: w.b.observer, read: w.b.observer}
	w.calm, w.deadly = w.r.IntN(3) == 0, w.r.IntN(4) == 0
	return w
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	if w.clock == nil {
		time.Sleep(d)
		return
	}
	w.now = w.now.Add(d)
	w.clock.SetTime(w.now)
}

// spawn starts a node.
func (w *world) spawn() *simNode {
	cfg := Config{Lease: w.lease, Log: slog.New(slog.DiscardHandler)}
	m := metrics.New(prometheus.NewRegistry(), "test")
	l := newLink(w.b.options, false, "sim", cfg.Log, m)
	n := &simNode{p: newPresence(cfg, l, newIncarnation(), newUpdates(0, 0), m), alive: true}
	if w.mutate != nil {
		w.mutate(&n.p.scripts)
	}
	w.nodes = append(w.nodes, n)
	w.must("load", n.p.scripts.load(w.t.Context(), w.c.cmd))
	w.beat(n)
	w.say("spawn %s", n.name())
	return n
}

func (w *world) must(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", what, err, strings.Join(w.trace, "\n"))
	}
}

func (n *simNode) name() string { return n.p.ledger.incarnation()[:4] }

func (w *world) living() []*simNode {
	var living []*simNode
	for _, n := range w.nodes {
		if n.alive {
			living = append(living, n)
		}
	}
	return living
}

// beat is a heartbeat, which a node sends between its batches.
func (w *world) beat(n *simNode) {
	if len(n.sent) == 0 {
		before := len(n.p.ledger.lives)
		w.must("heartbeat", n.p.beat(w.t.Context(), w.c))
		if len(n.p.ledger.lives) > before {
			w.say("%s is a new incarnation", n.name())
		}
	}
}

// send takes the next batch from the ledger.
func (w *world) send(n *simNode) {
	if len(n.sent) > 0 {
		return
	}
	l := n.p.ledger
	l.refill(1 + w.r.IntN(50))
	n.sent, n.until = l.next(clockAtEnd, 1+w.r.IntN(12), n.p.lease.valid()), n.p.lease.until
	n.done, n.replies = 0, nil
}

// deliver lets up to k of the operations under way reach Redis, one of them
// sometimes twice. When all have, the node hears of it.
func (w *world) deliver(n *simNode, k int) {
	for ; k > 0 && n.done < len(n.sent); k-- {
		op := n.sent[n.done]
		w.say("   %s: %s", n.name(), n.p.ledger.describe(&op))
		n.replies = append(n.replies, n.p.send(w.t.Context(), w.c, []operation{op}, n.until)...)
		n.done++
		if w.r.IntN(4) == 0 {
			n.p.send(w.t.Context(), w.c, []operation{op}, n.until)
		}
	}
	if len(n.sent) > 0 && n.done == len(n.sent) {
		for i, r := range n.replies {
			if r.err != nil && r.err != errExpired {
				w.must(n.sent[i].op.String(), r.err)
			}
		}
		n.p.record(n.sent, n.replies)
		n.sent = nil
		n.p.complete()
	}
}

// cut breaks a node's connection: what was under way and did not arrive never
// will, and the node does not know which that is. Then it connects again.
func (w *world) cut(n *simNode) {
	now := time.Now()
	for _, op := range n.sent {
		n.p.ledger.settle(op, errNotYet, now)
	}
	n.sent = nil
	n.p.lease.broken(now)
	w.beat(n)
	n.p.ledger.hurry()
	n.p.ledger.gated = true
	n.p.audit.begin(true, now)
	w.say("cut %s", n.name())
}

// kill ends a node at any point of its batch. What was still on its way is lost,
// or arrives later.
func (w *world) kill(n *simNode) {
	w.send(n)
	w.deliver(n, w.r.IntN(len(n.sent)+1))
	w.say("kill %s with %d of %d done", n.name(), n.done, len(n.sent))
	if w.r.IntN(4) > 0 {
		for _, op := range n.sent[min(n.done, len(n.sent)):] {
			w.zombies = append(w.zombies, zombie{n, op, n.until})
		}
	}
	n.alive, n.sent = false, nil
	for id, s := range w.sockets {
		if s.node == n {
			delete(w.sockets, id)
		}
	}
}

// late lets some operations of dead nodes arrive.
func (w *world) late(all bool) {
	for len(w.zombies) > 0 && (all || w.r.IntN(2) == 0) {
		z := w.zombies[0]
		w.zombies = w.zombies[1:]
		w.say("late %s of %s", z.op.op, z.n.name())
		z.n.p.send(w.t.Context(), w.c, []operation{z.op}, z.until)
	}
}

// janitor runs a node's janitor, which may die in the middle of it.
func (w *world) janitor(n *simNode) {
	claimed, dead, err := n.p.claim(w.t.Context(), w.c)
	w.must("claim", err)
	if len(claimed) > 0 {
		w.say("%s claims %d", n.name(), len(claimed))
	}
	for _, incarnation := range dead {
		if w.swapped {
			w.reapSwapped(n, incarnation)
			continue
		}
		if w.r.IntN(3) == 0 {
			r := reaper{p: n.p, c: w.c, incarnation: incarnation}
			steps := w.r.IntN(5)
			for i := range steps {
				step := r.stepUsers
				if i > 2 {
					step = r.stepRooms
				}
				_, err := step(w.t.Context())
				w.must("reap", err)
			}
			continue // and no more, as if it had died
		}
		w.must("reap", n.p.reap(w.t.Context(), w.c, incarnation))
	}
}

// reapSwapped is the mutation of stepUsers that takes users off line first, and
// sometimes dies in between.
func (w *world) reapSwapped(n *simNode, incarnation string) {
	r := reaper{p: n.p, c: w.c, incarnation: incarnation}
	held, err := r.held(w.t.Context(), []string{""}, reapUsers)
	w.must("held", err)
	users, _ := held[0].AsStrSlice()
	if len(users) > 0 {
		_, err = r.release(w.t.Context(), []string{""}, [][]string{users}, nil)
		w.must("release", err)
		if w.r.IntN(2) == 0 {
			return
		}
		for _, user := range users {
			w.must("reap", n.p.call(w.t.Context(), w.c, metrics.PresenceReapUser, socketKeys(nil, user), []string{incarnation}).Error())
		}
	}
	w.must("reap", n.p.reap(w.t.Context(), w.c, incarnation))
}

// audit runs n's audit to the end of a pass.
func (w *world) audit(n *simNode, deep bool) {
	if len(n.sent) > 0 || !n.p.lease.valid() {
		return
	}
	if deep {
		n.p.audit.begin(deep, time.Now())
	}
	for n.p.auditStep(w.t.Context(), w.c); !n.p.audit.over(); {
		n.p.auditStep(w.t.Context(), w.c)
	}
}

// act is something that a client does.
func (w *world) act() {
	living := w.living()
	n := living[w.r.IntN(len(living))]
	ids := slices.Sorted(maps.Keys(w.sockets))
	var id string
	var s *simSocket
	if len(ids) > 0 {
		id = ids[w.r.IntN(len(ids))]
		s = w.sockets[id]
	}
	room := "r" + strconv.Itoa(w.r.IntN(3))
	l := func() *ledger { return s.node.p.ledger }
	switch k := w.r.IntN(20); {
	case s == nil || k < 6:
		w.serial++
		// The name begins with the incarnation, from which nobody may conclude who owns it.
		id = n.p.ledger.incarnation()[:8] + "-" + strconv.Itoa(w.serial)
		s = &simSocket{node: n, user: "u" + strconv.Itoa(w.r.IntN(5)), rooms: map[string]bool{}}
		w.sockets[id] = s
		n.p.ledger.connect(s.user, id, 0, nil)
		w.say("%s: %s connects %s", n.name(), s.user, id)
	case k < 9:
		l().disconnect(s.user, id, mayReturn(s.user))
		delete(w.sockets, id)
		w.say("%s: %s disconnects %s", s.node.name(), s.user, id)
	case k < 14:
		s.rooms[room] = true
		l().join(s.user, id, room, nil)
		w.say("%s: %s joins %s", s.node.name(), s.user, room)
	case k < 17:
		delete(s.rooms, room)
		l().leave(s.user, id, room, nil)
		w.say("%s: %s leaves %s", s.node.name(), s.user, room)
	case s.node != n:
		// It recovers on another node, which tells the old one, or the old one finds out later.
		s.generation++
		w.say("%s moves from %s to %s", id, s.node.name(), n.name())
		old := s.node
		s.node = n
		n.p.ledger.connect(s.user, id, s.generation, nil)
		for room := range s.rooms {
			n.p.ledger.join(s.user, id, room, nil)
		}
		old.p.ledger.disconnect(s.user, id, mayReturn(s.user))
	}
}

// mayReturn says which users disconnect with grace.
func mayReturn(user string) bool { return user == "u0" || user == "u1" }

// describe is an operation in words.
func (l *ledger) describe(o *operation) string {
	words := []string{o.op.String()}
	if o.drop {
		words[0] = "drop"
	}
	if o.grace {
		words[0] += " with grace"
	}
	words = append(words, "as", l.lives[o.life][:4])
	if o.set != nil {
		words = append(words, "in", o.set.room)
	}
	for _, m := range o.members {
		words = append(words, m.user)
	}
	for _, set := range o.rooms {
		words = append(words, set.room)
	}
	for _, s := range o.calls {
		words = append(words, s.user, owner(s.id, s.generation))
	}
	return strings.Join(words, " ")
}
