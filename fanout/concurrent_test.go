package fanout

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
)

// start makes a running hub; the test ends it and checks that no goroutine stays.
func start(t *testing.T, cfg Config, bus Subscriber) *Hub {
	before := runtime.NumGoroutine()
	h := New(cfg, bus, newMetrics())
	t.Cleanup(func() {
		h.Close()
		until(t, "the hub's goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })
	})
	return h
}

// flushed waits until every shard has done what was asked of it before.
func flushed(h *Hub) {
	var wait sync.WaitGroup
	for _, s := range h.shards {
		wait.Add(1)
		s.enqueue(op{kind: opVisit, target: &Target{}, visit: &visitor{done: wait.Done}})
	}
	wait.Wait()
}

func TestCloseEndsEveryGoroutine(t *testing.T) {
	h := start(t, Config{Shards: 5, Tick: time.Millisecond}, &fakeBus{})
	f, m := dialMember(h)
	var expired atomic.Int32
	h.Join(m, room("a"), ID{}, nil)
	h.Deliver(message(1, 0), to(h, room("a")))
	until(t, "the message is there", func() bool { return len(f.got()) == 1 })
	g := &fakeSink{expire: func(now Tick) (*Message, Tick) { expired.Add(1); return nil, now + 1 }}
	h.Attach(&g.fan, g, 1)
	until(t, "deadlines are kept", func() bool { return expired.Load() > 3 })
}

// lateSink is a client whose kernel takes half of every write at once and the
// rest from another goroutine.
type lateSink struct {
	fakeSink
	kernel chan int
	late   atomic.Int64 // bytes not accepted yet
	above  atomic.Int64 // writes above a backlog
}

func (l *lateSink) Write(p []byte) error {
	if l.late.Load() > 0 {
		l.above.Add(1)
	}
	l.mu.Lock()
	l.record(p)
	l.mu.Unlock()
	half := len(p) / 2
	l.late.Store(int64(len(p) - half))
	l.fan.Wrote(half)
	l.kernel <- len(p) - half
	return nil
}

// TestWroteFromEverywhere looks for lost wake-ups: whatever order the shard and
// the kernel come in, everything leaves in the end.
func TestWroteFromEverywhere(t *testing.T) {
	h := start(t, Config{Shards: 2, Tick: time.Millisecond}, &fakeBus{})
	const conns, messages = 8, 10000
	sinks := make([]*lateSink, conns)
	var kernels sync.WaitGroup
	for i := range sinks {
		l := &lateSink{kernel: make(chan int, messages+1)}
		sinks[i] = l
		kernels.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			for n := range l.kernel {
				for n > 0 { // in pieces
					k := 1 + r.IntN(n)
					if r.IntN(4) == 0 {
						runtime.Gosched()
					}
					n -= k
					l.late.Add(int64(-k))
					l.fan.Wrote(k)
				}
			}
		})
		h.Attach(&l.fan, l, 1)
	}
	var senders sync.WaitGroup
	for i, l := range sinks {
		senders.Go(func() {
			for id := range uint64(messages) {
				if id == uint64(i*100) {
					h.Open(&l.fan)
				}
				h.Send(&l.fan, message(id, 12+int(id%50)))
			}
			h.End(&l.fan, message(messages, 0))
		})
	}
	senders.Wait()
	for i, l := range sinks {
		until(t, fmt.Sprintf("conn %d is drained", i), func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.drained == 1
		})
		ids := l.got()
		if len(ids) != messages+1 || !slices.IsSorted(ids) || len(slices.Compact(ids)) != messages+1 {
			t.Fatalf("conn %d got %d messages", i, len(ids))
		}
		if n, above := l.fan.Backlog(), l.above.Load(); n != 0 || above != 0 {
			t.Fatalf("conn %d has a backlog of %d, and %d writes above one", i, n, above)
		}
	}
	flushed(h)
	for _, l := range sinks {
		close(l.kernel)
	}
	kernels.Wait()
}

// eagerSink is a client whose kernel answers at the very moment that the shard
// finds a backlog and decides to wait.
type eagerSink struct {
	fan     Conn
	written atomic.Int64
	late    atomic.Int64
}

func (e *eagerSink) Write(p []byte) error {
	e.written.Add(1)
	e.late.Store(int64(len(p)))
	return nil
}
func (e *eagerSink) Expire(now Tick) (*Message, Tick) { return nil, now + 1<<20 }
func (e *eagerSink) Drained(now Tick) Tick            { return now + 1<<20 }
func (e *eagerSink) Abort(metrics.Close)              {}

