package main

import (
	"container/list"
	"net"
	"time"
)

// usualPatience is how long a connection that sends no request keeps its place when
// others want it, from when it came, whether it had a place or waited for one. A request
// comes right behind the handshake of TCP, or where the line or the client is busy, as
// in a storm, some time later.
const usualPatience = 3 * time.Second

// usualGrace is how long a place is kept at least, for who came long before it had one:
// what waits in the kernel must be read.
const usualGrace = 250 * time.Millisecond

// pending is the connections that have sent no request yet, in the order in which
// they came. It has no lock and no clock: its owner has.
type pending struct {
	most            int
	patience, grace time.Duration
	unread          func(net.Conn) bool // whether the client has sent what was not read yet
	queue           *list.List          // of arrival
	where           map[net.Conn]*list.Element
}

// arrival is a connection that came at some time.
type arrival struct {
	conn net.Conn
	at   time.Time
	kept time.Time // until when it keeps its place, if it has one
}

func newPending(most int) *pending {
	return &pending{
		most: most, patience: usualPatience, grace: usualGrace, unread: unread,
		queue: list.New(), where: make(map[net.Conn]*list.Element, most),
	}
}

// add gives a place to a connection.
func (p *pending) add(a arrival, now time.Time) {
	a.kept = a.at.Add(p.patience)
	if least := now.Add(p.grace); least.After(a.kept) {
		a.kept = least
	}
	p.where[a.conn] = p.queue.PushBack(a)
}

// remove forgets a connection; it reports whether it was pending.
func (p *pending) remove(c net.Conn) bool {
	e, ok := p.where[c]
	if ok {
		p.queue.Remove(e)
		delete(p.where, c)
	}
	return ok
}

// room says what must be done before one more gets a place: nothing, if both are zero;
// close victim, which has lost its place; or ask again when wait is over, or somebody
// was removed.
func (p *pending) room(now time.Time) (victim net.Conn, wait time.Duration) {
	if p.queue.Len() < p.most {
		return nil, 0
	}
	front := p.queue.Front()
	first := front.Value.(arrival)
	if wait = first.kept.Sub(now); wait > 0 {
		return nil, wait
	}
	if p.unread(first.conn) { // it is this node that is late, and about to read
		first.kept = now.Add(p.grace)
		front.Value = first
		return nil, p.grace
	}
	p.remove(first.conn)
	return first.conn, 0
}

// silent reports whether one that waits for a place has been silent for as long as
// those with a place may be; if it has not been for long enough, wait is what is missing.
func (p *pending) silent(a arrival, now time.Time) (yes bool, wait time.Duration) {
	if wait = a.at.Add(p.patience).Sub(now); wait > 0 {
		return false, wait
	}
	return !p.unread(a.conn), 0
}
