package fanout

import (
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
)

func TestInboxOverflow(t *testing.T) {
	h := stepped(Config{Inbox: 3}, &fakeBus{})
	a, am := dialMember(h)
	b, bm := dialMember(h)
	both, bothm := dialMember(h)
	late, latem := dialMember(h)
	floored, flooredm := dialMember(h)
	ending, endingm := dialMember(h)
	for _, m := range []*Member{am, bothm, endingm, flooredm} {
		h.Join(m, room("a"), ID{}, nil)
	}
	h.Join(bm, room("b"), ID{}, nil)
	h.Join(bothm, room("b"), ID{}, nil)
	h.Join(latem, room("a"), ID{Ms: 50}, nil)
	h.SetFloor(flooredm, ID{Ms: 60})
	h.End(&ending.fan, message(99, 0))
	settleAll(h)

	at := func(id uint64) *Message { m := message(id, 0); m.ID = ID{Ms: id}; return m }
	for id := uint64(61); id <= 63; id++ { // fills the inbox
		h.Deliver(at(id), to(h, room("b")))
	}
	volatile := message(8, 0)
	volatile.Volatile = true
	h.Deliver(volatile, to(h, room("b")))
	if !h.Deliver(at(40), to(h, room("a"))) { // older than what late and floored have
		t.Fatal("a lost delivery had members")
	}
	settleAll(h)

	overloaded := []metrics.Close{metrics.CloseOverloaded}
	equal(t, "member of the room", a.aborts, overloaded)
	equal(t, "member of both rooms", both.aborts, overloaded)
	equal(t, "member of the other room", b.aborts, nil)
	equal(t, "joined later", late.aborts, nil)
	equal(t, "replayed", floored.aborts, nil)
	equal(t, "ending", ending.aborts, nil)
	equal(t, "delivered", b.got(), []uint64{61, 62, 63})
	if l, v := drops(h, metrics.DropDeliverQueue), drops(h, metrics.DropVolatile); l != 1 || v != 1 {
		t.Fatalf("%d lost and %d volatile, want 1 and 1", l, v)
	}

	h.Deliver(message(70, 0), to(h, room("b"))) // there is room again
	settleAll(h)
	equal(t, "delivered", b.got(), []uint64{61, 62, 63, 70})
}

func TestInboxOverflowOfTargets(t *testing.T) {
	for name, before := range map[string]int{"kept one by one": 0, "kept by room": maxLost} {
		t.Run(name, func(t *testing.T) {
			h := stepped(Config{Inbox: 1, Shards: 2}, &fakeBus{})
			filler, fm := dialMember(h) // shard 1
			_, _ = dialMember(h)
			inRoom, rm := dialMember(h)
			_, _ = dialMember(h)
			named, nm := dialMember(h)
			_, _ = dialMember(h)
			closed, cm := dialMember(h)
			otherShard, om := dialMember(h)
			excluded, xm := dialMember(h)
			idle, im := dialMember(h)
			h.Join(fm, room("filler"), ID{}, nil)
			h.Join(rm, room("r"), ID{}, nil)
			h.Join(xm, room("r"), ID{}, nil)
			h.Join(im, room("idle"), ID{}, nil)
			settleAll(h)

			for id := range uint64(1 + before) {
				h.Deliver(message(id, 0), to(h, room("filler")))
			}
			h.CloseMember(cm)
			target := to(h, room("r"))
			target.Members = []*Member{nm, cm, om}
			target.ExceptMembers = []*Member{xm}
			h.Deliver(message(9, 0), target)
			h.Deliver(message(9, 0), to(h, room("r"), room("filler")))
			settleAll(h)

			overloaded := []metrics.Close{metrics.CloseOverloaded}
			equal(t, "in the room", inRoom.aborts, overloaded)
			equal(t, "named", named.aborts, overloaded)
			equal(t, "closed member's conn", closed.aborts, nil)
			equal(t, "on a shard with room", otherShard.aborts, nil)
			equal(t, "and it got the message", otherShard.got(), []uint64{9})
			equal(t, "in no room of these", idle.aborts, nil)
			equal(t, "filler", filler.aborts, overloaded)
			equal(t, "excluded once, selected once", excluded.aborts, overloaded)
			if n := drops(h, metrics.DropDeliverQueue); n != before+2 {
				t.Fatalf("%d deliveries counted as lost, want %d", n, before+2)
			}
		})
	}
}

// However many deliveries were lost before, the loss of a room that nobody had
// lost anything of is not forgotten.
func TestNoLossIsForgotten(t *testing.T) {
	h := stepped(Config{Inbox: 1}, &fakeBus{})
	_, busy := dialMember(h)
	quiet, qm := dialMember(h)
	h.Join(busy, room("busy"), ID{}, nil)
	h.Join(qm, room("quiet"), ID{}, nil)
	settleAll(h)
	for id := range uint64(2 * maxLost) {
		h.Deliver(message(id, 0), to(h, room("busy")))
	}
	h.Deliver(message(1, 0), to(h, room("quiet")))
	settleAll(h)
	equal(t, "quiet room", quiet.aborts, []metrics.Close{metrics.CloseOverloaded})
	if l := &h.shards[0].lost; !l.empty() {
		t.Fatalf("losses are kept: %+v", l)
	}
}

// A pass that has more to do than flushEvery writes in between and keeps the
// deadlines: a conn that is due in it is not made to wait for its end.
func TestBusyShardKeepsDeadlines(t *testing.T) {
	h := stepped(Config{OutboxBytes: 1 << 30}, &fakeBus{})
	const members = 512
	sinks := make([]*fakeSink, members)
	for i := range sinks {
		var m *Member
		sinks[i], m = dialMember(h)
		h.Join(m, room("a"), ID{}, nil)
	}
	settleAll(h)
	s := h.shards[0]
	ticks := make(chan time.Time, 4)
	s.ticks = ticks
	h.start = h.start.Add(-2000 * h.cfg.Tick) // all deadlines are over
	var writesAtTick []int
	for _, f := range sinks {
		f.expire = func(now Tick) (*Message, Tick) {
			if f == sinks[0] {
				writesAtTick = append(writesAtTick, len(f.writes))
				h.start = h.start.Add(-2000 * h.cfg.Tick)
			}
			return nil, now + 1000
		}
		f.writes = nil
	}
	shared := message(1, 12)
	shared.Packets = 0
	target := to(h, room("a"))
	const messages = 2*flushEvery/members + 1
	for range messages {
		h.Deliver(shared, target)
	}
	for range cap(ticks) {
		ticks <- time.Time{}
	}
	settleAll(h)
	equal(t, "writes done when a deadline was kept", writesAtTick, []int{0, 1, 2})
	for i, f := range sinks {
		if len(f.got()) != messages {
			t.Fatalf("conn %d got %d messages, want %d", i, len(f.got()), messages)
		}
	}
}

// Entries of a crowd of slow readers are not kept for ever.
func TestSpareEntriesAreBounded(t *testing.T) {
	h := stepped(Config{OutboxBytes: 1 << 30}, &fakeBus{})
	f := dial(h)
	f.hold()
	msg := message(1, 12)
	for range flushEvery + 3*entryChunk {
		h.Send(&f.fan, msg)
	}
	settleAll(h)
	f.accept()
	settleAll(h)
	n := 0
	for e := h.shards[0].free; e != nil; e = e.next {
		n++
	}
	if n != h.shards[0].spares || n != flushEvery {
		t.Fatalf("%d spare entries, counted %d, bound %d", n, h.shards[0].spares, flushEvery)
	}
}
