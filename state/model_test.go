package state

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
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
		m.nodes[i].Presence().Connect(s.user, id, 0, nil)
	case n < 5:
		delete(m.sockets, id)
		m.order = slices.DeleteFunc(m.order, func(o string) bool { return o == id })
		m.nodes[s.node].Presence().Disconnect(s.user, id, false)
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
		var members, n []string
		i := map[int][]string{}
		for user, nodes := range users {
			members = append(members, user)
			for node := range nodes {
				i[node] = append(i[node], user)
			}
		}
		b.expectSet(t, key, members...)
		known[key], known[aside+"n"] = true, true
		for node, users := range i {
			incarnation := m.nodes[node].incarnation()
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
		if !known[key] && !aside(key) {
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
					lives := make([]int, len(m.nodes))
					for i, n := range m.nodes {
						n.presence.mu.Lock()
						lives[i] = len(n.presence.ledger.lives)
						n.presence.mu.Unlock()
					}
					b.do(t, "FLUSHALL")
					b.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
					for _, n := range m.nodes {
						if _, err := n.link.verify(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					eventually(t, "every node has another incarnation", func() error {
						for i, n := range m.nodes {
							n.presence.mu.Lock()
							l := n.presence.ledger
							again := len(l.lives) > lives[i] && l.backlog() == 0
							n.presence.mu.Unlock()
							if !again {
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
				l.connect(user, id, 0, done)
				if rooms[id] == nil {
					rooms[id] = map[string]bool{}
				}
			case 1:
				l.disconnect(user, id, false)
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
				// Redis loses everything, or only forgets the node: what was held is held by nobody who lives.
				l.restart("I" + strconv.Itoa(len(l.lives)))
				clear(redis)
				l.refill(r.IntN(20))
			default:
				runRandomly(r, l, redis)
			}
		}
		for range 1000 {
			if l.unsettled == 0 {
				break
			}
			l.refill(1)
			runRandomly(r, l, redis)
		}
		for id, in := range rooms {
			user, _, _ := strings.Cut(id, "-")
			want["online "+user], want["socket "+id] = true, true
			for room := range in {
				want[room+" "+user], want["index "+room] = true, true
			}
		}
		for k, v := range redis {
			if v != want[k] && !strings.HasPrefix(k, "index ") { // empty rooms stay written down for a while
				t.Errorf("seed %d: %s is %v, want %v", seed, k, v, want[k])
			}
		}
		for k := range want {
			if !redis[k] {
				t.Errorf("seed %d: %s is missing", seed, k)
			}
		}
		if ops := l.next(clockAtEnd, 1000, true); len(ops) != 0 {
			t.Errorf("seed %d: %d operations with nothing unsettled", seed, len(ops))
		}
		if returned += len(l.finished); returned != calls || l.waiting != 0 || l.unsettled != 0 {
			t.Errorf("seed %d: %d of %d callbacks, %d waiting, %d unsettled", seed, returned, calls, l.waiting, l.unsettled)
		}
		for id := range rooms {
			user, _, _ := strings.Cut(id, "-")
			l.disconnect(user, id, false)
		}
		for range 1000 {
			for _, set := range l.rooms {
				l.prune(set)
			}
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
	leased := r.IntN(4) > 0
	ops := l.next(clockAtEnd, 1+r.IntN(8), leased)
	for _, op := range ops {
		if !leased && op.op != metrics.PresenceRelease && op.op != metrics.PresenceDetach && !op.drop {
			panic("something is added without a lease")
		}
		var err error
		outcome := r.IntN(3)
		if outcome > 0 {
			err = errNotYet
		}
		if outcome < 2 {
			for _, set := range op.rooms {
				redis["index "+set.room] = !op.drop
			}
			for _, m := range op.members {
				key := "online " + m.user
				if op.set.room != "" {
					key = op.set.room + " " + m.user
				}
				adds := op.op != metrics.PresenceRelease
				redis[key] = adds
				if adds && op.set.room != "" && !redis["index "+op.set.room] {
					panic("held in a room before it was written down")
				}
				if op.set.room == "" && !adds && (redis["socket "+m.user+"-0"] || redis["socket "+m.user+"-1"]) {
					panic("released online before the last socket was detached")
				}
			}
			for _, s := range op.sockets {
				redis["socket "+s.id] = op.op == metrics.PresenceAttach
				if op.op == metrics.PresenceAttach && !redis["online "+s.user.user] {
					panic("attached a socket before its user was held online")
				}
			}
		}
		l.settle(op, err, clockAtStart)
	}
}

// Times between which every retry is due.
var clockAtStart, clockAtEnd = time.Unix(0, 0), time.Unix(1000, 0)
