package engine_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// movers is a pair whose conns move.
type movers struct {
	*pair
	vault    *vault
	from, to *vaultNode
	first    chan *engine.Socket // connected at the owner
	then     chan *engine.Socket // connected at the other
	handled  chan string         // what "note" was sent, by node
}

func newMovers(t *testing.T) *movers {
	t.Helper()
	return newMoversOf(t, engine.Config{})
}

func newMoversOf(t *testing.T, cfg engine.Config) *movers {
	t.Helper()
	m := &movers{
		pair: &pair{mesh: newMesh()}, vault: newVault(),
		first: make(chan *engine.Socket, 10), then: make(chan *engine.Socket, 10), handled: make(chan string, 10),
	}
	node := func(name string, connected chan *engine.Socket) (*server, *vaultNode) {
		n := &vaultNode{v: m.vault, node: name}
		cfg.Node, cfg.Peers, cfg.Recovery = name, m.mesh, &engine.Recovery{Sessions: n}
		s := newServer(t, cfg, func(s *engine.Server) {
			echo(s)
			s.Of("/").Use(func(so *engine.Socket, next func(error)) { so.SetUser("ada"); next(nil) })
			for _, ns := range []string{"/", "/chat"} {
				s.Of(ns).OnConnection(func(so *engine.Socket) { connected <- so })
				s.Of(ns).On("note", func(_ *engine.Socket, e *engine.Event) {
					var text string
					_ = e.Bind(0, &text)
					m.handled <- name[:5] + " " + text
				})
			}
		})
		m.mesh.add(name, s.Server)
		m.vault.nodes[name] = s.Server
		return s, n
	}
	m.owner, m.from = node("owner___", m.first)
	m.other, m.to = node("other___", m.then)
	return m
}

// opened is a client on its way to the other node, and its socket at the owner.
func (m *movers) opened() (*poller, *engine.Socket) {
	m.owner.t.Helper()
	c := m.session()
	return c, receive(m.owner.t, "a connection at the owner", m.first)
}

// receive waits for something.
func receive[T any](t *testing.T, what string, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(wire.Timeout):
		t.Fatalf("timed out waiting for %s", what)
	}
	return got
}

// echoes checks that the client's packets are handled and answered.
func echoes(t *testing.T, ws *wire.Client) {
	t.Helper()
	ws.Text(`420["echo","hello"]`)
	if got := ws.Receive(); got != `430["hello"]` {
		t.Fatalf("received %q", got)
	}
}

// ended waits until no node has a conn or a socket.
func (m *movers) ended(t *testing.T) {
	t.Helper()
	eventually(t, "everything to end everywhere", func() bool {
		return m.owner.Conns()+m.other.Conns()+m.owner.Of("/").Count()+m.other.Of("/").Count() == 0 &&
			counter(m.other.m.RelayedWebSockets) == 0
	})
}

func TestMove(t *testing.T) {
	m := newMovers(t)
	c, _ := m.opened()
	ws := m.upgrade(c)
	receive(t, "a connection at the other node", m.then)
	echoes(t, ws)
	eventually(t, "the owner to let the conn go", func() bool { return m.owner.Conns() == 0 && m.owner.Of("/").Count() == 0 })
	ws.Conn.Close()
	m.ended(t)
}

// TestUserRoomOfAMovedConn: the user's room goes with the conn.
func TestUserRoomOfAMovedConn(t *testing.T) {
	m := newMoversOf(t, engine.Config{UserRooms: "user:"})
	inRoom := func(s *server) int {
		found := make(chan int, 1)
		s.Of("/").To("user:ada").Local().FetchSockets(func(r []engine.RemoteSocket, _ error) { found <- len(r) })
		return receive(t, "the sockets in the user's room", found)
	}
	c, _ := m.opened()
	if owner, other := inRoom(m.owner), inRoom(m.other); owner != 1 || other != 0 {
		t.Errorf("before: %d at the owner, %d at the other node", owner, other)
	}
	ws := m.upgrade(c)
	receive(t, "a connection at the other node", m.then)
	if owner, other := inRoom(m.owner), inRoom(m.other); owner != 0 || other != 1 {
		t.Errorf("after: %d at the owner, %d at the other node", owner, other)
	}
	for _, s := range []*server{m.owner, m.other} {
		if err := s.Of("/").To("user:ada").Local().Emit("from", s.addr); err != nil {
			t.Fatal(err)
		}
	}
	if got := ws.Receive(); !strings.HasPrefix(got, `42["from","`+m.other.addr) {
		t.Errorf("received %s", got)
	}
	ws.Conn.Close()
	m.ended(t)
	if owner, other := inRoom(m.owner), inRoom(m.other); owner+other != 0 {
		t.Errorf("at the end: %d at the owner, %d at the other node", owner, other)
	}
}

