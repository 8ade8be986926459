package fanout

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
)

// packed is added to the id of a message in its compressed form.
const packed = 1 << 32

// compressor halves test frames and counts what it did. Odd ids are not worth it.
type compressor struct{ calls, bytes atomic.Int64 }

func (z *compressor) compress(p []byte) []byte {
	z.calls.Add(1)
	z.bytes.Add(int64(len(p)))
	id := binary.BigEndian.Uint64(p[4:])
	if id%2 == 1 {
		return nil
	}
	return frame(id+packed, len(p)/2)
}

func (z *compressor) config() Config { return Config{Compress: z.compress, CompressFrom: 100} }

// member makes a conn that takes compressed messages or not, in room a.
func member(h *Hub, compressed bool) (*fakeSink, *Member) {
	f, m := &fakeSink{}, &Member{}
	if compressed {
		f.fan.TakeCompressed()
	}
	h.Attach(&f.fan, f, 1000)
	h.Open(&f.fan)
	m.Init(&f.fan, f)
	h.Join(m, room("a"), ID{}, nil)
	return f, m
}

// TestCompressedOnce: one compression serves all conns of all shards, and none is
// made that nobody gets.
func TestCompressedOnce(t *testing.T) {
	var z compressor
	cfg := z.config()
	cfg.Shards = 3
	h := stepped(cfg, &fakeBus{})
	var plain, small []*fakeSink
	for range 6 {
		f, _ := member(h, false)
		plain = append(plain, f)
	}
	h.Deliver(message(2, 1000), to(h, room("a")))
	settleAll(h)
	equal(t, "compressions for nobody", []int64{z.calls.Load()}, []int64{0})
	for range 6 {
		f, _ := member(h, true)
		small = append(small, f)
	}
	never := message(8, 1000)
	never.Plain = true
	for _, m := range []*Message{message(4, 1000), message(6, 99), never, message(5, 1000), message(10, 100)} {
		h.Deliver(m, to(h, room("a")))
	}
	settleAll(h)
	for _, f := range plain {
		equal(t, "plain", f.got(), []uint64{2, 4, 6, 8, 5, 10})
	}
	for _, f := range small {
		equal(t, "compressed", f.got(), []uint64{4 + packed, 6, 8, 5, 10 + packed})
		equal(t, "one write of the bytes it gets", f.writes, []int{500 + 99 + 1000 + 1000 + 50})
	}
	equal(t, "compressions", []int64{z.calls.Load(), z.bytes.Load()}, []int64{3, 2100})
}

// TestCompressedIsWhatCounts: bounds and backlog are of the bytes a conn gets.
func TestCompressedIsWhatCounts(t *testing.T) {
	var z compressor
	cfg := z.config()
	cfg.OutboxBytes = 3000
	h := stepped(cfg, &fakeBus{})
	plain, _ := member(h, false)
	small, _ := member(h, true)
	settleAll(h)
	plain.hold()
	small.hold()
	for id := uint64(2); id <= 10; id += 2 { // 5,000 bytes, or 2,500
		h.Deliver(message(id, 1000), to(h, room("a")))
		settleAll(h)
	}
	equal(t, "the plain one is a slow reader", plain.aborts, []metrics.Close{metrics.CloseSlowReader})
	equal(t, "the other one is not", small.aborts, nil)
	equal(t, "bytes with the sink", []int64{small.fan.Backlog()}, []int64{500})
	equal(t, "bytes in the outbox", []int{small.fan.queued}, []int{2000})
	volatile := message(12, 1000)
	volatile.Volatile = true
	calls := z.calls.Load()
	h.Deliver(volatile, to(h, room("a")))
	settleAll(h)
	equal(t, "what is dropped is not compressed", []int64{z.calls.Load()}, []int64{calls})
	small.accept()
	settleAll(h)
	equal(t, "in order", small.got(), []uint64{2 + packed, 4 + packed, 6 + packed, 8 + packed, 10 + packed})
	equal(t, "nothing is left", []int64{small.fan.Backlog(), int64(small.fan.queued)}, []int64{0, 0})
}

// TestCompressedLater: what waits when a conn begins to take compressed messages
// stays as it is.
func TestCompressedLater(t *testing.T) {
	var z compressor
	h := stepped(z.config(), &fakeBus{})
	f, _ := member(h, false)
	f.expire = func(now Tick) (*Message, Tick) {
		f.fan.TakeCompressed()
		return nil, now + 1000
	}
	settleAll(h)
	f.hold()
	send(h, f, 200, 2, 4)
	settleAll(h)
	h.Wake(&f.fan)
	send(h, f, 200, 6)
	settleAll(h)
	f.accept()
	settleAll(h)
	equal(t, "sent", f.got(), []uint64{2, 4, 6 + packed})
	equal(t, "bytes", []int{f.fan.queued}, []int{0})
}

