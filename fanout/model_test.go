package fanout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world drives a stepped hub and a naive model side by side. As every shard
// takes operations in order, the model may apply each at the moment of its call.
type world struct {
	t       testing.TB
	h       *Hub
	bus     *fakeBus
	conns   []*fakeSink
	members []*Member // one or two per conn
	closed  []bool
	sets    map[Key]map[int]uint64 // room → member → since
	floors  []uint64               // per member
	want    [][]uint64             // ids per conn
	next    uint64                 // id of the last message
	joins   int                    // accepted with a live callback
	lives   int                    // callbacks called
}

var worldRooms = []string{"", "a", "b", "c", "d"}

func newWorld(t testing.TB, shards, conns int) *world {
	w := &world{t: t, bus: &fakeBus{}, sets: make(map[Key]map[int]uint64)}
	w.h = stepped(Config{Shards: shards}, w.bus)
	for range conns {
		f, m := dialMember(w.h)
		w.conns, w.members = append(w.conns, f), append(w.members, m)
	}
	for i := 0; i < conns; i += 3 {
		m := &Member{}
		m.Init(&w.conns[i].fan, w.conns[i])
		w.members = append(w.members, m)
	}
	w.closed = make([]bool, len(w.members))
	w.floors, w.want = make([]uint64, len(w.members)), make([][]uint64, conns)
	return w
}

func (w *world) connOf(m int) int { return slices.Index(w.conns, w.members[m].Owner().(*fakeSink)) }

func (w *world) join(m int, k Key, since uint64) {
	ok := w.h.Join(w.members[m], k, ID{Ms: since}, func() { w.lives++ })
	if ok == w.closed[m] {
		w.t.Fatalf("join of member %d: %v, closed %v", m, ok, w.closed[m])
	}
	if !ok {
		return
	}
	w.joins++
	if w.sets[k] == nil {
		w.sets[k] = make(map[int]uint64)
	}
	if _, in := w.sets[k][m]; !in {
		w.sets[k][m] = since
	}
}

func (w *world) leave(m int, k Key) {
	_, in := w.sets[k][m]
	if got := w.h.Leave(w.members[m], k); got != in || w.members[m].In(k) {
		w.t.Fatalf("leave of member %d from %v: %v, want %v", m, k, got, in)
	}
	delete(w.sets[k], m)
}

func (w *world) close(m int) {
	w.h.CloseMember(w.members[m])
	w.closed[m] = true
	for _, set := range w.sets {
		delete(set, m)
	}
}

func (w *world) floor(m int, id uint64) {
	w.h.SetFloor(w.members[m], ID{Ms: id})
	w.floors[m] = max(w.floors[m], id)
}

// selected is the model of a target: members by rooms and by name, minus except.
func (w *world) selected(rooms, except []Key, members, exceptMembers []int, id uint64) []int {
	var out []int
	for m := range w.members {
		in := slices.Contains(members, m) && !w.closed[m]
		for _, k := range rooms {
			if since, ok := w.sets[k][m]; ok && (id == 0 || id > since) {
				in = true
			}
		}
		for _, k := range except {
			if _, ok := w.sets[k][m]; ok {
				in = false
			}
		}
		if in && !slices.Contains(exceptMembers, m) && (id == 0 || id > w.floors[m]) {
			out = append(out, m)
		}
	}
	return out
}

func (w *world) target(rooms, except []Key, members, exceptMembers []int) *Target {
	t := to(w.h, rooms...)
	t.Except = to(w.h, except...).Rooms
	for _, m := range members {
		t.Members = append(t.Members, w.members[m])
	}
	for _, m := range exceptMembers {
		t.ExceptMembers = append(t.ExceptMembers, w.members[m])
	}
	return t
}

// deliver sends one message; journalled ones carry their id.
func (w *world) deliver(rooms, except []Key, members, exceptMembers []int, journalled bool) {
	w.next++
	m, id := message(w.next, int(w.next%40)), uint64(0)
	if journalled {
		id = w.next
		m.ID = ID{Ms: id}
	}
	w.h.Deliver(m, w.target(rooms, except, members, exceptMembers))
	for _, i := range w.selected(rooms, except, members, exceptMembers, id) {
		c := w.connOf(i)
		w.want[c] = append(w.want[c], w.next)
	}
}

