//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

func TestLossFlags(t *testing.T) {
	c := parse(t, "-scenario", "loss")
	if c.conns != 50_000 || c.nodes != 6 || c.rooms != 1000 || c.duration != 20*time.Second ||
		c.loss.victims != 3 || c.loss.each != 3 || c.loss.conns != 1000 || c.loss.rooms != 50 || c.loss.wait != time.Minute {
		t.Errorf("%+v", c)
	}
	nodes := []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5", "127.0.0.1:6"}
	idle, survivors := c.plan(nodes), c.loss.survivors(&c, nodes[3:])
	if !slices.Equal(idle.Targets, nodes[:3]) || idle.Each != 3 || idle.Senders != 0 || idle.Conns != 50_000 {
		t.Errorf("idle connections: %+v", idle)
	}
	if !slices.Equal(survivors.Targets, nodes[3:]) || survivors.Each != 0 || survivors.Senders != 4 || survivors.Conns != 1000 {
		t.Errorf("survivors: %+v", survivors)
	}
	if idle.User(1) == survivors.User(1) || idle.RoomName(1) == survivors.RoomName(1) {
		t.Error("the two groups share users or rooms")
	}
	for want, args := range map[string][]string{
		"-victims":        {"-victims", "6"},
		"-each":           {"-each", "0"},
		"5 of 4 rooms":    {"-each", "5", "-rooms", "4"},
		"-wait":           {"-wait", "1ms"},
		"-rates":          {"-rates", "1,2"},
		"-target":         {"-target", "127.0.0.1:1"},
		"-survivor-conns": {"-survivor-conns", "10"},
		"-duration":       {"-duration", "1ms"},
	} {
		if _, err := parseFlags(append([]string{"-scenario", "loss"}, args...), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not name %s", args, err, want)
		}
	}
}

func TestTruthOfTwoGroups(t *testing.T) {
	a := newTruth(&load.Plan{Conns: 4, Rooms: 2, Each: 2, Prefix: "v-"}, []string{"a0", "a1", "a2", "a3"}, []int{1})
	a.add(newTruth(&load.Plan{Conns: 2, Rooms: 2, Prefix: "s-"}, []string{"b0", "b1"}, nil))
	a.addUser("reader", "r0", 1)
	var got []string
	for i, user := range a.users {
		line := user + " " + a.sids[i]
		if !a.online[i] {
			line += " offline"
		}
		for _, room := range a.roomsOf[i] {
			line += " " + a.rooms[room]
		}
		got = append(got, line)
	}
	want := []string{
		"v-u0 a0 v-r0 v-r1", "v-u1 a1 offline v-r0 v-r1", "v-u2 a2 v-r1 v-r0", "v-u3 a3 v-r1 v-r0", "s-u0 b0 s-r0", "s-u1 b1 s-r1", "reader r0 v-r1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLossCountsWhatIsLeft(t *testing.T) {
	db, p, before := presenceOf(t, "")
	after := newTruth(&load.Plan{Conns: 6, Rooms: 2}, before.sids, []int{0, 1, 2, 3, 4, 5})
	for _, tr := range []*truth{before, after} {
		tr.addUser("reader", "r0", 1)
	}
	clock, err := load.NewClock()
	if err != nil {
		t.Fatal(err)
	}
	m := &measurement{clock: clock, presence: p, stack: &stack{plan: load.Plan{Rooms: 2}}}
	w := newLossWatcher(m, before, after)
	if want := (report.Look{Online: 1, Members: 1}); !w.want.Same(want) {
		t.Errorf("wants %+v, not %+v", w.want, want)
	}
	look, err := w.look(context.Background())
	if want := (report.Look{Online: 5, Members: 5, Keys: 5}); err != nil || !look.Same(want) {
		t.Errorf("%+v, %v; want %+v", look, err, want)
	}
	if right, err := w.until(context.Background(), clock.Now(), true); right || err != nil || len(w.wrong) == 0 {
		t.Errorf("right is %v, wrong %v, %v", right, w.wrong, err)
	}
	db.FlushAll()
	_, errA := db.SAdd("presence:online", "reader")
	_, errB := db.SAdd("room:r1:users", "reader")
	if err := errors.Join(errA, errB, db.Set("user:reader:socket", "r0")); err != nil {
		t.Fatal(err)
	}
	// A time that does not come: watching must end because everything is right.
	if right, err := w.until(context.Background(), clock.Now()+int64(time.Hour), true); !right || err != nil || len(w.looks) != 2 {
		t.Errorf("right is %v after %d looks, wrong %v, %v", right, len(w.looks), w.wrong, err)
	}
}

func TestUseBeyondTheUsual(t *testing.T) {
	usual := perSecond{20, report.CPU{Nodes: 4, Redis: 1, Client: 2}}
	got := perSecond{10, report.CPU{Nodes: 3, Redis: 1.1, Client: 0.5}}.beyond(usual)
	if got.Nodes != 1 || got.Redis < 0.599 || got.Redis > 0.601 || got.Client != 0 {
		t.Errorf("%+v", got)
	}
}

func TestSecondsOfAStretch(t *testing.T) {
	const second = int64(time.Second)
	seconds := make([]load.Second, 8)
	for i := range seconds {
		seconds[i].Latency.Record(time.Duration(i+1) * time.Millisecond)
	}
	plan := load.Step{Start: 100 * second}
	for name, tc := range map[string]struct {
		from, to int64
		whole    bool
		count    uint64
		max      float64 // that of the last second
	}{
		"whole ones":                {102 * second, 104 * second, true, 2, 4},
		"whole ones, a bit later":   {102 * second, 104*second + 1e8, true, 2, 4},
		"whole ones, a bit earlier": {102 * second, 104*second - 1e8, true, 1, 3},
		"on the second":             {104 * second, 106 * second, false, 2, 6},
		"a bit later":               {104*second + 1e8, 106*second + 1e8, false, 3, 7},
		"within one":                {104*second + 1e8, 104*second + 2e8, false, 1, 5},
		"until the last":            {104 * second, 200 * second, false, 4, 8},
		"nothing":                   {104 * second, 104 * second, false, 0, 0},
	} {
		if got := secondsOf(plan, seconds, tc.from, tc.to, tc.whole); got.Count != tc.count || got.Max != tc.max {
			t.Errorf("%s: %d up to %v ms, want %d up to %v", name, got.Count, got.Max, tc.count, tc.max)
		}
	}
}

func TestRemovalsBeginWithTheLookBefore(t *testing.T) {
	f := lossFound{killed: 100e9, times: report.LossTimes{First: 10.5, Last: 13}}
	if from, to := f.removals(); from != 110_400_000_000 || to != 113e9 {
		t.Errorf("%d to %d", from, to)
	}
	f.times = report.LossTimes{First: -1, Last: -1}
	if from, to := f.removals(); from != to {
		t.Errorf("without a removal: %d to %d", from, to)
	}
}

func TestAnswersOfAStretch(t *testing.T) {
	rs := &readers{all: []*reader{
		{answers: []answer{{1, 1e6, nil}, {2, 2e6, nil}, {3, 3e6, nil}}},
		{answers: []answer{{4, 4e6, nil}, {5, 5e6, errors.New("gone")}, {6, 6e6, nil}, {9, 9e6, nil}}},
	}}
	before, during, failed := rs.between(2, 4), rs.between(4, 9), rs.failed()
	if before.Count != 2 || before.Max != 3 || during.Count != 2 || during.Max != 6 || failed["gone"] != 1 || len(failed) != 1 {
		t.Errorf("before %+v, during %+v, failed %v", before, during, failed)
	}
}
