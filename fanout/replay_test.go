package fanout

import (
	"math/rand/v2"
	"testing"
	"time"
)

// at is a journalled message of an id that is its place in the journal, too.
func journalledAt(id uint64, size int) *Message {
	m := message(id, size)
	m.ID = ID{Epoch: 1, Ms: id}
	return m
}

// While a member is held, what is journalled waits for its replay; everything
// else arrives.
func TestHeldMemberWaitsForReplay(t *testing.T) {
	h := stepped(Config{Kept: 1}, &fakeBus{})
	f, m := dialMember(h)
	h.Hold(m, ID{Epoch: 1, Ms: 10})
	h.Join(m, room("a"), ID{}, nil)
	h.Deliver(journalledAt(12, 0), to(h, room("a")))
	h.Deliver(journalledAt(13, 0), to(h, room("a")))
	h.Deliver(message(100, 0), to(h, room("a"))) // not journalled
	h.Send(&f.fan, message(101, 0))
	settleAll(h)
	equal(t, "while held", f.got(), []uint64{100, 101})

	var caught []bool
	done := func(c bool) { caught = append(caught, c) }
	h.Replay(m, &Replay{Messages: []*Message{journalledAt(11, 0)}, UpTo: ID{Epoch: 1, Ms: 11}, Done: done})
	h.Send(&f.fan, message(102, 0))
	settleAll(h)
	equal(t, "replay, and what was sent after it", f.got()[2:], []uint64{11, 102})
	equal(t, "caught up", caught, []bool{false}) // 12 came meanwhile, and is not kept

	h.Replay(m, &Replay{Messages: []*Message{journalledAt(12, 0)}, UpTo: ID{Epoch: 1, Ms: 12}, Done: done})
	h.Deliver(journalledAt(12, 0), to(h, room("a"))) // late, by Pub/Sub
	h.Deliver(journalledAt(14, 0), to(h, room("a")))
	settleAll(h)
	equal(t, "caught up", caught, []bool{false, true}) // 13 was kept
	equal(t, "in the end", f.got()[4:], []uint64{12, 13, 14})
}

// A replay is handed over as the client takes it, and never more than a write of
// it waits in the outbox.
func TestReplayIsPulled(t *testing.T) {
	h := stepped(Config{OutboxBytes: 200 << 10}, &fakeBus{})
	f, m := dialMember(h)
	settleAll(h)
	f.hold()
	var messages []*Message
	for i := range 100 {
		messages = append(messages, journalledAt(uint64(i+1), 10<<10))
	}
	done := 0
	h.Hold(m, ID{Epoch: 1})
	h.Replay(m, &Replay{Messages: messages, UpTo: ID{Epoch: 1, Ms: 100}, Done: func(bool) { done++ }})
	settleAll(h)
	for n := len(f.got()); n < 100; n = len(f.got()) {
		if f.fan.queued > replayChunk {
			t.Fatalf("%d bytes in the outbox", f.fan.queued)
		}
		if done > 0 {
			t.Fatal("done before the end")
		}
		f.mu.Lock()
		pending := f.pending
		f.pending = 0
		f.mu.Unlock()
		f.fan.Wrote(pending)
		settleAll(h)
		if len(f.got()) == n {
			t.Fatalf("stuck after %d", n)
		}
	}
	equal(t, "done", []int{done}, []int{1})
	equal(t, "replays left", []int{len(h.shards[0].replays)}, []int{0})
}

