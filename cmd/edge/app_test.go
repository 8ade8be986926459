package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/state"
)

func TestPresenceFollowsTheSocket(t *testing.T) {
	a := newTestApp()
	s := a.socket("u1")
	a.disconnected(s, engine.ReasonTransportClose)
	a.disconnected(s, engine.ReasonTransportClose)
	if got, want := a.presence.recorded(), []string{"connect u1 " + testSocket + " 0", "disconnect u1 " + testSocket}; !slices.Equal(got, want) {
		t.Errorf("presence was asked for %q, want %q", got, want)
	}
	never := &fakeSocket{id: testSocket, data: &identity{User: "u2"}} // disconnects before its connection handler ran
	a.disconnected(never, engine.ReasonTransportClose)
	a.connected(never)
	if got := a.presence.recorded(); len(got) != 2 {
		t.Errorf("a socket that never connected has presence: %q", got[2:])
	}
}

// With recovery, and only then, presence is told which sockets may return.
func TestWhoMayReturn(t *testing.T) {
	for reason, want := range map[string]bool{
		engine.ReasonTransportError: true, engine.ReasonTransportClose: true, engine.ReasonForcedClose: true,
		engine.ReasonPingTimeout: true, engine.ReasonServerShuttingDown: true, engine.ReasonForcedServerClose: true,
		engine.ReasonParseError: false, engine.ReasonClientNamespaceDisconnect: false, engine.ReasonServerNamespaceDisconnect: false,
		"of another kind": false,
	} {
		for _, recovery := range []bool{false, true} {
			a := newTestApp()
			a.recovery = recovery
			a.disconnected(a.socket("u1"), reason)
			calls := a.presence.recorded()
			if got := strings.HasSuffix(calls[len(calls)-1], " may return"); got != (want && recovery) {
				t.Errorf("%s, recovery %v: %q", reason, recovery, calls)
			}
		}
	}
}

// badRooms are first arguments that no event accepts.
var badRooms = []struct {
	raw  string
	code ackCode
}{
	{`7`, codeRoomInvalid},
	{`null`, codeRoomInvalid},
	{`{"_placeholder":true,"num":0}`, codeRoomInvalid},
	{`["r"]`, codeRoomInvalid},
	{`""`, codeRoomInvalid},
	{`"a{b"`, codeRoomInvalid},
	{`"a}b"`, codeRoomInvalid},
	{`"a\nb"`, codeRoomInvalid},
	{`"a\u0000b"`, codeRoomInvalid},
	{`"` + strings.Repeat("r", 256) + `"`, codeRoomInvalid},
	{`"` + strings.Repeat("é", 128) + `"`, codeRoomInvalid},
	{`"user:u1"`, codeRoomReserved},
	{`"user:"`, codeRoomReserved},
	{`"\u0075ser:u1"`, codeRoomReserved},
	{`"` + testSocket + `"`, codeRoomReserved},
	{`"aaaaaaaa-_aaaaaa0000"`, codeRoomReserved},
}

func TestRoomNames(t *testing.T) {
	for _, tt := range badRooms {
		for event, handle := range map[string]func(*testApp, socket, event){
			"join":    func(a *testApp, s socket, e event) { a.join(s, e) },
			"leave":   func(a *testApp, s socket, e event) { a.leave(s, e) },
			"message": func(a *testApp, s socket, e event) { a.message(s, e) },
		} {
			a := newTestApp()
			s := a.socket("u1")
			e := newEvent(tt.raw, `"x"`)
			handle(a, s, e)
			if got := code(t, e.ack(t)); got != string(tt.code) {
				t.Errorf("%s(%.40s): %s, want %s", event, tt.raw, got, tt.code)
			}
			if e.held || len(a.presence.recorded()) != 1 || len(s.rooms) != 0 || len(a.published) != 0 || a.refusals() != 1 {
				t.Errorf("%s(%.40s): refused, but not without effect, or not counted", event, tt.raw)
			}
		}
	}
	for _, room := range []string{"r1", "Zoë's room", "a b", "users", "a:user:b", "aaaaaaaa-_aaaaaa000", "aaaaaaaa-_aaaaaa00000", "aaaaaaaa.aaaaaaa0000", strings.Repeat("r", 255)} {
		raw, _ := json.Marshal(room)
		if got, f := newTestApp().room(newEvent(string(raw))); f != nil || got != room {
			t.Errorf("room %q: %q, %v", room, got, f)
		}
	}
	if _, f := newTestApp().room(newEvent()); f == nil || f.code != codeRoomInvalid {
		t.Errorf("no argument: %v", f)
	}
}

