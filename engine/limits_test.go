package engine_test

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

// unhurried is a rate at which nothing comes back within a test.
const unhurried = 0.1

// ends waits until the conn was closed for a reason.
func (s *server) ends(why metrics.Close) {
	s.t.Helper()
	eventually(s.t, "closed for "+why.String(), func() bool { return counter(s.m.Closes[why]) == 1 })
}

// TestPacketRate: who sends more packets than it may is told that it was disconnected, so that its client does not come
// back by itself; what came before is answered, what comes after is not handled. Pings of WebSocket count, too.
func TestPacketRate(t *testing.T) {
	s := newServer(t, engine.Config{PacketRate: unhurried, PacketBurst: 4}, echo)
	c, _ := s.join() // the first packet
	other, _ := s.join()
	c.Text(`421["echo",1]`, `422["echo",2]`)
	c.Expect(`431[1]`, `432[2]`)
	c.Raw(websocket.AppendMaskedFrame(nil, websocket.Ping, []byte("p"), [4]byte{1, 2, 3, 4}))
	c.Expect(`op 10 "p"`)
	c.Text(`423["echo",3]`, `424["echo",4]`)
	c.Expect("41")
	if code := c.ExpectClosed(); code != websocket.CodePolicy {
		t.Errorf("closed with %d", code)
	}
	s.ends(metrics.ClosePacketRate)
	other.Text(`421["echo",1]`)
	other.Expect(`431[1]`)
}

// TestByteRate: many bytes in few packets, also in a message that is never completed.
func TestByteRate(t *testing.T) {
	for name, send := range map[string]func(c *wire.Client){
		"messages": func(c *wire.Client) {
			for range 10 {
				c.Text(`42["echo","` + strings.Repeat("x", 900) + `"]`)
			}
		},
		"fragments": func(c *wire.Client) {
			for i := range 5 {
				op := websocket.Continuation
				if i == 0 {
					op = websocket.Text
				}
				frame := websocket.AppendMaskedFrame(nil, op, []byte(strings.Repeat("4", 190)), [4]byte{1, 2, 3, 4})
				frame[0] &^= 0x80 // not the last
				c.Raw(frame)
			}
			ping := websocket.AppendMaskedFrame(nil, websocket.Ping, []byte(strings.Repeat("p", 125)), [4]byte{1, 2, 3, 4})
			for range 60 { // so many that what comes back meanwhile is no matter
				c.Raw(ping)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, engine.Config{ByteRate: engine.MinByteRate, ByteBurst: 2000, MaxPayload: 1000}, echo)
			c, _ := s.join()
			send(c)
			if code := c.ExpectClosed(); code != websocket.CodePolicy {
				t.Errorf("closed with %d", code)
			}
			s.ends(metrics.CloseByteRate)
		})
	}
}

// TestByteRateInflated: what is sent in few bytes and becomes many counts as many.
func TestByteRateInflated(t *testing.T) {
	s := newServer(t, engine.Config{ByteRate: engine.MinByteRate, ByteBurst: 200_000, MaxPayload: 100_000, Deflate: &engine.Deflate{}}, echo)
	c := s.joinDeflate()
	for range 3 {
		c.CompressedText(`42["echo","` + strings.Repeat("x", 90_000) + `"]`)
	}
	s.ends(metrics.CloseByteRate)
	if n := counter(s.m.BytesReceived); n > 10_000 {
		t.Errorf("%v bytes were sent: the test does not try what it is for", n)
	}
}

// TestPacketRatePolling: the packets of POSTs count, and the client is told by its GET; its POST must not fail, or its
// client would come back by itself.
func TestPacketRatePolling(t *testing.T) {
	s := newServer(t, engine.Config{PacketRate: unhurried, PacketBurst: 3}, echo)
	p := s.pollJoined() // the first packet
	p.post(`421["echo",1]`)
	p.get(`431[1]`)
	p.post(`422["echo",2]` + "\x1e" + `423["echo",3]`)
	p.get("41") // not with the end of the session: it would come too late for Socket.IO's client
	p.get("1")
	p.unknown()
	s.ends(metrics.ClosePacketRate)
}

