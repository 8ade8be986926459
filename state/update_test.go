package state

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

// story drives windows of 100 ms through steps and returns what members are
// told, with a grace of 1 s. A step is "MS WHAT": +u or -u: the next event, in
// which u joined or left; ~u: it left with grace; skip: an event that is lost; epoch: Redis forgets and a new epoch begins; begin,
// end: a snapshot for a member begins, and ends as of now; end=N: as of seq N; see:
// an audit sees where Redis is; look: for rooms that stayed behind; full: a room
// that is wanted is read again; full=N: it was read as of seq N, whether wanted
// or not; forget; wait: nothing.
func story(t *testing.T, steps string) (told []string, w *windows) {
	t.Helper()
	windows := newWindows(100*time.Millisecond, time.Second)
	w = &windows
	at := position{"e1", 10}
	users := map[string]bool{"b": true}
	last := 0
	tell := func(ms int) {
		for _, u := range w.due(time.UnixMilli(int64(ms))) {
			var words []string
			for _, user := range u.Joined {
				words = append(words, "+"+user)
			}
			for _, user := range u.Left {
				words = append(words, "-"+user)
			}
			if u.Full {
				words = append(words, "="+strings.Join(u.Users, "="))
			}
			told = append(told, fmt.Sprintf("%s(%s %d-%d)", strings.Join(words, ""), u.Epoch, u.Prev, u.Seq))
		}
	}
	for _, step := range strings.Split(steps, ", ") {
		when, what, _ := strings.Cut(step, " ")
		ms, err := strconv.Atoi(when)
		if err != nil {
			t.Fatalf("step %q", step)
		}
		for ; last < ms; last++ { // so that windows close when they end
			tell(last)
		}
		now := time.UnixMilli(int64(ms))
		move := func(user string, joined bool) presenceEvent {
			at.seq++
			users[user] = joined
			e := presenceEvent{Epoch: at.epoch, Seq: at.seq}
			if joined {
				e.Joined = []string{user}
			} else {
				e.Left = []string{user}
			}
			return e
		}
		switch {
		case what[0] == '+' || what[0] == '-':
			w.add("r", move(what[1:], what[0] == '+'), now)
		case what[0] == '~':
			e := move(what[1:], false)
			e.Grace = true
			w.add("r", e, now)
		case what == "again":
			w.add("r", presenceEvent{Epoch: at.epoch, Seq: at.seq, Joined: []string{"nonsense"}}, now)
		case what == "skip":
			move("lost", true)
		case what == "epoch":
			at = position{"e2", 0}
		case what == "empty":
			at = position{}
			clear(users)
			w.want("r", w.history("r"))
		case what == "begin":
			w.beginRead("r")
		case strings.HasPrefix(what, "end"):
			as := at
			if _, seq, ok := strings.Cut(what, "="); ok {
				as.seq, _ = strconv.ParseUint(seq, 10, 64)
			}
			if w.endRead("r", as, true) {
				told = append(told, "stale")
			}
		case what == "fail":
			w.endRead("r", position{}, false)
		case what == "see":
			w.watermark("r", at, now)
		case what == "look":
			w.overtake(now)
		case strings.HasPrefix(what, "full="):
			as := at
			as.seq, _ = strconv.ParseUint(what[len("full="):], 10, 64)
			w.replace("r", as, []string{"then"}, 1, now)
		case what == "full":
			for range w.missed(now, 16) {
				var list []string
				for user, there := range users {
					if there {
						list = append(list, user)
					}
				}
				slices.Sort(list)
				w.replace("r", at, list, len(list), now)
			}
		case what == "forget":
			w.forget("r")
		case what == "wait":
		default:
			t.Fatalf("step %q", step)
		}
	}
	tell(last + 200)
	return told, w
}