// A join is acknowledged after both the subscription is live and presence is
// stored, whichever comes last, and holds back later packets until then.
func TestJoinWaitsForSubscriptionAndPresence(t *testing.T) {
	for _, order := range []string{"subscription first", "presence first"} {
		t.Run(order, func(t *testing.T) {
			a := newTestApp()
			a.presence.members["r1"] = []string{"u1", "u2"}
			s := a.socket("u1")
			e := newEvent(`"r1"`)
			a.join(s, e)
			e.open(t, "at once")
			if !e.held {
				t.Fatal("later packets do not wait")
			}
			if order == "subscription first" {
				s.live[0](nil)
				e.open(t, "with the subscription alone")
				a.presence.settle(t, nil)
			} else {
				a.presence.settle(t, nil)
				e.open(t, "with presence alone")
				s.live[0](nil)
			}
			if got, want := e.ack(t), `[{"ok":true,"room":"r1","count":2,"users":["u1","u2"],"seq":7,"epoch":"E"}]`; got != want {
				t.Errorf("ack %s, want %s", got, want)
			}
			e.waitReleased(t)
			if a.refusals() != 0 {
				t.Error("counted as refused")
			}
		})
	}
}

func TestJoinFails(t *testing.T) {
	for _, part := range []string{"subscription", "presence"} {
		a := newTestApp()
		s := a.socket("u1")
		e := newEvent(`"r1"`)
		a.join(s, e)
		subscribed, stored := errRedis, error(nil)
		if part == "presence" {
			subscribed, stored = nil, errRedis
		}
		s.live[0](subscribed)
		a.presence.settle(t, stored)
		ack := e.ack(t)
		if got := code(t, ack); got != string(codeUnavailable) || strings.Contains(ack, "READONLY") {
			t.Errorf("%s failed: ack %s", part, ack)
		}
		e.waitReleased(t)
		calls := a.presence.recorded()
		if s.In("r1") || calls[len(calls)-1] != "leave u1 "+testSocket+" r1" || a.refusals() != 1 {
			t.Errorf("%s failed: the join was not undone: rooms %q, presence %q", part, s.rooms, calls)
		}
	}
}

// A socket that disconnects in the middle of a join must leave nothing behind.
func TestJoinThenGone(t *testing.T) {
	a := newTestApp()
	s := a.socket("u1")
	e := newEvent(`"r1"`)
	a.join(s, e)
	a.disconnected(s, engine.ReasonTransportClose)
	s.live[0](engine.ErrDisconnected)
	a.presence.settle(t, state.ErrReleased)
	e.waitReleased(t)
	late := newEvent(`"r2"`)
	a.join(s, late)
	s.live[1](engine.ErrDisconnected)
	late.waitReleased(t)
	want := []string{"connect u1 " + testSocket + " 0", "join u1 " + testSocket + " r1", "disconnect u1 " + testSocket}
	if got := a.presence.recorded(); !slices.Equal(got, want) {
		t.Errorf("presence was asked for %q, want %q", got, want)
	}
	if a.refusals() != 0 {
		t.Error("counted as refused")
	}
}

