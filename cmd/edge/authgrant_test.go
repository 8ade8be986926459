package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

func TestPatterns(t *testing.T) {
	for _, tt := range []struct {
		patterns patterns
		room     string
		want     bool
	}{
		{nil, "r", true},
		{patterns{}, "r", false},
		{patterns{"r"}, "r", true},
		{patterns{"r"}, "r2", false},
		{patterns{"r*"}, "r", true},
		{patterns{"r*"}, "r2", true},
		{patterns{"r*"}, "R2", false},
		{patterns{"a", "chat:*"}, "chat:1", true},
		{patterns{"a", "chat:*"}, "chat", false},
		{patterns{"*"}, "anything", true},
		{patterns{"r*"}, "r*", true},
	} {
		if got := tt.patterns.match(tt.room); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.patterns, tt.room, got)
		}
	}
	for _, bad := range []patterns{{""}, {"a*b"}, {"*a"}, {"**"}, {"ok", "a**"}} {
		if bad.check() == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestGrantedRooms: join and message are limited by the token, each by its own list.
func TestGrantedRooms(t *testing.T) {
	a := newTestApp()
	s := a.socket("u1", "chat:lobby", "news")
	s.now = true
	identityOf(s).grant.Store(&grant{Join: patterns{"chat:*", "news"}, Publish: patterns{"chat:lobby"}})
	for _, tt := range []struct{ event, room, want string }{
		{"join", `"vip"`, "not_allowed"},
		{"join", `"chat"`, "not_allowed"},
		{"join", `"user:1"`, "room_reserved"},
		{"message", `"news"`, "not_allowed"},
		{"message", `{"room":"news","id":"1"}`, "not_allowed"},
		{"message", `"vip"`, "room_unknown"},
		{"message", `"chat:lobby"`, ""},
		{"join", `"chat:2"`, ""},
	} {
		e := newEvent(tt.room, `"hello"`)
		switch tt.event {
		case "join":
			a.join(s, e)
		case "message":
			a.message(s, e)
		}
		if tt.want == "" {
			select {
			case ack := <-e.acks:
				t.Errorf("%s %s: %s", tt.event, tt.room, ack)
			default: // under way
			}
			continue
		}
		if got := code(t, e.ack(t)); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.event, tt.room, got, tt.want)
		}
	}
	if len(a.published) != 1 || a.published[0].room != "chat:lobby" || s.In("vip") || !s.In("chat:2") {
		t.Errorf("published %v, in %v", a.published, s.Rooms())
	}
}

// refresh sends a new token and returns the answer.
func refresh(t *testing.T, a *testApp, auth *authenticator, s *fakeSocket, args ...string) string {
	t.Helper()
	e := newEvent(args...)
	a.token(auth, s, e)
	for range len(a.presence.done) {
		a.presence.settle(t, nil)
	}
	ack := e.ack(t)
	if e.held {
		e.waitReleased(t)
	}
	return ack
}

