package engine

import (
	"strconv"
	"testing"
	"time"
)

func TestKicks(t *testing.T) {
	var k kicks
	at := time.Unix(1_700_000_000, 0)
	k.note("user:ann", false, at)
	first := k.now()
	k.note("user:bob", true, at)
	k.note("user:eve", false, at)
	for _, test := range []struct {
		since uint64
		rooms []string
		want  kick
	}{
		{0, []string{"user:ann"}, kick{1, false}},
		{first, []string{"user:ann"}, kick{}},
		{first, []string{"x", "user:bob"}, kick{2, true}},
		{first, []string{"user:bob", "user:eve"}, kick{3, false}},
		{first, []string{"user:eve", "user:bob"}, kick{3, false}},
		{k.now(), []string{"user:ann", "user:bob", "user:eve"}, kick{}},
	} {
		if got, kicked := k.since(test.since, test.rooms); got != test.want || kicked != (test.want.number > 0) {
			t.Errorf("since %d, %q: %+v, %v, want %+v", test.since, test.rooms, got, kicked, test.want)
		}
	}
	// They are remembered for kickLife at least, and not for ever.
	k.note("later", false, at.Add(kickLife+1))
	if _, kicked := k.since(0, []string{"user:ann"}); !kicked {
		t.Error("forgotten too soon")
	}
	k.note("much later", false, at.Add(2*kickLife+2))
	if _, kicked := k.since(0, []string{"user:ann"}); kicked {
		t.Error("remembered for ever")
	}
	for i := range 5 * maxKicks {
		k.note(strconv.Itoa(i), false, at.Add(2*kickLife+2))
	}
	if n := len(k.young) + len(k.old); n > 2*maxKicks {
		t.Errorf("%d are remembered", n)
	}
	if _, kicked := k.since(0, []string{strconv.Itoa(4*maxKicks + 1)}); !kicked {
		t.Error("one of the last was forgotten")
	}
}
