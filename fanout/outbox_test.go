package fanout

import (
	"errors"
	"testing"

	"github.com/stellara/edge/metrics"
)

// send sends messages with the ids to f, each of size bytes.
func send(h *Hub, f *fakeSink, size int, ids ...uint64) {
	for _, id := range ids {
		h.Send(&f.fan, message(id, size))
	}
}

func TestMessagesWaitForOpen(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f := &fakeSink{}
	h.Attach(&f.fan, f, 100)
	send(h, f, 20, 1, 2)
	settleAll(h)
	equal(t, "before Open", f.got(), nil)
	h.Open(&f.fan)
	settleAll(h)
	equal(t, "after Open", f.got(), []uint64{1, 2})
	equal(t, "writes", f.writes, []int{40})
	send(h, f, 20, 3)
	settleAll(h)
	equal(t, "later", f.got(), []uint64{1, 2, 3})
	if n := f.fan.Backlog(); n != 0 {
		t.Fatalf("backlog is %d", n)
	}
}

func TestMerging(t *testing.T) {
	for name, c := range map[string]struct{ sizes, writes []int }{
		"one":                   {[]int{100}, []int{100}},
		"several":               {[]int{100, 200, 300}, []int{600}},
		"exactly 64 KiB":        {[]int{30000, 35536, 12}, []int{65536, 12}},
		"one byte too many":     {[]int{30000, 35537, 12}, []int{30000, 35549}},
		"large alone":           {[]int{100, 70000, 100, 100}, []int{100, 70000, 200}},
		"large first":           {[]int{70000, 100, 100}, []int{70000, 200}},
		"large ones":            {[]int{70000, 65536, 65537}, []int{70000, 65536, 65537}},
		"filled more than once": {[]int{40000, 20000, 40000, 20000}, []int{60000, 60000}},
	} {
		t.Run(name, func(t *testing.T) {
			h := stepped(Config{}, &fakeBus{})
			f := dial(h)
			var want []uint64
			for i, size := range c.sizes {
				send(h, f, size, uint64(i))
				want = append(want, uint64(i))
			}
			settleAll(h)
			equal(t, "writes", f.writes, c.writes)
			equal(t, "ids", f.got(), want)
		})
	}
}

func TestBacklogIsNotWrittenOver(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f := dial(h)
	f.hold()
	send(h, f, 50, 1)
	settleAll(h)
	send(h, f, 50, 2, 3)
	settleAll(h)
	equal(t, "held", f.got(), []uint64{1})
	f.fan.Wrote(20) // part of it
	f.pending -= 20
	settleAll(h)
	equal(t, "part", f.got(), []uint64{1})
	f.accept()
	settleAll(h)
	equal(t, "accepted", f.got(), []uint64{1, 2, 3})
	equal(t, "writes", f.writes, []int{50, 100})
}

func TestBoundEndsSlowReaders(t *testing.T) {
	h := stepped(Config{OutboxBytes: 1000}, &fakeBus{})
	f, m := dialMember(h)
	h.Join(m, room("a"), ID{}, nil)
	f.hold()
	for id := range uint64(10) { // the first 600 bytes are one write, not taken
		h.Deliver(message(id, 100), to(h, room("a")))
		if id == 5 {
			settleAll(h)
		}
	}
	settleAll(h)
	if len(f.aborts) != 0 {
		t.Fatalf("aborted at the bound: %v", f.aborts)
	}
	h.Deliver(message(10, 12), to(h, room("a")))
	settleAll(h)
	equal(t, "aborts", f.aborts, []metrics.Close{metrics.CloseSlowReader})
	h.Deliver(message(11, 12), to(h, room("a")))
	f.accept()
	settleAll(h)
	equal(t, "written", f.writes, []int{600})
	equal(t, "aborts", f.aborts, []metrics.Close{metrics.CloseSlowReader})
	if n := drops(h, metrics.DropClosing); n != 1 {
		t.Fatalf("%d drops for a closing conn, want 1", n)
	}
}

