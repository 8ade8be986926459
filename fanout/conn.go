package fanout

import (
	"sync/atomic"

	"github.com/stellara/edge/metrics"
)

// Sink is the transport below a Conn. All calls come from the conn's shard,
// one at a time, and must not block.
type Sink interface {
	// Write sends whole frames and must not keep p. What the kernel did not
	// take is the sink's backlog; every byte accepted by the kernel is reported
	// with Conn.Wrote, possibly before Write returns. After an error the conn
	// is dead and Detach follows.
	Write(p []byte) error
	// Expire is called when the conn's deadline is reached. It returns a message
	// to send, or nil, and the next deadline.
	Expire(now Tick) (send *Message, next Tick)
	// Drained is called once after Hub.End, when everything was accepted by the
	// kernel. It returns the next deadline.
	Drained(now Tick) (next Tick)
	// Abort tells the transport to close at once; the shard has given the conn up.
	Abort(reason metrics.Close)
}

// Conn is the outbox and the timer of one connection. It is embedded in the
// engine's conn; the zero value becomes usable with Hub.Attach.
type Conn struct {
	// Set by Attach, then read-only.
	sink  Sink
	shard *shard

	// Owned by the shard.
	head, tail *entry // outbox, oldest first
	queued     int    // bytes in the outbox
	next, prev *Conn  // timer wheel slot
	deadline   Tick
	flags      connFlags

	// Shared.
	backlog atomic.Int64 // bytes handed to the sink and not accepted by the kernel yet
	direct  atomic.Int64 // bytes of direct sends still in the shard's inbox
	waiting atomic.Bool  // the shard waits for the backlog to drain
}

type connFlags uint8

const (
	connDirty    connFlags = 1 << iota // in the shard's dirty list
	connEnding                         // the last frame is in the outbox
	connDrained                        // Sink.Drained was called
	connDetached                       // gone; later operations are ignored
	connInWheel
	connReplaying  // in shard.replays
	connCompressed // takes the compressed form of messages
)

// entry is one place in an outbox; entries are recycled by their shard.
type entry struct {
	msg  *Message
	next *entry
}

// Wrote reports n bytes accepted by the kernel. It may be called from any
// goroutine, also from within Sink.Write.
func (c *Conn) Wrote(n int) {
	if c.backlog.Add(int64(-n)) <= 0 && c.waiting.CompareAndSwap(true, false) {
		c.shard.enqueue(op{kind: opWritable, conn: c})
	}
}

// Backlog is the number of bytes queued for the conn anywhere in the process.
// It is a snapshot for diagnostics; only the shard knows the outbox exactly.
func (c *Conn) Backlog() int64 { return c.backlog.Load() + c.direct.Load() }

// push appends m to the outbox, or refuses by policy. Called by the shard only.
func (c *Conn) push(m *Message) {
	s := c.shard
	if c.flags&(connDetached|connEnding) != 0 {
		s.stats.drops[metrics.DropClosing]++
		return
	}
	backlog := int(c.backlog.Load())
	if m.Volatile && backlog > 0 {
		s.stats.drops[metrics.DropVolatile]++
		return
	}
	m = c.form(m)
	if c.queued+backlog+len(m.Frame) > s.hub.cfg.OutboxBytes && !c.makeRoom(len(m.Frame)) {
		return
	}
	c.append(m)
	s.stats.delivered++
}

// makeRoom makes the outbox fit n more bytes. It reports false if the conn was
// given up instead.
func (c *Conn) makeRoom(n int) bool {
	s := c.shard
	if c.backlog.Load() == 0 {
		// The outbox grew within this pass: that the shard did not write yet
		// says nothing about the reader.
		s.write(c)
	}
	if c.flags&connDetached != 0 {
		return false
	}
	fits := func() bool { return c.queued+int(c.backlog.Load())+n <= s.hub.cfg.OutboxBytes }
	if fits() {
		return true
	}
	if c.dropVolatile(); fits() {
		return true
	}
	s.abort(c, metrics.CloseSlowReader)
	return false
}

// append adds m at the tail and marks the conn dirty.
func (c *Conn) append(m *Message) {
	c.add(m)
	c.shard.markDirty(c)
}

// add adds m at the tail, for a conn that is dirty or is being written.
func (c *Conn) add(m *Message) {
	s := c.shard
	e := s.entry()
	e.msg = m
	if c.tail == nil {
		c.head = e
	} else {
		c.tail.next = e
	}
	c.tail = e
	c.queued += len(m.Frame)
	s.stats.queued += len(m.Frame)
}

// dropVolatile removes what may be dropped, to make room for what may not.
func (c *Conn) dropVolatile() {
	var last *entry
	for e := c.head; e != nil; {
		next := e.next
		if e.msg.Volatile {
			if last == nil {
				c.head = next
			} else {
				last.next = next
			}
			c.queued -= len(e.msg.Frame)
			c.shard.stats.queued -= len(e.msg.Frame)
			c.shard.stats.drops[metrics.DropVolatile]++
			c.shard.release(e)
		} else {
			last = e
		}
		e = next
	}
	c.tail = last
}

// discard empties the outbox without sending it.
func (c *Conn) discard() {
	for e := c.head; e != nil; {
		next := e.next
		c.shard.release(e)
		e = next
	}
	c.shard.stats.queued -= c.queued
	c.head, c.tail, c.queued = nil, nil, 0
}
