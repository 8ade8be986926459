package state

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

func TestWindows(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	type arrival struct {
		ms    int
		room  string
		event presenceEvent
	}
	ev := func(seq uint64, joined, left string, count int) presenceEvent {
		return presenceEvent{Epoch: "e", Seq: seq, Joined: strings.Fields(joined), Left: strings.Fields(left), Count: count}
	}
	tests := []struct {
		name     string
		arrivals []arrival
		at       int
		want     []PresenceUpdate
		open     int
	}{
		{"nothing", nil, 1000, nil, 0},
		{"not yet", []arrival{{0, "r", ev(1, "a", "", 1)}}, 99, nil, 1},
		{
			"one", []arrival{{0, "r", ev(1, "a", "", 1)}}, 100,
			[]PresenceUpdate{{Room: "r", Joined: []string{"a"}, Count: 1, Seq: 1, Epoch: "e"}}, 0,
		},
		{
			"merged and sorted", []arrival{{0, "r", ev(1, "c b", "", 2)}, {50, "r", ev(2, "a", "z", 2)}}, 100,
			[]PresenceUpdate{{Room: "r", Joined: []string{"a", "b", "c"}, Left: []string{"z"}, Count: 2, Seq: 2, Epoch: "e"}}, 0,
		},
		{"came and went", []arrival{{0, "r", ev(1, "a", "", 1)}, {1, "r", ev(2, "", "a", 0)}}, 100, nil, 0},
		{"went and came", []arrival{{0, "r", ev(1, "", "a", 0)}, {1, "r", ev(2, "a", "", 1)}}, 100, nil, 0},
		{
			"came, went and came", []arrival{{0, "r", ev(1, "a", "", 1)}, {1, "r", ev(2, "", "a", 0)}, {2, "r", ev(3, "a", "", 1)}}, 100,
			[]PresenceUpdate{{Room: "r", Joined: []string{"a"}, Count: 1, Seq: 3, Epoch: "e"}}, 0,
		},
		{
			"one pair cancels, the rest stays", []arrival{{0, "r", ev(1, "a b", "", 2)}, {1, "r", ev(2, "", "a", 1)}}, 100,
			[]PresenceUpdate{{Room: "r", Joined: []string{"b"}, Count: 1, Seq: 2, Epoch: "e"}}, 0,
		},
		{
			"repeated event", []arrival{{0, "r", ev(1, "a", "", 1)}, {1, "r", ev(1, "", "a", 0)}}, 100,
			[]PresenceUpdate{{Room: "r", Joined: []string{"a"}, Count: 1, Seq: 1, Epoch: "e"}}, 0,
		},
		{
			"another epoch begins", []arrival{{0, "r", ev(9, "a", "", 5)}, {1, "r", presenceEvent{Epoch: "f", Seq: 1, Joined: []string{"b"}, Count: 1}}}, 100,
			[]PresenceUpdate{{Room: "r", Joined: []string{"a", "b"}, Count: 1, Seq: 1, Epoch: "f"}}, 0,
		},
		{
			"rooms have their own windows", []arrival{{0, "r", ev(1, "a", "", 1)}, {60, "s", ev(4, "b", "", 2)}}, 100,
			[]PresenceUpdate{{Room: "r", Joined: []string{"a"}, Count: 1, Seq: 1, Epoch: "e"}}, 1,
		},
	}
	for _, test := range tests {
		w := newWindows(100 * time.Millisecond)
		for _, a := range test.arrivals {
			w.add(a.room, a.event, at(a.ms))
		}
		if got := w.due(at(test.at)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
		next, open := w.next()
		if len(w.rooms) != test.open || len(w.order) != test.open || open != (test.open > 0) {
			t.Errorf("%s: %d windows are open, want %d", test.name, len(w.rooms), test.open)
		}
		if open && next.Before(at(test.at)) {
			t.Errorf("%s: next is due at %v", test.name, next)
		}
	}
}

// Once somebody has read the members, no change may cancel another: of the
// users that came and went the last change is told.
func TestWindowsAfterARead(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	const period = int(readPeriod / time.Millisecond)
	tests := []struct {
		name  string
		steps string // "MS read ROOM", "MS +USER ROOM" or "MS -USER ROOM"
		want  string // of room r; b was there before
	}{
		{"not read", "0 +a r, 1 -a r, 2 -b r, 3 +b r", ""},
		{"read between", "0 +a r, 1 read r, 2 -a r", "-a"},
		{"read between, the other way", "0 -b r, 1 read r, 2 +b r", "+b"},
		{"read after both", "0 +a r, 1 -a r, 2 read r", "-a"},
		{"read before the window, which lags behind", "0 read r, 5 +a r, 6 -a r", "-a"},
		{"read long before", "0 read r, " + strconv.Itoa(period+1) + " +a r, " + strconv.Itoa(period+2) + " -a r", ""},
		{"read just in time", "0 read r, " + strconv.Itoa(period) + " +a r, " + strconv.Itoa(period+1) + " -a r", "-a"},
		{"another room was read", "0 +a r, 1 read s, 2 -a r", ""},
		{"came, went and came", "0 +a r, 1 -a r, 2 read r, 3 +a r", "+a"},
		{"everybody's last change", "0 +a r, 1 -b r, 2 read r, 3 -a r, 4 +b r, 5 +c r", "+b +c -a"},
	}
	for _, test := range tests {
		w := newWindows(100 * time.Millisecond)
		last := 0
		for i, step := range strings.Split(test.steps, ", ") {
			word := strings.Fields(step)
			last, _ = strconv.Atoi(word[0])
			e := presenceEvent{Epoch: "e", Seq: uint64(i + 1)}
			switch user := word[1][1:]; {
			case word[1] == "read":
				w.readMembers(word[2], at(last))
				continue
			case word[1][0] == '+':
				e.Joined = []string{user}
			default:
				e.Left = []string{user}
			}
			w.add(word[2], e, at(last))
		}
		var got []string
		for _, u := range w.due(at(last + 100)) {
			for _, user := range u.Joined {
				got = append(got, "+"+user)
			}
			for _, user := range u.Left {
				got = append(got, "-"+user)
			}
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// Whoever reads the members and follows the updates knows in the end who is
// there, also of users that left again at once.
func TestMembersAndUpdatesAgree(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		// A window no test outlives, closed by hand below.
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern, c.PresenceWindow = pattern, time.Hour })
		subscribe(t, n, "/", "r", 1)
		subscribe(t, n, "/", "unread", 1)
		n.connect(t, "B", "s")
		for _, room := range []string{"unread", "r"} { // in this order their windows close
			n.join(t, "B", "s", room)
			if room == "r" {
				if got := n.members(t, room); !slices.Equal(got, []string{"B"}) {
					t.Fatalf("the snapshot is %q", got)
				}
			}
			done, c := outcome()
			n.Presence().Leave("B", "s", room, done)
			if err := await(t, "leave", c); err != nil {
				t.Fatal(err)
			}
		}
		u := n.bus.updates
		eventually(t, "all events are here", func() error {
			u.mu.Lock()
			defer u.mu.Unlock()
			for _, room := range []string{"r", "unread"} {
				if w := u.windows.rooms[room]; w == nil || w.last.Seq != 2 {
					return errNotYet
				}
			}
			return nil
		})
		u.mu.Lock()
		for _, w := range u.windows.order {
			w.ends = time.Now()
		}
		u.mu.Unlock()
		notify(u.opened)
		got := nextUpdate(t, n)
		if got.Room != "r" || len(got.Joined) != 0 || !slices.Equal(got.Left, []string{"B"}) || got.Count != 0 || got.Seq != 2 {
			t.Errorf("got %+v, want that B left r", got)
		}
	})
}

