package engine

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// Disconnect reasons, as Socket.IO servers name them.
const (
	ReasonTransportError            = "transport error"
	ReasonTransportClose            = "transport close"
	ReasonForcedClose               = "forced close"
	ReasonPingTimeout               = "ping timeout"
	ReasonParseError                = "parse error"
	ReasonServerShuttingDown        = "server shutting down"
	ReasonForcedServerClose         = "forced server close"
	ReasonClientNamespaceDisconnect = "client namespace disconnect"
	ReasonServerNamespaceDisconnect = "server namespace disconnect"
)

// disconnectReason is what the application is told when a conn closes.
func disconnectReason(c metrics.Close) string {
	switch c {
	case metrics.CloseTransportClose:
		return ReasonTransportClose
	case metrics.ClosePingTimeout:
		return ReasonPingTimeout
	case metrics.CloseParseError:
		return ReasonParseError
	case metrics.CloseForced:
		return ReasonForcedClose
	case metrics.CloseShutdown, metrics.CloseDrain:
		return ReasonServerShuttingDown
	case metrics.CloseServer, metrics.CloseConnectTimeout, metrics.CloseReplaced, metrics.CloseMoved, metrics.CloseOverloaded, metrics.CloseGap, metrics.CloseMaxAge,
		metrics.ClosePacketRate, metrics.CloseByteRate, metrics.CloseAttachmentTimeout, metrics.CloseTokenExpired:
		return ReasonForcedServerClose
	default:
		return ReasonTransportError
	}
}

// noCode asks for a close frame with an empty payload, as the reference
// implementation sends it.
const noCode = websocket.CodeNoStatus

// How long a closing conn may take: to hand its backlog to the kernel, and then
// for the client to close its side.
const (
	drainTime  = 10 * time.Second
	lingerTime = 2 * time.Second
)

// conn is one Engine.IO session over one WebSocket.
type conn struct {
	fan fanout.Conn

	// Set before the conn is shared, then read-only.
	srv       *Server
	handshake *handshake
	poll      *polling // nil if the conn began on WebSocket

	// Set before polled is, then read-only.
	nb *nbio.Conn // nil if another node holds the WebSocket: see poll.away

	// Owned by the goroutine that reads: the front door, then the poller.
	partial *partial // nil if nothing is incomplete
	sent    sent     // how fast the client sends

	// Owned by the shard.
	beat     heartbeat
	onSocket bool // writes go to nb; false while polling

	// Shared.
	pong  atomic.Uint32 // tick of the last pong since the last ping, plus 1; 0 if none
	marks atomic.Uint32 // what happened, see mark
	state atomic.Uint32
	begun atomic.Uint32 // tick at which the packet began that is incomplete, plus 1; 0 if none is

	mu      sync.Mutex // guards sockets; taken alone
	sockets []*Socket
}

// What happens to a conn, as bits: each conn has them.
const (
	markJoined    = 1 << iota // a namespace was joined: connectTimeout does not apply
	markShared                // set before the event loop has the conn, read by its callbacks: orders them
	markAborted               // to be closed as soon as it may be
	markFinished              // the client's side is closed: nothing to linger for
	markPolled                // in epoll: only from now on may nb be closed
	markDeflate               // the client may compress; set before the first byte is read
	markHeard                 // something else than a pong arrived since the last ping; the shard takes it back
	markExtended              // this ping's timeout was extended once; the shard's
	markDismissed             // the client was disconnected from every namespace, and is to learn it
)

func (c *conn) mark(m uint32)        { c.marks.Or(m) }
func (c *conn) marked(m uint32) bool { return c.marks.Load()&m != 0 }

// States of a conn.
const (
	connOpen    = iota
	connClosing // no more packets; the close frame is on its way
	connClosed  // the transport is gone
)

// Write hands finished frames to the transport.
func (c *conn) Write(p []byte) error {
	if !c.onSocket {
		return c.poll.write(p)
	}
	if c.nb == nil {
		return c.poll.away.write(p)
	}
	n, err := sendNow(c.nb, p)
	if n > 0 {
		c.fan.Wrote(n)
		p = p[n:]
	}
	if err != nil {
		hangUp(c.nb)
		return err
	}
	if len(p) > 0 {
		_, err = c.nb.Write(p)
	}
	return err
}

// closeTransport closes the WebSocket, wherever it is. It must be in epoll, if it
// is here.
func (c *conn) closeTransport() {
	if c.nb == nil {
		c.poll.away.end()
		return
	}
	hangUp(c.nb)
}

// Drained is called by the shard when the close frame is with the kernel. A
// client that has not closed yet gets a little time to read it.
func (c *conn) Drained(now fanout.Tick) fanout.Tick {
	if c.onSocket && c.nb == nil && c.poll.away.drained() {
		c.beat.closeBy = now + c.srv.ticks.drain
		return c.beat.closeBy
	}
	if c.marked(markFinished) || !c.onSocket {
		c.abort()
	}
	c.beat.closeBy = now + c.srv.ticks.linger
	return c.beat.closeBy
}