func TestJoinWithoutAckReadsNothing(t *testing.T) {
	a := newTestApp()
	s := a.socket("u1")
	s.now = true
	e := newEvent(`"r1"`)
	e.silent = true
	a.join(s, e)
	a.presence.settle(t, nil)
	e.waitReleased(t)
	if a.presence.reads != 0 || len(e.acks) != 0 {
		t.Error("nobody asked, but presence was read")
	}
}

// The join stands when only the snapshot cannot be read.
func TestJoinWithoutSnapshot(t *testing.T) {
	a := newTestApp()
	a.presence.err = errRedis
	s := a.socket("u1")
	s.now = true
	e := newEvent(`"r1"`)
	a.join(s, e)
	a.presence.settle(t, nil)
	if got, want := e.ack(t), `[{"ok":true,"room":"r1"}]`; got != want || !s.In("r1") {
		t.Errorf("ack %s, want %s", got, want)
	}
	e.waitReleased(t)
}

func TestTooManyRooms(t *testing.T) {
	a := newTestApp()
	rooms := make([]string, defaultMaxRooms-1)
	for i := range rooms {
		rooms[i] = fmt.Sprint("r", i)
	}
	s := a.socket("u1", rooms...)
	e := newEvent(`"one-more"`)
	a.join(s, e)
	if got := code(t, e.ack(t)); got != string(codeTooManyRooms) {
		t.Errorf("ack code %s", got)
	}
	again := newEvent(`"r7"`) // a room it is in already takes no place
	a.join(s, again)
	if !again.held {
		t.Error("joining a room again was refused")
	}
}

func TestLeave(t *testing.T) {
	a := newTestApp()
	s := a.socket("u1", "r1")
	e := newEvent(`"r1"`)
	a.leave(s, e)
	if s.In("r1") {
		t.Error("still a member")
	}
	e.open(t, "before presence is stored")
	a.presence.settle(t, nil)
	if got := e.ack(t); got != `[{"ok":true}]` {
		t.Errorf("ack %s", got)
	}
	e.waitReleased(t)

	again := newEvent(`"r1"`)
	a.leave(s, again)
	if got := code(t, again.ack(t)); got != string(codeRoomUnknown) {
		t.Errorf("leaving twice: %s", got)
	}
}

func TestMessage(t *testing.T) {
	a := newTestApp()
	s := a.socket(`u"1`, "r1")
	e := newEvent(`"r1"`, `{"b":1.0,"a":"é\u2028","big":12345678901234567890}`, `{"_placeholder":true,"num":0}`, `null`)
	e.attachments = [][]byte{{1, 2, 3}}
	a.message(s, e)
	e.open(t, "before Redis accepted it")
	p := a.published[0]
	want := `["message","r1",{"from":"u\"1","ts":1700000000000},{"b":1.0,"a":"é\u2028","big":12345678901234567890},{"_placeholder":true,"num":0},null]`
	if p.room != "r1" || string(p.p.JSON) != want || len(p.p.Attachments) != 1 || string(p.p.Attachments[0]) != "\x01\x02\x03" {
		t.Errorf("published to %s: %s with %v\nwant %s", p.room, p.p.JSON, p.p.Attachments, want)
	}
	p.done(nil)
	if got := e.ack(t); got != `[{"ok":true}]` {
		t.Errorf("ack %s", got)
	}
	if a.refusals() != 0 {
		t.Error("counted as refused")
	}
}

// A message with an id counts once per user; receivers see the id.
func TestMessageWithID(t *testing.T) {
	a := newTestApp()
	s := a.socket("ada", "r1")
	a.message(s, newEvent(`{"room":"r1","id":"m\"1"}`, `1`))
	a.message(s, newEvent(`{"room":"r1"}`, `2`))
	a.message(s, newEvent(`{"room":"r1","id":null}`, `3`))
	want := []string{
		`ada{}#m"1 ["message","r1",{"from":"ada","ts":1700000000000,"id":"m\"1"},1]`,
		` ["message","r1",{"from":"ada","ts":1700000000000},2]`,
		` ["message","r1",{"from":"ada","ts":1700000000000},3]`,
	}
	for i, p := range a.published {
		if got := p.once + " " + string(p.p.JSON); got != want[i] || p.room != "r1" {
			t.Errorf("%d: %s\nwant %s", i, got, want[i])
		}
	}
	if len(a.published) != len(want) {
		t.Fatalf("%d published", len(a.published))
	}
	if onceName("a", "b#c") == onceName("a#b", "c") || onceName("a", "b{}#c") == onceName("a{}#b", "c") && state.ValidID("user", "a{}#b") == nil {
		t.Error("a user's id can name another user's message")
	}
}

