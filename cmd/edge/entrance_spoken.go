package main

import (
	"net"
	"slices"
	"time"
)

// When all places are taken, who has sent something need not wait until a silent
// connection has lost its own: it is read at once and holds nothing up. So a health
// check, or a client, is answered soon however many silent connections there are. It
// has a few places for that; who has sent only a part of a request keeps one for as
// long as a request may take.
const (
	lookEvery = 20 * time.Millisecond
	mostLooks = 512 // system calls, of a microsecond each
)

// aside is how many places there are beside most.
func aside(most int) int { return max(4, most/16) }

// glance is where the entrance looks next for those that have sent something.
type glance struct {
	looked time.Time // when none was found
	at     int       // in waiting
}

// spoken gives a place to one of those that wait which has sent something, and returns
// it; nil if none is found, or no place is left. Called with mu.
func (e *entrance) spoken(now time.Time) net.Conn {
	if e.pending.queue.Len() >= e.most+aside(e.most) || now.Sub(e.glance.looked) < lookEvery {
		return nil
	}
	for range min(len(e.waiting), mostLooks) {
		if e.glance.at >= len(e.waiting) {
			e.glance.at = 0
		}
		if a := e.waiting[e.glance.at]; e.pending.unread(a.conn) {
			e.waiting = slices.Delete(e.waiting, e.glance.at, e.glance.at+1)
			e.pending.add(a, now)
			return a.conn
		}
		e.glance.at++
	}
	e.glance.looked = now
	return nil
}
