package state

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// copied is the content of a key.
type copied struct {
	kind  string
	words []string
}

// dump copies all of Redis.
func (w *world) dump() map[string]copied {
	out := map[string]copied{}
	for _, key := range w.b.list(w.t, "KEYS", "*") {
		if strings.HasPrefix(key, reapKey("")) || key == scrubKey {
			continue // they have an end, which a copy would lack
		}
		c := copied{kind: w.b.text(w.t, "TYPE", key)}
		switch c.kind {
		case "string":
			c.words = []string{w.b.text(w.t, "GET", key)}
		case "set":
			c.words = w.b.list(w.t, "SMEMBERS", key)
		case "hash":
			for _, field := range w.b.list(w.t, "HKEYS", key) {
				c.words = append(c.words, field, w.b.text(w.t, "HGET", key, field))
			}
		case "zset":
			for _, member := range w.b.list(w.t, "ZRANGE", key, "0", "-1") {
				c.words = append(c.words, w.b.text(w.t, "ZSCORE", key, member), member)
			}
		}
		out[key] = c
	}
	return out
}

// restore makes Redis what it was: what a failover to a replica that lagged does.
func (w *world) restore(all map[string]copied) {
	w.b.do(w.t, "FLUSHALL")
	for key, c := range all {
		command := map[string]string{"string": "SET", "set": "SADD", "hash": "HSET", "zset": "ZADD"}[c.kind]
		w.b.do(w.t, append([]string{command, key}, c.words...)...)
	}
}

// fault is something that goes wrong.
func (w *world) fault() {
	living := w.living()
	n := living[w.r.IntN(len(living))]
	switch k := w.r.IntN(14); {
	case k < 3 || w.deadly && k < 9:
		w.kill(n)
		if len(living) == 1 || w.r.IntN(2) == 0 {
			w.spawn()
		}
	case k < 6:
		w.cut(n)
	case k < 8:
		w.say("a lease goes by")
		w.pass(w.lease * time.Duration(5+w.r.IntN(20)) / 10)
	case w.calm:
	case k == 8:
		w.say("wipe")
		w.b.do(w.t, "FLUSHALL")
		for _, n := range w.living() {
			w.must("load", n.p.scripts.load(w.t.Context(), w.c.cmd))
		}
	case k == 9 && w.copy != nil:
		w.say("failover to an old copy")
		w.restore(w.copy)
		for _, n := range w.living() { // everybody's connection broke
			w.must("load", n.p.scripts.load(w.t.Context(), w.c.cmd))
			w.cut(n)
		}
	case k == 10:
		w.copy = w.dump()
	default:
		w.foreignWrite()
	}
}

// foreignWrite is what a server that knows nothing of holders does to the public keys.
func (w *world) foreignWrite() {
	user := "u" + strconv.Itoa(w.r.IntN(5))
	set := []string{onlineKey, roomKey("r" + strconv.Itoa(w.r.IntN(3)))}[w.r.IntN(2)]
	switch w.r.IntN(5) {
	case 0, 1:
		w.say("foreign SADD %s %s", set, user)
		w.b.do(w.t, "SADD", set, user)
		w.foreign[set+" "+user] = true
	case 2:
		w.say("foreign SREM %s %s", set, user)
		w.b.do(w.t, "SREM", set, user)
	case 3:
		w.say("foreign DEL %s", socketKey(user))
		w.b.do(w.t, "DEL", socketKey(user))
	case 4:
		w.say("foreign SET %s", socketKey(user))
		w.b.do(w.t, "SET", socketKey(user), "foreign")
		w.foreign[socketKey(user)+" foreign"] = true
	}
}

// live is one step of anything.
func (w *world) live() {
	living := w.living()
	n := living[w.r.IntN(len(living))]
	switch k := w.r.IntN(40); {
	case k < 14:
		w.act()
	case k < 20:
		w.send(n)
	case k < 29:
		w.deliver(n, 1+w.r.IntN(6))
	case k < 33:
		w.beat(n)
	case k < 35:
		w.pass(w.lease * time.Duration(w.r.IntN(5)) / 20)
	case k < 36 && !w.deadly:
		w.late(false)
	case k < 37:
		w.janitor(n)
	case k < 38:
		w.audit(n, w.r.IntN(2) == 0)
	default:
		w.fault()
	}
}

// settle lets everything calm down: nodes beat in time, batches arrive, the dead
// are reaped, and audits pass. It returns how much they found. In real time, a machine
// that stood still for a lease may have had a living node taken for dead at the very
// end: then it takes longer.
func (w *world) settle() (drift float64) {
	for range 3 {
		var undisturbed bool
		if drift, undisturbed = w.calmDown(); undisturbed || w.clock != nil {
			break
		}
		w.say("a living node was taken for dead")
	}
	return drift
}

// calmDown is one try of settle. It reports whether all living nodes were known as
// what they are throughout the second half of it.
func (w *world) calmDown() (drift float64, undisturbed bool) {
	var known []string
	for round := range 24 { // six leases
		if round == 12 {
			known = w.incarnations()
		}
		for _, n := range w.living() {
			for len(n.sent) > 0 {
				w.deliver(n, 100)
			}
			w.beat(n)
			for range 200 {
				n.p.ledger.refill(1000)
				w.send(n)
				if len(n.sent) == 0 {
					break
				}
				for len(n.sent) > 0 {
					w.deliver(n, 100)
				}
			}
			w.late(round > 12)
			w.janitor(n)
			if round >= 20 {
				before := n.drift()
				w.audit(n, round%2 == 0)
				drift += n.drift() - before
			}
		}
		w.pass(w.lease / leaseBeat)
	}
	for _, n := range w.living() {
		w.janitor(n)
	}
	registered := w.b.list(w.t, "ZRANGE", instKey, "0", "-1")
	return drift, slices.Equal(known, w.incarnations()) &&
		!slices.ContainsFunc(known, func(incarnation string) bool { return !slices.Contains(registered, incarnation) })
}

