package chaos

import (
	"testing"
	"time"
)

func TestCrowdIsDealt(t *testing.T) {
	c := NewCrowd(Plan{Users: 20, Rooms: 6, Each: 3, Targets: []string{"a:1", "b:1", "c:1"}})
	defer c.Close()
	if want := 20 + 2*(2*1+1*2) + 3*6; c.Devices() != want {
		t.Errorf("%d devices, want %d", c.Devices(), want)
	}
	if len(c.Roster.Users) != 20+3*6 || len(c.Roster.Rooms) != 6 {
		t.Errorf("%d users in %d rooms", len(c.Roster.Users), len(c.Roster.Rooms))
	}
	homes := map[int]map[int]bool{}
	for _, d := range c.devices {
		want := 3
		if d.observer != nil {
			want = 1
		}
		rooms := map[int]bool{}
		for _, room := range d.want {
			rooms[room] = true
		}
		if len(rooms) != want {
			t.Errorf("a device is in rooms %v", d.want)
		}
		if homes[d.user] == nil {
			homes[d.user] = map[int]bool{}
		}
		if homes[d.user][d.home] {
			t.Errorf("user %d has two devices on node %d", d.user, d.home)
		}
		homes[d.user][d.home] = true
	}
}

// TestTruth puts the two devices of one user into states and sees what the crowd claims.
func TestTruth(t *testing.T) {
	now := time.Now()
	young, old := now, now.Add(-10*time.Second)
	in := func(s roomState, changed time.Time) map[int]membership { return map[int]membership{0: {s, changed}} }
	tests := []struct {
		name         string
		one, two     device
		online, room Claim
		sockets      int
		moving       bool
	}{
		{"both away", device{changed: old}, device{changed: old}, Absent, Absent, 0, false},
		{"one online", device{phase: online, changed: old, rooms: in(joined, old)}, device{changed: old}, Present, Present, 1, false},
		{"the other comes", device{phase: online, changed: old, rooms: in(joined, old)}, device{phase: connecting, changed: young}, Present, Present, 1, true},
		{"only one, who goes", device{phase: closing, changed: young, rooms: in(joined, old)}, device{changed: old}, Undecided, Undecided, 1, true},
		{"went just now", device{changed: young, rooms: in(left, young)}, device{changed: old}, Undecided, Undecided, 0, true},
		{"came just now", device{phase: online, changed: young, rooms: in(joined, young)}, device{changed: old}, Undecided, Undecided, 1, true},
		{"joins", device{phase: online, changed: old, rooms: in(joining, young)}, device{changed: old}, Present, Undecided, 1, false},
		{"joins for long", device{phase: online, changed: old, rooms: in(joining, old)}, device{changed: old}, Present, Undecided, 1, false},
		{"leaves, the other stays", device{phase: online, changed: old, rooms: in(leaving, young)},
			device{phase: online, changed: old, rooms: in(joined, old)}, Present, Present, 2, false},
		{"left long ago", device{phase: online, changed: old, rooms: in(left, old)}, device{changed: old}, Present, Absent, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCrowd(Plan{Rooms: 1, Each: 1})
			defer c.Close()
			c.Roster = NewRoster([]string{"ada"}, []string{"kitchen"})
			c.devices = []*device{&tt.one, &tt.two}
			truth := c.Truth(now.Add(-time.Second))
			if truth.Online[0] != tt.online || truth.InRoom[0][0] != tt.room || len(truth.Sockets[0]) != tt.sockets || truth.Moving[0] != tt.moving {
				t.Errorf("online %v, in the room %v, %d sockets, moving %v", truth.Online[0], truth.InRoom[0][0], len(truth.Sockets[0]), truth.Moving[0])
			}
		})
	}
}

func TestYoungChangesAreDecidedWhenNothingIsForgiven(t *testing.T) {
	c := NewCrowd(Plan{Rooms: 1, Each: 1})
	defer c.Close()
	c.Roster = NewRoster([]string{"ada"}, []string{"kitchen"})
	c.devices = []*device{{phase: online, changed: time.Now(), rooms: map[int]membership{0: {joined, time.Now()}}}}
	if truth := c.Truth(time.Time{}); truth.Online[0] != Present || truth.InRoom[0][0] != Present || truth.Moving[0] {
		t.Errorf("%+v", truth)
	}
}

// TestWitness has ada die with one device, bob with one of two in the same room, and eve unknown
// because churn goes on with her.
func TestWitness(t *testing.T) {
	c := NewCrowd(Plan{Rooms: 2, Each: 1, Targets: []string{"a:1", "b:1"}})
	defer c.Close()
	c.Roster = NewRoster([]string{"ada", "bob", "eve"}, []string{"kitchen", "attic"})
	long := time.Now().Add(-time.Hour)
	frozen := &person{frozen: true}
	add := func(user, node int, p *person, room int) *device {
		d := &device{user: user, person: p, home: node, node: node, phase: online, back: long, rooms: map[int]membership{room: {joined, long}}}
		c.devices = append(c.devices, d)
		return d
	}
	c.devices = nil
	ada := add(0, 0, frozen, 0)
	add(1, 0, frozen, 0)
	add(1, 1, frozen, 0)
	add(1, 0, frozen, 1)
	add(2, 0, &person{}, 0)
	w := c.Witness(0, true)
	got := map[Pair]bool{}
	for _, p := range w.pairs {
		got[p] = true
	}
	want := []Pair{{0, "ada", false, false}, {0, "bob", true, false}, {1, "bob", false, false}}
	if len(got) != len(want) {
		t.Errorf("pairs %v", w.pairs)
	}
	for _, p := range want {
		if !got[p] {
			t.Errorf("pairs %v lack %v", w.pairs, p)
		}
	}

	back := c.Witness(0, false)
	killed := time.Now()
	ada.phase = away
	if l := back.Judge(killed); l.Late != 1 {
		t.Errorf("ada is not back, late are %d", l.Late)
	}
	ada.phase, ada.back = online, killed.Add(time.Second)
	if l := back.Judge(killed); l.Late != 1 {
		t.Errorf("ada came back late, late are %d", l.Late)
	}
	if l := back.Judge(killed.Add(2 * time.Second)); l.Late != 0 {
		t.Errorf("ada came back in time, late are %d", l.Late)
	}
}