// TestPacketRateRelayed: what comes by way of another node counts at the owner, by POST and on the WebSocket.
func TestPacketRateRelayed(t *testing.T) {
	p := newPair(t, engine.Config{PacketRate: unhurried, PacketBurst: 3}, echo)
	c := p.session() // the first packet
	c.post(`421["echo",1]`)
	c.get(`431[1]`)
	ws := p.upgrade(c)
	ws.Text(`422["echo",2]`)
	ws.Expect(`432[2]`)
	ws.Text(`423["echo",3]`)
	ws.Expect("41")
	ws.ExpectClosed()
	p.owner.ends(metrics.ClosePacketRate)
}

// TestProbePings: a WebSocket that probes sends a few pings at most, at whatever node it is; its session goes on polling.
func TestProbePings(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	for name, at := range map[string]*server{"owner": p.owner, "other": p.other} {
		t.Run(name, func(t *testing.T) {
			c := p.session()
			ws := wire.Dial(t, at.addr, query+"&sid="+c.sid, nil)
			for range 17 {
				ws.Raw(websocket.AppendMaskedFrame(nil, websocket.Ping, []byte("p"), [4]byte{1, 2, 3, 4}))
			}
			ws.ExpectClosed()
			c.post(`421["echo",1]`)
			c.get(`431[1]`)
		})
	}
}

