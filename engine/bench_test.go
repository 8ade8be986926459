package engine

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

const benchQuery = "/socket.io/?EIO=4&transport=websocket"

// sinkBus takes every message at once and delivers none: what a publish costs without what comes of it.
type sinkBus struct {
	Fleet
	s *Server
}

func (*sinkBus) Open(string) {}
func (b *sinkBus) Publish(p socketio.Publication) error {
	if p.Sent != nil {
		p.Sent()
	}
	settled(p.Done, nil)
	return nil
}
func (b *sinkBus) Subscribe(ns, room string, generation uint64) {
	b.s.Subscribed(ns, room, generation)
}
func (*sinkBus) Unsubscribe(string, string, uint64) {}

// benchServer serves on loopback, without a bus behind it.
func benchServer(b testing.TB, setup func(*Server)) (s *Server, addr string) {
	b.Helper()
	bus := &sinkBus{}
	s, err := New(Config{Pollers: 1, Logger: slog.New(slog.DiscardHandler)}, bus, metrics.New(prometheus.NewRegistry(), "bench"))
	if err != nil {
		b.Fatal(err)
	}
	bus.s = s
	setup(s)
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	front := &http.Server{Handler: s}
	go func() { _ = front.Serve(l) }()
	b.Cleanup(func() {
		_ = front.Close()
		ctx, cancel := context.WithTimeout(context.Background(), wire.Timeout)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			b.Error(err)
		}
	})
	return s, l.Addr().String()
}

// benchConn connects one client and returns the server's end of it. Nothing else than the benchmark gives it data.
func benchConn(b testing.TB, setup func(*Namespace)) *conn {
	b.Helper()
	sockets := make(chan *Socket, 1)
	_, addr := benchServer(b, func(s *Server) {
		n := s.Of("/", Inline())
		n.OnConnection(func(so *Socket) { sockets <- so })
		setup(n)
	})
	connect := func() *Socket {
		c := wire.Dial(b, addr, benchQuery, nil)
		c.Receive() // the open packet
		c.Text("40")
		c.Receive() // the answer to CONNECT
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
		return <-sockets
	}
	so := connect()
	connect() // read by the same poller, which therefore is done with the first
	return so.conn
}

// clientFrame is a masked frame that can be read again: its key changes nothing.
func clientFrame(text string) []byte {
	return websocket.AppendMaskedFrame(nil, websocket.Text, []byte(text), [4]byte{})
}

// visited waits until the shards have done what was asked of them before, for the members of a target.
func visited(s *Server, t *fanout.Target) {
	done := make(chan struct{})
	s.hub.Visit(t, func(*fanout.Member) {}, func() { close(done) })
	<-done
}

// roomMessage is the adapter message of a chat message of 128 bytes to a room.
func roomMessage(tb testing.TB, room string) []byte {
	tb.Helper()
	event := `["message",` + `"` + room + `",{"from":"u17","ts":1700000000000},"` + strings.Repeat("x", 128) + `"]`
	data, err := socketio.AppendMsgpackFromJSON(nil, []byte(event), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return socketio.AppendBroadcast(nil, &socketio.Broadcast{UID: "aBcDeF", Namespace: "/", Data: data, Rooms: []string{room}})
}

// TestAllocations: what comes most often allocates what its handler keeps, or nothing.
func TestAllocations(t *testing.T) {
	c := benchConn(t, func(n *Namespace) { n.On("message", func(*Socket, *Event) {}) })
	event, pong := clientFrame(`42["message","room-17",{"text":"hello, everyone","n":12345}]`), clientFrame("3")
	elsewhere := roomMessage(t, "elsewhere")
	for _, of := range []struct {
		what string
		most float64
		run  func()
	}{
		{"an event: the Event and its name", 2, func() { c.onData(event) }},
		{"a pong", 0, func() { c.onData(pong) }},
		{"a message for a room without members", 0, func() { c.srv.Deliver("/", "elsewhere", elsewhere) }},
	} {
		if n := testing.AllocsPerRun(200, of.run); n > of.most {
			t.Errorf("%s: %v allocations, at most %v", of.what, n, of.most)
		}
	}
}

// BenchmarkDeliver is one message from the bus to 100 clients on loopback sockets, from its bytes to the last
// write(2), reading by the clients included.
func BenchmarkDeliver(b *testing.B) {
	const members = 100
	var joined sync.WaitGroup
	joined.Add(members)
	s, addr := benchServer(b, func(s *Server) {
		s.Of("/", Inline()).OnConnection(func(so *Socket) { so.Join("lobby", func(error) { joined.Done() }) })
	})
	for range members {
		c := wire.Dial(b, addr, benchQuery, nil)
		c.Text("40")
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
	}
	joined.Wait()
	payload := roomMessage(b, "lobby")
	// The shards are waited for now and then, so that they do not fall behind by more than their inbox holds.
	target, ok := s.target(s.namespace("/"), []string{"lobby"}, nil)
	if !ok {
		b.Fatal("the room has no members")
	}
	written := func() { visited(s, target) }
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Deliver("/", "lobby", payload)
		if i%64 == 63 {
			written()
		}
	}
	written()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/delivery")
}