// incarnations are those of the living nodes.
func (w *world) incarnations() (all []string) {
	for _, n := range w.living() {
		all = append(all, n.p.ledger.incarnation())
	}
	return all
}

// drift is what the node's audits found so far.
func (n *simNode) drift() (found float64) {
	for _, kind := range n.p.metrics.PresenceDrift {
		found += testutil.ToFloat64(kind)
	}
	return found
}

// closeAll ends all sockets in order.
func (w *world) closeAll() {
	for id, s := range w.sockets {
		s.node.p.ledger.disconnect(s.user, id, mayReturn(s.user))
	}
	clear(w.sockets)
}

// faults describes what is wrong with Redis at rest. The names are those of the
// invariants.
func (w *world) faults() (wrong []string) {
	no := func(invariant, format string, args ...any) {
		wrong = append(wrong, invariant+": "+sprintf(format, args...))
	}
	lives := map[string]*simNode{}
	for _, n := range w.living() {
		lives[n.p.ledger.incarnation()] = n
	}
	want := map[string]map[string]bool{onlineKey: {}}
	sockets := map[string][]string{}
	for id, s := range w.sockets {
		want[onlineKey][s.user] = true
		sockets[s.user] = append(sockets[s.user], id)
		for room := range s.rooms {
			if want[roomKey(room)] == nil {
				want[roomKey(room)] = map[string]bool{}
			}
			want[roomKey(room)][s.user] = true
		}
	}
	sets := []string{onlineKey, roomKey("r0"), roomKey("r1"), roomKey("r2")}
	for _, set := range sets {
		w.checkSet(set, want[set], lives, no)
	}
	for i := range 5 {
		w.checkUser("u"+strconv.Itoa(i), sockets["u"+strconv.Itoa(i)], no)
	}
	// I6: nothing names a dead incarnation.
	for _, key := range w.b.list(w.t, "KEYS", "*") {
		if _, incarnation, ok := strings.Cut(key, "}:i:"); ok && lives[incarnation] == nil {
			no("I6", "%s is left", key)
		}
		if incarnation, ok := strings.CutPrefix(key, "{edge:"); ok && lives[strings.TrimSuffix(incarnation, "}:rooms")] == nil {
			no("I6", "%s is left", key)
		}
	}
	for _, incarnation := range append(w.b.list(w.t, "ZRANGE", instKey, "0", "-1"), w.b.list(w.t, "ZRANGE", deadKey, "0", "-1")...) {
		if lives[incarnation] == nil {
			no("I6", "%s is still registered", incarnation)
		}
	}
	return wrong
}

func (w *world) checkSet(set string, want map[string]bool, lives map[string]*simNode, no func(string, string, ...any)) {
	var holders []string
	held := map[string]bool{}
	for incarnation := range lives {
		holds := w.b.list(w.t, "HKEYS", "{"+set+"}:i:"+incarnation)
		for _, user := range holds {
			held[user] = true
		}
		if len(holds) > 0 {
			holders = append(holders, incarnation)
		}
	}
	members := w.b.list(w.t, "SMEMBERS", set)
	for _, user := range members {
		if !held[user] && !w.foreign[set+" "+user] {
			no("I1", "%s has %s, whom nobody holds", set, user)
		}
		if !want[user] && !w.foreign[set+" "+user] {
			no("I5", "%s has the ghost %s", set, user)
		}
	}
	for user := range held {
		if !slices.Contains(members, user) {
			no("I1", "%s lacks %s, who is held", set, user)
		}
	}
	for user := range want {
		if !slices.Contains(members, user) {
			no("I5", "%s lacks %s", set, user)
		}
	}
	named := w.b.list(w.t, "SMEMBERS", "{"+set+"}:n")
	slices.Sort(named)
	slices.Sort(holders)
	if !slices.Equal(named, holders) {
		no("I3", "{%s}:n is %q, want %q", set, named, holders)
	}
}

func (w *world) checkUser(user string, ids []string, no func(string, string, ...any)) {
	key := socketKey(user)
	active := w.b.text(w.t, "GET", key)
	others := w.b.list(w.t, "ZRANGE", "{"+key+"}:z", "0", "-1")
	owned := w.b.list(w.t, "HKEYS", "{"+key+"}:o")
	slices.Sort(owned)
	slices.Sort(ids)
	if !slices.Equal(owned, ids) {
		no("I4", "owned sockets of %s are %q, want %q", user, owned, ids)
	}
	if len(ids) == 0 {
		if active != "" && !w.foreign[key+" "+active] {
			no("I4", "%s is %q, and no socket is open", key, active)
		}
		return
	}
	if !slices.Contains(ids, active) {
		no("I4", "%s is %q, open are %q", key, active, ids)
	}
	if w.calm {
		all := append(slices.Clone(others), active)
		slices.Sort(all)
		if !slices.Equal(all, ids) {
			no("I4", "active %q and others %q of %s, open are %q", active, others, user, ids)
		}
	}
}

// scrubbed runs a scrub and reports what it found.
func (w *world) scrubbed(t testing.TB) int {
	found, err := w.living()[0].p.scrub(t.Context(), w.c, 0)
	w.must("scrub", err)
	return found
}