// TestMoveDeclined: what was called while the conn was offered is done once it
// stays, in the order of the calls.
func TestMoveDeclined(t *testing.T) {
	m := newMovers(t)
	m.vault.refuse = true
	c, so := m.opened()
	g := m.mesh.stop(engine.MsgOffer)
	ws := m.upgrade(c)
	receive(t, "the offer", g.reached)
	joined := make(chan error, 1)
	so.Leave("r", nil)
	so.Join("r", func(err error) { joined <- err })
	so.SetData("mine")
	close(g.open)
	if err := receive(t, "the join", joined); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the data", func() bool { return so.Data() == "mine" })
	if !so.In("r") {
		t.Error("the socket is not in the room")
	}
	echoes(t, ws)
	ws.Conn.Close()
	m.ended(t)
}

// slowly is data that takes longer to store than the first retry of a move waits.
type slowly struct{}

func (slowly) MarshalJSON() ([]byte, error) {
	time.Sleep(50 * time.Millisecond)
	return json.Marshal("mine")
}

// TestMoveDeclinedSlowly: the next try does not overtake the end of the one before.
func TestMoveDeclinedSlowly(t *testing.T) {
	m := newMovers(t)
	m.vault.refuse = true
	c, so := m.opened()
	g := m.mesh.stop(engine.MsgOffer)
	ws := m.upgrade(c)
	receive(t, "the offer", g.reached)
	so.SetData(slowly{})
	close(g.open)
	echoes(t, ws)
	m.vault.mu.Lock()
	m.vault.refuse = false
	m.vault.mu.Unlock()
	receive(t, "a connection at the other node", m.then)
	echoes(t, ws)
	ws.Conn.Close()
	m.ended(t)
}

// TestKickedWhileOffered: a socket that is disconnected before the other node has
// asked for its session keeps the conn where it is, for the client's other sockets.
func TestKickedWhileOffered(t *testing.T) {
	m := newMovers(t)
	m.owner.WithoutMoveBounds()
	m.other.WithoutMoveBounds()
	c, so := m.opened()
	c.s = m.owner
	c.post("40/chat,")
	chat := receive(t, "a connection to /chat", m.first)
	for got := ""; len(got) < 8 || got[:8] != "40/chat,"; {
		_, got = c.do("GET", "", nil)
	}
	c.s = m.other
	g := m.mesh.stop(engine.MsgOffer)
	ws := m.upgrade(c)
	receive(t, "the offer", g.reached)
	m.to.pause()
	so.Disconnect(false)
	close(g.open)
	if got := ws.Receive(); got != "41" {
		t.Fatalf("received %q", got)
	}
	m.to.resume()
	deadline := time.Now().Add(wire.Timeout)
	for { // either the conn goes on, or it ends, by no timer: then the other session waits for the client
		s, ok := m.vault.session(chat.ID())
		if !ok {
			t.Fatal("the session of a socket that was not disconnected was deleted")
		}
		if m.owner.Conns() == 0 && m.other.Of("/chat").Count() == 0 && s.closed || m.other.Of("/chat").Count() == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the conn neither goes on nor ends: %+v", s)
		}
		time.Sleep(time.Millisecond)
	}
	if _, ok := m.vault.session(so.ID()); ok {
		t.Error("the session of a socket that was disconnected is kept")
	}
	ws.Conn.Close()
	m.ended(t)
}

// kicks is data that disconnects its socket when the offer is made.
type kicks struct {
	times *atomic.Int32
	kick  func()
}

func (k kicks) MarshalJSON() ([]byte, error) {
	if k.times.Add(1) == 2 { // the first is SetData's
		k.kick()
	}
	return []byte("1"), nil
}

// TestKickedBeforeTheOffer: the other node hears first of the end, then of the offer.
func TestKickedBeforeTheOffer(t *testing.T) {
	m := newMovers(t)
	c, so := m.opened()
	kicked := make(chan struct{})
	so.SetData(kicks{new(atomic.Int32), func() {
		m.from.pause() // what the owner calls comes late
		so.Disconnect(false)
		close(kicked)
	}})
	ws := m.upgrade(c)
	receive(t, "the end of the socket", kicked)
	eventually(t, "the other node to decline", func() bool { return counter(m.other.m.Moves[metrics.MoveDeclined]) == 1 })
	m.from.resume()
	if got := ws.Receive(); got != "41" {
		t.Fatalf("received %q", got)
	}
	eventually(t, "the session to be deleted", func() bool { _, ok := m.vault.session(so.ID()); return !ok })
	ws.Text("40") // nothing was of it, and the conn goes on
	if got := ws.Receive(); len(got) < 2 || got[:2] != "40" {
		t.Fatalf("received %q", got)
	}
	select { // a conn without sockets may have moved
	case <-m.first:
	case <-m.then:
	case <-time.After(wire.Timeout):
		t.Fatal("timed out waiting for another connection")
	}
	ws.Conn.Close()
	m.ended(t)
}