func (w *world) visit(rooms, except []Key, members, exceptMembers []int) {
	want := w.selected(rooms, except, members, exceptMembers, 0)
	var got []int
	done := 0
	w.h.Visit(w.target(rooms, except, members, exceptMembers), func(m *Member) {
		got = append(got, slices.Index(w.members, m))
	}, func() { done++ })
	settleAll(w.h)
	slices.Sort(got)
	if done != 1 {
		w.t.Fatalf("visit was done %d times", done)
	}
	equal(w.t, "visited", got, want)
}

// live answers the subscription of k, or with a generation that is not current.
func (w *world) live(k Key, stale bool) {
	g := w.bus.generation(k)
	if stale {
		before := w.lives
		if w.h.Live(k, g+1); w.lives != before {
			w.t.Fatalf("Live of an unknown generation called %d joins back", w.lives-before)
		}
		return
	}
	w.h.Live(k, g)
}

// check compares everything that was written with the model.
func (w *world) check() {
	w.t.Helper()
	settleAll(w.h)
	for c, f := range w.conns {
		equal(w.t, fmt.Sprintf("conn %d", c), f.got(), w.want[c])
		if len(f.aborts) != 0 {
			w.t.Fatalf("conn %d aborted: %v", c, f.aborts)
		}
	}
	var keys []string
	for k, set := range w.sets {
		if len(set) > 0 && k.Room != "" {
			keys = append(keys, k.Room)
		}
	}
	got := w.h.RoomKeys(1, nil)
	slices.Sort(keys)
	slices.Sort(got)
	equal(w.t, "rooms", got, keys)
}

// finish lets everybody leave and checks that nothing stays.
func (w *world) finish() {
	w.t.Helper()
	w.check()
	for m := range w.members {
		w.close(m)
	}
	settleAll(w.h)
	checkEmpty(w.t, w.h, w.bus, w.members)
	if w.lives != w.joins {
		w.t.Fatalf("%d joins were accepted, %d called back", w.joins, w.lives)
	}
}

// step does one operation chosen by next, a source of numbers below n.
func (w *world) step(next func(n int) int) {
	key := func() Key { return room(worldRooms[next(len(worldRooms))]) }
	some := func() (keys []Key) {
		for range next(3) {
			if k := key(); !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		return keys
	}
	few := func() (ms []int) {
		for range next(3) {
			ms = append(ms, next(len(w.members)))
		}
		return ms
	}
	switch op := next(20); op {
	case 0, 1, 2, 3, 4:
		since := uint64(0)
		if next(4) == 0 {
			since = w.next + uint64(next(6))
		}
		w.join(next(len(w.members)), key(), since)
	case 5, 6:
		w.leave(next(len(w.members)), key())
	case 7:
		if next(4) == 0 { // closed members stay closed, so keep them few
			w.close(next(len(w.members)))
		}
	case 8, 9, 10:
		w.deliver([]Key{key()}, nil, nil, nil, next(2) == 0)
	case 11, 12, 13:
		w.deliver(some(), some(), few(), few(), next(2) == 0)
	case 14:
		w.visit(some(), some(), few(), few())
	case 15:
		w.floor(next(len(w.members)), w.next+uint64(next(4)))
	case 16:
		w.live(key(), next(3) == 0)
	case 17:
		w.h.sweepOnce(time.Now().Add(2 * w.h.cfg.Linger))
	default:
		settle(w.h, next(len(w.h.shards)))
	}
}

func TestRoomsAgainstModel(t *testing.T) {
	for _, shards := range []int{1, 2, 5} {
		for seed := range uint64(12) {
			t.Run(fmt.Sprintf("shards=%d/seed=%d", shards, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(shards)))
				w := newWorld(t, shards, 4+r.IntN(20))
				for i := range 1500 {
					w.step(r.IntN)
					if i%100 == 99 {
						w.check()
					}
				}
				if w.next == 0 {
					t.Fatal("nothing was delivered")
				}
				w.finish()
			})
		}
	}
}

func FuzzRooms(f *testing.F) {
	f.Add([]byte{1, 0, 0, 1, 1, 8, 1, 0, 5, 1, 1, 17})
	f.Add([]byte("\x02\x00\x02\x01\x03\x00\x01\x01\x0b\x02\x01\x02\x01\x01\x02\x01\x03\x00\x0e\x02"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 2000 {
			return
		}
		w := newWorld(t, 1+int(in[0]%5), 6)
		in = in[1:]
		for len(in) > 0 {
			w.step(func(n int) int {
				if len(in) == 0 {
					return 0
				}
				v := int(in[0]) % n
				in = in[1:]
				return v
			})
		}
		w.finish()
	})
}
