package main

import (
	"slices"
	"testing"
)

// What a server makes sockets join and leave has presence like what they join
// themselves, but for rooms that clients cannot join.
func TestPresenceOfServerJoins(t *testing.T) {
	a := newTestApp()
	s := a.socket("u1")
	for _, room := range []string{"r1", "user:u2", testSocket, "a{b}"} {
		a.serverJoined(s, room)
		a.serverLeft(s, room)
	}
	early := &fakeSocket{id: "nodeAAAAsocket000002", data: &identity{User: "u2"}, rooms: []string{"r1", "user:u1", "a{b}", "r2"}}
	a.serverJoined(early, "r2") // its connection handler has not run
	a.connected(early)
	a.serverJoined(early, "r3")
	a.disconnected(early, "transport close")
	a.serverJoined(early, "r4")
	a.serverLeft(early, "r3")
	back := &fakeSocket{id: "nodeAAAAsocket000003", data: &identity{User: "u3"}, rooms: []string{"user:u1", "r1"}}
	a.recovered(back, 1, func() {})
	want := []string{
		"connect u1 " + testSocket + " 0", "join u1 " + testSocket + " r1", "leave u1 " + testSocket + " r1",
		"connect u2 nodeAAAAsocket000002 0", "join u2 nodeAAAAsocket000002 r1", "join u2 nodeAAAAsocket000002 r2",
		"join u2 nodeAAAAsocket000002 r3", "disconnect u2 nodeAAAAsocket000002",
		"connect u3 nodeAAAAsocket000003 1", "join u3 nodeAAAAsocket000003 r1",
	}
	if got := a.presence.recorded(); !slices.Equal(got, want) {
		t.Errorf("presence was asked for\n%q, want\n%q", got, want)
	}
}
