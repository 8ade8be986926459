package engine_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

const (
	unknownSession = `{"code":1,"message":"Session ID unknown"}`
	badRequest     = `{"code":3,"message":"Bad request"}`
)

// pair is two nodes that reach each other: sessions are opened on the owner, and
// what follows goes to the other.
type pair struct {
	mesh         *mesh
	owner, other *server
}

func newPair(t *testing.T, cfg engine.Config, setup func(*engine.Server)) *pair {
	t.Helper()
	p := &pair{mesh: newMesh()}
	cfg.Peers = p.mesh
	cfg.Node = "owner___"
	p.owner = newServer(t, cfg, setup)
	cfg.Node = "other___"
	p.other = newServer(t, cfg, setup)
	p.mesh.add("owner___", p.owner.Server)
	p.mesh.add("other___", p.other.Server)
	return p
}

// session opens a session on the owner; its client goes to the other node from then on.
func (p *pair) session() *poller {
	p.owner.t.Helper()
	c := p.owner.pollJoined()
	c.s = p.other
	return c
}

func TestRelayedPolling(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	c := p.session()
	if c.sid[:8] != "owner___" {
		t.Fatalf("session id %q does not begin with its owner", c.sid)
	}
	c.post(`420["echo","a"]`)
	c.get(`430["a"]`)
	c.post("451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==")
	c.get("451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==")
	parked := c.park()
	eventually(t, "the GET to wait at its owner", func() bool { return counter(p.other.m.RelayedRequests[metrics.RelayPoll]) == 3 })
	if err := p.owner.Of("/").Emit("news", 1); err != nil {
		t.Fatal(err)
	}
	if got := <-parked; got != `200 42["news",1]` {
		t.Errorf("parked GET: %q", got)
	}
	c.s = p.owner // and back again
	c.post(`42["echo","b"]`)
	c.get(`42["echo","b"]`)
	if n := counter(p.owner.m.RelayedRequests[metrics.RelayPoll]) + counter(p.owner.m.RelayedRequests[metrics.RelayPost]); n != 0 {
		t.Errorf("%v requests were relayed for sessions of the node itself", n)
	}
	c.s = p.other
	c.post("1")
	c.unknown()
	eventually(t, "the session to end", func() bool { return p.owner.Conns() == 0 })
}

// TestRelayedErrors: what is wrong with a request is told as without a relay.
func TestRelayedErrors(t *testing.T) {
	p := newPair(t, engine.Config{MaxPayload: 1000}, echo)
	for _, tt := range []struct {
		what string
		sid  func(sid string) string
		want string
	}{
		{"an unknown node", func(string) string { return "nobody__AAAAAAAAAAAA" }, unknownSession},
		{"the owner's name, forged", func(string) string { return "owner___AAAAAAAAAAAA" }, unknownSession},
		{"its own name, forged", func(string) string { return "other___AAAAAAAAAAAA" }, unknownSession},
		{"too short", func(sid string) string { return sid[:19] }, unknownSession},
		{"too long", func(sid string) string { return sid + "A" }, unknownSession},
		{"not base64url", func(sid string) string { return sid[:19] + "*" }, unknownSession},
	} {
		c := p.session()
		sid := c.sid
		c.sid = tt.sid(sid)
		for _, method := range []string{"GET", "POST"} {
			if status, body := c.do(method, map[string]string{"POST": "40"}[method], nil); status != 400 || body != tt.want {
				t.Errorf("%s with a session id that is %s: %d %q", method, tt.what, status, body)
			}
		}
		c.sid = sid
		c.post(`420["echo"]`) // unharmed
		c.get("430[]")
	}

	wrong := p.session()
	for sid, want := range map[string]string{wrong.sid: badRequest, "owner___AAAAAAAAAAAA": unknownSession, "nobody__AAAAAAAAAAAA": unknownSession} {
		if resp, body := exchange(t, p.other.addr, "GET", "/socket.io/?EIO=3&transport=polling&sid="+sid, ""); resp.StatusCode != 400 || body != want {
			t.Errorf("GET of another revision: %d %q, want %q", resp.StatusCode, body, want)
		}
	}

	big := p.session()
	if status, _ := big.do("POST", strings.Repeat("4", 1001), nil); status != 413 {
		t.Errorf("POST that is too large: %d", status)
	}
	big.post(`420["echo"]`)
	big.get("430[]")

	for name, c := range map[string]struct {
		body   string
		header http.Header
	}{
		"a packet of an unknown type": {body: "9"},
		"bytes that are no UTF-8":     {body: "4\xff"},
		"a type of revision 3":        {body: "40", header: http.Header{"Content-Type": {"application/octet-stream"}}},
	} {
		s := p.session()
		if status, _ := s.do("POST", c.body, c.header); status != 400 {
			t.Errorf("POST of %s: %d", name, status)
		}
		s.unknown()
	}

	twice := p.session()
	first := twice.park()
	eventually(t, "a second GET to be refused", func() bool { // whichever is second: the first is answered then
		status, _ := twice.do("GET", "", nil)
		return status == 400
	})
	<-first
}

