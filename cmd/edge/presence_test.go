package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stellara/edge/state"
)

func TestAskPresence(t *testing.T) {
	many := make([]string, maxListed+1)
	for i := range many {
		many[i] = fmt.Sprint("u", i)
	}
	long := []string{strings.Repeat("x", maxListBytes/2), strings.Repeat("y", maxListBytes/2)}
	a := newTestApp()
	a.presence.online = map[string]bool{"u1": true, "u3": true}
	a.presence.members = map[string][]string{"r1": {"u1", `u"2`}, "empty": nil, "big": many, "long": long}
	for _, tt := range []struct{ arg, want string }{
		{`"r1"`, `[{"ok":true,"room":"r1","count":2,"users":["u1","u\"2"]}]`},
		{`"empty"`, `[{"ok":true,"room":"empty","count":0,"users":[]}]`},
		{`"big"`, `[{"ok":true,"room":"big","count":1001}]`},
		{`"long"`, `[{"ok":true,"room":"long","count":2}]`},
		{`["u3","u2","u1"]`, `[{"ok":true,"online":["u3","u1"]}]`},
		{`["u2"]`, `[{"ok":true,"online":[]}]`},
		{`[]`, `[{"ok":true,"online":[]}]`},
	} {
		e := newEvent(tt.arg)
		a.askPresence(a.socket("u1", "r1", "empty", "big", "long"), e)
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
	many := make([]string, maxListed+1)
	for i := range many {
		many[i] = fmt.Sprint("u", i)
	}
	for _, tt := range []struct {
		u    state.PresenceUpdate
		want string
	}{
		{state.PresenceUpdate{Room: "r1", Joined: []string{"u1"}, Count: 3, Seq: 9, Epoch: "e"},
			`["presence",{"room":"r1","joined":["u1"],"left":[],"count":3,"seq":9}]`},
		{state.PresenceUpdate{Room: `r"1`, Left: []string{"u1", "u2"}, Count: maxListed, Seq: 10},
			`["presence",{"room":"r\"1","joined":[],"left":["u1","u2"],"count":1000,"seq":10}]`},
		{state.PresenceUpdate{Room: "r1", Joined: []string{"u1"}, Count: maxListed + 1, Seq: 11},
			`["presence",{"room":"r1","count":1001,"seq":11}]`},
		{state.PresenceUpdate{Room: "r1", Left: many, Count: 0, Seq: 12}, // all went at once
			`["presence",{"room":"r1","count":0,"seq":12}]`},
	} {
		a := newTestApp()
		a.presenceUpdated(tt.u)
		if len(a.local) != 1 || a.local[0].room != tt.u.Room || string(a.local[0].p.JSON) != tt.want {
			t.Errorf("sent %+v, want %s", a.local, tt.want)
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
