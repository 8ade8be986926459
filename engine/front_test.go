package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

const upgradeHeaders = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// exchange sends a raw request and reads the response with its body.
func exchange(t *testing.T, addr, method, target, headers string) (*http.Response, string) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, wire.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	return exchangeOn(t, nc, method, target, headers)
}

// exchangeOn is exchange on a connection, which it closes.
func exchangeOn(t *testing.T, nc net.Conn, method, target, headers string) (*http.Response, string) {
	t.Helper()
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(wire.Timeout))
	if _, err := fmt.Fprintf(nc, "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, target, headers); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(nc), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestErrorReplies is Engine.IO's table of refusals and their order.
func TestErrorReplies(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	for _, tc := range []struct {
		name, method, target, headers string
		status                        int
		body                          string
		why                           metrics.Refusal
	}{
		{"no transport", "GET", "/socket.io/?EIO=4", "", 400, `{"code":0,"message":"Transport unknown"}`, metrics.RefusalTransportUnknown},
		{"unknown transport", "GET", "/socket.io/?EIO=4&transport=carrier", "", 400, `{"code":0,"message":"Transport unknown"}`, metrics.RefusalTransportUnknown},
		{"webtransport", "GET", "/socket.io/?EIO=4&transport=webtransport", "", 400, `{"code":0,"message":"Transport unknown"}`, metrics.RefusalTransportUnknown},
		{"unknown sid", "GET", "/socket.io/?EIO=4&transport=websocket&sid=abc", "", 400, `{"code":1,"message":"Session ID unknown"}`, metrics.RefusalSessionUnknown},
		{"unknown sid, upgrade", "GET", "/socket.io/?EIO=4&transport=websocket&sid=abc", upgradeHeaders, 400, `Session ID unknown`, metrics.RefusalSessionUnknown},
		{"bad method", "POST", "/socket.io/?EIO=4&transport=websocket", "Content-Length: 0\r\n", 400, `{"code":2,"message":"Bad handshake method"}`, metrics.RefusalHandshakeMethod},
		{"no upgrade", "GET", "/socket.io/?EIO=4&transport=websocket", "", 400, `{"code":3,"message":"Bad request"}`, metrics.RefusalBadRequest},
		{"EIO 3", "GET", "/socket.io/?EIO=3&transport=websocket", upgradeHeaders, 400, `Unsupported protocol version`, metrics.RefusalProtocolVersion},
		{"EIO missing", "GET", "/socket.io/?transport=websocket", upgradeHeaders, 400, `Unsupported protocol version`, metrics.RefusalProtocolVersion},
		{"last EIO counts", "GET", "/socket.io/?EIO=4&EIO=3&transport=websocket", upgradeHeaders, 400, `Unsupported protocol version`, metrics.RefusalProtocolVersion},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := counter(s.m.Refusals[tc.why])
			resp, body := exchange(t, s.addr, tc.method, tc.target, tc.headers)
			if resp.StatusCode != tc.status || body != tc.body {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, body, tc.status, tc.body)
			}
			if tc.headers == "" && resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("content type %q", resp.Header.Get("Content-Type"))
			}
			counts(t, s.m.Refusals[tc.why], before+1)
		})
	}
	for name, headers := range map[string]string{
		"no key":      "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
		"short key":   "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc\r\n",
		"no upgrade":  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"old version": "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := exchange(t, s.addr, "GET", query, headers)
			if resp.StatusCode/100 != 4 || body == "" {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
			if name == "old version" && (resp.StatusCode != 426 || resp.Header.Get("Sec-WebSocket-Version") != "13") {
				t.Errorf("%d, version %q", resp.StatusCode, resp.Header.Get("Sec-WebSocket-Version"))
			}
		})
	}
	if resp, _ := exchange(t, s.addr, "GET", "/elsewhere", ""); resp.StatusCode != 404 {
		t.Errorf("foreign path: %d", resp.StatusCode)
	}
	if resp, _ := exchange(t, s.addr, "GET", "/socket.io/any?EIO=4&transport=websocket", upgradeHeaders+"Sec-WebSocket-Protocol: first, second\r\n"); resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Protocol") != "first" {
		t.Errorf("prefix path with subprotocols: %d %q", resp.StatusCode, resp.Header.Get("Sec-WebSocket-Protocol"))
	}
	c, _ := s.join()
	c.Text(`421["echo",1]`)
	c.Expect(`431[1]`)
}