// TestNoWakeUpIsLost sends two messages at a time that cannot merge: nothing but
// the kernel's report makes the shard write the second one.
func TestNoWakeUpIsLost(t *testing.T) {
	h := start(t, Config{}, &fakeBus{})
	e := &eagerSink{}
	h.Attach(&e.fan, e, 1<<20)
	h.Open(&e.fan)
	var kernel sync.WaitGroup
	stop := make(chan struct{})
	kernel.Go(func() {
		for spins := 1; ; spins++ {
			if n := e.late.Swap(0); n > 0 {
				e.fan.Wrote(int(n))
				continue
			}
			if spins%256 == 0 {
				runtime.Gosched()
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	defer func() { close(stop); kernel.Wait() }()
	msg := message(1, scratchBytes)
	const rounds = 5000
	for round := range int64(rounds) {
		h.Send(&e.fan, msg)
		h.Send(&e.fan, msg)
		done := func() bool { return e.written.Load() >= 2*(round+1) && e.fan.Backlog() == 0 }
		for range 10000 {
			if done() {
				break
			}
			runtime.Gosched()
		}
		if !done() {
			until(t, "both messages of a round are written", done)
		}
	}
}

// TestConcurrentRooms lets everything happen at once. Members that stay get
// every message once and in order; the others nothing twice, out of order or
// from a room they never joined; and nothing stays behind.
func TestConcurrentRooms(t *testing.T) {
	bus := &fakeBus{}
	h := start(t, Config{Shards: 5, Tick: time.Millisecond, Linger: time.Millisecond}, bus)
	var answers sync.WaitGroup
	bus.onSubscribe = func(k Key, g uint64) { answers.Go(func() { h.Live(k, g) }) }
	const residents, movers, messages = 20, 4, 1500
	rooms := []Key{room("a"), room("b"), room("c")}
	var all []*Member
	var stay, move []*fakeSink
	var joined, lived atomic.Int64
	live := func() { lived.Add(1) }
	for i := range residents {
		f, m := dialMember(h)
		h.Join(m, rooms[i%2], ID{}, live)
		joined.Add(1)
		all, stay = append(all, m), append(stay, f)
	}
	var work sync.WaitGroup
	stop := make(chan struct{})
	for i := range movers {
		f, m := dialMember(h)
		all, move = append(all, m), append(move, f)
		var gone []*Member
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 9))
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if n%64 == 0 {
					flushed(h) // callers bound control operations
				}
				k := rooms[r.IntN(len(rooms))]
				switch r.IntN(8) {
				case 0, 1, 2, 3:
					if h.Join(m, k, ID{}, live) {
						joined.Add(1)
					}
				case 4, 5, 6:
					h.Leave(m, k)
				default: // a socket goes and its conn lives on
					other := &Member{}
					other.Init(&f.fan, nil)
					h.Join(other, Key{Namespace: 2, Room: k.Room}, ID{}, nil)
					h.Visit(to(h, k), func(*Member) {}, nil)
					h.CloseMember(other)
					gone = append(gone, other)
				}
			}
		})
		defer func() {
			for _, m := range gone {
				if m.places != nil {
					t.Error("a closed member keeps places")
				}
			}
		}()
	}
	work.Go(func() { // conns that die while they are members
		for {
			select {
			case <-stop:
				return
			default:
			}
			f, m := dialMember(h)
			h.Join(m, rooms[0], ID{}, nil)
			h.Detach(&f.fan)
			h.CloseMember(m)
			flushed(h)
		}
	})
	for id := range uint64(messages) {
		h.Deliver(message(id, 0), to(h, rooms[id%3]))
		if id%16 == 15 {
			flushed(h) // the inbox is bounded; let the others move too
		}
	}
	close(stop)
	work.Wait()
	flushed(h)
	for i, f := range stay {
		var want []uint64
		for id := uint64(i % 2); id < messages; id += 3 {
			want = append(want, id)
		}
		equal(t, fmt.Sprintf("resident %d", i), f.got(), want)
	}
	for i, f := range move {
		ids := f.got()
		if !slices.IsSorted(ids) || len(slices.Compact(ids)) != len(ids) {
			t.Fatalf("mover %d got messages twice or out of order", i)
		}
	}
	for _, m := range all {
		h.CloseMember(m)
	}
	flushed(h)
	answers.Wait()
	empty := func() bool {
		for i := range h.stripes {
			h.stripes[i].mu.Lock()
			n := len(h.stripes[i].rooms)
			h.stripes[i].mu.Unlock()
			if n > 0 {
				return false
			}
		}
		bus.mu.Lock()
		defer bus.mu.Unlock()
		return len(bus.wanted) == 0
	}
	until(t, "all rooms are forgotten", empty)
	until(t, "every join was called back", func() bool { return lived.Load() == joined.Load() })
	bus.mu.Lock()
	defer bus.mu.Unlock()
	if len(bus.odd) != 0 {
		t.Fatalf("%d odd calls: %v", len(bus.odd), bus.odd[0])
	}
	for _, m := range all {
		if m.places != nil {
			t.Fatal("a member that left keeps places")
		}
	}
}

// TestConcurrentOverload fills inboxes from several goroutines: every conn
// either got everything or was closed as overloaded.
func TestConcurrentOverload(t *testing.T) {
	h := start(t, Config{Shards: 2, Inbox: 8}, &fakeBus{})
	const rooms, perRoom, messages = 4, 5, 2000
	sinks := make([][]*fakeSink, rooms)
	var senders sync.WaitGroup
	for r := range rooms {
		k := room(fmt.Sprint(r))
		for range perRoom {
			f, m := dialMember(h)
			h.Join(m, k, ID{}, nil)
			sinks[r] = append(sinks[r], f)
		}
		senders.Go(func() {
			for id := range uint64(messages) {
				h.Deliver(message(id, 0), to(h, k))
			}
		})
	}
	senders.Wait()
	flushed(h)
	closed := 0
	for r := range sinks {
		for i, f := range sinks[r] {
			f.mu.Lock()
			ids, aborts := slices.Clone(f.ids), slices.Clone(f.aborts)
			f.mu.Unlock()
			for j, id := range ids {
				if id != uint64(j) {
					t.Fatalf("room %d conn %d: message %d is number %d: a hole", r, i, id, j)
				}
			}
			if len(aborts) == 1 && aborts[0] == metrics.CloseOverloaded {
				closed++
			} else if len(aborts) != 0 || len(ids) != messages {
				t.Fatalf("room %d conn %d: %d messages, aborts %v", r, i, len(ids), aborts)
			}
		}
	}
	if lost := drops(h, metrics.DropDeliverQueue); (lost > 0) != (closed > 0) {
		t.Fatalf("%d deliveries lost, %d conns closed", lost, closed)
	}
}