// A long pass fills outboxes without the reader being at fault.
func TestLongPassIsNotASlowReader(t *testing.T) {
	h := stepped(Config{OutboxBytes: 1000}, &fakeBus{})
	f, m := dialMember(h)
	slow, sm := dialMember(h)
	slow.hold()
	h.Join(m, room("a"), ID{}, nil)
	h.Join(sm, room("a"), ID{}, nil)
	var want []uint64
	for id := range uint64(100) {
		h.Deliver(message(id, 100), to(h, room("a")))
		want = append(want, id)
	}
	settleAll(h)
	equal(t, "ids", f.got(), want)
	equal(t, "aborts", f.aborts, nil)
	equal(t, "aborts of the slow one", slow.aborts, []metrics.Close{metrics.CloseSlowReader})
}

func TestWriteErrorAtTheBound(t *testing.T) {
	h := stepped(Config{OutboxBytes: 100}, &fakeBus{})
	f := dial(h)
	settleAll(h)
	f.fail = errors.New("reset")
	for id := range uint64(2) {
		f.fan.shard.enqueue(op{kind: opSend, conn: &f.fan, msg: message(id, 60)})
	}
	settleAll(h)
	equal(t, "aborts", f.aborts, nil)
	if f.fan.flags&connDetached == 0 || f.fan.head != nil {
		t.Fatal("the conn outlived its transport")
	}
}

func TestVolatile(t *testing.T) {
	h := stepped(Config{OutboxBytes: 1000}, &fakeBus{})
	f, m := dialMember(h)
	k := room("a")
	h.Join(m, k, ID{}, nil)
	volatile := func(id uint64, size int) {
		msg := message(id, size)
		msg.Volatile = true
		h.Deliver(msg, to(h, k))
	}
	volatile(1, 100)
	settleAll(h)
	f.hold()
	h.Deliver(message(2, 100), to(h, k))
	settleAll(h)
	volatile(3, 100) // not writable
	settleAll(h)
	f.accept()
	settleAll(h)
	volatile(4, 100)
	settleAll(h)
	equal(t, "ids", f.got(), []uint64{1, 2, 4})
	if n := drops(h, metrics.DropVolatile); n != 1 {
		t.Fatalf("%d volatile drops, want 1", n)
	}
}

// Volatile messages that are in the outbox make room for what may not be lost.
func TestVolatileGoesFirst(t *testing.T) {
	h := stepped(Config{OutboxBytes: 1000}, &fakeBus{})
	f := dial(h)
	settleAll(h)
	c := &f.fan
	push := func(id uint64, size int, volatile bool) {
		msg := message(id, size)
		msg.Volatile = volatile
		c.append(msg)
	}
	push(1, 300, true)
	push(2, 300, false)
	push(3, 300, true)
	c.backlog.Store(1) // as if the kernel had closed up
	c.waiting.Store(true)
	c.push(message(4, 500))
	if c.queued != 800 || len(f.aborts) != 0 {
		t.Fatalf("%d bytes queued, aborts %v", c.queued, f.aborts)
	}
	push(5, 12, false)
	c.Wrote(1)
	settleAll(h)
	equal(t, "ids", f.got(), []uint64{2, 4, 5})
	if n := drops(h, metrics.DropVolatile); n != 2 {
		t.Fatalf("%d volatile drops, want 2", n)
	}
	checkOutboxes(t, h, 0)
}

func TestEnd(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f, m := dialMember(h)
	k := room("a")
	h.Join(m, k, ID{}, nil)
	f.hold()
	send(h, f, 50, 1)
	settleAll(h)
	send(h, f, 50, 2)
	h.End(&f.fan, message(3, 50))
	send(h, f, 50, 4)
	h.Deliver(message(5, 50), to(h, k))
	h.End(&f.fan, message(6, 50))
	settleAll(h)
	equal(t, "before the backlog drained", f.got(), []uint64{1})
	if f.drained != 0 {
		t.Fatal("drained with a backlog")
	}
	f.fan.Wrote(50)
	f.pending = 0
	settleAll(h)
	equal(t, "all", f.got(), []uint64{1, 2, 3})
	if f.drained != 0 {
		t.Fatal("drained before the kernel had the last frame")
	}
	f.accept()
	settleAll(h)
	h.Wake(&f.fan)
	h.End(&f.fan, nil)
	f.fan.shard.enqueue(op{kind: opWritable, conn: &f.fan}) // a wake-up may be spurious
	settleAll(h)
	if f.drained != 1 {
		t.Fatalf("drained %d times", f.drained)
	}
	equal(t, "nothing after the end", f.got(), []uint64{1, 2, 3})
	if n := drops(h, metrics.DropClosing); n != 3 {
		t.Fatalf("%d drops for a closing conn, want 3", n)
	}
}