// TestRefresh: a new token takes effect at once if it is the same user's, and rooms
// that it does not allow are left, but for those that a server put the socket into.
func TestRefresh(t *testing.T) {
	a := newTestApp()
	now := testNow
	a.expiries.now = func() time.Time { return now }
	auth := newTestAuth(t, production())
	s := a.socket("u1", "chat:1", "chat:2", "by server", "user:u1")
	first := testNow.Add(2 * time.Minute).UnixMilli()
	identityOf(s).grant.Store(&grant{Expires: first, Join: patterns{"chat:*"}})
	a.admitted(s)
	token := func(claims jwt.MapClaims) string {
		raw, _ := json.Marshal(signed(t, jwt.SigningMethodHS256, []byte(testSecret), claims))
		return string(raw)
	}
	for _, tt := range []struct {
		args []string
		code string
	}{
		{nil, "token_missing"},
		{[]string{`null`}, "token_missing"},
		{[]string{`""`}, "token_missing"},
		{[]string{`7`}, "token_invalid"},
		{[]string{`"x"`}, "token_invalid"},
		{[]string{token(jwt.MapClaims{"sub": "u1", "exp": testNow.Unix() - 60})}, "token_expired"},
		{[]string{token(jwt.MapClaims{"sub": "u2"})}, "user_mismatch"},
		{[]string{token(jwt.MapClaims{"sub": ""})}, "user_mismatch"},
	} {
		if got := code(t, refresh(t, a, auth, s, tt.args...)); got != tt.code {
			t.Errorf("%v: %s, want %s", tt.args, got, tt.code)
		}
	}
	if got := testutil.ToFloat64(auth.metrics.Auths[metrics.AuthAccepted]); got != 0 {
		t.Errorf("%v refused tokens are counted as accepted", got)
	}
	if got := identityOf(s).grant.Load().expires(); got != first || s.stored != 0 {
		t.Errorf("a refused token changed the expiry to %d", got)
	}

	later := testNow.Add(time.Hour)
	want := fmt.Sprintf(`[{"ok":true,"expires":%d}]`, later.UnixMilli())
	ack := refresh(t, a, auth, s, token(jwt.MapClaims{"sub": "u1", "exp": later.Unix(), "rooms": map[string]any{"join": []string{"chat:1", "x"}}}))
	if ack != want || !slices.Equal(s.Rooms()[1:], []string{"chat:1", "by server", "user:u1"}) || s.stored != 1 {
		t.Errorf("answered %s, in %v, stored %d times", ack, s.Rooms(), s.stored)
	}
	told := []string{`["rooms_left",{"rooms":["chat:2"],"code":"not_allowed"}]`}
	if got := s.emitted(); !slices.Equal(got, told) {
		t.Errorf("told %v", got)
	}
	if got := a.presence.recorded(); got[len(got)-1] != "leave u1 "+testSocket+" chat:2" {
		t.Errorf("presence %v", got)
	}
	now = testNow.Add(10 * time.Minute)
	a.expiries.step()
	if got := s.emitted(); !slices.Equal(got, told) {
		t.Errorf("by the old expiry it was told %v", got)
	}
	if ack := refresh(t, a, auth, s, token(jwt.MapClaims{"sub": "u1"})); ack != `[{"ok":true}]` || len(a.expiries.heap) != 0 {
		t.Errorf("without expiry: %s, %d to expire", ack, len(a.expiries.heap))
	}

	a.disconnected(s, "transport close")
	gone := newEvent(token(jwt.MapClaims{"sub": "u1", "exp": later.Unix()}))
	a.token(auth, s, gone)
	gone.waitReleased(t)
	if len(a.expiries.heap) != 0 {
		t.Error("the token of a socket that is gone is watched over")
	}
}

// TestRefreshWithoutRedis: rooms are left though presence is not told in time.
func TestRefreshWithoutRedis(t *testing.T) {
	a := newTestApp()
	auth := newTestAuth(t, production())
	s := a.socket("u1", "r")
	raw, _ := json.Marshal(signed(t, jwt.SigningMethodHS256, []byte(testSecret), jwt.MapClaims{"sub": "u1", "rooms": map[string]any{"join": []string{}}}))
	e := newEvent(string(raw))
	a.token(auth, s, e)
	e.open(t, "before presence is stored")
	a.presence.settle(t, errRedis)
	if got := code(t, e.ack(t)); got != "unavailable" || s.In("r") {
		t.Errorf("answered %s, in %v", got, s.Rooms())
	}
	e.waitReleased(t)
}

// TestReturnWithAnotherToken: who comes back is in the rooms that the new token allows.
func TestReturnWithAnotherToken(t *testing.T) {
	stored := []byte(`{"user":"u1","expires":5,"join":["a*","b"]}`)
	for _, tt := range []struct {
		name  string
		grant *grant
		left  []string
		saved int
	}{
		{"the same rooms", &grant{Expires: 9, Join: patterns{"a*", "b"}}, nil, 0},
		{"fewer", &grant{Expires: 9, Join: patterns{"a1"}}, []string{"a2", "b"}, 1},
		{"more", &grant{Join: patterns{"*"}}, nil, 1},
		{"no limits", nil, nil, 1},
	} {
		a := newTestApp()
		who := restored(&verified{User: "u1", Grant: tt.grant}, stored)
		var kept []string
		for _, room := range []string{"a1", "a2", "b", "by server"} {
			if a.keepRoom(who, room) {
				kept = append(kept, room)
			}
		}
		s := &fakeSocket{id: testSocket, data: who, rooms: kept}
		a.admitted(s)
		if len(kept)+len(tt.left) != 4 || !slices.Contains(kept, "by server") || s.stored != tt.saved {
			t.Errorf("%s: kept %v, stored %d times", tt.name, kept, s.stored)
		}
		var told []string
		if tt.left != nil {
			list, _ := json.Marshal(tt.left)
			told = []string{`["rooms_left",{"rooms":` + string(list) + `,"code":"not_allowed"}]`}
		}
		if got := s.emitted(); !slices.Equal(got, told) {
			t.Errorf("%s: told %v, want %v", tt.name, got, told)
		}
		if got := who.grant.Load(); got.expires() != tt.grant.expires() || got != nil && got.returned != nil {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}
