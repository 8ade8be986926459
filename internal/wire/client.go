// Package wire is a tiny WebSocket client for tests: it sends and receives exact
// bytes, and nothing behind the test's back but pongs when asked to.
package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stellara/edge/websocket"
)

// Timeout bounds every wait of a Client: long enough for a busy machine, short
// enough to fail a test.
const Timeout = 10 * time.Second

// testKey is the Sec-WebSocket-Key of every client: the sample of RFC 6455.
const testKey = "dGhlIHNhbXBsZSBub25jZQ=="

// textMask masks the text of every client.
var textMask = [4]byte{1, 2, 3, 4}

// Client is one WebSocket connection. It is for one goroutine.
type Client struct {
	Conn net.Conn
	t    testing.TB

	reader  websocket.Reader
	limits  websocket.Limits
	pending []byte
	buf     []byte

	// Bytes counts what was received, frames and their headers.
	Bytes int

	// Pong makes the client answer Engine.IO pings instead of returning them.
	Pong bool
}

// Frame is what a client received: a message or a close frame.
type Frame struct {
	Op   websocket.Opcode
	Data string
	Code websocket.Code // of a close frame
}

// String shows text as it is, everything else with its kind.
func (f Frame) String() string {
	switch f.Op {
	case websocket.Text:
		return f.Data
	case websocket.Close:
		return fmt.Sprintf("close %d", f.Code)
	default:
		return fmt.Sprintf("op %d %q", f.Op, f.Data)
	}
}

// Dial opens a WebSocket at ws://addr/path and fails the test if it cannot. The
// connection is closed when the test ends. Early text messages come with the
// handshake: the server has them as soon as it has the connection.
func Dial(t testing.TB, addr, path string, header http.Header, early ...string) *Client {
	t.Helper()
	c, err := TryDial(t, addr, path, header, early...)
	if err != nil {
		t.Fatalf("wire: dial %s%s: %v", addr, path, err)
	}
	return c
}

// TryDial is Dial that returns the error.
func TryDial(t testing.TB, addr, path string, header http.Header, early ...string) (*Client, error) {
	nc, err := net.DialTimeout("tcp", addr, Timeout)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = nc.Close() })
	c := &Client{Conn: nc, t: t, limits: websocket.Limits{MaxMessage: 64 << 20}, buf: make([]byte, 64<<10)}
	request := websocket.AppendRequest(nil, websocket.ClientHandshake{Host: addr, Path: path, Key: testKey, Header: header})
	for _, m := range early {
		request = websocket.AppendMaskedFrame(request, websocket.Text, []byte(m), textMask)
	}
	if _, err := nc.Write(request); err != nil {
		return nil, err
	}
	var in []byte
	for {
		if err := nc.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
			return nil, err
		}
		n, err := nc.Read(c.buf)
		in = append(in, c.buf[:n]...)
		rest, ok, herr := websocket.ReadSwitchingProtocols(in, testKey)
		if herr != nil {
			return nil, herr
		}
		if ok {
			c.pending = append([]byte(nil), rest...)
			c.Bytes = len(rest)
			return c, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w after %q", err, in)
		}
	}
}

// Raw writes bytes as they are.
func (c *Client) Raw(b []byte) {
	c.t.Helper()
	if _, err := c.Conn.Write(b); err != nil {
		c.t.Fatalf("wire: write: %v", err)
	}
}

// Text sends text messages.
func (c *Client) Text(messages ...string) {
	c.t.Helper()
	for _, m := range messages {
		c.Raw(websocket.AppendMaskedFrame(nil, websocket.Text, []byte(m), textMask))
	}
}

// Binary sends a binary message.
func (c *Client) Binary(data []byte) {
	c.t.Helper()
	c.Raw(websocket.AppendMaskedFrame(nil, websocket.Binary, data, [4]byte{5, 6, 7, 8}))
}

// Next returns the next message or close frame; an error means that the
// connection ended without one, or that nothing came in time.
func (c *Client) Next() (Frame, error) {
	for {
		m, rest, ok, err := c.reader.Next(c.pending, &c.limits)
		if err != nil {
			return Frame{}, fmt.Errorf("wire: server violated the protocol: %w", err)
		}
		c.pending = rest
		if ok {
			f := Frame{Op: m.Op, Data: string(m.Data), Code: m.Code}
			if c.Pong && f.Op == websocket.Text && f.Data == "2" {
				c.Text("3")
				continue
			}
			return f, nil
		}
		if err := c.Conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
			return Frame{}, err
		}
		n, err := c.Conn.Read(c.buf)
		if err != nil {
			return Frame{}, err
		}
		c.pending = c.buf[:n]
		c.Bytes += n
	}
}

// Expect fails the test unless the next messages are these, in order.
func (c *Client) Expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		f, err := c.Next()
		if err != nil {
			c.t.Fatalf("wire: want %q, got %v", w, err)
		}
		if f.String() != w {
			c.t.Fatalf("wire: want %q, got %q", w, f)
		}
	}
}

// Receive returns the next message as text and fails the test if there is none.
func (c *Client) Receive() string {
	c.t.Helper()
	f, err := c.Next()
	if err != nil {
		c.t.Fatalf("wire: receive: %v", err)
	}
	return f.String()
}

// ExpectClosed reads until the connection ends and returns the close code, or
// CodeAbnormal if it ended without a close frame. Other messages are skipped.
func (c *Client) ExpectClosed() websocket.Code {
	c.t.Helper()
	for {
		f, err := c.Next()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				c.t.Fatalf("wire: the server did not close the connection")
			}
			if !errors.Is(err, io.EOF) {
				c.t.Logf("wire: connection ended with %v", err)
			}
			return websocket.CodeAbnormal
		}
		if f.Op == websocket.Close {
			return f.Code
		}
	}
}