// TestLastWordsBeforeTheMove: what a client sent before it went away is handled
// once, by the node that has its socket.
func TestLastWordsBeforeTheMove(t *testing.T) {
	for name, kind := range map[string]byte{"before the offer": engine.MsgOffer, "before the end": engine.MsgEnd} {
		t.Run(name, func(t *testing.T) {
			m := newMovers(t)
			c, _ := m.opened()
			g := m.mesh.stop(kind)
			ws := m.upgrade(c)
			receive(t, "the gate", g.reached)
			ws.Text(`42["note","bye"]`)
			if kind == engine.MsgEnd { // it is the other's by now
				close(g.open)
				if got := receive(t, "the client's last words", m.handled); got != "other bye" {
					t.Errorf("handled %q", got)
				}
				ws.Conn.Close()
			} else {
				ws.Conn.Close()
				if got := receive(t, "the client's last words", m.handled); got != "owner bye" {
					t.Errorf("handled %q", got)
				}
				close(g.open)
			}
			m.ended(t)
		})
	}
}

// TestMoveDeclinedTooLate: a conn without sockets is given away unasked. Where the
// other node does not want it, its client is not left with nobody.
func TestMoveDeclinedTooLate(t *testing.T) {
	p := &pair{mesh: newMesh()}
	v := newVault()
	p.owner = newServer(t, engine.Config{Node: "owner___", Peers: p.mesh, Recovery: &engine.Recovery{Sessions: &vaultNode{v: v, node: "owner___"}}}, echo)
	p.other = newServer(t, engine.Config{Node: "other___", Peers: p.mesh}, echo)
	p.mesh.add("owner___", p.owner.Server)
	p.mesh.add("other___", p.other.Server)
	c := p.owner.poll()
	c.s = p.other
	ws := p.upgrade(c)
	if f, err := ws.Next(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client read %v, %v", f, err)
	}
	eventually(t, "the conn to end everywhere", func() bool { return p.owner.Conns()+p.other.Conns() == 0 })
}

// TestRoomsOfAnArrival: what is done to a socket after the cut counts, though the
// node that has it now learns only then what was due before.
func TestRoomsOfAnArrival(t *testing.T) {
	m := newMovers(t)
	c, so := m.opened()
	joined := make(chan error, 1)
	so.Join("before\xff", func(err error) { joined <- err }) // names are bytes
	if err := receive(t, "the join", joined); err != nil {
		t.Fatal(err)
	}
	g := m.mesh.stop(engine.MsgOffer)
	end := m.mesh.stop(engine.MsgEnd)
	ws := m.upgrade(c)
	receive(t, "the offer", g.reached)
	for _, room := range []string{"left", "joined", "joined\xff"} {
		so.Join(room, nil)
	}
	so.SetData(1)
	close(g.open)
	receive(t, "the end", end.reached)
	id := so.ID()
	eventually(t, "the cut", func() bool { return len(sockets(t, m.other, id)) == 1 })
	m.other.Of("/").Local().To(id).SocketsLeave("left")
	sockets(t, m.other, id) // its turn is after that
	close(end.open)
	so = receive(t, "a connection at the other node", m.then)
	if so.In("left") || !so.In("joined") || !so.In("joined\xff") || !so.In("before\xff") {
		t.Errorf("rooms: %q", so.Rooms())
	}
	if data, ok := so.Data().(json.RawMessage); !ok || string(data) != "1" {
		t.Errorf("data: %v", so.Data())
	}
	echoes(t, ws)
	ws.Conn.Close()
	m.ended(t)
}

// sockets are a node's sockets in a room.
func sockets(t *testing.T, s *server, room string) []socketio.RemoteSocket {
	t.Helper()
	got := make(chan []socketio.RemoteSocket, 1)
	s.LocalSockets("/", socketio.BroadcastOptions{Rooms: []string{room}}, func(all []socketio.RemoteSocket) { got <- all })
	return receive(t, "the sockets", got)
}

// TestKickedOnArrival: a client that is disconnected from a namespace between the
// cut and the end of the move is told.
func TestKickedOnArrival(t *testing.T) {
	m := newMovers(t)
	c, so := m.opened()
	end := m.mesh.stop(engine.MsgEnd)
	ws := m.upgrade(c)
	receive(t, "the end", end.reached)
	eventually(t, "the cut", func() bool { return len(sockets(t, m.other, so.ID())) == 1 })
	m.other.LocalDisconnect("/", socketio.BroadcastOptions{Rooms: []string{so.ID()}}, false)
	eventually(t, "the socket to be disconnected", func() bool { return len(sockets(t, m.other, so.ID())) == 0 })
	close(end.open)
	if got := ws.Receive(); got != "41" {
		t.Fatalf("received %q", got)
	}
	eventually(t, "the session to be deleted", func() bool { _, ok := m.vault.session(so.ID()); return !ok })
	ws.Text("40")
	receive(t, "another connection", m.then)
	ws.Conn.Close()
	m.ended(t)
}

