//go:build linux

package main

import (
	"context"
	"errors"
	"testing"

	"github.com/stellara/edge/bench/load"
)

func TestChurnersDoWhatTheyCan(t *testing.T) {
	for _, tc := range []struct {
		connected bool
		rooms     int
		want      map[deed]int // of 100 throws of the dice
	}{
		{false, 0, map[deed]int{deedConnect: 100}},
		{true, 0, map[deed]int{deedMove: 15, deedJoin: 70, deedDisconnect: 15}},
		{true, 1, map[deed]int{deedMove: 15, deedJoin: 20, deedLeave: 35, deedDisconnect: 30}},
		{true, 2, map[deed]int{deedMove: 15, deedLeave: 55, deedDisconnect: 30}},
	} {
		got := map[deed]int{}
		for dice := range 100 {
			got[nextDeed(tc.connected, tc.rooms, dice)]++
		}
		if len(got) != len(tc.want) {
			t.Errorf("in %d rooms: %v", tc.rooms, got)
		}
		for deed, n := range tc.want {
			if got[deed] != n {
				t.Errorf("in %d rooms: %d of 100 %s, want %d", tc.rooms, got[deed], deed, n)
			}
		}
	}
}

func TestChurnersChangeOneAtATime(t *testing.T) {
	plan := &load.Plan{Targets: []string{"a", "b", "c"}, Rooms: 2, Prefix: "x-"}
	c := newChurn(plan, 1.5, nil)
	if len(c.users) != 6 {
		t.Fatalf("%d users for 1.5 changes a second", len(c.users))
	}
	seen := map[string]bool{}
	for range c.users {
		seen[c.pick().name] = true
	}
	if len(seen) != 6 || !seen["x-c0"] || c.pick() != nil {
		t.Errorf("picked %v, and one more", seen)
	}
	u := c.users[0]
	if a, b, d := c.target(u), c.target(u), c.target(u); a == b || b == d || a == d {
		t.Errorf("one node after the other: %s, %s, %s", a, b, d)
	}
}

func TestChurnThatFailsIsCounted(t *testing.T) {
	c := newChurn(&load.Plan{Targets: []string{"127.0.0.1:1"}, Rooms: 1}, 1, nil)
	c.start(context.Background())
	for range 2 {
		c.change(c.pick()) // nobody listens there
	}
	c.fail(c.users[0], errors.New("c0 is c0"))
	c.stop()
	r := c.result()
	if r.Failures < 3 || r.Changes() != 0 || r.Reasons["<user> is <user>"] != 1 {
		t.Errorf("%+v", r)
	}
	if r := newChurn(&load.Plan{}, 0, nil).result(); r != nil {
		t.Errorf("no churn did %+v", r)
	}
}