// TestCompressedReplay: what was missed is compressed as well, and positions advance.
func TestCompressedReplay(t *testing.T) {
	var z compressor
	h := stepped(z.config(), &fakeBus{})
	f, m := member(h, true)
	h.Hold(m, ID{Epoch: 1, Ms: 1})
	h.Deliver(journalledAt(6, 1000), to(h, room("a"))) // kept for the end
	caught := false
	h.Replay(m, &Replay{
		Messages: []*Message{journalledAt(2, 1000), journalledAt(3, 50), journalledAt(4, 1000)}, UpTo: ID{Epoch: 1, Ms: 5},
		Done: func(up bool) { caught = up },
	})
	settleAll(h)
	equal(t, "sent", f.got(), []uint64{2 + packed, 3, 4 + packed, 6 + packed})
	equal(t, "caught up", []bool{caught, m.floor == ID{Epoch: 1, Ms: 6}}, []bool{true, true})
}

// TestCompressedStamps: of a message with positions one copy per shard is
// compressed, the one that most members share.
func TestCompressedStamps(t *testing.T) {
	var z compressor
	cfg := z.config()
	cfg.Shards = 2
	cfg.Stamp = func(m *Message, id ID) *Message {
		if id.IsZero() {
			return m
		}
		return m.WithFrame(append(frame(id.Ms*2, len(m.Frame)), frame(0, 0)...))
	}
	h := stepped(cfg, &fakeBus{})
	var sinks []*fakeSink
	for i := range 12 {
		f, m := member(h, true)
		sinks = append(sinks, f)
		if i%4 < 2 { // every other one of each shard
			h.SetFloor(m, ID{Epoch: 1, Ms: uint64(100 + i)})
		}
	}
	h.Advance(1, ID{Epoch: 1, Ms: 20})
	stamped := message(2, 1000)
	stamped.Stamp, stamped.Namespace = true, 1
	h.Deliver(stamped, to(h, room("a")))
	settleAll(h)
	equal(t, "compressions", []int64{z.calls.Load()}, []int64{2})
	for i, f := range sinks {
		want := []uint64{40 + packed}
		if i%4 < 2 {
			want = []uint64{uint64(2 * (100 + i)), 0}
		}
		equal(t, "sent", f.got(), want)
	}
}

// TestCompressedByRunningShards compresses on shards that run, for the race detector.
func TestCompressedByRunningShards(t *testing.T) {
	var z compressor
	cfg := z.config()
	cfg.Shards = 4
	h := New(cfg, &fakeBus{}, newMetrics())
	defer h.Close()
	var sinks []*fakeSink
	for i := range 40 {
		f, _ := member(h, i%3 != 0)
		sinks = append(sinks, f)
	}
	const messages = 200
	for id := range uint64(messages) {
		h.Deliver(message(2*id, 500), to(h, room("a")))
	}
	for _, f := range sinks {
		until(t, "all messages were written", func() bool { return len(f.got()) == messages })
	}
	for i, f := range sinks {
		for id, got := range f.got() {
			want := uint64(2 * id)
			if i%3 != 0 {
				want += packed
			}
			if got != want {
				t.Fatalf("conn %d: message %d is %#x, want %#x", i, id, got, want)
			}
		}
	}
	equal(t, "compressions", []int64{z.calls.Load()}, []int64{messages})
}

// TestCompressedDeliveryDoesNotAllocate: nothing but the one compression does.
func TestCompressedDeliveryDoesNotAllocate(t *testing.T) {
	var z compressor
	h := stepped(z.config(), &fakeBus{})
	for i := range 1000 {
		n, m := &nullSink{}, &Member{}
		if i%2 == 0 {
			n.fan.TakeCompressed()
		}
		h.Attach(&n.fan, n, 1000)
		h.Open(&n.fan)
		m.Init(&n.fan, nil)
		h.Join(m, room("a"), ID{}, nil)
	}
	settleAll(h)
	target := to(h, room("a"))
	msg := message(2, 1000)
	msg.Arrived = time.Now().Add(-time.Hour)
	pass := func() {
		h.Deliver(msg, target)
		settle(h, 0)
	}
	pass()
	if n := testing.AllocsPerRun(50, pass); n != 0 {
		t.Errorf("%v allocations per pass of 1,000 members", n)
	}
	equal(t, "compressions", []int64{z.calls.Load()}, []int64{1})
}
