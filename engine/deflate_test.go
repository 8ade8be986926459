package engine_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

const (
	offer  = "permessage-deflate; client_max_window_bits" // of browsers and of ws
	agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
)

// deflating is a server that compresses.
func deflating(t *testing.T, cfg engine.Config, setup func(*engine.Server)) *server {
	if cfg.Deflate == nil {
		cfg.Deflate = &engine.Deflate{}
	}
	return newServer(t, cfg, setup)
}

// joinDeflate opens a conn that may compress and joins the main namespace.
func (s *server) joinDeflate() *wire.Client {
	s.t.Helper()
	c, answer := wire.DialDeflate(s.t, s.addr, query, offer)
	if answer != agreed {
		s.t.Fatalf("the offer was answered %q", answer)
	}
	c.Receive() // open
	c.Text("40")
	if reply := c.Receive(); !strings.HasPrefix(reply, `40{"sid":"`) {
		s.t.Fatalf("CONNECT reply: %q", reply)
	}
	return c
}

func TestDeflateConfig(t *testing.T) {
	for _, c := range []struct {
		deflate engine.Deflate
		names   []string
	}{
		{engine.Deflate{Level: 10}, []string{"Deflate.Level 10"}},
		{engine.Deflate{Level: -1, From: -1}, []string{"Deflate.Level -1", "Deflate.From -1"}},
	} {
		_, err := engine.New(engine.Config{Deflate: &c.deflate}, nil, nil)
		for _, name := range c.names {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%+v: %v, want %q named", c.deflate, err, name)
			}
		}
	}
}

// TestDeflateOff: nothing is parsed or answered, and RSV1 is a violation.
func TestDeflateOff(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	if _, answer := wire.DialDeflate(t, s.addr, query, "permessage-deflate; ="); answer != "" {
		t.Errorf("answered %q", answer)
	}
	c, _ := s.join()
	c.CompressedText(`42["echo"]`)
	if code := c.ExpectClosed(); code != websocket.CodeProtocolError {
		t.Errorf("closed with %d", code)
	}
	eventually(t, "the reason", func() bool { return counter(s.m.Closes[metrics.CloseProtocolError]) == 1 })
}

// TestDeflateNegotiation: an offer that cannot be accepted costs the extension, a
// header that cannot be read the handshake.
func TestDeflateNegotiation(t *testing.T) {
	s := deflating(t, engine.Config{}, echo)
	for offered, want := range map[string]string{
		"permessage-deflate; server_max_window_bits=10":                     "",
		"permessage-deflate; server_max_window_bits=10, permessage-deflate": agreed,
		"permessage-deflate; server_max_window_bits=15":                     agreed + "; server_max_window_bits=15",
		"x-other": "",
	} {
		c, answer := wire.DialDeflate(t, s.addr, query, offered)
		if answer != want {
			t.Errorf("%q was answered %q", offered, answer)
		}
		if open := c.Receive(); !strings.HasPrefix(open, `0{"sid":"`) {
			t.Errorf("%q: open packet %q", offered, open)
		}
	}
	_, err := wire.TryDial(t, s.addr, query, http.Header{"Sec-WebSocket-Extensions": {"permessage-deflate;"}})
	if err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a malformed header: %v", err)
	}
	counts(t, s.m.Refusals[metrics.RefusalBadRequest], 1)
	counts(t, s.m.DeflateConns, 2)
	c, _ := s.join() // offered nothing
	c.CompressedText(`42["echo"]`)
	if code := c.ExpectClosed(); code != websocket.CodeProtocolError {
		t.Errorf("compressed without an agreement: closed with %d", code)
	}
}

// TestDeflateBothWays: small and large, text and attachments.
func TestDeflateBothWays(t *testing.T) {
	s := deflating(t, engine.Config{}, echo)
	c := s.joinDeflate()
	large := strings.Repeat("all work and no play ", 500)
	before := c.Bytes
	c.CompressedText(`42["echo","` + large + `"]`)
	c.Expect(`42["echo","` + large + `"]`)
	if n := c.Bytes - before; n > len(large)/10 {
		t.Errorf("%d bytes came for %d", n, len(large))
	}
	c.Text(`42["echo","plain"]`)
	c.Expect(`42["echo","plain"]`)
	c.CompressedText(`42["echo","small"]`)
	c.Expect(`42["echo","small"]`)
	packet := `452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`
	c.CompressedText(packet)
	c.CompressedBinary(large)
	c.Binary([]byte("small"))
	c.Expect(packet, fmt.Sprintf("op 2 %q", large), `op 2 "small"`)
	c.CompressedText("3")
	c.CompressedText(`421["echo"]`)
	c.Expect(`431[]`)
	counts(t, s.m.Deflated, 2)
	if in, out := counter(s.m.DeflateInput), counter(s.m.DeflateOutput); in < 2*float64(len(large)) || out > in/10 || out == 0 {
		t.Errorf("%v bytes became %v", in, out)
	}
}