// b is in the room from the start, after event 10 of epoch e1.
func TestWindows(t *testing.T) {
	for _, test := range []struct{ name, steps, told string }{
		{"one", "0 +a", "+a(e1 10-11)"},
		{"merged and sorted", "0 +c, 10 +a, 50 -b", "+a+c-b(e1 10-13)"},
		{"two windows", "0 +a, 101 +c", "+a(e1 10-11) +c(e1 11-12)"},
		{"came and went", "0 +a, 1 -a", ""},
		{"went and came", "0 -b, 1 +b", ""},
		{"came, went and came", "0 +a, 1 -a, 2 +a", "+a(e1 10-13)"},
		{"one pair cancels, the rest stays", "0 +a, 1 +c, 2 -a", "+c(e1 10-13)"},
		{"what cancelled is told with the next", "0 +a, 1 -a, 200 +c", "+c(e1 10-13)"},
		{"repeated event", "0 +a, 1 again", "+a(e1 10-11)"},
		{"repeated event later", "0 +a, 150 again", "+a(e1 10-11)"},

		{"read between", "0 +a, 1 begin, 2 end, 3 -a", "-a(e1 10-12)"},
		{"read between, the other way", "0 -b, 1 begin, 2 end, 3 +b", "+b(e1 10-12)"},
		{"read after both", "0 +a, 1 -a, 2 begin, 3 end", ""},
		{"read before both", "0 begin, 1 end, 2 +a, 3 -a", ""},
		{"read before the events came", "0 begin, 1 end=10, 2 +a, 3 begin, 4 end=12, 5 -a, 6 -b, 7 +b", "+b-a(e1 10-14)"},
		{"read not over yet", "0 begin, 1 end, 2 +a, 3 begin, 4 -a, 150 end", "-a(e1 10-12)"},
		{"read failed", "0 begin, 1 end, 2 +a, 3 begin, 4 fail, 5 -a", ""},
		{"read that is older than what was told", "0 begin, 1 end, 2 begin, 3 +a, 150 end=10", "+a(e1 10-11) stale"},
		{"two reads, the older ends last", "0 begin, 0 begin, 1 end=12, 2 end=10, 3 +a, 4 +c", "+a+c(e1 10-12)"},
		{"read in a window that cancelled", "0 begin, 1 end, 2 +a, 3 -a, 150 begin, 151 end, 152 +c", "+c(e1 10-13)"},

		{"read in the middle of a window that cancelled", "0 begin, 1 end, 2 +a, 3 -a, 150 begin, 151 end=11, 152 +c", "stale +c(e1 10-13)"},
		{"what the first snapshot has is told all the same", "0 begin, 1 end=11, 2 +a", "+a(e1 10-11)"},
		{"and does not cancel with what comes after", "0 begin, 1 end=11, 2 +a, 3 -a", "-a(e1 10-12)"},

		{"gap", "0 +a, 150 skip, 151 +c", "+a(e1 10-11) +c(e1 12-13)"},
		{"gap, and read again", "0 +a, 150 skip, 151 +c, 160 full", "+a(e1 10-11) =a=b=c=lost(e1 13-13)"},
		{"gap within a window", "0 +a, 10 skip, 11 -a", "-a(e1 12-13)"},
		{"read again while events come", "0 +a, 150 skip, 151 +c, 160 full, 161 -c", "+a(e1 10-11) =a=b=c=lost(e1 13-13) -c(e1 13-14)"},
		{"another epoch", "0 +a, 150 epoch, 151 +c, 160 full, 170 +d", "+a(e1 10-11) =a=b=c(e2 1-1) +d(e2 1-2)"},
		{"read again as of the middle of a window", "0 +a, 1 -a, 2 full=11", "=then(e1 11-11) -a(e1 11-12)"},
		{"read again as of before a window", "0 +a, 1 -a, 2 full=10", "=then(e1 10-10)"},
		{"read again, but a member knows more", "0 +x, 150 begin, 151 end=12, 152 full=11, 153 +a, 154 -a", "+x(e1 10-11) =then(e1 11-11) -a(e1 11-13)"},
		{"read again, but all know more", "0 +x, 150 full=10, 1200 full", "+x(e1 10-11) =b=x(e1 11-11)"},
		{"Redis was emptied", "0 +a, 150 empty, 151 full, 152 epoch, 153 +a, 1200 full", "+a(e1 10-11) +a(e2 0-1) =a(e2 1-1)"},
		{"read again once a second", "0 +a, 150 skip, 151 +c, 160 full, 170 skip, 171 +d, 180 full, 1200 full", "+a(e1 10-11) =a=b=c=lost(e1 13-13) +d(e1 14-15) =a=b=c=d=lost(e1 15-15)"},

		{"lost tail", "0 +a, 150 skip, 160 see, 500 look, 600 full, 2200 look, 2201 full", "+a(e1 10-11) =a=b=lost(e1 12-12)"},
		{"only late", "0 +a, 150 see, 151 +c, 2200 see, 2300 look, 2301 full", "+a(e1 10-11) +c(e1 11-12)"},
		{"lost tail, but not yet looked at twice", "0 +a, 150 skip, 160 see, 1000 +c, 2200 look, 2201 full", "+a(e1 10-11) +c(e1 12-13) =a=b=c=lost(e1 13-13)"},
		{"unknown room", "0 see, 3000 look, 3001 full", ""},
		{"forgotten", "0 +a, 10 forget, 11 skip, 12 +c", "+c(e1 12-13)"},
		{"forgotten while read", "0 +a, 10 begin, 11 forget, 12 end", ""},
	} {
		told, _ := story(t, test.steps)
		if got := strings.Join(told, " "); got != test.told {
			t.Errorf("%s: told %q, want %q", test.name, got, test.told)
		}
	}
	if _, w := story(t, "0 +a, 10 begin, 11 forget, 12 end, 13 begin, 14 end, 15 forget"); len(w.rooms)+len(w.order) != 0 {
		t.Errorf("%d rooms, %d windows are remembered of what was forgotten", len(w.rooms), len(w.order))
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
				if h := u.windows.rooms[room]; h == nil || h.at.seq != 2 {
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
		want := PresenceUpdate{Room: "r", Left: []string{"u"}, Count: 0, Prev: 1, Seq: 2, Epoch: first.Epoch}
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
