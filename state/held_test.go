package state

import "testing"

// TestHeld: the sockets of a user that are open here are known at once, whatever Redis has of them.
func TestHeld(t *testing.T) {
	p := &Presence{ledger: newLedger("one"), wake: make(chan struct{}, 1)}
	held := func(user string, want int) {
		t.Helper()
		if got := p.Held(user); got != want {
			t.Errorf("%s has %d sockets, want %d", user, got, want)
		}
	}
	held("u1", 0)
	p.Connect("u1", "s1", 0, nil)
	p.Connect("u1", "s2", 0, nil)
	p.Connect("u1", "s2", 0, nil) // again
	p.Connect("u2", "s3", 0, nil)
	held("u1", 2)
	held("u2", 1)
	p.Disconnect("u1", "s1", true)
	p.Disconnect("u1", "s1", false)
	held("u1", 1)
	p.Disconnect("u2", "s2", false) // not that user's
	held("u1", 1)
	p.Disconnect("u1", "s2", false)
	held("u1", 0)
}
