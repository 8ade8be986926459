package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The example of RFC 6455 section 1.3.
const (
	rfcKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	rfcAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func TestAcceptKey(t *testing.T) {
	if got := AcceptKey(rfcKey); got != rfcAccept {
		t.Errorf("got %q, want %q", got, rfcAccept)
	}
}

const rfcRequest = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: " + rfcKey + "\r\nOrigin: http://example.com\r\n" +
	"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n"

func parseRequest(t testing.TB, request string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		t.Fatalf("%v in %q", err, request)
	}
	return r
}

func TestCheckUpgradeAccepts(t *testing.T) {
	chat := Upgrade{Key: rfcKey, Protocol: "chat"}
	for _, tt := range []struct {
		name, old, new string
		want           Upgrade
	}{
		{"the RFC's example", "", "", chat},
		{"list in Connection", "Connection: Upgrade", "Connection: keep-alive, Upgrade", chat},
		{"two lines of Connection", "Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade", chat},
		{"other case", "Upgrade: websocket", "uPGRADE: WebSocket", chat},
		{"list in Upgrade", "Upgrade: websocket", "Upgrade: h2c, websocket", chat},
		{"no subprotocol", "Sec-WebSocket-Protocol: chat, superchat\r\n", "", Upgrade{Key: rfcKey}},
		{"two lines of subprotocols", "Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Protocol: a", Upgrade{Key: rfcKey, Protocol: "b"}},
	} {
		u, err := CheckUpgrade(parseRequest(t, strings.Replace(rfcRequest, tt.old, tt.new, 1)))
		if err != nil || u != tt.want {
			t.Errorf("%s: got %+v, error %v; want %+v", tt.name, u, err, tt.want)
		}
	}
}

func TestCheckUpgradeRefuses(t *testing.T) {
	const keyLine, versionLine = "Sec-WebSocket-Key: " + rfcKey, "Sec-WebSocket-Version: 13"
	for _, tt := range []struct {
		name, old, new string
		status         int
		text           string // part of the error
	}{
		{"method", "GET", "POST", 405, `"POST"`},
		{"protocol", "HTTP/1.1", "HTTP/1.0", 400, `"HTTP/1.0"`},
		{"no host", "Host: server.example.com\r\n", "", 400, "Host"},
		{"no Connection", "Connection: Upgrade\r\n", "", 400, "Connection"},
		{"part of a token in Connection", "Connection: Upgrade", "Connection: noupgrade", 400, "Connection"},
		{"no Upgrade", "Upgrade: websocket\r\n", "", 400, "Upgrade"},
		{"other Upgrade", "Upgrade: websocket", "Upgrade: h2c", 400, "Upgrade"},
		{"version 8", versionLine, "Sec-WebSocket-Version: 8", 426, "Version"},
		{"no version", versionLine + "\r\n", "", 426, "Version"},
		{"two versions", versionLine, versionLine + "\r\n" + versionLine, 426, "Version"},
		{"no key", keyLine + "\r\n", "", 400, "0 Sec-WebSocket-Key"},
		{"two keys", keyLine, keyLine + "\r\n" + keyLine, 400, "2 Sec-WebSocket-Key"},
		{"key of 15 bytes", rfcKey, "MTIzNDU2Nzg5MDEyMzQ1", 400, "base64 of 16"},
		{"key of 17 bytes", rfcKey, "MTIzNDU2Nzg5MDEyMzQ1Njc=", 400, "base64 of 16"},
		{"key of 18 bytes", rfcKey, "MTIzNDU2Nzg5MDEyMzQ1Njc4", 400, "base64 of 16"},
		{"key of 19 bytes", rfcKey, "MTIzNDU2Nzg5MDEyMzQ1Njc4OQ==", 400, "base64 of 16"},
		{"key not base64", rfcKey, "dGhlIHNhbXBsZSBub25jZ!==", 400, "base64 of 16"},
		{"key without padding", rfcKey, "dGhlIHNhbXBsZSBub25jZQ", 400, "base64 of 16"},
		{"empty key", rfcKey, "", 400, "base64 of 16"},
		{"subprotocol not a token", "chat, superchat", "chat, super chat", 400, `"super chat"`},
		{"empty subprotocol", "chat, superchat", "chat,,b", 400, `""`},
	} {
		u, err := CheckUpgrade(parseRequest(t, strings.Replace(rfcRequest, tt.old, tt.new, 1)))
		var e *HandshakeError
		if !errors.As(err, &e) || e.Status != tt.status || !strings.Contains(e.Text, tt.text) || u != (Upgrade{}) {
			t.Errorf("%s: got %+v, error %v; want status %d and %q", tt.name, u, err, tt.status, tt.text)
			continue
		}
		if got := e.Header.Get("Sec-WebSocket-Version"); (got == "13") != (tt.status == 426) {
			t.Errorf("%s: Sec-WebSocket-Version is %q with status %d", tt.name, got, tt.status)
		}
		if got := e.Header.Get("Allow"); (got == "GET") != (tt.status == 405) {
			t.Errorf("%s: Allow is %q with status %d", tt.name, got, tt.status)
		}
	}
}

