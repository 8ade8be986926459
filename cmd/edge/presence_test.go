package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stellara/edge/state"
)

// unlistable returns too many names for one packet, and names that are too long together.
func unlistable() (many, long []string) {
	many = make([]string, maxListed+1)
	for i := range many {
		many[i] = fmt.Sprint("u", i)
	}
	return many, []string{strings.Repeat("x", maxListBytes/2), strings.Repeat("y", maxListBytes/2)}
}

func TestAskPresence(t *testing.T) {
	many, long := unlistable()
	a := newTestApp()
	a.presence.online = map[string]bool{"u1": true, "u3": true}
	a.presence.members = map[string][]string{"r1": {"u1", `u"2`}, "empty": nil, "big": many, "long": long}
	a.presence.counts["huge"] = 2001
	for _, tt := range []struct{ arg, want string }{
		{`"r1"`, `[{"ok":true,"room":"r1","count":2,"users":["u1","u\"2"],"seq":7,"epoch":"E"}]`},
		{`"empty"`, `[{"ok":true,"room":"empty","count":0,"users":[],"seq":7,"epoch":"E"}]`},
		{`"big"`, `[{"ok":true,"room":"big","count":1001,"seq":7,"epoch":"E"}]`},
		{`"huge"`, `[{"ok":true,"room":"huge","count":2001,"seq":7,"epoch":"E"}]`}, // no users are read
		{`"long"`, `[{"ok":true,"room":"long","count":2,"seq":7,"epoch":"E"}]`},
		{`["u3","u2","u1"]`, `[{"ok":true,"online":["u3","u1"]}]`},
		{`["u2"]`, `[{"ok":true,"online":[]}]`},
		{`[]`, `[{"ok":true,"online":[]}]`},
	} {
		e := newEvent(tt.arg)
		a.askPresence(a.socket("u1", "r1", "empty", "big", "huge", "long"), e)
		if got := e.ack(t); got != tt.want {
			t.Errorf("presence(%s): %.200s, want %s", tt.arg, got, tt.want)
		}
		e.waitReleased(t)
	}
	if a.refusals() != 0 {
		t.Error("counted as refused")
	}
}

func TestAskPresenceRefused(t *testing.T) {
	tooMany := "[" + strings.Repeat(`"u",`, maxListed) + `"u"]`
	for _, tt := range []struct {
		arg  string
		err  error
		want ackCode
	}{
		{`"r2"`, nil, codeRoomUnknown},
		{`7`, nil, codeRoomInvalid},
		{`{"room":"r1"}`, nil, codeRoomInvalid},
		{`[1]`, nil, codePayloadInvalid},
		{`["u1",["u2"]]`, nil, codePayloadInvalid},
		{`["{u1}"]`, nil, codePayloadInvalid},
		{`[""]`, nil, codePayloadInvalid},
		{tooMany, nil, codePayloadInvalid},
		{`"r1"`, errRedis, codeUnavailable},
		{`["u1"]`, errRedis, codeUnavailable},
	} {
		a := newTestApp()
		a.presence.err = tt.err
		e := newEvent(tt.arg)
		a.askPresence(a.socket("u1", "r1"), e)
		if got := code(t, e.ack(t)); got != string(tt.want) || a.refusals() != 1 {
			t.Errorf("presence(%.40s): %s, want %s; %v counted", tt.arg, got, tt.want, a.refusals())
		}
		if e.held {
			e.waitReleased(t)
		}
	}
}