// TestRelayedClientGone: a client that goes away while its GET waits elsewhere
// ends its session, as without a relay.
func TestRelayedClientGone(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	sockets := make(chan *engine.Socket, 1)
	p.owner.Of("/").OnConnection(func(s *engine.Socket) { sockets <- s })
	c := p.session()
	c.giveUp(<-sockets)
	eventually(t, "the session to end", func() bool { return p.owner.Conns() == 0 })
}

// TestOwnerGone: the client of a session whose owner is gone is told so at once.
func TestOwnerGone(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	sockets := make(chan *engine.Socket, 1)
	p.owner.Of("/").OnConnection(func(s *engine.Socket) { sockets <- s })
	c := p.session()
	so := <-sockets
	parked := c.park()
	eventually(t, "the GET to wait at its owner", func() bool { return polls(so) })
	p.mesh.breakAll()
	if got := <-parked; got != "400 "+unknownSession {
		t.Errorf("GET whose owner died: %q", got)
	}
	for _, err := range []error{engine.ErrNoPeer, errors.New("no route")} {
		p.mesh.fail("owner___", err)
		c.unknown()
		if status, body := c.do("POST", "3", nil); status != 400 || body != unknownSession {
			t.Errorf("POST without an owner: %d %q", status, body)
		}
		if _, err := wire.TryDial(t, p.other.addr, query+"&sid="+c.sid, nil); err == nil {
			t.Error("upgrade without an owner")
		}
	}
	eventually(t, "the refusals to be counted", func() bool { return counter(p.other.m.Refusals[metrics.RefusalPeer]) >= 3 })
	eventually(t, "the places to be given back", func() bool { return p.other.Conns() == 0 })
}

// upgrade probes on the other node and takes over.
func (p *pair) upgrade(c *poller) *wire.Client {
	t := p.owner.t
	t.Helper()
	ws := wire.Dial(t, p.other.addr, query+"&sid="+c.sid, nil)
	ws.Text("2probe")
	if got := ws.Receive(); got != "3probe" {
		t.Fatalf("probe: %q", got)
	}
	ws.Text("5")
	return ws
}

// TestRelayedWebSocket: without recovery a conn cannot move, and its frames are
// relayed, in both directions and in order, until one side ends it.
func TestRelayedWebSocket(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	c := p.session()
	c.post(`42["echo","before"]`)
	ws := p.upgrade(c)
	ws.Text(`420["echo","after"]`)
	for _, want := range []string{`42["echo","before"]`, `430["after"]`} {
		if got := ws.Receive(); got != want {
			t.Fatalf("received %q, want %q", got, want)
		}
	}
	counts(t, p.other.m.RelayedWebSockets, 1)
	counts(t, p.owner.m.ConnsWebSocket, 1)
	counts(t, p.owner.m.ConnsPolling, 0)
	if p.owner.Conns() != 1 || p.other.Conns() != 1 {
		t.Errorf("%d conns at the owner, %d at the other", p.owner.Conns(), p.other.Conns())
	}
	big := strings.Repeat("x", 50_000)
	for i := range 50 {
		ws.Text(fmt.Sprintf(`42["echo",%d,%q]`, i, big))
	}
	for i := range 50 {
		if got := ws.Receive(); got != fmt.Sprintf(`42["echo",%d,%q]`, i, big) {
			t.Fatalf("message %d came as %.40q", i, got)
		}
	}
	if status, body := c.do("GET", "", nil); status != 400 || body != badRequest {
		t.Errorf("GET after the upgrade: %d %q", status, body)
	}
	ws.Conn.Close()
	eventually(t, "the conn to end everywhere", func() bool {
		return p.owner.Conns() == 0 && p.other.Conns() == 0 && counter(p.other.m.RelayedWebSockets) == 0
	})
	counts(t, p.owner.m.Closes[metrics.CloseTransportClose], 1)
}

