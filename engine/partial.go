package engine

import (
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// partial is what a conn keeps of what has not arrived completely: of a WebSocket
// message, of a packet with attachments. Most conns, nearly all the time, have
// nothing of the kind, and do without.
type partial struct {
	reader websocket.Reader
	binary *socketio.Assembler // a packet whose attachments are arriving
}

// takeUp returns what the conn has of an incomplete message, to go on with. It is
// called by the goroutine that reads, as putDown.
func (c *conn) takeUp() *partial {
	if c.partial == nil {
		if c.partial, _ = c.srv.partials.Get().(*partial); c.partial == nil {
			c.partial = &partial{}
		}
		if c.marked(markDeflate) {
			c.partial.reader.AcceptDeflate()
		}
	}
	return c.partial
}

// putDown lets go of it if nothing is incomplete.
func (c *conn) putDown() {
	if c.whole() && c.partial != nil {
		*c.partial = partial{}
		c.srv.partials.Put(c.partial)
		c.partial = nil
	}
}

// follow keeps account, after something was read, of how long a packet has been incomplete: when it began, or when
// another one before it was completed.
func (c *conn) follow(completed bool) {
	switch {
	case c.whole():
		if c.begun.Load() != 0 {
			c.begun.Store(0)
		}
	case completed || c.begun.Load() == 0:
		c.begun.Store(uint32(c.srv.hub.Now()) + 1)
	}
}

// assembling reports whether attachments of a packet are awaited.
func (c *conn) assembling() bool { return c.partial != nil && c.partial.binary != nil }

// whole reports whether nothing that the client sent is incomplete.
func (c *conn) whole() bool {
	return c.partial == nil || c.partial.reader.Idle() && c.partial.binary == nil
}