// TestDeflateBroadcast: one compression for all who take it, none for the others.
func TestDeflateBroadcast(t *testing.T) {
	for name, recovery := range map[string]*engine.Recovery{"with recovery": {}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			s := deflating(t, engine.Config{Shards: 2, Recovery: recovery}, echo)
			nsp := s.Of("/")
			var plain, small []*wire.Client
			for range 4 {
				c, _ := s.join()
				plain = append(plain, c)
			}
			large := strings.Repeat("to be or not to be ", 200)
			receive := func(c *wire.Client, event string) {
				t.Helper()
				if got := c.Receive(); !strings.HasPrefix(got, `42["`+event+`","`+large+`"`) {
					t.Errorf("%q", got)
				}
			}
			emit := func(event string, b engine.Broadcast) {
				t.Helper()
				if err := b.Emit(event, large); err != nil {
					t.Fatal(err)
				}
				for _, c := range append(plain[:4:4], small...) {
					receive(c, event)
				}
			}
			emit("first", nsp.To())
			if n := counter(s.m.Deflated); n != 0 {
				t.Errorf("%v messages compressed for nobody", n)
			}
			for range 4 {
				small = append(small, s.joinDeflate())
			}
			compressions := func(what string, want float64) {
				t.Helper()
				// The last shard may still be counting.
				eventually(t, what, func() bool { return counter(s.m.Deflated) == want })
			}
			emit("shared", nsp.To())
			compressions("one compression", 1)
			emit("uncompressed", nsp.To().Compress(false))
			compressions("none for what may not be compressed", 1)
			emit("local", nsp.Local())
			if got := counter(s.m.Deflated); got != 2 && (recovery == nil || got != 3) {
				t.Errorf("%v compressions of a local broadcast", got-1)
			}
			for _, c := range small {
				if c.Bytes > 3*len(large)/2 {
					t.Errorf("%d bytes came, one message of %d uncompressed", c.Bytes, len(large))
				}
			}
			for _, c := range plain {
				if c.Bytes < 4*len(large) {
					t.Errorf("%d bytes came for 4 messages of %d", c.Bytes, len(large))
				}
			}
		})
	}
}

// TestDeflateBomb: a message that inflates beyond MaxPayload closes with 1009.
func TestDeflateBomb(t *testing.T) {
	s := deflating(t, engine.Config{MaxPayload: 10_000}, echo)
	c := s.joinDeflate()
	fits := strings.Repeat("x", 10_000-len(`42["echo",""]`))
	c.CompressedText(`42["echo","` + fits + `"]`)
	c.Expect(`42["echo","` + fits + `"]`)
	c.CompressedText(`42["echo","` + fits + `x"]`)
	if code := c.ExpectClosed(); code != websocket.CodeTooBig {
		t.Errorf("one byte over: closed with %d", code)
	}
	c = s.joinDeflate()
	c.CompressedText(strings.Repeat("x", 8<<20))
	if code := c.ExpectClosed(); code != websocket.CodeTooBig {
		t.Errorf("a bomb: closed with %d", code)
	}
	c = s.joinDeflate()
	c.Raw([]byte{0xC1, 0x81, 0, 0, 0, 0, 0x06})
	if code := c.ExpectClosed(); code != websocket.CodeInvalidPayload {
		t.Errorf("corrupt: closed with %d", code)
	}
	eventually(t, "the reasons", func() bool {
		return counter(s.m.Closes[metrics.CloseMessageTooBig]) == 2 && counter(s.m.Closes[metrics.CloseProtocolError]) == 1
	})
}

// TestDeflateUpgrade: a poll is never answered with compressed frames; the WebSocket
// that follows it may agree to them.
func TestDeflateUpgrade(t *testing.T) {
	s := deflating(t, engine.Config{}, echo)
	p := s.pollJoined()
	large := strings.Repeat("once upon a time ", 300)
	packet := `42["echo","` + large + `"]`
	p.post(packet)
	p.get(packet)
	if n := counter(s.m.Deflated); n != 0 {
		t.Errorf("%v messages compressed for a client that polls", n)
	}
	ws, answer := wire.DialDeflate(t, s.addr, query+"&sid="+p.sid, offer)
	if answer != agreed {
		t.Fatalf("answered %q", answer)
	}
	ws.CompressedText("2probe")
	ws.Expect("3probe")
	ws.CompressedText("5")
	ws.CompressedText(packet)
	ws.Expect(packet)
	counts(t, s.m.Deflated, 1)
}

