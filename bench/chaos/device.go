package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/stellara/edge/bench/guest"
)

// phase is where a device is between no socket and an open one.
type phase uint8

const (
	away phase = iota
	connecting
	online
	closing
)

// roomState is where a membership is.
type roomState uint8

const (
	left roomState = iota
	joining
	joined
	leaving
)

// membership is a device's relation to a room.
type membership struct {
	state   roomState
	changed time.Time
}

// person is what the devices of one user share.
type person struct {
	choice []int // rooms that its devices choose from; read-only
	frozen bool  // no churn; guarded by the crowd's lock
}

// device is one client. Its fields are guarded by the crowd's lock, and want besides belongs to whoever
// made the device busy.
type device struct {
	user     int
	person   *person
	home     int       // node that it connects to if it can
	observer *observer // nil for those that move

	busy    bool // an operation is under way; there is only one
	absent  bool // stays away until its home is back
	phase   phase
	changed time.Time   // of phase
	node    int         // where it is or was
	conn    *guest.Conn // while online or closing
	sid     string
	want    []int // rooms to be in
	rooms   map[int]membership
	back    time.Time // when it was last online with all its rooms
}

// settle brings a busy device to where it should be, online or absent, and ends the operation.
func (c *Crowd) settle(d *device) {
	for {
		c.mu.Lock()
		if d.phase == online || d.absent || c.ctx.Err() != nil {
			d.busy = false
			c.busy--
			c.version++
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if node, ok := c.place(d); ok && c.connect(d, node) != nil {
			_ = pause(c.ctx, 100*time.Millisecond+rand.N(400*time.Millisecond))
		}
	}
}

// comeBack is settle for a device that lost its connection, after a little while: clients do not all
// notice at once.
func (c *Crowd) comeBack(d *device) {
	_ = pause(c.ctx, rand.N(500*time.Millisecond))
	c.settle(d)
}

// place chooses a node; none if the device stays away.
func (c *Crowd) place(d *device) (node int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.nodes[d.home].down {
		return d.home, true
	}
	if c.nodes[d.home].absent {
		d.absent = true
		return 0, false
	}
	for i := range c.nodes {
		if node = (d.user + i) % len(c.nodes); !c.nodes[node].down {
			return node, true
		}
	}
	return d.home, true
}

// connect opens a socket on a node and joins the device's rooms.
func (c *Crowd) connect(d *device, node int) error {
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	c.move(d, connecting)
	k, err := guest.Connect(c.ctx, c.targets[node], guest.Hello{User: c.Roster.Users[d.user]})
	<-c.slots
	if err != nil {
		c.mu.Lock()
		c.events.Failed[guest.Cause(err)]++
		c.mu.Unlock()
		c.move(d, away)
		return err
	}
	c.mu.Lock()
	d.conn, d.sid, d.node = k, k.SID(), node
	d.phase, d.changed = online, time.Now()
	c.version++
	c.running.Go(func() { c.lost(d, k, k.Run(c.watcher(d, k))) })
	c.mu.Unlock()
	if c.ctx.Err() != nil {
		k.Cut() // Close may have looked before the connection was there
	}
	return c.joinAll(d, k)
}

// joinAll joins the rooms of a new socket, all at once.
func (c *Crowd) joinAll(d *device, k *guest.Conn) error {
	results := make(chan error, len(d.want))
	for _, room := range d.want {
		c.running.Go(func() { results <- c.join(d, k, room) })
	}
	var errs error
	for range d.want {
		errs = errors.Join(errs, <-results)
	}
	if errs != nil {
		k.Drop()
		c.lost(d, k, errs)
		return errs
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.conn == k {
		d.back = time.Now()
	}
	return nil
}

// join puts the device's socket into a room.
func (c *Crowd) join(d *device, k *guest.Conn, room int) error {
	c.mark(d, k, room, joining)
	var seen func(guest.Ack)
	if d.observer != nil {
		seen = func(a guest.Ack) {
			if a.OK && d.observer.joined(toldBy(a)) {
				c.askList(d.observer, k)
			}
		}
	}
	return c.request(d, k, "join", room, joined, seen)
}

// leave takes the device's socket out of a room.
func (c *Crowd) leave(d *device, k *guest.Conn, room int) error {
	c.mark(d, k, room, leaving)
	return c.request(d, k, "leave", room, left, nil)
}

// request asks for a change of membership. After a refusal nobody knows what holds, so that is an
// error, and the caller ends the connection.
func (c *Crowd) request(d *device, k *guest.Conn, event string, room int, done roomState, seen func(guest.Ack)) error {
	a, err := k.Ask(c.ctx, event, c.Roster.Rooms[room], seen)
	if err == nil && !a.OK {
		c.mu.Lock()
		c.events.Refused[event+" "+a.Code]++
		c.mu.Unlock()
		err = fmt.Errorf("%s refused: %s %s", event, a.Code, a.Error)
	}
	if err == nil {
		c.mark(d, k, room, done)
	}
	return err
}

// move sets the phase of a device without a connection.
func (c *Crowd) move(d *device, p phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.phase, d.changed = p, time.Now()
	c.version++
}

// mark sets the state of a membership, unless the connection it belonged to is gone.
func (c *Crowd) mark(d *device, k *guest.Conn, room int, s roomState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.conn == k {
		d.rooms[room] = membership{s, time.Now()}
		c.version++
	}
}

// lost notes the end of a connection, once however often it is told, and brings the device back if
// nobody else does.
func (c *Crowd) lost(d *device, k *guest.Conn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.conn != k {
		return
	}
	now := time.Now()
	if d.phase != closing && c.ctx.Err() == nil && !c.nodes[d.node].down {
		c.events.Lost[guest.Cause(err)]++
	}
	d.conn, d.sid, d.phase, d.changed = nil, "", away, now
	for room, m := range d.rooms {
		if m.state != left {
			d.rooms[room] = membership{left, now}
		}
	}
	c.version++
	if d.observer != nil {
		d.observer.away()
	}
	if !d.busy && c.ctx.Err() == nil {
		c.start(d, func() { c.comeBack(d) })
	}
}

// quit closes the device's connection, if it has one, in order or without a word.
func (c *Crowd) quit(d *device, abrupt bool) {
	c.mu.Lock()
	k := d.conn
	if k != nil {
		d.phase, d.changed = closing, time.Now()
		c.version++
	}
	c.mu.Unlock()
	if k == nil {
		return
	}
	if abrupt {
		k.Drop()
	} else {
		k.Leave()
	}
	c.lost(d, k, guest.ErrEnded)
}

// reconnect closes the connection and opens another after a while; an operation of its own.
func (c *Crowd) reconnect(d *device, abrupt bool, after time.Duration) {
	c.quit(d, abrupt)
	_ = pause(c.ctx, after)
	c.settle(d)
}

// watcher returns what a device does with presence updates: nothing, or what an observer does.
func (c *Crowd) watcher(d *device, k *guest.Conn) func([]byte) {
	o := d.observer
	if o == nil {
		return nil
	}
	return func(event []byte) {
		payload, ok := presencePayload(event)
		if !ok {
			return
		}
		ask, err := o.event(payload)
		if err != nil {
			c.mu.Lock()
			c.events.Unparsed++
			c.mu.Unlock()
		}
		if ask {
			c.askList(o, k)
		}
	}
}

// askList asks for the users of an observer's room, as a client does that has missed something.
func (c *Crowd) askList(o *observer, k *guest.Conn) {
	c.mu.Lock()
	c.events.Asked++
	c.mu.Unlock()
	// An error is the end of the connection, and the observer comes back with a new list.
	_ = k.Emit("presence", c.Roster.Rooms[o.room], func(a guest.Ack) {
		if !a.OK {
			c.mu.Lock()
			c.events.Refused["presence "+a.Code]++
			c.mu.Unlock()
		}
		if o.answered(toldBy(a), a.OK) {
			c.askList(o, k)
		}
	})
}