// BenchmarkDeliverNoMembers is a message for a room without members here, which is not decoded.
func BenchmarkDeliverNoMembers(b *testing.B) {
	s, _ := benchServer(b, func(s *Server) { s.Of("/") })
	payload := roomMessage(b, "elsewhere")
	b.ReportAllocs()
	for b.Loop() {
		s.Deliver("/", "elsewhere", payload)
	}
}

// BenchmarkEvent is an event of a client, from the bytes of its frame to the handler.
func BenchmarkEvent(b *testing.B) { benchEvent(b, nil) }

// BenchmarkEventLimited is BenchmarkEvent of a client that has limits.
func BenchmarkEventLimited(b *testing.B) {
	benchEvent(b, newInboundRates(&Config{PacketRate: MaxPacketRate, PacketBurst: 1e8, ByteRate: MaxByteRate, ByteBurst: 1e11}))
}

func benchEvent(b *testing.B, rates *inboundRates) {
	handled := 0
	c := benchConn(b, func(n *Namespace) {
		n.srv.rates = rates
		n.On("message", func(*Socket, *Event) { handled++ })
	})
	frame := clientFrame(`42["message","room-17",{"text":"hello, everyone","n":12345}]`)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		c.onData(frame)
	}
	if handled < b.N {
		b.Fatalf("%d of %d events handled", handled, b.N)
	}
}

// BenchmarkEventPublished is an event that its handler publishes to a room and acknowledges, up to the bus.
func BenchmarkEventPublished(b *testing.B) {
	c := benchConn(b, func(n *Namespace) {
		n.On("message", func(s *Socket, e *Event) {
			p := &Payload{JSON: append(append([]byte(`["message",`), e.Raw(1)...), ']')}
			if err := n.To("room-17").EmitPayload(p, func(error) { _ = e.AckPayload(&Payload{JSON: []byte(`[{"ok":true}]`)}) }); err != nil {
				b.Error(err)
			}
		})
	})
	frame := clientFrame(`421["message","room-17",{"text":"hello, everyone","n":12345}]`)
	everybody := &fanout.Target{Rooms: []*fanout.Room{c.srv.hub.Room(c.srv.namespace("/").key(""))}}
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.onData(frame)
		if i%1024 == 1023 { // the acknowledgements are to be written, too
			visited(c.srv, everybody)
		}
	}
	visited(c.srv, everybody)
}

// BenchmarkPong is a client's answer to a heartbeat.
func BenchmarkPong(b *testing.B) {
	c := benchConn(b, func(*Namespace) {})
	frame := clientFrame("3")
	b.ReportAllocs()
	for b.Loop() {
		c.onData(frame)
	}
}

// BenchmarkConnect is one client after the other: TCP, the handshake, CONNECT, its answer and the end, with the
// client's part.
func BenchmarkConnect(b *testing.B) {
	gone := make(chan struct{}, 1)
	_, addr := benchServer(b, func(s *Server) {
		s.Of("/", Inline()).OnDisconnect(func(*Socket, string) { gone <- struct{}{} })
	})
	b.ReportAllocs()
	for b.Loop() {
		c := wire.Dial(b, addr, benchQuery, nil)
		c.Receive()
		c.Text("40")
		c.Receive()
		_ = c.Conn.Close()
		<-gone
	}
}