func TestAppendSwitchingProtocols(t *testing.T) {
	const base = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + rfcAccept + "\r\n"
	for _, tt := range []struct {
		name  string
		u     Upgrade
		extra http.Header
		want  string
	}{
		{"plain", Upgrade{Key: rfcKey}, nil, base + "\r\n"},
		{"subprotocol", Upgrade{Key: rfcKey, Protocol: "chat"}, nil, base + "Sec-WebSocket-Protocol: chat\r\n\r\n"},
		{"extra, in order", Upgrade{Key: rfcKey}, http.Header{"Set-Cookie": {"a=1", "b=2"}, "Server": {"edge"}},
			base + "Server: edge\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"},
		{"nothing twice, nothing smuggled", Upgrade{Key: rfcKey},
			http.Header{"Connection": {"close"}, "upgrade": {"h2c"}, "A": {"1\r\nB: 2"}, "C: 3\r\nD": {"4"}, "": {"5"}},
			base + "A: 1  B: 2\r\n\r\n"},
	} {
		if got := string(AppendSwitchingProtocols(nil, tt.u, tt.extra)); got != tt.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
	}
	if got := string(AppendSwitchingProtocols([]byte("x"), Upgrade{Key: rfcKey}, nil)); got != "x"+base+"\r\n" {
		t.Errorf("behind other bytes: %q", got)
	}
}

func TestAppendRequestIsAccepted(t *testing.T) {
	h := ClientHandshake{
		Host: "server.example.com:3000", Path: "/socket.io/?EIO=4&transport=websocket", Key: rfcKey,
		Header: http.Header{"Origin": {"http://example.com"}, "Sec-Websocket-Protocol": {"chat"}, "Host": {"evil"}, "Connection": {"close"}},
	}
	const want = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: server.example.com:3000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + rfcKey + "\r\nSec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\nSec-Websocket-Protocol: chat\r\n\r\n"
	got := string(AppendRequest(nil, h))
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	u, err := CheckUpgrade(parseRequest(t, got))
	if err != nil || u != (Upgrade{Key: rfcKey, Protocol: "chat"}) {
		t.Errorf("got %+v, error %v", u, err)
	}
	short := string(AppendRequest(nil, ClientHandshake{Host: "h", Key: rfcKey}))
	if !strings.HasPrefix(short, "GET / HTTP/1.1\r\nHost: h\r\n") {
		t.Errorf("without a path: %q", short)
	}
}

func TestReadSwitchingProtocols(t *testing.T) {
	answer := AppendSwitchingProtocols(nil, Upgrade{Key: rfcKey, Protocol: "chat"}, http.Header{"X-Node": {"a:b"}})
	in := slices.Concat(answer, rfcHello)
	for n := range len(answer) {
		if rest, ok, err := ReadSwitchingProtocols(in[:n], rfcKey); ok || err != nil || rest != nil {
			t.Fatalf("after %d bytes: %q %v %v", n, rest, ok, err)
		}
	}
	for n := len(answer); n <= len(in); n++ {
		rest, ok, err := ReadSwitchingProtocols(in[:n], rfcKey)
		if !ok || err != nil || !bytes.Equal(rest, in[len(answer):n]) {
			t.Fatalf("after %d bytes: %q %v %v", n, rest, ok, err)
		}
	}
}

func TestReadSwitchingProtocolsRefuses(t *testing.T) {
	answer := string(AppendSwitchingProtocols(nil, Upgrade{Key: rfcKey}, nil))
	for _, tt := range []struct {
		name, in string
		status   int
		text     string
	}{
		{"not HTTP", "SSH-2.0-OpenSSH", 0, "not HTTP"},
		{"HTTP/2", "HTTP/2 101", 0, "not HTTP/1"},
		{"HTTP/1.0", strings.Replace(answer, "1.1", "1.0", 1), 0, `"HTTP/1.0 101`},
		{"broken status", strings.Replace(answer, "101", "1x1", 1), 0, "1x1"},
		{"refused", "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n", 503, "503 Service Unavailable"},
		{"no reason, no headers", "HTTP/1.1 400\r\n\r\n", 400, "400"},
		{"no headers", "HTTP/1.1 101\r\n\r\n", 101, "Upgrade"},
		{"other upgrade", strings.Replace(answer, "websocket", "h2c", 1), 101, "Upgrade"},
		{"no connection", strings.Replace(answer, "Connection: Upgrade\r\n", "", 1), 101, "Connection"},
		{"other accept", strings.Replace(answer, rfcAccept, AcceptKey("x"), 1), 101, "Accept"},
		{"no accept", strings.Replace(answer, "Sec-WebSocket-Accept: "+rfcAccept+"\r\n", "", 1), 101, "Accept"},
		{"extension", strings.Replace(answer, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1), 101, "Extensions"},
		{"folded line", strings.Replace(answer, "\r\n\r\n", "\r\n folded: x\r\n\r\n", 1), 101, "folded"},
		{"no colon", strings.Replace(answer, "\r\n\r\n", "\r\nbroken\r\n\r\n", 1), 101, "broken"},
		{"endless", "HTTP/1.1 101 " + strings.Repeat("x", maxResponse), 0, "16384"},
	} {
		rest, ok, err := ReadSwitchingProtocols([]byte(tt.in), rfcKey)
		var e *HandshakeError
		if !errors.As(err, &e) || e.Status != tt.status || !strings.Contains(e.Text, tt.text) || ok || rest != nil {
			t.Errorf("%s: got %q %v %v; want status %d and %q", tt.name, rest, ok, err, tt.status, tt.text)
		}
	}
}

func TestHandshakeErrorText(t *testing.T) {
	if got := badRequest("no Host header").Error(); got != "websocket: handshake: no Host header" {
		t.Errorf("got %q", got)
	}
}