func TestMaxConns(t *testing.T) {
	s := newServer(t, engine.Config{MaxConns: 2}, echo)
	first, _ := s.join()
	s.join()
	resp, body := exchange(t, s.addr, "GET", query, upgradeHeaders)
	if resp.StatusCode != 503 || !strings.Contains(body, "limit of connections") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	_ = first.Conn.Close()
	eventually(t, "place free again", func() bool { return s.Conns() == 1 })
	s.join()
}

// TestEarlyData: what the client sends with its handshake is handled first.
func TestEarlyData(t *testing.T) {
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		srv.Of("/", engine.Inline()) // joined as soon as asked
		echo(srv)
	})
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	request := "GET " + query + " HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders + "\r\n"
	frames := websocket.AppendMaskedFrame(nil, websocket.Text, []byte("40"), [4]byte{1})
	for i := range 50 {
		frames = websocket.AppendMaskedFrame(frames, websocket.Text, fmt.Appendf(nil, `42%d["echo",%d]`, i, i), [4]byte{9})
	}
	if _, err := nc.Write(append([]byte(request), frames...)); err != nil {
		t.Fatal(err)
	}
	var all []byte
	buf := make([]byte, 4096)
	_ = nc.SetDeadline(time.Now().Add(wire.Timeout))
	for !strings.Contains(string(all), "4349[49]") {
		n, err := nc.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, all)
		}
		all = append(all, buf[:n]...)
	}
	at := 0
	for i := range 50 {
		next := strings.Index(string(all[at:]), fmt.Sprintf("43%d[%d]", i, i))
		if next < 0 {
			t.Fatalf("answer %d missing or out of order", i)
		}
		at += next
	}
}

// TestPlainEcho runs a plain WebSocket over the same transport.
func TestPlainEcho(t *testing.T) {
	leak.Check(t)
	m := metrics.New(prometheus.NewRegistry(), "test")
	srv, err := engine.NewPlain(engine.Config{Path: "/", MaxPayload: 16 << 20}, func(w *engine.WebSocket, text bool, data []byte) { w.Send(text, data) }, m)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, srv, m)
	c := wire.Dial(t, s.addr, "/", nil)
	c.Text("hello", "")
	c.Expect("hello", "")
	big := strings.Repeat("0123456789abcdef", 1<<20)
	go c.Text(big)
	if got := c.Receive(); got != big {
		t.Errorf("16 MiB came back as %d bytes", len(got))
	}
	c.Raw(websocket.AppendMaskedFrame(nil, websocket.Close, websocket.AppendClosePayload(nil, 3000, "bye"), [4]byte{1, 2, 3, 4}))
	if code := c.ExpectClosed(); code != 3000 {
		t.Errorf("close code %d came back", code)
	}
	if _, err := c.Conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the close handshake: %v", err)
	}
	bad := wire.Dial(t, s.addr, "/", nil)
	bad.Raw([]byte{0x81, 0x00}) // not masked
	if code := bad.ExpectClosed(); code != websocket.CodeProtocolError {
		t.Errorf("unmasked frame: close code %d", code)
	}
	utf := wire.Dial(t, s.addr, "/", nil)
	utf.Raw(websocket.AppendMaskedFrame(nil, websocket.Text, []byte{0xff}, [4]byte{}))
	if code := utf.ExpectClosed(); code != websocket.CodeInvalidPayload {
		t.Errorf("invalid UTF-8: close code %d", code)
	}
}

// TestHandshakeObject: of the request only what was asked for is kept.
func TestHandshakeObject(t *testing.T) {
	got := make(chan *engine.Handshake, 1)
	for _, keep := range []bool{false, true} {
		s := newServer(t, engine.Config{KeepHeaders: keep}, func(srv *engine.Server) {
			srv.Of("/").OnConnection(func(s *engine.Socket) { got <- s.Handshake() })
		})
		c := wire.Dial(t, s.addr, query+"&room=a&room=b", http.Header{"Origin": {"https://example.org"}, "X-Test": {"yes"}})
		c.Receive()
		c.Text(`40{"k":1}`)
		h := <-got
		if h.Address != "127.0.0.1" || !h.XDomain || h.Secure || h.Query.Get("EIO") != "4" || len(h.Query["room"]) != 2 || string(h.Auth) != `{"k":1}` || time.Since(h.Time) > time.Minute {
			t.Errorf("handshake %+v", h)
		}
		if kept := h.Header.Get("X-Test") == "yes"; kept != keep {
			t.Errorf("KeepHeaders %v: header kept %v", keep, kept)
		}
	}
}
