package guest

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stellara/edge/websocket"
)

// Leave ends the connection as the official client does, with DISCONNECT and the closing handshake, and
// returns when it has ended. A server that does not answer is left alone after a while.
func (c *Conn) Leave() {
	_ = c.send(websocket.Text, []byte("41"))
	_ = c.send(websocket.Close, websocket.AppendClosePayload(nil, websocket.CodeNormal, ""))
	select {
	case <-c.done:
	case <-time.After(closeTimeout):
		c.Drop()
	}
}

// Drop ends the connection without a word, as a machine that loses its network does at best.
func (c *Conn) Drop() {
	c.nc.Close()
	<-c.done
}

// Abandon falls silent without a word, as a machine does whose network is gone: the server takes the
// connection for open. It returns when Run has ended; the caller must see to it that Linger is called.
func (c *Conn) Abandon() {
	c.mu.Lock()
	c.silent = true
	_ = c.nc.SetReadDeadline(time.Now()) // wakes Run
	c.mu.Unlock()
	<-c.done
}

// Linger holds an abandoned connection open, and returns when the server has closed it or ctx has ended.
// What arrives is thrown away rather than left in the kernel, where it would make the server wait for a
// reader that is slow, not gone.
func (c *Conn) Linger(ctx context.Context) {
	defer c.nc.Close()
	defer context.AfterFunc(ctx, func() { c.nc.Close() })()
	_ = c.nc.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.nc)
}

// Cut is Drop, and does not wait for Run to notice; Run need not have been called.
func (c *Conn) Cut() { c.nc.Close() }

// Cause is an error without what differs from connection to connection, such as ports.
func Cause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return op.Op + ": " + errno.Error()
		}
		if op.Timeout() {
			return op.Op + ": timeout"
		}
		return op.Op + ": " + op.Err.Error()
	}
	text := err.Error()
	if lines := strings.Split(text, "\n"); len(lines) > 1 { // joined errors: one is enough
		text = lines[slices.IndexFunc(lines, func(s string) bool { return s != "" })]
	}
	return text
}
