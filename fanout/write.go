package fanout

import "time"

// flush writes every dirty conn once.
func (s *shard) flush() {
	for i, c := range s.dirty {
		s.dirty[i] = nil
		c.flags &^= connDirty
		if c.flags&connDetached == 0 {
			s.write(c)
		}
	}
	s.dirty = s.dirty[:0]
}

// write hands the outbox to the sink until it is empty or the kernel is full.
func (s *shard) write(c *Conn) {
	for {
		if c.backlog.Load() > 0 {
			c.waiting.Store(true)
			// The backlog may have drained before waiting was seen.
			if c.backlog.Load() > 0 || !c.waiting.CompareAndSwap(true, false) {
				return
			}
		}
		for c.head == nil && c.flags&connReplaying != 0 {
			s.feed(c, 0)
		}
		if c.head == nil {
			break
		}
		p := s.gather(c)
		c.backlog.Add(int64(len(p)))
		s.stats.writes++
		s.stats.bytes += len(p)
		if err := c.sink.Write(p); err != nil {
			s.detach(c)
			return
		}
	}
	if c.flags&(connEnding|connDrained) == connEnding {
		c.flags |= connDrained
		s.wheel.set(c, c.sink.Drained(s.hub.Now()))
	}
}

// gather takes messages off the outbox for one write: the shared bytes
// themselves if there is one, else a concatenation.
func (s *shard) gather(c *Conn) []byte {
	first := c.pop()
	if c.head == nil || len(first)+len(c.head.msg.Frame) > scratchBytes {
		return first
	}
	buf := append(s.scratch[:0], first...)
	for c.head != nil && len(buf)+len(c.head.msg.Frame) <= scratchBytes {
		buf = append(buf, c.pop()...)
	}
	return buf
}

// pop takes the first message off the outbox, which must not be empty.
func (c *Conn) pop() []byte {
	e := c.head
	m := e.msg
	c.head = e.next
	if c.head == nil {
		c.tail = nil
	}
	c.queued -= len(m.Frame)
	c.shard.stats.queued -= len(m.Frame)
	c.shard.stats.packets += max(1, m.Packets)
	c.shard.release(e)
	return m.Frame
}

// entryChunk is how many entries are made at once.
const entryChunk = 256

// entry returns an unused entry.
func (s *shard) entry() *entry {
	if s.free == nil {
		chunk := make([]entry, entryChunk)
		for i := range chunk {
			s.release(&chunk[i])
		}
	}
	e := s.free
	s.free = e.next
	s.spares--
	e.next = nil
	return e
}

// release keeps e for the next message. What a pass cannot use is left to the
// garbage collector: a crowd of slow readers costs nothing once it is gone.
func (s *shard) release(e *entry) {
	e.msg, e.next = nil, nil
	if s.spares >= flushEvery {
		return
	}
	e.next = s.free
	s.free = e
	s.spares++
}

// report moves the pass's counts into the shared counters and times its messages.
func (s *shard) report() {
	m, st := s.hub.m, &s.stats
	if len(s.arrived) > 0 {
		now := time.Now()
		for i, msg := range s.arrived {
			m.HubWritten.Observe(now.Sub(msg.Arrived).Seconds())
			if !msg.Published.IsZero() {
				m.PublishWritten.Observe(now.Sub(msg.Published).Seconds())
			}
			s.arrived[i] = nil
		}
		s.arrived = s.arrived[:0]
	}
	if st.writes > 0 || st.delivered > 0 {
		m.Delivered.Add(float64(st.delivered))
		m.FramesSent.Add(float64(st.packets))
		m.BytesSent.Add(float64(st.bytes))
		m.Writes.Add(float64(st.writes))
	}
	if st.queued != 0 {
		m.OutboxBytes.Add(float64(st.queued))
	}
	for i, n := range st.drops {
		if n > 0 {
			m.Drops[i].Add(float64(n))
		}
	}
	*st = passStats{}
}
