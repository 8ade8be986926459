package chaos

import (
	"strings"
	"testing"
)

// scene is a small truth: ada is online with two sockets and in the kitchen, bob is absent, eve is coming.
func scene() *Truth {
	t := NewTruth(NewRoster([]string{"ada", "bob", "eve"}, []string{"kitchen", "attic"}))
	t.Online = []Claim{Present, Absent, Undecided}
	t.InRoom[0] = []Claim{Present, Absent, Undecided}
	t.Sockets[0] = []string{"a1", "a2"}
	t.Moving[2] = true
	return t
}

func TestCompare(t *testing.T) {
	keys := func(change func(*Keys)) *Keys {
		k := &Keys{Online: []string{"ada"}, Rooms: [][]string{{"ada"}, nil}, Sockets: []string{"a2", "", ""}}
		change(k)
		return k
	}
	tests := []struct {
		name    string
		keys    *Keys
		want    Diff
		example string
	}{
		{"right", keys(func(*Keys) {}), Diff{}, ""},
		{"the other socket", keys(func(k *Keys) { k.Sockets[0] = "a1" }), Diff{}, ""},
		{"undecided is right either way", keys(func(k *Keys) {
			k.Online = []string{"eve", "ada"}
			k.Rooms[0] = []string{"eve", "ada"}
			k.Sockets[2] = "whatever"
		}), Diff{}, ""},
		{"ghost online", keys(func(k *Keys) { k.Online = []string{"bob", "ada"} }), Diff{Online: Count{Ghosts: 1}}, "presence:online has bob"},
		{"stranger online", keys(func(k *Keys) { k.Online = []string{"ada", "zoe"} }), Diff{Online: Count{Ghosts: 1}}, "presence:online has zoe"},
		{"missing online", keys(func(k *Keys) { k.Online = nil }), Diff{Online: Count{Missing: 1}}, "presence:online lacks ada"},
		{"ghost in a room", keys(func(k *Keys) { k.Rooms[1] = []string{"ada"} }), Diff{Rooms: Count{Ghosts: 1}}, "room:attic:users has ada"},
		{"missing in a room", keys(func(k *Keys) { k.Rooms[0] = nil }), Diff{Rooms: Count{Missing: 1}}, "room:kitchen:users lacks ada"},
		{"socket of nobody", keys(func(k *Keys) { k.Sockets[1] = "b1" }), Diff{Sockets: Count{Ghosts: 1}}, "user:bob:socket is b1"},
		{"closed socket", keys(func(k *Keys) { k.Sockets[0] = "a0" }), Diff{Sockets: Count{Ghosts: 1}}, "user:ada:socket is a0"},
		{"no socket", keys(func(k *Keys) { k.Sockets[0] = "" }), Diff{Sockets: Count{Missing: 1}}, "user:ada:socket is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Compare(scene(), tt.keys)
			if got.Online != tt.want.Online || got.Rooms != tt.want.Rooms || got.Sockets != tt.want.Sockets {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if got.Right() != (tt.example == "") {
				t.Errorf("right is %v", got.Right())
			}
			if text := strings.Join(got.Examples, "\n"); !strings.HasPrefix(text, tt.example) {
				t.Errorf("examples %q do not begin with %q", text, tt.example)
			}
		})
	}
}

func TestWorstKeepsEachNumber(t *testing.T) {
	d := Diff{Online: Count{Ghosts: 5, Missing: 1}, Examples: []string{"first"}}
	d.Worst(Diff{Online: Count{Ghosts: 2, Missing: 3}, Rooms: Count{Ghosts: 9}, Examples: []string{"second"}})
	if d.Online != (Count{5, 3}) || d.Rooms != (Count{9, 0}) || d.Examples[0] != "second" {
		t.Errorf("%+v", d)
	}
}
