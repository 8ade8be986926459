package main

import (
	"container/list"
	"net"
	"time"
)

// usualPatience is how long a connection that sends no request keeps its place when
// others want it. A request comes right behind the handshake of TCP, or where the line or
// the client is busy, as in a storm, some time later.
const usualPatience = 3 * time.Second

// pending is the connections that have sent no request yet, in the order in which
// they came. It has no lock and no clock: its owner has.
type pending struct {
	most     int
	patience time.Duration
	queue    *list.List // of arrival
	where    map[net.Conn]*list.Element
}

type arrival struct {
	conn net.Conn
	at   time.Time
}

func newPending(most int) *pending {
	return &pending{most: most, patience: usualPatience, queue: list.New(), where: make(map[net.Conn]*list.Element, most)}
}

// add takes a connection that has just been accepted.
func (p *pending) add(c net.Conn, now time.Time) { p.where[c] = p.queue.PushBack(arrival{c, now}) }

// remove forgets a connection; it reports whether it was pending.
func (p *pending) remove(c net.Conn) bool {
	e, ok := p.where[c]
	if ok {
		p.queue.Remove(e)
		delete(p.where, c)
	}
	return ok
}

// room says what must be done before one more is accepted: nothing, if both are zero;
// close victim, which has lost its place; or ask again when wait is over, or somebody
// was removed.
func (p *pending) room(now time.Time) (victim net.Conn, wait time.Duration) {
	if p.queue.Len() < p.most {
		return nil, 0
	}
	first := p.queue.Front().Value.(arrival)
	if wait = first.at.Add(p.patience).Sub(now); wait > 0 {
		return nil, wait
	}
	p.remove(first.conn)
	return first.conn, 0
}