func TestEndWithoutLastFrame(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f := &fakeSink{}
	h.Attach(&f.fan, f, 100)
	h.End(&f.fan, nil)
	settleAll(h)
	if f.drained != 0 {
		t.Fatal("drained before Open")
	}
	h.Open(&f.fan)
	settleAll(h)
	if f.drained != 1 || len(f.writes) != 0 {
		t.Fatalf("drained %d times after writes %v", f.drained, f.writes)
	}
}

func TestDetachDiscards(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f := dial(h)
	f.hold()
	send(h, f, 50, 1)
	settleAll(h)
	send(h, f, 50, 2)
	h.Detach(&f.fan)
	h.Detach(&f.fan)
	h.End(&f.fan, message(3, 50))
	h.Wake(&f.fan)
	f.expire = func(Tick) (*Message, Tick) { t.Error("expired after Detach"); return nil, 0 }
	f.accept()
	settleAll(h)
	equal(t, "ids", f.got(), []uint64{1})
	if c := &f.fan; c.head != nil || c.tail != nil || c.queued != 0 || c.flags&connInWheel != 0 {
		t.Fatalf("a detached conn keeps %+v", c)
	}
	if f.drained != 0 || len(f.aborts) != 0 {
		t.Fatalf("drained %d, aborts %v", f.drained, f.aborts)
	}
	checkOutboxes(t, h, 0)
}

func TestWriteErrorDetaches(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f := dial(h)
	f.fail = errors.New("reset")
	send(h, f, 70000, 1, 2)
	h.End(&f.fan, nil)
	settleAll(h)
	if f.fan.flags&connDetached == 0 || f.drained != 0 || len(f.aborts) != 0 {
		t.Fatalf("drained %d, aborts %v", f.drained, f.aborts)
	}
}

func TestSendIsBounded(t *testing.T) {
	h := stepped(Config{OutboxBytes: 100}, &fakeBus{})
	f := dial(h)
	volatile := message(9, 60)
	volatile.Volatile = true
	if !h.Send(&f.fan, message(1, 60)) || !h.Send(&f.fan, volatile) {
		t.Fatal("refused below the bound, or for a volatile message")
	}
	if drops(h, metrics.DropVolatile) != 1 {
		t.Fatal("the volatile message is not counted")
	}
	if h.Send(&f.fan, message(2, 60)) {
		t.Fatal("accepted above the bound")
	}
	settleAll(h)
	equal(t, "aborts", f.aborts, []metrics.Close{metrics.CloseSlowReader})

	ending := dial(h)
	ending.hold()
	h.Send(&ending.fan, message(1, 60))
	h.End(&ending.fan, message(2, 20))
	h.Send(&ending.fan, message(3, 60))
	settleAll(h)
	ending.accept()
	settleAll(h)
	equal(t, "an ending conn ends as it was told", ending.got(), []uint64{1, 2})
	equal(t, "aborts", ending.aborts, nil)
}

func TestExpire(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f := dial(h)
	settleAll(h)
	if f.fan.deadline != 1000 {
		t.Fatalf("first deadline is %d", f.fan.deadline)
	}
	f.expire = func(now Tick) (*Message, Tick) { return message(1, 0), now + 25 }
	h.Wake(&f.fan)
	settleAll(h)
	equal(t, "ids", f.got(), []uint64{1})
	if d := f.fan.deadline; d < 25 || d > 30 {
		t.Fatalf("next deadline is %d", d)
	}
	f.expire = func(now Tick) (*Message, Tick) { return nil, now + 300 }
	f.fan.shard.wheel.advance(100, f.fan.shard.expireConn)
	if d := f.fan.deadline; d < 300 || f.fan.flags&connInWheel == 0 {
		t.Fatalf("next deadline is %d", d)
	}
	equal(t, "ids", f.got(), []uint64{1})

	// A message that finds no room ends the conn, and its deadlines.
	f.hold()
	send(h, f, 100, 2)
	settleAll(h)
	f.expire = func(now Tick) (*Message, Tick) { return message(3, h.cfg.OutboxBytes), now + 25 }
	h.Wake(&f.fan)
	settleAll(h)
	equal(t, "aborts", f.aborts, []metrics.Close{metrics.CloseSlowReader})
	if f.fan.flags&connInWheel != 0 {
		t.Fatal("an aborted conn keeps a deadline")
	}
}