// TestAttachments: a packet may have as many as the server says, and has to be completed in time, whether what is
// missing is an attachment or a part of a message, and whether or not something else comes meanwhile.
func TestAttachments(t *testing.T) {
	t.Run("too many", func(t *testing.T) {
		s := newServer(t, engine.Config{MaxAttachments: 1}, echo)
		c, _ := s.join()
		c.Text(`451-["echo",{"_placeholder":true,"num":0}]`)
		c.Binary([]byte("a"))
		c.Expect(`451-["echo",{"_placeholder":true,"num":0}]`, `op 2 "a"`)
		c.Text(`452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
		c.ExpectClosed()
		s.ends(metrics.CloseForced)
	})
	t.Run("none", func(t *testing.T) {
		s := newServer(t, engine.Config{MaxAttachments: -1}, echo)
		c, _ := s.join()
		c.Text(`451-["echo",{"_placeholder":true,"num":0}]`)
		c.ExpectClosed()
		s.ends(metrics.CloseForced)
	})
	incomplete := websocket.AppendMaskedFrame(nil, websocket.Text, []byte(`42["echo`), [4]byte{1, 2, 3, 4})
	incomplete[0] &^= 0x80
	for name, begin := range map[string]func(c *wire.Client){
		"an attachment is missing": func(c *wire.Client) { c.Text(`451-["echo",{"_placeholder":true,"num":0}]`) },
		"a message is incomplete":  func(c *wire.Client) { c.Raw(incomplete) },
		"a frame is incomplete":    func(c *wire.Client) { c.Raw(incomplete[:4]) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, engine.Config{AttachmentTimeout: 50 * time.Millisecond, PingTimeout: 100 * time.Millisecond, PingInterval: time.Hour}, echo)
			c, _ := s.join()
			idle, _ := s.join()
			begin(c)
			c.ExpectClosed()
			s.ends(metrics.CloseAttachmentTimeout)
			idle.Text(`421["echo",1]`)
			idle.Expect(`431[1]`)
		})
	}
	t.Run("a polling client's attachment is missing", func(t *testing.T) {
		s := newServer(t, engine.Config{AttachmentTimeout: 50 * time.Millisecond, PingTimeout: 100 * time.Millisecond, PingInterval: time.Hour}, echo)
		p := s.pollJoined()
		p.post(`451-["echo",{"_placeholder":true,"num":0}]`)
		s.ends(metrics.CloseAttachmentTimeout)
	})
}

// TestConnectTimeoutAfterRefusal: a client that no namespace took in may not stay, however often it asks. (One that has
// left what it had joined may, as with the reference implementation.)
func TestConnectTimeoutAfterRefusal(t *testing.T) {
	s := newServer(t, engine.Config{ConnectTimeout: 60 * time.Millisecond, PingTimeout: 100 * time.Millisecond}, func(s *engine.Server) {
		s.Of("/closed", engine.Inline()).Use(func(_ *engine.Socket, next func(error)) { next(errors.New("no")) })
	})
	c := wire.Dial(t, s.addr, query, nil, `40/closed,`, `40/closed,`) // not later: it may be too late
	c.Receive()                                                       // open
	c.Expect(`44/closed,{"message":"no"}`, `44/closed,{"message":"no"}`)
	c.ExpectClosed()
	s.ends(metrics.CloseConnectTimeout)
}

// TestMaxConnsPerSource: one address has its limit, on both transports, and gets a place back when a conn of it ends. It
// is the address that a trusted proxy says.
func TestMaxConnsPerSource(t *testing.T) {
	s := newServer(t, engine.Config{MaxConnsPerSource: 2, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.3/32")}}, echo)
	ws, _ := s.join()
	polls := s.pollJoined()
	s.expectOpening("127.0.0.1", "websocket", 429, metrics.RefusalMaxConnsSource)
	s.expectOpening("127.0.0.1", "polling", 429, metrics.RefusalMaxConnsSource)
	s.expectOpening("127.0.0.2", "websocket", 101, 0)
	for range 3 {
		s.expectOpening("127.0.0.3", "polling", 200, 0) // a proxy that says nothing
	}
	if n := s.Conns(); n != 6 {
		t.Errorf("%d conns, want 6: who was refused counts", n)
	}
	over := wire.Dial(t, s.addr, query+"&sid="+polls.sid, nil) // the same conn
	over.Text("2probe", "5", `421["echo",1]`)
	over.Expect("3probe", `431[1]`)

	forwarded := func(of string) (*http.Response, string) {
		return exchangeFrom(t, "127.0.0.3", s.addr, "GET", pollPath, "X-Forwarded-For: 127.0.0.9, "+of+"\r\n")
	}
	if resp, _ := forwarded("127.0.0.1"); resp.StatusCode != 429 {
		t.Errorf("by way of a proxy: %s", resp.Status)
	}
	if resp, _ := forwarded("127.0.0.4"); resp.StatusCode != 200 {
		t.Errorf("another client by way of a proxy: %s", resp.Status)
	}
	_ = ws.Conn.Close()
	eventually(t, "a place becomes free", func() bool {
		resp, _ := forwarded("127.0.0.1")
		return resp.StatusCode == 200
	})
	if resp, _ := forwarded("127.0.0.1"); resp.StatusCode != 429 {
		t.Errorf("two became free of one: %s", resp.Status)
	}
}

// TestMaxConnsPerSourceMoved: a conn counts where its WebSocket is, for who opened that, and once.
func TestMaxConnsPerSourceMoved(t *testing.T) {
	m := newMoversOf(t, engine.Config{MaxConnsPerSource: 1})
	c, _ := m.opened()
	ws := m.upgrade(c)
	receive(t, "the conn at the other node", m.then)
	echoes(t, ws)
	m.other.expectOpening("127.0.0.1", "polling", 429, metrics.RefusalMaxConnsSource)
	eventually(t, "the owner has its place back", func() bool { return m.owner.Conns() == 0 })
	m.owner.expectOpening("127.0.0.1", "polling", 200, 0)
	_ = ws.Conn.Close()
	eventually(t, "the other node has its place back", func() bool { return m.other.Conns() == 0 })
	m.other.expectOpening("127.0.0.1", "polling", 200, 0)
}

// TestForwardedAddress: handlers and Allow see who the client is.
func TestForwardedAddress(t *testing.T) {
	addresses := make(chan string, 2)
	s := newServer(t, engine.Config{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Allow:          func(r *http.Request) error { addresses <- r.RemoteAddr; return nil },
	}, func(s *engine.Server) {
		s.Of("/").OnConnection(func(s *engine.Socket) { addresses <- s.Handshake().Address })
	})
	c := wire.Dial(t, s.addr, query, http.Header{"X-Forwarded-For": {"1.2.3.4, 2001:db8::7"}})
	c.Text("40")
	if allowed := receive(t, "the question", addresses); allowed != "[2001:db8::7]:0" {
		t.Errorf("Allow was asked about %s", allowed)
	}
	if address := receive(t, "the socket", addresses); address != "2001:db8::7" {
		t.Errorf("the handshake has %s", address)
	}
}

// exchangeFrom is exchange from an address of the loopback network.
func exchangeFrom(t *testing.T, from, addr, method, target, headers string) (*http.Response, string) {
	t.Helper()
	d := net.Dialer{Timeout: wire.Timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return exchangeOn(t, nc, method, target, headers)
}
