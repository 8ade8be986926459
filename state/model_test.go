package state

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// model is the truth the presence keys must equal at quiescence.
type model struct {
	nodes   []*node
	sockets map[string]*modelSocket // by socket id
	order   []string                // ids of open sockets, oldest first
	serial  int
}

type modelSocket struct {
	node  int
	user  string
	rooms map[string]bool
}

// step does one random thing.
func (m *model) step(r *rand.Rand) {
	pick := func() (string, *modelSocket) {
		if len(m.order) == 0 {
			return "", nil
		}
		id := m.order[r.IntN(len(m.order))]
		return id, m.sockets[id]
	}
	room := "room" + strconv.Itoa(r.IntN(4))
	id, s := pick()
	switch n := r.IntN(10); {
	case s == nil || n < 3:
		m.serial++
		i := r.IntN(len(m.nodes))
		id = m.nodes[i].id + fmt.Sprintf("%012d", m.serial)
		s = &modelSocket{node: i, user: "user" + strconv.Itoa(r.IntN(5)), rooms: map[string]bool{}}
		m.sockets[id] = s
		m.order = append(m.order, id)
		m.nodes[i].Presence().Connect(s.user, id, nil)
	case n < 5:
		delete(m.sockets, id)
		m.order = slices.DeleteFunc(m.order, func(o string) bool { return o == id })
		m.nodes[s.node].Presence().Disconnect(s.user, id)
	case n < 8:
		s.rooms[room] = true
		m.nodes[s.node].Presence().Join(s.user, id, room, nil)
	default:
		delete(s.rooms, room)
		m.nodes[s.node].Presence().Leave(s.user, id, room, nil)
	}
}

// expected returns the members of each presence set per node, and the sockets
// of each user.
func (m *model) expected() (held map[string]map[string]map[int]bool, sockets map[string][]string) {
	held, sockets = map[string]map[string]map[int]bool{}, map[string][]string{}
	hold := func(key, user string, node int) {
		if held[key] == nil {
			held[key] = map[string]map[int]bool{}
		}
		if held[key][user] == nil {
			held[key][user] = map[int]bool{}
		}
		held[key][user][node] = true
	}
	for id, s := range m.sockets {
		hold(onlineKey, s.user, s.node)
		sockets[s.user] = append(sockets[s.user], id)
		for room := range s.rooms {
			hold(roomKey(room), s.user, s.node)
		}
	}
	return held, sockets
}

// check compares Redis with the truth, key by key (I1 to I4), and wants no others.
func (m *model) check(t *testing.T, b *backend) {
	t.Helper()
	held, sockets := m.expected()
	known := map[string]bool{}
	for key, users := range held {
		aside := "{" + key + "}:"
		var members, x, n []string
		i := map[int][]string{}
		for user, nodes := range users {
			members = append(members, user)
			if len(nodes) > 1 {
				x = append(x, user+"="+strconv.Itoa(len(nodes)-1))
			}
			for node := range nodes {
				i[node] = append(i[node], user)
			}
		}
		b.expectSet(t, key, members...)
		known[key], known[aside+"n"] = true, true
		for node, users := range i {
			incarnation := m.nodes[node].presence.ledger.incarnation
			n = append(n, incarnation)
			holds := b.list(t, "HKEYS", aside+"i:"+incarnation)
			slices.Sort(holds)
			slices.Sort(users)
			if !slices.Equal(holds, users) {
				t.Errorf("node %d holds %q in %s, want %q", node, holds, key, users)
			}
			known[aside+"i:"+incarnation] = true
		}
		b.expectSet(t, aside+"n", n...)
		var gotX []string
		if len(x) > 0 {
			known[aside+"x"] = true
			for _, user := range b.list(t, "HKEYS", aside+"x") {
				gotX = append(gotX, user+"="+b.text(t, "HGET", aside+"x", user))
			}
		}
		slices.Sort(x)
		slices.Sort(gotX)
		if !slices.Equal(x, gotX) {
			t.Errorf("%sx is %q, want %q", aside, gotX, x)
		}
	}
	for user, ids := range sockets {
		key := socketKey(user)
		active := b.text(t, "GET", key)
		others := b.list(t, "ZRANGE", "{"+key+"}:z", "0", "-1")
		got := append(others, active)
		owned := b.list(t, "HKEYS", "{"+key+"}:o")
		slices.Sort(got)
		slices.Sort(ids)
		slices.Sort(owned)
		if !slices.Equal(got, ids) || !slices.Equal(owned, ids) {
			t.Errorf("%s: active and others are %q, owned %q, want %q", key, got, owned, ids)
		}
		known[key], known["{"+key+"}:z"], known["{"+key+"}:o"] = true, true, true
	}
	for _, key := range b.list(t, "KEYS", "*") {
		if !known[key] && !strings.HasSuffix(key, "}:m") {
			t.Errorf("%s is left", key)
		}
	}
}

