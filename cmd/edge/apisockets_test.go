package main

import (
	"slices"
	"strings"
	"testing"
)

// TestSocketPageBytes: a page of sockets that are in as many rooms as they may be, of the
// longest names, does not become large, and has at least one.
func TestSocketPageBytes(t *testing.T) {
	rooms := func(n int) []string { return slices.Repeat([]string{strings.Repeat("r", 255)}, n) }
	page := make([]int, maxSocketPage)
	for _, tc := range []struct {
		what  string
		rooms int
		want  int
	}{
		{"few rooms", 3, maxSocketPage},
		{"the most rooms", defaultMaxRooms, 17},
		{"more than one answer", maxPageBytes / 255, 1},
	} {
		got := describeSockets(page, func(int) apiSocket { return apiSocket{Rooms: rooms(tc.rooms)} })
		if len(got) != tc.want {
			t.Errorf("%s: %d sockets, want %d", tc.what, len(got), tc.want)
		}
	}
	if got := describeSockets(nil, func(int) apiSocket { return apiSocket{} }); got == nil || len(got) != 0 {
		t.Errorf("of no sockets: %v, want an empty list", got)
	}
}
