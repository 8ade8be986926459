package fanout

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

// frame is a test frame of size bytes (at least 12): length, id, padding.
func frame(id uint64, size int) []byte {
	b := make([]byte, max(12, size))
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	binary.BigEndian.PutUint64(b[4:], id)
	return b
}

func message(id uint64, size int) *Message { return &Message{Frame: frame(id, size), Packets: 1} }

// fakeSink is a client with its kernel: it records what is written and, unless
// held, accepts it at once.
type fakeSink struct {
	fan Conn

	mu      sync.Mutex
	ids     []uint64
	writes  []int // sizes
	held    bool  // the kernel takes nothing
	pending int   // bytes not accepted yet
	fail    error
	expire  func(Tick) (*Message, Tick)
	drained int
	aborts  []metrics.Close
}

func (f *fakeSink) Write(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	if f.pending > 0 {
		f.fail = errors.New("write above a backlog")
		return f.fail
	}
	f.record(p)
	if f.held {
		f.pending += len(p)
		return nil
	}
	f.fan.Wrote(len(p))
	return nil
}

// record notes the frames of one write; the caller holds f.mu.
func (f *fakeSink) record(p []byte) {
	f.writes = append(f.writes, len(p))
	for len(p) > 0 {
		n := int(binary.BigEndian.Uint32(p))
		f.ids = append(f.ids, binary.BigEndian.Uint64(p[4:]))
		p = p[n:]
	}
}

func (f *fakeSink) Expire(now Tick) (*Message, Tick) {
	if f.expire == nil {
		return nil, now + 1000
	}
	return f.expire(now)
}

func (f *fakeSink) Drained(now Tick) Tick {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drained++
	return now + 10
}

func (f *fakeSink) Abort(reason metrics.Close) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aborts = append(f.aborts, reason)
}

func (f *fakeSink) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = true
}

// accept lets the kernel take everything, and all that follows.
func (f *fakeSink) accept() {
	f.mu.Lock()
	n := f.pending
	f.held, f.pending = false, 0
	f.mu.Unlock()
	if n > 0 {
		f.fan.Wrote(n)
	}
}

func (f *fakeSink) got() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ids)
}

// fakeBus records subscriptions; a call may be answered from within.
type fakeBus struct {
	mu          sync.Mutex
	wanted      map[Key]uint64
	gone        []uint64 // generations unsubscribed
	odd         []string // what a bus must never see
	onSubscribe func(Key, uint64)
}

func (b *fakeBus) Subscribe(k Key, generation uint64) {
	b.mu.Lock()
	if b.wanted == nil {
		b.wanted = make(map[Key]uint64)
	}
	if b.wanted[k] >= generation || slices.Contains(b.gone, generation) {
		b.odd = append(b.odd, "Subscribe of an old generation")
	}
	b.wanted[k] = generation
	b.mu.Unlock()
	if b.onSubscribe != nil {
		b.onSubscribe(k, generation)
	}
}

func (b *fakeBus) Unsubscribe(k Key, generation uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.gone, generation) {
		b.odd = append(b.odd, "Unsubscribe twice")
	}
	b.gone = append(b.gone, generation)
	if b.wanted[k] == generation {
		delete(b.wanted, k)
	}
}

func (b *fakeBus) generation(k Key) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wanted[k]
}

func newMetrics() *metrics.Metrics { return metrics.New(prometheus.NewRegistry(), "test") }

// stepped is a hub without goroutines: its shards move when told to.
func stepped(cfg Config, bus Subscriber) *Hub {
	if cfg.Linger == 0 {
		cfg.Linger = time.Hour // no wall clock decides a test
	}
	return newHub(cfg, bus, newMetrics())
}

// settle runs shard i until it would sleep.
func settle(h *Hub, i int) {
	s := h.shards[i]
	select {
	case <-s.wake:
	default:
	}
	for s.pass() {
	}
}

func settleAll(h *Hub) {
	for i := range h.shards {
		settle(h, i)
	}
}

// dial attaches and opens a conn on the shard that is next.
func dial(h *Hub) *fakeSink {
	f := &fakeSink{}
	h.Attach(&f.fan, f, 1000)
	h.Open(&f.fan)
	return f
}

func dialMember(h *Hub) (*fakeSink, *Member) {
	f, m := dial(h), &Member{}
	m.Init(&f.fan, f)
	return f, m
}

// to is the target of one room, or nobody.
func to(h *Hub, keys ...Key) *Target {
	t := &Target{}
	for _, k := range keys {
		if r := h.Room(k); r != nil {
			t.Rooms = append(t.Rooms, r)
		}
	}
	return t
}

func room(name string) Key { return Key{Namespace: 1, Room: name} }

// until waits for cond by polling; it fails the test after a generous deadline.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

func drops(h *Hub, d metrics.Drop) int { return int(testutil.ToFloat64(h.m.Drops[d])) }

// checkOutboxes fails unless edge_outbox_bytes is want.
func checkOutboxes(t testing.TB, h *Hub, want int) {
	t.Helper()
	if got := int(testutil.ToFloat64(h.m.OutboxBytes)); got != want {
		t.Fatalf("edge_outbox_bytes is %d, %d wait", got, want)
	}
}

func equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// checkEmpty fails unless the hub holds nothing of the rooms and members once
// everybody left and every linger is over.
func checkEmpty(t testing.TB, h *Hub, bus *fakeBus, members []*Member) {
	t.Helper()
	for i, m := range members {
		if len(m.Rooms(nil)) != 0 || m.places != nil {
			t.Fatalf("member %d still has rooms %v, places %v", i, m.Rooms(nil), m.places)
		}
	}
	for i := range h.stripes {
		for k, r := range h.stripes[i].rooms {
			for shard := range r.members {
				if r.counts[shard] != 0 || r.members[shard] != nil {
					t.Fatalf("room %v: shard %d counts %d, holds %v", k, shard, r.counts[shard], r.members[shard])
				}
			}
			if r.total != 0 {
				t.Fatalf("room %v: total %d", k, r.total)
			}
		}
	}
	if keys := h.RoomKeys(1, nil); len(keys) != 0 {
		t.Fatalf("rooms remain: %v", keys)
	}
	h.sweepOnce(time.Now().Add(2 * h.cfg.Linger))
	for i := range h.stripes {
		if n := len(h.stripes[i].rooms); n != 0 {
			t.Fatalf("stripe %d keeps %d rooms", i, n)
		}
	}
	if len(bus.wanted) != 0 || len(bus.odd) != 0 {
		t.Fatalf("still subscribed: %v; odd: %v", bus.wanted, bus.odd)
	}
	if got := testutil.ToFloat64(h.m.Rooms); got != 0 {
		t.Fatalf("rooms gauge is %v", got)
	}
}