// TestRelayedEnds: whoever ends a relayed conn, everybody hears of it.
func TestRelayedEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*pair, *wire.Client)
		want []string // frames the client reads before its connection ends
	}{
		"the client, with a close frame":      {func(_ *pair, ws *wire.Client) { ws.Raw([]byte{0x88, 0x80, 0, 0, 0, 0}) }, []string{"close 1005"}},
		"the client, with an Engine.IO close": {func(_ *pair, ws *wire.Client) { ws.Text("1") }, []string{"close 1005"}},
		"the application":                     {func(p *pair, _ *wire.Client) { p.owner.Of("/").Local().DisconnectSockets(true) }, []string{"41", "close 1005"}},
		"a packet that may not be sent":       {func(_ *pair, ws *wire.Client) { ws.Text("9") }, []string{"close 1005"}},
		"the network between the nodes":       {func(p *pair, _ *wire.Client) { p.mesh.breakAll() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, engine.Config{}, echo)
			ws := p.upgrade(p.session())
			ws.Text(`420["echo"]`)
			if got := ws.Receive(); got != "430[]" {
				t.Fatalf("received %q", got)
			}
			tt.end(p, ws)
			var got []string
			for {
				f, err := ws.Next()
				if err != nil {
					break
				}
				got = append(got, f.String())
				if f.Op == 8 {
					ws.Conn.Close()
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("the client read %q, want %q", got, tt.want)
			}
			eventually(t, "the conn to end everywhere", func() bool {
				return p.owner.Conns() == 0 && p.other.Conns() == 0 && counter(p.other.m.RelayedWebSockets) == 0
			})
		})
	}
}

// TestTwoUpgradesAtOnce: of two WebSockets for one session on two nodes, one probes.
func TestTwoUpgradesAtOnce(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	c := p.session()
	here, err := wire.TryDial(t, p.other.addr, query+"&sid="+c.sid, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*server{p.owner, p.other} {
		if _, err := wire.TryDial(t, s.addr, query+"&sid="+c.sid, nil); err == nil {
			t.Error("a second upgrade was taken")
		}
	}
	here.Conn.Close() // it did not probe
	eventually(t, "another upgrade to be possible", func() bool {
		ws, err := wire.TryDial(t, p.owner.addr, query+"&sid="+c.sid, nil)
		if err != nil {
			return false
		}
		ws.Text("2probe")
		if f, err := ws.Next(); err != nil || f.Data != "3probe" {
			t.Errorf("probe: %v %v", f, err)
		}
		ws.Conn.Close()
		return true
	})
	c.post(`420["echo"]`)
	for got := ""; got != "430[]"; {
		_, got = c.do("GET", "", nil)
		if got != "6" && got != "430[]" {
			t.Fatalf("received %q", got)
		}
	}
}

// TestUpgradeElsewhereInFlight is TestUpgradeInFlight with the WebSocket on
// another node.
func TestUpgradeElsewhereInFlight(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	const clients, messages = 20, 60
	errs := make(chan error, clients)
	for range clients {
		c := p.session()
		go func() { errs <- upgradeWhileTalking(p.other, c, messages) }()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestRelayedSlowReader: a client that does not read is found out by its owner,
// however far away.
func TestRelayedSlowReader(t *testing.T) {
	p := newPair(t, engine.Config{OutboxBytes: 256 << 10, MaxPayload: 10_000}, echo)
	p.upgrade(p.session()) // and never reads again
	eventually(t, "the slow reader to be closed", func() bool {
		_ = p.owner.Of("/").Emit("news", strings.Repeat("x", 50_000))
		return counter(p.owner.m.Closes[metrics.CloseSlowReader]) == 1
	})
	eventually(t, "the conn to end everywhere", func() bool { return p.owner.Conns() == 0 && p.other.Conns() == 0 })
}

// TestShutdownWithHeldWebSockets: a node that ends tells the clients it holds
// WebSockets of, and their owner.
func TestShutdownWithHeldWebSockets(t *testing.T) {
	p := newPair(t, engine.Config{}, echo)
	ws := p.upgrade(p.session())
	ws.Text(`420["echo"]`)
	if got := ws.Receive(); got != "430[]" {
		t.Fatalf("received %q", got)
	}
	if err := p.other.end(); err != nil {
		t.Fatal(err)
	}
	if f, err := ws.Next(); err != nil || f.String() != "close 1001" {
		t.Errorf("the client read %v, %v", f, err)
	}
	eventually(t, "the owner to end the conn", func() bool { return p.owner.Conns() == 0 })
}