func TestUpdatePayload(t *testing.T) {
	many, long := unlistable()
	for _, tt := range []struct {
		u    state.PresenceUpdate
		want string
	}{
		{state.PresenceUpdate{Room: "r1", Joined: []string{"u1"}, Count: 3, Prev: 6, Seq: 9, Epoch: "E"},
			`["presence",{"room":"r1","joined":["u1"],"left":[],"count":3,"prev":6,"seq":9,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: `r"1`, Left: []string{"u1", "u2"}, Count: maxListed, Prev: 9, Seq: 10, Epoch: `E"`},
			`["presence",{"room":"r\"1","joined":[],"left":["u1","u2"],"count":1000,"prev":9,"seq":10,"epoch":"E\""}]`},
		{state.PresenceUpdate{Room: "r1", Joined: []string{"u1"}, Count: maxListed + 1, Prev: 0, Seq: 1<<63 + 1, Epoch: "E"},
			`["presence",{"room":"r1","count":1001,"prev":0,"seq":9223372036854775809,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: "r1", Left: many, Count: 0, Prev: 11, Seq: 12, Epoch: "E"}, // all went at once
			`["presence",{"room":"r1","count":0,"prev":11,"seq":12,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: "r1", Joined: long, Count: 2, Prev: 12, Seq: 14, Epoch: "E"},
			`["presence",{"room":"r1","count":2,"prev":12,"seq":14,"epoch":"E"}]`},

		{state.PresenceUpdate{Room: "r1", Full: true, Users: []string{"u1", "u2"}, Count: 2, Prev: 9, Seq: 9, Epoch: "E"},
			`["presence",{"room":"r1","users":["u1","u2"],"count":2,"seq":9,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: "r1", Full: true, Users: []string{}, Count: 0, Prev: 9, Seq: 9, Epoch: "E"}, // nobody
			`["presence",{"room":"r1","users":[],"count":0,"seq":9,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: "r1", Full: true, Users: many[:maxListed], Count: maxListed, Prev: 9, Seq: 9, Epoch: "E"},
			`["presence",{"room":"r1","users":["` + strings.Join(many[:maxListed], `","`) + `"],"count":1000,"seq":9,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: "r1", Full: true, Users: many, Count: maxListed + 1, Prev: 9, Seq: 9, Epoch: "E"},
			`["presence",{"room":"r1","count":1001,"seq":9,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: "r1", Full: true, Count: 2001, Prev: 9, Seq: 9, Epoch: "E"}, // no users were read
			`["presence",{"room":"r1","count":2001,"seq":9,"epoch":"E"}]`},
		{state.PresenceUpdate{Room: "r1", Full: true, Users: long, Count: 2, Prev: 9, Seq: 9, Epoch: "E"},
			`["presence",{"room":"r1","count":2,"seq":9,"epoch":"E"}]`},
	} {
		a := newTestApp()
		a.presenceUpdated(tt.u)
		if len(a.local) != 1 {
			t.Fatalf("%d updates sent, want 1", len(a.local))
		}
		if a.local[0].room != tt.u.Room || string(a.local[0].p.JSON) != tt.want {
			t.Errorf("sent %.300s, want %.300s", a.local[0].p.JSON, tt.want)
		}
		if len(a.published) != 0 {
			t.Error("an update went to other nodes, which hear of it themselves")
		}
	}
}

// A question is never answered from a read that began before it was asked.
func TestReadsAreNotStale(t *testing.T) {
	p := &fakePresence{members: map[string][]string{"r1": {"u1"}}, gate: make(chan struct{}), began: make(chan struct{}, 4)}
	r := newReads(p, quiet)
	answers := make(chan string, 2)
	for _, name := range []string{"first", "second"} {
		r.members("r1", func(*snapshot, error) { answers <- name })
		<-p.began // a read of its own
	}
	close(p.gate)
	if a, b := <-answers, <-answers; a == b || p.reads != 2 {
		t.Errorf("answered %s and %s with %d reads", a, b, p.reads)
	}
}

// A client that joins ignores updates until it has its snapshot: one that was
// overtaken by an update is read again, and what comes later leaves later.
func TestSnapshotsAndUpdatesAreInOrder(t *testing.T) {
	update := func(room, epoch string, seq uint64) state.PresenceUpdate {
		return state.PresenceUpdate{Room: room, Epoch: epoch, Prev: seq - 1, Seq: seq, Count: 1}
	}
	for _, tt := range []struct {
		meanwhile state.PresenceUpdate // handed out while the first snapshot is read
		seqs      []uint64             // of the snapshots
		answered  string               // the position in the answer
		reads     int
	}{
		{update("r1", "E", 7), []uint64{7}, `"seq":7,"epoch":"E"`, 1},
		{update("r1", "E", 8), []uint64{7, 8}, `"seq":8,"epoch":"E"`, 2},
		{update("r1", "E", 8), []uint64{7, 7, 9}, `"seq":9,"epoch":"E"`, 3},
		{update("r2", "E", 8), []uint64{7}, `"seq":7,"epoch":"E"`, 1},
		{update("r1", "D", 1), []uint64{1, 2, 3, 4}, `"seq":4,"epoch":"E"`, readTries}, // the next update shows that it misses something
	} {
		a := newTestApp()
		a.presence.members["r1"] = []string{"u1"}
		a.presence.seqs = tt.seqs
		a.presence.gate, a.presence.began = make(chan struct{}), make(chan struct{}, readTries)
		e := newEvent(`"r1"`)
		a.askPresence(a.socket("u1", "r1"), e)
		<-a.presence.began
		a.presenceUpdated(tt.meanwhile)
		if len(a.local) != 1 {
			t.Fatal("an update waits for a snapshot that is being read")
		}
		close(a.presence.gate)
		if got := e.ack(t); !strings.Contains(got, tt.answered) {
			t.Errorf("%+v meanwhile: answered %s, want %s", tt.meanwhile, got, tt.answered)
		}
		e.waitReleased(t)
		a.reads.update(state.PresenceUpdate{}, func() {
			if a.presence.reads != tt.reads || len(a.reads.active) != 0 {
				t.Errorf("%+v meanwhile: %d reads, want %d; %d under way", tt.meanwhile, a.presence.reads, tt.reads, len(a.reads.active))
			}
		})
	}
}

// Joins of one room share reads.
func TestReadsAreShared(t *testing.T) {
	p := &fakePresence{members: map[string][]string{"r1": {"u1"}}, gate: make(chan struct{})}
	r := newReads(p, quiet)
	const asking = 500
	var answered sync.WaitGroup
	answered.Add(asking)
	for range asking {
		r.members("r1", func(snap *snapshot, err error) {
			if err != nil || snap == nil {
				t.Errorf("snapshot %v, %v", snap, err)
			}
			answered.Done()
		})
	}
	close(p.gate)
	answered.Wait()
	if p.reads > maxReaders+1 {
		t.Errorf("%d reads for %d questions about one room", p.reads, asking)
	}
}

// However many ask, only maxReaders goroutines read, and everybody is answered.
func TestReadsAreBounded(t *testing.T) {
	p := &fakePresence{members: map[string][]string{}, gate: make(chan struct{})}
	r := newReads(p, quiet)
	const asking = 200
	var answered sync.WaitGroup
	answered.Add(asking)
	for i := range asking {
		r.members(fmt.Sprint("r", i), func(*snapshot, error) { answered.Done() })
	}
	r.mu.Lock()
	readers, queued := r.readers, len(r.queue)
	r.mu.Unlock()
	if readers != maxReaders || queued < asking-maxReaders {
		t.Errorf("%d readers, %d queued", readers, queued)
	}
	close(p.gate)
	answered.Wait()
}
