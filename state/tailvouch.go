package state

import (
	"time"

	"github.com/stellara/edge/socketio"
)

// vouchLife is how long after a claim its client may be read for.
const vouchLife = 30 * time.Second

// vouchKey is a position that somebody who claimed a session goes on from.
type vouchKey struct {
	ns    string
	after socketio.Offset
}

// vouch says that what is older than proved was received, though it is after the
// position: the client of a quiet room has an old one.
type vouch struct {
	proved uint64 // milliseconds
	until  time.Time
}

// vouch remembers what a claim proved.
func (t *tails) vouch(ns string, after socketio.Offset, proved uint64) {
	if proved <= after.Ms {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key, until := vouchKey{ns, after}, time.Now().Add(vouchLife)
	list := t.vouched[key]
	if n := len(list); n > 0 && until.Sub(list[n-1].until) < time.Second { // one per second is enough
		list[n-1].proved = min(list[n-1].proved, proved)
		return
	}
	t.vouched[key] = append(list, vouch{proved, until})
}

// need is the time from which on nothing may be missing for those who go on from
// a position: which of them asks cannot be told, so that the least proved counts.
func (t *tails) need(ns string, after socketio.Offset, now time.Time) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := unexpired(t.vouched[vouchKey{ns, after}], now)
	if len(list) == 0 {
		return after.Ms
	}
	least := list[0].proved
	for _, v := range list[1:] {
		least = min(least, v.proved)
	}
	return least
}

// unexpired drops what is over; list is in the order of its ends.
func unexpired(list []vouch, now time.Time) []vouch {
	for len(list) > 0 && !now.Before(list[0].until) {
		list = list[1:]
	}
	return list
}
