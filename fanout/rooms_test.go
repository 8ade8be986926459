package fanout

import (
	"slices"
	"testing"
	"time"
)

func TestDeliverFromWithinSubscribeReachesTheJoiner(t *testing.T) {
	bus := &fakeBus{}
	h := stepped(Config{Shards: 2}, bus)
	bus.onSubscribe = func(k Key, generation uint64) {
		h.Deliver(message(7, 0), to(h, k))
		h.Live(k, generation)
	}
	f, m := dialMember(h)
	live := 0
	h.Join(m, room("a"), ID{}, func() { live++ })
	if live != 1 {
		t.Fatalf("live called %d times", live)
	}
	settleAll(h)
	equal(t, "joiner", f.got(), []uint64{7})
}

func TestLiveOfAnotherGenerationIsIgnored(t *testing.T) {
	bus := &fakeBus{}
	h := stepped(Config{}, bus)
	_, m := dialMember(h)
	k, live := room("a"), 0
	h.Join(m, k, ID{}, func() { live++ })
	first := bus.generation(k)
	h.Leave(m, k)
	settleAll(h)
	h.sweepOnce(time.Now().Add(2 * time.Hour))
	if live != 1 {
		t.Fatalf("a join nobody waits for any more was called back %d times, want once", live)
	}
	h.Join(m, k, ID{}, func() { live++ })
	second := bus.generation(k)
	if second == first {
		t.Fatal("a new room got the old generation")
	}
	h.Live(k, first)
	h.Live(room("other"), second)
	if live != 1 {
		t.Fatal("a stale generation made the room live")
	}
	h.Live(k, second)
	h.Live(k, second)
	if live != 2 {
		t.Fatalf("live called %d times, want twice", live)
	}
	h.Join(m, k, ID{}, func() { live++ })
	if live != 3 {
		t.Fatal("a join of a live room was not called back at once")
	}
}

func TestLingerStartsAnewWhenARoomRefills(t *testing.T) {
	bus := &fakeBus{}
	h := stepped(Config{}, bus)
	_, m := dialMember(h)
	k := room("a")
	cycle := func() { h.Join(m, k, ID{}, nil); h.Leave(m, k); settleAll(h) }
	cycle()
	firstDue := h.linger[0].due
	cycle()
	h.sweepOnce(firstDue)
	if len(bus.gone) != 0 {
		t.Fatal("the first linger ended the second")
	}
	if h.Room(k) != nil {
		t.Fatal("an empty room was found")
	}
	generation := bus.generation(k)
	h.Join(m, k, ID{}, nil)
	if bus.generation(k) != generation {
		t.Fatal("a lingering room was subscribed again")
	}
	h.sweepOnce(time.Now().Add(2 * time.Hour))
	if len(bus.gone) != 0 || h.Room(k) == nil {
		t.Fatal("a room with a member was forgotten")
	}
	h.CloseMember(m)
	settleAll(h)
	checkEmpty(t, h, bus, []*Member{m})
	equal(t, "unsubscribed", bus.gone, []uint64{generation})
}

// However late Subscribe returns, the room is not given up before.
func TestUnsubscribeComesAfterSubscribe(t *testing.T) {
	bus := &fakeBus{}
	h := stepped(Config{}, bus)
	_, m := dialMember(h)
	k := room("a")
	bus.onSubscribe = func(Key, uint64) {
		h.CloseMember(m)
		settleAll(h)
		h.sweepOnce(time.Now().Add(2 * time.Hour))
		if len(bus.gone) != 0 {
			t.Error("unsubscribed while Subscribe was being called")
		}
	}
	h.Join(m, k, ID{}, nil)
	checkEmpty(t, h, bus, []*Member{m})
	if len(bus.gone) != 1 {
		t.Fatalf("unsubscribed %v, want once", bus.gone)
	}
}