func (m *model) settled(t *testing.T) {
	t.Helper()
	for _, n := range m.nodes {
		n.settled(t)
	}
}

func TestPresenceModel(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 7))
			m := &model{sockets: map[string]*modelSocket{}}
			for i := range 3 {
				m.nodes = append(m.nodes, b.start(t, fmt.Sprintf("node%04d", i), nil))
			}
			for range 12 {
				for range r.IntN(60) {
					m.step(r)
				}
				if b.redis != nil && r.IntN(3) == 0 { // connections break with commands in flight
					b.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
				}
				if b.redis != nil && r.IntN(6) == 0 { // Redis loses everything
					m.settled(t)
					b.do(t, "FLUSHALL")
					b.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
					for _, n := range m.nodes {
						if _, err := n.link.verify(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					eventually(t, "everything is asserted", func() error {
						for _, n := range m.nodes {
							c, _ := n.link.get()
							n.presence.mu.Lock()
							asserted := c != nil && n.presence.asserted == c.gen
							n.presence.mu.Unlock()
							if !asserted {
								return errNotYet
							}
						}
						return nil
					})
				}
				m.settled(t)
				m.check(t, b)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			for _, n := range m.nodes {
				if err := n.Presence().Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				n.stop(t)
			}
			b.expectEmpty(t)
		}
	})
}

// The ledger alone, with every outcome an operation can have, in a random order.
func TestLedgerModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := newLedger("I")
		redis := map[string]bool{} // what the operations made of Redis
		want := map[string]bool{}
		rooms := map[string]map[string]bool{} // socket → rooms
		calls, returned := 0, 0
		done := func(error) { returned++ }
		for range 300 {
			user := "u" + strconv.Itoa(r.IntN(3))
			id := user + "-" + strconv.Itoa(r.IntN(2))
			room := "r" + strconv.Itoa(r.IntN(2))
			switch r.IntN(7) {
			case 0:
				calls++
				l.connect(user, id, done)
				if rooms[id] == nil {
					rooms[id] = map[string]bool{}
				}
			case 1:
				l.disconnect(user, id)
				delete(rooms, id)
			case 2:
				calls++
				l.join(user, id, room, done)
				if rooms[id] != nil {
					rooms[id][room] = true
				}
			case 3:
				calls++
				l.leave(user, id, room, done)
				delete(rooms[id], room)
			case 4:
				l.reassert()
			default:
				runRandomly(r, l, redis)
			}
		}
		for range 1000 {
			if l.unsettled == 0 {
				break
			}
			runRandomly(r, l, redis)
		}
		for id, in := range rooms {
			user, _, _ := strings.Cut(id, "-")
			want["online "+user], want["socket "+id] = true, true
			for room := range in {
				want[room+" "+user] = true
			}
		}
		for k, v := range redis {
			if v != want[k] {
				t.Errorf("seed %d: %s is %v, want %v", seed, k, v, want[k])
			}
		}
		for k := range want {
			if !redis[k] {
				t.Errorf("seed %d: %s is missing", seed, k)
			}
		}
		if returned += len(l.finished); returned != calls || l.waiting != 0 || l.unsettled != 0 {
			t.Errorf("seed %d: %d of %d callbacks, %d waiting, %d unsettled", seed, returned, calls, l.waiting, l.unsettled)
		}
		for id := range rooms {
			user, _, _ := strings.Cut(id, "-")
			l.disconnect(user, id)
		}
		for range 1000 {
			runRandomly(r, l, redis)
		}
		if len(l.online.members)+len(l.rooms)+len(l.sockets) != 0 {
			t.Errorf("seed %d: the ledger keeps %d users, %d rooms, %d sockets", seed, len(l.online.members), len(l.rooms), len(l.sockets))
		}
	}
}

// runRandomly runs one batch; each operation succeeds, or fails before or after
// it was done. It checks the two rules that span keys.
func runRandomly(r *rand.Rand, l *ledger, redis map[string]bool) {
	ops := l.next(clockAtEnd, 1+r.IntN(8))
	for _, op := range ops {
		var err error
		outcome := r.IntN(3)
		if outcome > 0 {
			err = errNotYet
		}
		if outcome < 2 {
			for _, m := range op.members {
				key := "online " + m.user
				if op.set.room != "" {
					key = op.set.room + " " + m.user
				}
				redis[key] = op.op == 0
				if op.set.room == "" && op.op == 1 && (redis["socket "+m.user+"-0"] || redis["socket "+m.user+"-1"]) {
					panic("released online before the last socket was detached")
				}
			}
			for _, s := range op.sockets {
				redis["socket "+s.id] = op.op == 2
				if op.op == 2 && !redis["online "+s.user.user] {
					panic("attached a socket before its user was held online")
				}
			}
		}
		l.settle(op, err, clockAtStart)
	}
}

// Times between which every retry is due.
var clockAtStart, clockAtEnd = time.Unix(0, 0), time.Unix(1000, 0)