// TestMoveInterrupted: whatever happens in whatever phase of a move, everything
// ends soon, on both nodes.
func TestMoveInterrupted(t *testing.T) {
	phases := map[string]byte{
		"offer": engine.MsgOffer, "end": engine.MsgEnd, "settled": engine.MsgSettled, "take": engine.MsgTake, "output": engine.MsgOutput,
	}
	events := map[string]func(m *movers, ws *wire.Client, so *engine.Socket){
		"the trunk breaks":          func(m *movers, _ *wire.Client, _ *engine.Socket) { m.mesh.breakAll() },
		"the client goes":           func(_ *movers, ws *wire.Client, _ *engine.Socket) { ws.Conn.Close() },
		"the owner closes the conn": func(_ *movers, _ *wire.Client, so *engine.Socket) { so.Disconnect(true) },
		"the other node closes it": func(m *movers, _ *wire.Client, so *engine.Socket) {
			m.other.LocalDisconnect("/", socketio.BroadcastOptions{Rooms: []string{so.ID()}}, true)
		},
		"the owner missed messages":      func(m *movers, _ *wire.Client, _ *engine.Socket) { m.owner.Missed("") },
		"the other node missed messages": func(m *movers, _ *wire.Client, _ *engine.Socket) { m.other.Missed("") },
		"the owner shuts down":           func(m *movers, _ *wire.Client, _ *engine.Socket) { go m.owner.end() },
		"the other node shuts down":      func(m *movers, _ *wire.Client, _ *engine.Socket) { go m.other.end() },
		"another node takes the session": func(m *movers, _ *wire.Client, so *engine.Socket) {
			m.owner.Replaced("/", so.ID(), 9)
			m.other.Replaced("/", so.ID(), 9)
		},
	}
	for phase, kind := range phases {
		for event, f := range events {
			t.Run(event+" at "+phase, func(t *testing.T) {
				m := newMovers(t)
				m.owner.WithoutMoveBounds()
				m.other.WithoutMoveBounds()
				c, so := m.opened()
				g := m.mesh.stop(kind)
				if kind == engine.MsgOutput {
					_ = so.Emit("news", 1) // nobody polls: it waits for the WebSocket
				}
				ws := m.upgrade(c)
				receive(t, "the gate", g.reached)
				f(m, ws, so)
				time.Sleep(5 * time.Millisecond) // so that much of it comes first
				close(g.open)
				go func() { // reads to the end, and closes
					for f, err := ws.Next(); err == nil && f.Op != 8; f, err = ws.Next() {
					}
					ws.Conn.Close()
				}()
				time.AfterFunc(300*time.Millisecond, func() { ws.Conn.Close() })
				m.ended(t)
				eventually(t, "the session to be closed", func() bool {
					s, ok := m.vault.session(so.ID())
					return !ok || s.closed
				})
			})
		}
	}
}

// TestPingAfterTheMove: the client counts from the owner's last ping, so the next one
// comes sooner than after an interval.
func TestPingAfterTheMove(t *testing.T) {
	m := newMoversOf(t, engine.Config{PingInterval: time.Hour, PingTimeout: 2 * time.Second})
	c, _ := m.opened()
	ws := m.upgrade(c)
	receive(t, "a connection at the other node", m.then)
	if f, err := ws.Next(); err != nil || f.Data != "2" {
		t.Errorf("received %v, %v", f, err)
	}
	ws.Conn.Close()
	m.ended(t)
}

// stuck is data of which the first encoding, the one that is stored, takes a while.
type stuck struct {
	times         *atomic.Int32
	reached, open chan struct{}
}

func (s stuck) MarshalJSON() ([]byte, error) {
	if s.times.Add(1) == 1 {
		close(s.reached)
		<-s.open
	}
	return []byte("1"), nil
}

// TestMoveWaitsForCalls: a call that has begun is not overtaken by a move.
func TestMoveWaitsForCalls(t *testing.T) {
	m := newMovers(t)
	c, so := m.opened()
	data := stuck{new(atomic.Int32), make(chan struct{}), make(chan struct{})}
	go so.SetData(data)
	receive(t, "the data to be stored", data.reached)
	ws := m.upgrade(c)
	echoes(t, ws) // relayed
	m.vault.mu.Lock()
	if m.vault.moves > 0 {
		t.Error("the socket moved while its data was being set")
	}
	m.vault.mu.Unlock()
	close(data.open)
	receive(t, "a connection at the other node", m.then)
	echoes(t, ws)
	ws.Conn.Close()
	m.ended(t)
}
