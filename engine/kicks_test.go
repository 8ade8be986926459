package engine

import (
	"strconv"
	"testing"
	"time"
)

func TestKicks(t *testing.T) {
	var k kicks
	at := time.Unix(1_700_000_000, 0)
	in := func(room string) bool { return room == "vip" }
	note := func(room string, closeConn bool, at time.Time, except ...string) {
		k.note(0, room, except, closeConn, at)
	}
	since := func(number uint64, rooms ...string) bool { _, found := k.since(number, 0, rooms, in); return found }
	note("user:ann", false, at)
	first := k.now()
	note("user:bob", true, at)
	note("user:eve", false, at)
	for _, test := range []struct {
		since uint64
		rooms []string
		want  kick
	}{
		{0, []string{"user:ann"}, kick{1, false, nil}},
		{first, []string{"user:ann"}, kick{}},
		{first, []string{"x", "user:bob"}, kick{2, true, nil}},
		{first, []string{"user:bob", "user:eve"}, kick{3, false, nil}},
		{first, []string{"user:eve", "user:bob"}, kick{3, false, nil}},
		{k.now(), []string{"user:ann", "user:bob", "user:eve"}, kick{}},
	} {
		if got, found := k.since(test.since, 0, test.rooms, in); got.number != test.want.number || got.closeConn != test.want.closeConn || found != (test.want.number > 0) {
			t.Errorf("since %d, %q: %+v, %v, want %+v", test.since, test.rooms, got, found, test.want)
		}
	}
	// Another namespace's are others, and who is excepted stays, but not from a kick before.
	if _, found := k.since(0, 1, []string{"user:ann"}, in); found {
		t.Error("kicked from another namespace")
	}
	second := k.now()
	note("user:ann", true, at, "vip")
	if got, found := k.since(0, 0, []string{"user:ann"}, in); !found || got.number != 1 {
		t.Errorf("%+v, %v: the kick of all was forgotten for one with an exception", got, found)
	}
	if since(second, "user:ann") {
		t.Error("kicked, though it was excepted")
	}
	if _, found := k.since(second, 0, []string{"user:ann"}, func(string) bool { return false }); !found {
		t.Error("not kicked, though others were excepted")
	}
	// They are remembered for kickLife at least, and not for ever.
	note("later", false, at.Add(kickLife+1))
	if !since(0, "user:ann") {
		t.Error("forgotten too soon")
	}
	note("much later", false, at.Add(2*kickLife+2))
	if since(0, "user:ann") {
		t.Error("remembered for ever")
	}
	for i := range 5 * maxKicks {
		note(strconv.Itoa(i), false, at.Add(2*kickLife+2))
	}
	if n := len(k.young) + len(k.old); n > 2*maxKicks {
		t.Errorf("%d are remembered", n)
	}
	if !since(0, strconv.Itoa(4*maxKicks+1)) {
		t.Error("one of the last was forgotten")
	}
}