// Abort is called by the shard when it gives the conn up.
func (c *conn) Abort(reason metrics.Close) {
	if c.state.CompareAndSwap(connOpen, connClosing) {
		c.srv.m.Closes[reason].Inc()
		c.leaveAll(disconnectReason(reason), fateOf(reason))
	}
	c.abort()
}

// abort closes the transport at once, or as soon as it is in epoll.
func (c *conn) abort() {
	c.mark(markAborted)
	if c.marked(markPolled) {
		c.closeTransport()
	}
	if c.poll != nil {
		if d := c.poll.next.Load(); d != nil {
			d.close() // took over, and the shard may not swap any more
		}
	}
	if c.poll != nil && !c.poll.overtaken() {
		c.poll.end(string(socketio.EngineClose))
		c.transportClosed(nil)
	}
}

// close ends the conn in order: its sockets leave, what is queued is written,
// then a close frame, and the client gets time to answer. The first reason
// counts. It may be called from any goroutine.
func (c *conn) close(reason metrics.Close, code websocket.Code) {
	if !c.state.CompareAndSwap(connOpen, connClosing) {
		return
	}
	c.srv.m.Closes[reason].Inc()
	c.leaveAll(disconnectReason(reason), fateOf(reason))
	if c.poll != nil && !c.poll.overtaken() {
		c.poll.close()
		return
	}
	frame := websocket.AppendClose(nil, code, "")
	c.srv.hub.End(&c.fan, &fanout.Message{Frame: frame})
	c.srv.hub.Wake(&c.fan) // sets the deadline for the drain
}

// ordered, onWritten and onClosed are called by the event loop.
func (c *conn) ordered() bool      { return c.marked(markShared) }
func (c *conn) onWritten(n int)    { c.fan.Wrote(n) }
func (c *conn) onClosed(err error) { c.transportClosed(err) }

// transportClosed is called once, when the transport is gone for whatever reason.
func (c *conn) transportClosed(err error) {
	was := c.state.Swap(connClosed)
	if was == connClosed {
		return
	}
	if was == connOpen {
		reason := metrics.CloseTransportClose
		if err != nil && !errors.Is(err, io.EOF) {
			reason = metrics.CloseTransportError
		}
		c.srv.m.Closes[reason].Inc()
		c.leaveAll(disconnectReason(reason), fateOf(reason))
	}
	if c.poll != nil {
		c.srv.sessions.remove(c.poll.sid)
		c.poll.end(string(socketio.EngineClose))
	}
	c.srv.hub.Detach(&c.fan)
	c.srv.gone(c)
}

// guard runs what came from the client; a panic of ours ends this conn only.
func (c *conn) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.log.Error("conn panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			c.close(metrics.ClosePanic, websocket.CodeInternal)
		}
	}()
	f()
}

// leaveAll ends all sockets of the conn.
func (c *conn) leaveAll(reason string, f fate) {
	c.mu.Lock()
	sockets := c.sockets
	c.sockets = nil
	c.mu.Unlock()
	for _, s := range sockets {
		s.leave(reason, f)
	}
}

// disconnectAll tells the client that it was disconnected from every namespace,
// before the conn closes.
func (c *conn) disconnectAll() {
	c.mark(markDismissed)
	c.mu.Lock()
	sockets := c.sockets
	c.sockets = nil
	c.mu.Unlock()
	for _, s := range sockets {
		_ = s.sendPacket(&socketio.Packet{Type: socketio.Disconnect}, nil, false)
		s.leave(ReasonServerNamespaceDisconnect, deleteSession)
	}
}

// socket finds the conn's socket in a namespace, pending ones included.
func (c *conn) socket(namespace []byte) *Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets {
		if s.nsp.name == string(namespace) {
			return s
		}
	}
	return nil
}

// add makes s a socket of the conn; it reports false if the conn is closing.
func (c *conn) add(s *Socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Load() != connOpen {
		return false
	}
	c.sockets = append(c.sockets, s)
	return true
}

// replace puts s in the place of old; it reports false if old is not there any more.
func (c *conn) replace(old, s *Socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.sockets {
		if c.sockets[i] == old {
			c.sockets = append(c.sockets[:i:i], c.sockets[i:]...)
			c.sockets[i] = s
			return true
		}
	}
	return false
}

// remove takes s out of the conn.
func (c *conn) remove(s *Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range c.sockets {
		if t == s {
			c.sockets = append(c.sockets[:i:i], c.sockets[i+1:]...)
			return
		}
	}
}

// sendConnectError answers a CONNECT.
func (c *conn) sendConnectError(namespace, data []byte) {
	p := socketio.Packet{Type: socketio.ConnectError, Namespace: namespace, Data: data}
	c.srv.hub.Send(&c.fan, newMessage(socketio.AppendPacket(nil, &p), nil))
}