func TestPresenceUpdates(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern, c.PresenceWindow = pattern, 20*time.Millisecond })
		subscribe(t, n, "/", "r", 1)
		n.connect(t, "u", "s")
		n.join(t, "u", "s", "elsewhere") // nobody subscribed to it
		n.join(t, "u", "s", "r")
		first := nextUpdate(t, n)
		if first.Room != "r" || !slices.Equal(first.Joined, []string{"u"}) || len(first.Left) != 0 || first.Count != 1 || first.Seq != 1 || first.Epoch == "" {
			t.Errorf("got %+v", first)
		}
		if ttl := b.number(t, "TTL", "{room:r:users}:m"); ttl != -1 {
			t.Errorf("the epoch of a room with users ends in %d s", ttl)
		}
		b.do(t, "PUBLISH", presenceChannel("r"), "nonsense")
		b.do(t, "PUBLISH", presenceChannel("r"), `{"seq":1}`)
		n.Presence().Leave("u", "s", "r", nil)
		second := nextUpdate(t, n)
		want := PresenceUpdate{Room: "r", Left: []string{"u"}, Count: 0, Seq: 2, Epoch: first.Epoch}
		if !reflect.DeepEqual(second, want) {
			t.Errorf("got %+v, want %+v", second, want)
		}
		if ttl := b.number(t, "TTL", "{room:r:users}:m"); ttl <= 0 {
			t.Errorf("the epoch of an empty room stays for ever (%d)", ttl)
		}
		if got := testutil.ToFloat64(n.metrics.Drops[metrics.DropPresenceUpdate]); got != 2 {
			t.Errorf("%v unreadable events counted, want 2", got)
		}
		// Ids that need escaping come through as they are.
		odd := `q"\/é😀`
		n.connect(t, odd, "s2")
		n.join(t, odd, "s2", "r")
		if got := nextUpdate(t, n); !slices.Equal(got.Joined, []string{odd}) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestValidID(t *testing.T) {
	tests := []struct{ id, problem string }{
		{"u1", ""}, {"é😀 ü", ""}, {"a:b/c#d*?[]", ""}, {strings.Repeat("x", 255), ""}, {"0", ""},
		{"", "room id is empty"},
		{strings.Repeat("x", 256), "room id is 256 bytes long"},
		{strings.Repeat("é", 128), "room id is 256 bytes long"},
		{"a{b", "room id contains a brace"}, {"}", "room id contains a brace"},
		{"a\nb", "control character U+000A"}, {"\x00", "control character U+0000"}, {"\x7f", "control character U+007F"},
		{"a\u0085", "control character U+0085"},
		{"\xff", "not valid UTF-8"}, {"a\xc3", "not valid UTF-8"}, {"\xed\xa0\x80", "not valid UTF-8"},
	}
	for _, test := range tests {
		switch err := ValidID("room", test.id); {
		case test.problem == "" && err != nil:
			t.Errorf("%q: %v", test.id, err)
		case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
			t.Errorf("%q: %v, want %q", test.id, err, test.problem)
		}
	}
}
