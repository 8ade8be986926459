package fanout

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/stellara/edge/metrics"
)

// nullSink takes everything at once and keeps nothing.
type nullSink struct{ fan Conn }

func (n *nullSink) Write(p []byte) error             { n.fan.Wrote(len(p)); return nil }
func (n *nullSink) Expire(now Tick) (*Message, Tick) { return nil, now + 1000 }
func (n *nullSink) Drained(now Tick) Tick            { return now + 1000 }
func (n *nullSink) Abort(metrics.Close)              {}
func crowd(h *Hub, members int, k Key) (t *Target) {
	for range members {
		n, m := &nullSink{}, &Member{}
		h.Attach(&n.fan, n, 1000)
		h.Open(&n.fan)
		m.Init(&n.fan, nil)
		h.Join(m, k, ID{}, nil)
	}
	settleAll(h)
	return to(h, k)
}

// TestDeliveryDoesNotAllocate covers a whole pass: inbox, outboxes, writes, metrics.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	simple := crowd(h, 1000, room("a"))
	except := &Target{Rooms: simple.Rooms, ExceptMembers: []*Member{simple.Rooms[0].members[0][0].member}}
	msg := message(1, 128)
	// Long ago, so that the histograms always observe the same bucket.
	msg.Arrived, msg.Published = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
	for name, target := range map[string]*Target{"one room": simple, "with except": except} {
		for _, messages := range []int{1, 10} {
			pass := func() {
				for range messages {
					h.Deliver(msg, target)
				}
				settle(h, 0)
			}
			pass() // fills the free lists
			if n := testing.AllocsPerRun(50, pass); n != 0 {
				t.Errorf("%s, %d messages: %v allocations per pass of 1,000 members", name, messages, n)
			}
		}
	}
}

// TestMemoryPerConn keeps what every idle connection costs from growing unseen.
func TestMemoryPerConn(t *testing.T) {
	for what, size := range map[string][2]uintptr{
		"Conn":   {unsafe.Sizeof(Conn{}), 96},
		"Member": {unsafe.Sizeof(Member{}), 120},
		"place":  {unsafe.Sizeof(place{}), 32},
		"entry":  {unsafe.Sizeof(entry{}), 16},
		"op":     {unsafe.Sizeof(op{}), 72},
	} {
		if size[0] > size[1] {
			t.Errorf("%s takes %d bytes, bound %d", what, size[0], size[1])
		}
	}
}

// BenchmarkPass measures one pass without system calls, in time per delivery.
func BenchmarkPass(b *testing.B) {
	for _, members := range []int{100, 5000} {
		for _, messages := range []int{1, 10} {
			b.Run(fmt.Sprintf("members=%d/messages=%d", members, messages), func(b *testing.B) {
				h := stepped(Config{}, &fakeBus{})
				target := crowd(h, members, room("a"))
				msg := message(1, 128)
				pass := func() {
					for range messages {
						h.Deliver(msg, target)
					}
					settle(h, 0)
				}
				pass() // fills the free lists
				b.ReportAllocs()
				for b.Loop() {
					pass()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members*messages), "ns/delivery")
			})
		}
	}
}

// BenchmarkJoinLeave measures a membership that comes and goes in a large room.
func BenchmarkJoinLeave(b *testing.B) {
	h := stepped(Config{}, &fakeBus{})
	crowd(h, 10000, room("a"))
	n, m := &nullSink{}, &Member{}
	h.Attach(&n.fan, n, 1000)
	m.Init(&n.fan, nil)
	b.ReportAllocs()
	for b.Loop() {
		h.Join(m, room("a"), ID{}, nil)
		h.Leave(m, room("a"))
		settle(h, 0)
	}
}