func TestMessageRefused(t *testing.T) {
	tests := []struct {
		name string
		args []string
		sync error // of publish
		late error // of its done function
		want ackCode
	}{
		{"not a member", []string{`"r2"`, `1`}, nil, nil, codeRoomUnknown},
		{"own private room", []string{`"` + testSocket + `"`, `1`}, nil, nil, codeRoomReserved},
		{"no content", []string{`"r1"`}, nil, nil, codePayloadInvalid},
		{"nothing at all", nil, nil, nil, codeRoomInvalid},
		{"queue full", []string{`"r1"`, `1`}, fmt.Errorf("engine: %w", state.ErrQueueFull), nil, codeQueueFull},
		{"too large", []string{`"r1"`, `1`}, fmt.Errorf("%w: 9 bytes", engine.ErrTooLarge), nil, codeTooLarge},
		{"closed", []string{`"r1"`, `1`}, state.ErrClosed, nil, codeUnavailable},
		{"cannot be encoded", []string{`"r1"`, `1`}, errors.New("engine: event data: nested too deep"), nil, codePayloadInvalid},
		{"Redis refuses", []string{`"r1"`, `1`}, nil, errRedis, codeUnavailable},
		{"Redis is away", []string{`"r1"`, `1`}, nil, state.ErrUnavailable, codeUnavailable},
		{"nobody knows", []string{`"r1"`, `1`}, nil, fmt.Errorf("publish: %w", state.ErrUnknown), codeUnknown},
		{"no room", []string{`{"id":"m1"}`, `1`}, nil, nil, codeRoomInvalid},
		{"a room that is none", []string{`{"room":1}`, `1`}, nil, nil, codeRoomInvalid},
		{"another room", []string{`{"room":"r2","id":"m1"}`, `1`}, nil, nil, codeRoomUnknown},
		{"a reserved room", []string{`{"room":"user:eve"}`, `1`}, nil, nil, codeRoomReserved},
		{"an empty id", []string{`{"room":"r1","id":""}`, `1`}, nil, nil, codePayloadInvalid},
		{"a long id", []string{`{"room":"r1","id":"` + strings.Repeat("x", 65) + `"}`, `1`}, nil, nil, codePayloadInvalid},
		{"an id that is no string", []string{`{"room":"r1","id":7}`, `1`}, nil, nil, codeRoomInvalid},
		{"an id and no content", []string{`{"room":"r1","id":"m1"}`}, nil, nil, codePayloadInvalid},
	}
	for _, tt := range tests {
		for _, silent := range []bool{false, true} {
			a := newTestApp()
			a.publishErr = tt.sync
			s := a.socket("u1", "r1")
			e := newEvent(tt.args...)
			e.silent = silent
			a.message(s, e)
			if tt.late != nil {
				a.published[0].done(tt.late)
			}
			if a.refusals() != 1 {
				t.Errorf("%s: counted %v times", tt.name, a.refusals())
			}
			if silent {
				if len(e.acks) != 0 {
					t.Errorf("%s: acknowledged, though nobody asked", tt.name)
				}
			} else if ack := e.ack(t); code(t, ack) != string(tt.want) || strings.Contains(ack, "READONLY") || len(e.acks) != 0 {
				t.Errorf("%s: %s and %d more, want %s alone", tt.name, ack, len(e.acks), tt.want)
			}
		}
	}
}
