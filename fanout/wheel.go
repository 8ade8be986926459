package fanout

// Tick counts the hub's ticks since its start. A deadline is reached at the
// first tick not before it.
type Tick uint32

// wheelSlots bounds how often an idle conn is looked at: once per round. It is
// a power of two so that a tick maps to its slot by masking.
const wheelSlots = 256

// wheel holds one deadline per conn in intrusive lists: no timer and no
// allocation per connection. Owned by one shard.
type wheel struct {
	now   Tick
	slots [wheelSlots]*Conn
}

// set moves c to the slot of its new deadline.
func (w *wheel) set(c *Conn, deadline Tick) {
	w.remove(c)
	if deadline <= w.now {
		deadline = w.now + 1
	}
	c.deadline = deadline
	head := &w.slots[deadline%wheelSlots]
	c.next, c.prev = *head, nil
	if *head != nil {
		(*head).prev = c
	}
	*head = c
	c.flags |= connInWheel
}

// remove takes c out of the wheel, if it is in.
func (w *wheel) remove(c *Conn) {
	if c.flags&connInWheel == 0 {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		w.slots[c.deadline%wheelSlots] = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev = nil, nil
	c.flags &^= connInWheel
}

// each calls f for every conn in the wheel; f must not change the wheel.
func (w *wheel) each(f func(*Conn)) {
	for _, c := range w.slots {
		for ; c != nil; c = c.next {
			f(c)
		}
	}
}

// advance moves the wheel to now and calls expire for every conn whose deadline
// is reached; expire may set or remove the conn it is given, and no other.
func (w *wheel) advance(now Tick, expire func(*Conn)) {
	for w.now < now {
		if now-w.now > wheelSlots {
			w.now = now - wheelSlots // after a long pause one round visits every slot once
		}
		w.now++
		for c := w.slots[w.now%wheelSlots]; c != nil; {
			next := c.next
			if c.deadline <= now {
				w.remove(c)
				expire(c)
			}
			c = next
		}
	}
}
