package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

// TestEntranceSpoken: who asks is answered while silent ones have all places and wait for them, and none of them loses its place.
func TestEntranceSpoken(t *testing.T) {
	d := openDoor(t, 3, time.Hour, ok)
	for range 6 {
		d.dial()
	}
	d.pending(6)
	for range 5 { // one after the other: no place is lost on the way
		if got := ask(t, d.dial()); !strings.HasPrefix(got, "HTTP/1.1 204") {
			t.Errorf("the answer is %q", got)
		}
	}
	d.pending(6)
	if n := testutil.ToFloat64(d.m.Refusals[metrics.RefusalNoRequest]); n != 0 {
		t.Errorf("%v were closed", n)
	}
}

// TestSpokenBounds: there are few places for those, and few looks for them.
func TestSpokenBounds(t *testing.T) {
	const most, silent = 32, 2000
	e := newEntrance(most, nil, metrics.New(prometheus.NewRegistry(), "test"), quiet)
	looks := 0
	e.pending.unread = func(c net.Conn) bool {
		looks++
		return c.(*caller).asks
	}
	now := time.Unix(0, 0)
	come := func(n int, asks bool) {
		for range n {
			e.waiting = append(e.waiting, arrival{conn: &caller{someConn{}, now, asks}, at: now})
		}
	}
	take := func() (placed []net.Conn) {
		for {
			c, victim, _ := e.next(now)
			if victim != nil {
				t.Fatal("somebody is closed")
			}
			if c == nil {
				return placed
			}
			placed = append(placed, c)
		}
	}
	come(most+silent, false)
	come(10, true)
	if n := len(take()); n != most {
		t.Fatalf("%d places are given to the first", n)
	}
	if looks == 0 || looks > mostLooks {
		t.Errorf("%d looks at once", looks)
	}
	looks = 0
	if take(); looks != 0 {
		t.Errorf("%d more looks without a pause", looks)
	}
	var placed []net.Conn
	for range silent/mostLooks + 1 {
		now = now.Add(lookEvery)
		placed = append(placed, take()...)
	}
	if len(placed) != aside(most) || len(e.waiting) != silent+10-aside(most) {
		t.Errorf("%d of those that ask have a place, and %d wait", len(placed), len(e.waiting))
	}
	for _, c := range placed {
		if !c.(*caller).asks {
			t.Error("a silent one has a place of those that ask")
		}
		e.pending.remove(c) // it was read
	}
	now = now.Add(lookEvery)
	if n := len(take()); n != aside(most) {
		t.Errorf("%d of the others have their places then", n)
	}
}