// upgradeDeflate is pair.upgrade for a client that compresses.
func (p *pair) upgradeDeflate(c *poller) *wire.Client {
	t := p.owner.t
	t.Helper()
	ws, answer := wire.DialDeflate(t, p.other.addr, query+"&sid="+c.sid, offer)
	if answer != agreed {
		t.Fatalf("answered %q", answer)
	}
	ws.CompressedText("2probe")
	ws.Expect("3probe")
	ws.CompressedText("5")
	return ws
}

// echoesDeflate checks that large packets are read and answered, compressed by
// whom is counted.
func echoesDeflate(t *testing.T, ws *wire.Client, by *server) {
	t.Helper()
	before, bytes := counter(by.m.Deflated), ws.Bytes
	large := strings.Repeat("far and away ", 300)
	ws.CompressedText(`420["echo","` + large + `"]`)
	ws.Text(`421["echo","plain"]`)
	ws.Expect(`430["`+large+`"]`, `431["plain"]`)
	counts(t, by.m.Deflated, before+1)
	if n := ws.Bytes - bytes; n > len(large)/2 {
		t.Errorf("%d bytes came", n)
	}
}

// TestDeflateRelayed: what a client compresses is read by the node that owns its
// conn, and what that compresses passes through the one that holds the WebSocket.
func TestDeflateRelayed(t *testing.T) {
	p := newPair(t, engine.Config{Deflate: &engine.Deflate{}}, echo)
	echoesDeflate(t, p.upgradeDeflate(p.session()), p.owner)
	eventually(t, "the WebSocket to be relayed", func() bool { return counter(p.other.m.RelayedWebSockets) == 1 })
}

// TestDeflateRelayedByOwnerWithout: an owner that has compression off reads what the
// client compresses all the same.
func TestDeflateRelayedByOwnerWithout(t *testing.T) {
	p := &pair{mesh: newMesh()}
	p.owner = newServer(t, engine.Config{Node: "owner___", Peers: p.mesh}, echo)
	p.other = newServer(t, engine.Config{Node: "other___", Peers: p.mesh, Deflate: &engine.Deflate{}}, echo)
	p.mesh.add("owner___", p.owner.Server)
	p.mesh.add("other___", p.other.Server)
	ws := p.upgradeDeflate(p.session())
	large := `42["echo","` + strings.Repeat("x", 5000) + `"]`
	ws.CompressedText(large)
	ws.Expect(large)
	if n := counter(p.owner.m.Deflated); n != 0 {
		t.Errorf("%v messages compressed by a node that has it off", n)
	}
}

// TestDeflateMoved: the conn goes on compressing where it has moved to.
func TestDeflateMoved(t *testing.T) {
	m := newMoversOf(t, engine.Config{Deflate: &engine.Deflate{}})
	c, _ := m.opened()
	ws := m.upgradeDeflate(c)
	receive(t, "a connection at the other node", m.then)
	echoesDeflate(t, ws, m.other)
	eventually(t, "the owner to let the conn go", func() bool { return m.owner.Conns() == 0 })
}

// olderOwner is an owner that lets every WebSocket probe and knows nothing of
// compression.
type olderOwner struct{ to engine.Receiver }

func (o olderOwner) Open(_ context.Context, _ string, r engine.Receiver) (engine.Stream, error) {
	return olderOwner{to: r}, nil
}

func (o olderOwner) Send(kind byte, _ []byte) error {
	if kind == engine.MsgUpgrade {
		go o.to.Receive(engine.MsgAnswer, []byte{0, http.StatusOK, 0xff})
	}
	return nil
}

func (olderOwner) Close() {}

// TestDeflateOlderOwner: nothing is agreed to that the owner of the session could
// not read.
func TestDeflateOlderOwner(t *testing.T) {
	s := newServer(t, engine.Config{Node: "other___", Peers: olderOwner{}, Deflate: &engine.Deflate{}}, echo)
	c, answer := wire.DialDeflate(t, s.addr, query+"&sid=owner___abcdefghijkl", offer)
	if answer != "" {
		t.Errorf("answered %q", answer)
	}
	c.Text("2probe")
	c.Expect("3probe")
	c.Conn.Close()
	eventually(t, "the place to be given back", func() bool { return s.Conns() == 0 })
}