func TestReplayEndsWithItsConn(t *testing.T) {
	for name, end := range map[string]func(*Hub, *fakeSink){
		"detached": func(h *Hub, f *fakeSink) { h.Detach(&f.fan) },
		"ended":    func(h *Hub, f *fakeSink) { h.End(&f.fan, message(99, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := stepped(Config{}, &fakeBus{})
			f, m := dialMember(h)
			settleAll(h)
			f.hold()
			h.Replay(m, &Replay{
				Messages: []*Message{journalledAt(1, 60<<10), journalledAt(2, 60<<10), journalledAt(3, 60<<10)},
				Done:     func(bool) { t.Error("done") },
			})
			settleAll(h)
			end(h, f)
			settleAll(h)
			f.accept()
			settleAll(h)
			if got := f.got(); len(got) > 2 || len(got) == 2 && got[1] != 99 {
				t.Errorf("sent %v", got)
			}
			equal(t, "replays left", []int{len(h.shards[0].replays)}, []int{0})
		})
	}
}

// Messages that carry a position get the receiver's: what the shard processed, or
// what the member has by replay.
func TestStamps(t *testing.T) {
	var stamped []ID
	h := stepped(Config{Stamp: func(m *Message, id ID) *Message {
		stamped = append(stamped, id)
		return m
	}}, &fakeBus{})
	_, m := dialMember(h)
	_, new := dialMember(h)
	_, held := dialMember(h)
	for _, one := range []*Member{m, new, held} {
		h.Join(one, room("a"), ID{}, nil)
	}
	plain := message(1, 0)
	plain.Stamp = true
	h.SetFloor(m, ID{Epoch: 1, Ms: 3})
	h.SendMember(m, plain)
	h.Deliver(journalledAt(5, 0), to(h, room("a")))
	h.SetFloor(new, ID{Epoch: 1, Ms: 9})
	h.Hold(held, ID{Epoch: 1, Ms: 2})
	h.Deliver(plain, to(h, room("a")))
	h.Advance(0, ID{Epoch: 1, Ms: 20})
	h.Deliver(plain, to(h, room("a")))
	h.Advance(0, ID{Epoch: 1, Ms: 19}) // never back
	h.SendMember(m, plain)
	settleAll(h)
	at := func(ms ...uint64) (ids []ID) {
		for _, v := range ms {
			ids = append(ids, ID{Epoch: 1, Ms: v})
		}
		return ids
	}
	// The copy that members can share is made once.
	equal(t, "positions", stamped, at(3, 5, 9, 2, 20))
}

func TestReserve(t *testing.T) {
	bus := &fakeBus{}
	h := stepped(Config{}, bus)
	_, m := dialMember(h)
	var live []*Room
	r := h.Reserve(room("a"), func(r *Room) { live = append(live, r) })
	if bus.generation(room("a")) == 0 || h.IsLive(room("a")) || len(live) != 0 {
		t.Fatal("not subscribed, or live too early")
	}
	equal(t, "a room without members is not listed", []int{len(h.RoomKeys(0, nil))}, []int{0})
	h.Live(room("a"), bus.generation(room("a")))
	equal(t, "live", live, []*Room{r})
	h.Unheard()
	if h.IsLive(room("a")) {
		t.Error("live while the bus hears nothing")
	}
	again := h.Reserve(room("a"), func(r *Room) { live = append(live, r) })
	equal(t, "waits", []int{len(live)}, []int{1})
	h.Live(room("a"), bus.generation(room("a")))
	equal(t, "live again", []int{len(live)}, []int{2})
	h.Join(m, room("a"), ID{}, nil)
	h.Release(r)
	h.Release(again)
	settleAll(h)
	h.sweepOnce(time.Now().Add(2 * h.cfg.Linger))
	if len(bus.gone) != 0 {
		t.Error("unsubscribed while it has a member")
	}
	h.Leave(m, room("a"))
	settleAll(h)
	h.sweepOnce(time.Now().Add(2 * h.cfg.Linger))
	equal(t, "unsubscribed", []int{len(bus.gone)}, []int{1})
}

// A member is replaced from another node again and again while messages are
// published: each arrives once, in order, however replays and deliveries meet.
func TestReplayModel(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		h := stepped(Config{Kept: 1 + int(seed%4)}, &fakeBus{})
		f, m := dialMember(h)
		var journal []*Message // all that was published
		arrived := 0           // of them, handed to Deliver
		h.Hold(m, ID{Epoch: 1})
		h.Join(m, room("a"), ID{}, nil)

		reading := false
		var from ID
		read := func() { // the journal up to now, as one replay
			r := &Replay{UpTo: from}
			for _, msg := range journal {
				if msg.ID.After(from) {
					r.Messages, r.UpTo = append(r.Messages, msg), msg.ID
				}
			}
			reading, from = false, r.UpTo
			r.Done = func(caught bool) { reading = !caught }
			h.Replay(m, r)
		}
		reading = true
		for range 100 {
			switch rnd.IntN(6) {
			case 0, 1:
				journal = append(journal, journalledAt(uint64(len(journal)+1), 20+rnd.IntN(40000)))
			case 2:
				if arrived < len(journal) {
					h.Deliver(journal[arrived], to(h, room("a")))
					arrived++
				}
			case 3:
				if reading {
					read()
				}
			case 4:
				settleAll(h)
			case 5:
				if rnd.IntN(2) == 0 {
					f.hold()
				} else {
					f.accept()
				}
			}
		}
		for ; arrived < len(journal); arrived++ {
			h.Deliver(journal[arrived], to(h, room("a")))
		}
		for range 4 {
			settleAll(h)
			f.accept()
			settleAll(h)
			if reading {
				read()
			}
		}
		got := f.got()
		if len(got) != len(journal) {
			t.Fatalf("seed %d: got %v of %d", seed, got, len(journal))
		}
		for i, id := range got {
			if id != uint64(i+1) {
				t.Fatalf("seed %d: got %v", seed, got)
			}
		}
	}
}
