package wire

import (
	"bufio"
	"bytes"
	"compress/flate"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/websocket"
)

// DialDeflate is Dial with an offer of extensions. It returns the server's answer to
// it as well, empty if there is none; a client to whom something was answered expects
// compressed messages.
func DialDeflate(t testing.TB, addr, path, offer string) (c *Client, answer string) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, Timeout)
	if err != nil {
		t.Fatalf("wire: dial %s%s: %v", addr, path, err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	c = &Client{Conn: nc, t: t, buf: make([]byte, 64<<10)}
	c.limits = websocket.Limits{MaxMessage: 64 << 20, Inflater: new(websocket.Inflater)}
	c.Raw(websocket.AppendRequest(nil, websocket.ClientHandshake{
		Host: addr, Path: path, Key: testKey, Header: http.Header{"Sec-WebSocket-Extensions": {offer}},
	}))
	_ = nc.SetReadDeadline(time.Now().Add(Timeout))
	in := bufio.NewReader(nc)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("wire: dial %s%s: %v, %v", addr, path, resp, err)
	}
	c.pending, _ = in.Peek(in.Buffered()) // it has them
	c.Bytes = len(c.pending)
	answer = resp.Header.Get("Sec-WebSocket-Extensions")
	if answer != "" {
		c.reader.AcceptDeflate()
	}
	return c, answer
}

// CompressedText sends a text message in its compressed form.
func (c *Client) CompressedText(message string) {
	c.t.Helper()
	c.compressed(websocket.Text, message)
}

// CompressedBinary sends a binary message in its compressed form.
func (c *Client) CompressedBinary(message string) {
	c.t.Helper()
	c.compressed(websocket.Binary, message)
}

func (c *Client) compressed(op websocket.Opcode, message string) {
	c.t.Helper()
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, flate.BestCompression)
	if err == nil {
		_, err = io.WriteString(w, message)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		c.t.Fatalf("wire: deflate: %v", err)
	}
	data := strings.TrimSuffix(z.String(), "\x00\x00\xff\xff")
	frame := websocket.AppendMaskedFrame(nil, op, []byte(data), [4]byte{9, 10, 11, 12})
	frame[0] |= 0x40
	c.Raw(frame)
}
