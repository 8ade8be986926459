package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRecoveryRules(t *testing.T) {
	for _, tt := range []struct {
		rules   string
		rooms   string // one message's, separated by spaces
		journal bool
	}{
		{"on", "", true},
		{"on", "r1", true},
		{"off", "", false},
		{"off", "r1", false},
		{"on,typing:=off", "", true},
		{"on,typing:=off", "typing:r1", false},
		{"on,typing:=off", "typing", true},
		{"on,typing:=off", "typing:r1 r2", true},
		{"on,typing:=off,typing:a=on", "typing:ab", true},
		{"on,typing:a=on,typing:=off", "typing:ab", true},
		{"on,typing:a=on,typing:=off", "typing:b", false},
		{"off,chat:=on", "chat:1", true},
		{"off,chat:=on", "", false},
		{"off,a=b=on", "a=bc", true},
	} {
		var r recoveryRules
		if err := r.UnmarshalText([]byte(tt.rules)); err != nil {
			t.Fatal(err)
		}
		if got := r.journal("/", strings.Fields(tt.rooms)); got != tt.journal {
			t.Errorf("%s: a message to %q is journalled: %v", tt.rules, tt.rooms, got)
		}
		if r.String() != tt.rules {
			t.Errorf("%s is shown as %s", tt.rules, r)
		}
		if want := strings.Contains(tt.rules, "on"); r.enabled() != want {
			t.Errorf("%s: enabled %v", tt.rules, r.enabled())
		}
	}
}

// A socket that came back is present in all its rooms before the node it was on
// is told to drop it, and is then shown who is there.
func TestRecovered(t *testing.T) {
	a := newTestApp()
	a.presence.members["r1"], a.presence.members["r2"] = []string{"ada", "bob"}, []string{"bob"}
	s := &fakeSocket{id: testSocket, data: &identity{User: "bob"}, rooms: []string{"r1", "r2"}}
	dropped := false
	a.recovered(s, 3, func() { dropped = true })
	want := []string{"connect bob " + testSocket + " 3", "join bob " + testSocket + " r1", "join bob " + testSocket + " r2"}
	if got := a.presence.recorded(); !slices.Equal(got, want) {
		t.Errorf("presence %v, want %v", got, want)
	}
	a.presence.settle(t, nil)
	if dropped {
		t.Error("dropped before the second room was stored")
	}
	a.presence.settle(t, nil)
	if !dropped {
		t.Error("not dropped")
	}
	waitFor(t, "the snapshots", func() bool { return len(s.emitted()) == 2 })
	events := s.emitted()
	slices.Sort(events)
	for i, want := range []string{
		`["presence",{"room":"r1","users":["ada","bob"],"count":2,`, `["presence",{"room":"r2","users":["bob"],"count":1,`,
	} {
		if !strings.HasPrefix(events[i], want) {
			t.Errorf("%s, want %s…", events[i], want)
		}
	}
}

// One that is gone again before that leaves no presence behind, and the node it
// was on drops it all the same.
func TestRecoveredAndGone(t *testing.T) {
	a := newTestApp()
	s := &fakeSocket{id: testSocket, data: &identity{User: "bob"}, rooms: []string{"r1"}}
	a.disconnected(s, "transport close")
	dropped := false
	a.recovered(s, 3, func() { dropped = true })
	if !dropped || len(a.presence.recorded()) != 0 {
		t.Errorf("dropped %v, presence %v", dropped, a.presence.recorded())
	}
}

func TestClaimedUser(t *testing.T) {
	if got := fmt.Sprintf("%q %q", claimedUser("ada", testSocket), claimedUser(testSocket, testSocket)); got != `"ada" ""` {
		t.Error(got)
	}
}
