package fanout

import (
	"encoding/binary"
	"runtime"
	"testing"
	"weak"

	"github.com/stellara/edge/metrics"
)

// A tenth of a room stops reading. At no time does one of them hold more than the bound, they share the messages
// that they hold, and once they are given up nothing holds a message any more. The others get all of them in order.
func TestSlowReadersAreBoundedAndLeaveNothing(t *testing.T) {
	const members, every, size, bound = 200, 10, 500, 20_000
	h := stepped(Config{Shards: 2, OutboxBytes: bound}, &fakeBus{})
	var slow, healthy []*fakeSink
	for i := range members {
		f, m := dialMember(h)
		h.Join(m, room("a"), ID{}, nil)
		if i%every == 0 {
			f.hold()
			slow = append(slow, f)
		} else {
			healthy = append(healthy, f)
		}
	}
	var want []uint64
	var held []weak.Pointer[Message]
	aborted := func() (n int) {
		for _, f := range slow {
			n += len(f.aborts)
		}
		return n
	}
	for id := uint64(0); aborted() < len(slow); id++ {
		if id > 2*bound/size {
			t.Fatalf("%d of %d slow readers given up after %d messages", aborted(), len(slow), id)
		}
		msg := message(id, size)
		held, want = append(held, weak.Make(msg)), append(want, id)
		h.Deliver(msg, to(h, room("a")))
		settleAll(h)
		waiting := 0
		for _, f := range slow {
			waiting += f.fan.queued
		}
		checkOutboxes(t, h, waiting)
		for _, f := range slow {
			c := &f.fan
			if n := c.queued + int(c.backlog.Load()); n > bound {
				t.Fatalf("message %d: %d bytes are held for one conn, bound %d", id, n, bound)
			}
			for e := c.head; e != nil; e = e.next {
				if n := binary.BigEndian.Uint64(e.msg.Frame[4:]); e.msg != held[n].Value() {
					t.Fatalf("message %d was copied for a conn", n)
				}
			}
		}
	}
	for _, f := range slow {
		equal(t, "aborts", f.aborts, []metrics.Close{metrics.CloseSlowReader})
	}
	checkOutboxes(t, h, 0)
	for _, f := range healthy {
		equal(t, "a healthy conn", f.got(), want)
		equal(t, "its aborts", f.aborts, nil)
	}
	runtime.GC()
	for id, p := range held {
		if p.Value() != nil {
			t.Fatalf("message %d is still held", id)
		}
	}
	runtime.KeepAlive(h)
	runtime.KeepAlive(slow)
}