func TestClosedMembers(t *testing.T) {
	h := stepped(Config{Shards: 3}, &fakeBus{})
	f, m := dialMember(h)
	h.Join(m, room(""), ID{}, nil)
	h.Join(m, room("b"), ID{}, nil)
	h.Join(m, room("a"), ID{}, nil)
	equal(t, "rooms", m.Rooms(nil), []string{"b", "a"})
	if !m.In(room("a")) || m.In(Key{Namespace: 2, Room: "a"}) || m.Owner() != any(f) || m.Conn() != &f.fan {
		t.Fatal("member does not know what it was told")
	}
	if h.Leave(m, room("c")) {
		t.Fatal("left a room it was not in")
	}
	h.CloseMember(m)
	h.CloseMember(m)
	if h.Join(m, room("d"), ID{}, func() { t.Error("live called for a closed member") }) || h.Leave(m, room("a")) {
		t.Fatal("a closed member joined or left")
	}
	h.Deliver(message(1, 0), &Target{Members: []*Member{m}})
	settleAll(h)
	equal(t, "closed member", f.got(), nil)
}

// A member that joined one room of a union too late for a message still gets it
// by another.
func TestSinceIsPerRoom(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f, m := dialMember(h)
	h.Join(m, room("late"), ID{Ms: 10, Seq: 5}, nil)
	h.Join(m, room("early"), ID{Ms: 3}, nil)
	send := func(id uint64, at ID, keys ...Key) {
		msg := message(id, 0)
		msg.ID = at
		h.Deliver(msg, to(h, keys...))
	}
	send(1, ID{Ms: 10, Seq: 5}, room("late"))
	send(2, ID{Ms: 10, Seq: 4}, room("late"), room("early"))
	send(3, ID{Ms: 10, Seq: 6}, room("late"))
	h.SetFloor(m, ID{Ms: 20})
	h.SetFloor(m, ID{Ms: 15})
	send(4, ID{Ms: 20}, room("early"))
	send(5, ID{Ms: 20, Seq: 1}, room("early"), room("late"))
	send(6, ID{}, room("late"))
	settleAll(h)
	equal(t, "ids", f.got(), []uint64{2, 3, 5, 6})
}

func TestDeliverReportsMembers(t *testing.T) {
	h := stepped(Config{Shards: 2}, &fakeBus{})
	_, m := dialMember(h)
	h.Join(m, room("a"), ID{}, nil)
	a := to(h, room("a"))
	if !h.Deliver(message(1, 0), a) || h.Deliver(message(1, 0), &Target{}) {
		t.Fatal("Deliver misreports")
	}
	h.Leave(m, room("a"))
	settleAll(h)
	if h.Deliver(message(1, 0), a) {
		t.Fatal("Deliver found members in an empty room")
	}
	done := 0
	h.Visit(a, func(*Member) { t.Error("visited") }, func() { done++ })
	h.Visit(a, func(*Member) { t.Error("visited") }, nil)
	if done != 1 {
		t.Fatalf("done called %d times", done)
	}
}

func TestVisitConnsSeesAttachedOnes(t *testing.T) {
	h := stepped(Config{Shards: 2}, &fakeBus{})
	var sinks []*fakeSink
	for range 5 {
		sinks = append(sinks, dial(h))
	}
	h.Detach(&sinks[1].fan)
	seen := make(map[Sink]int)
	done := 0
	h.VisitConns(func(s Sink) { seen[s]++ }, func() {
		if done++; len(seen) != 4 {
			t.Errorf("done after %d of 4 conns", len(seen))
		}
	})
	settleAll(h)
	if done != 1 {
		t.Fatalf("done called %d times", done)
	}
	for i, f := range sinks {
		want := 1
		if i == 1 {
			want = 0
		}
		if seen[f] != want {
			t.Fatalf("conn %d visited %d times, want %d", i, seen[f], want)
		}
	}
}

func TestShardsAreBounded(t *testing.T) {
	if n := len(stepped(Config{Shards: 1000}, &fakeBus{}).shards); n != maxShards {
		t.Fatalf("%d shards, want %d", n, maxShards)
	}
}

// The number of a target must not come round to that of members never selected.
func TestStampsDoNotRepeat(t *testing.T) {
	h := stepped(Config{}, &fakeBus{})
	f, m := dialMember(h)
	h.Join(m, room("a"), ID{}, nil)
	h.shards[0].stamp = 1<<32 - 1
	_, other := dialMember(h)
	target := to(h, room("a"))
	target.ExceptMembers = []*Member{other}
	h.Deliver(message(1, 0), target)
	settleAll(h)
	if !slices.Equal(f.got(), []uint64{1}) {
		t.Fatal("the message was lost")
	}
}
