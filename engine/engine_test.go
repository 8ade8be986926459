package engine_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

const query = "/socket.io/?EIO=4&transport=websocket"

// server is an engine on a loopback listener.
type server struct {
	*engine.Server
	t    *testing.T
	addr string
	m    *metrics.Metrics
	end  func() error // again is no change
}

// newServer starts a server that setup has prepared; it ends with the test, and
// no goroutine of it may be left then.
func newServer(t *testing.T, cfg engine.Config, setup func(*engine.Server)) *server {
	t.Helper()
	leak.Check(t)
	m := metrics.New(prometheus.NewRegistry(), "test")
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s, err := engine.New(cfg, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if setup != nil {
		setup(s)
	}
	return start(t, s, m)
}

func start(t *testing.T, s *engine.Server, m *metrics.Metrics) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, s, m, l)
}

func startOn(t *testing.T, s *engine.Server, m *metrics.Metrics, l net.Listener) *server {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: s}
	go func() { _ = front.Serve(l) }()
	end := sync.OnceValue(func() error {
		_ = front.Close()
		ctx, cancel := context.WithTimeout(context.Background(), wire.Timeout)
		defer cancel()
		return s.Shutdown(ctx)
	})
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return &server{Server: s, t: t, addr: l.Addr().String(), m: m, end: end}
}

// dial opens a conn and reads the open packet.
func (s *server) dial() *wire.Client {
	s.t.Helper()
	c := wire.Dial(s.t, s.addr, query, nil)
	if open := c.Receive(); !strings.HasPrefix(open, `0{"sid":"`) {
		s.t.Fatalf("open packet: %q", open)
	}
	return c
}

// join opens a conn and joins the main namespace; it returns the socket id.
func (s *server) join() (*wire.Client, string) {
	s.t.Helper()
	c := s.dial()
	c.Text("40")
	var connected struct{ SID string }
	reply := c.Receive()
	for reply == "2" { // a heartbeat may come first
		c.Text("3")
		reply = c.Receive()
	}
	if !strings.HasPrefix(reply, "40") || json.Unmarshal([]byte(reply[2:]), &connected) != nil || len(connected.SID) != 20 {
		s.t.Fatalf("CONNECT reply: %q", reply)
	}
	return c, connected.SID
}

// echo is an application that answers "echo" with its arguments, both ways.
func echo(s *engine.Server) {
	n := s.Of("/")
	n.On("echo", func(s *engine.Socket, e *engine.Event) {
		if e.WantsAck() {
			args := make([]any, e.Len())
			for i := range args {
				args[i] = e.Raw(i)
			}
			_ = e.AckPayload(&engine.Payload{JSON: rawArray(e), Attachments: e.Attachments()})
			return
		}
		_ = s.EmitPayload(&engine.Payload{
			JSON: append([]byte(`["echo",`), rawArray(e)[1:]...), Attachments: e.Attachments(),
		})
	})
}

func rawArray(e *engine.Event) []byte {
	out := []byte("[")
	for i := range e.Len() {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, e.Raw(i)...)
	}
	return append(out, ']')
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(wire.Timeout)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, wire.Timeout)
		}
		time.Sleep(2 * time.Millisecond) // polling, bounded by the deadline
	}
}

func counter(c prometheus.Collector) float64 { return testutil.ToFloat64(c) }

// counts waits until a counter has a value: what a client sees may come before it is counted.
func counts(t *testing.T, c prometheus.Collector, want float64) {
	t.Helper()
	for deadline := time.Now().Add(wire.Timeout); counter(c) != want; {
		if time.Now().After(deadline) {
			about := make(chan *prometheus.Desc, 1)
			c.Describe(about)
			t.Fatalf("%v is %v, not %v", <-about, counter(c), want)
		}
		time.Sleep(2 * time.Millisecond) // polling, bounded by the deadline
	}
}

func TestOpenPacketAndConnect(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	c := wire.Dial(t, s.addr, query, nil)
	var open map[string]any
	packet := c.Receive()
	if err := json.Unmarshal([]byte(packet[1:]), &open); packet[0] != '0' || err != nil {
		t.Fatalf("open packet %q: %v", packet, err)
	}
	if len(open) != 5 || len(open["sid"].(string)) != 20 || open["pingInterval"] != 25000.0 || open["pingTimeout"] != 20000.0 || open["maxPayload"] != 1e6 || len(open["upgrades"].([]any)) != 0 {
		t.Errorf("open packet %q", packet)
	}
	c.Text("40")
	reply := c.Receive()
	if !strings.HasPrefix(reply, `40{"sid":"`) || len(reply) != len(`40{"sid":""}`)+20 {
		t.Errorf("CONNECT reply %q", reply)
	}
	if strings.Contains(reply, open["sid"].(string)) {
		t.Error("the session id is the public socket id")
	}
}

func TestEventsAndAcks(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	for _, tc := range []struct{ name, in, out string }{
		{"event", `42["echo",1,"2",{"3":[true]}]`, `42["echo",1,"2",{"3":[true]}]`},
		{"ack", `4212["echo",1]`, `4312[1]`},
		{"ack id 0", `420["echo"]`, `430[]`},
		{"key order and numbers verbatim", `421["echo",{"z":1.50,"a":1e3,"m":-0}]`, `431[{"z":1.50,"a":1e3,"m":-0}]`},
		{"html and unicode", `421["echo","<b>&é€😀"]`, `431["<b>&é€😀"]`},
		{"explicit main namespace", `42/,7["echo",1]`, `437[1]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := s.join()
			c.Text(tc.in)
			c.Expect(tc.out)
		})
	}
}

func TestBinary(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	c, _ := s.join()
	c.Text(`452-["echo",{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}]`)
	c.Binary([]byte{1, 2, 3})
	c.Text("3") // heartbeats may come between attachments
	c.Binary(nil)
	c.Expect(`452-["echo",{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}]`, `op 2 "\x01\x02\x03"`, `op 2 ""`)
	c.Text(`451-9["echo",{"_placeholder":true,"num":0}]`, "bAQIDBA==")
	c.Expect(`461-9[{"_placeholder":true,"num":0}]`, `op 2 "\x01\x02\x03\x04"`)
}

// TestInvalidInput is the matrix of what closes a conn, each beside a client
// that must not notice.
func TestInvalidInput(t *testing.T) {
	s := newServer(t, engine.Config{}, func(srv *engine.Server) { echo(srv); srv.Of("/other") })
	healthy, _ := s.join()
	for _, in := range []string{
		"abc", "", "2", "2probe",
		"4abc", "47", "4", "42{}", "42[]", "42[null]", `42["connect"]`, `42["disconnecting"]`, "42abc[1]", "43{}", "430{}", "40[]", `40"x"`, "41{}",
		`450-["echo"]`, `4511-["echo"]`, `45["echo"]`, `451-["echo",{"_placeholder":true,"num":1}]`,
		`42/other,["echo"]`, `41/other,`, `43/other,1["x"]`, `44{"message":"x"}`, "40",
		`42["echo"`, `42["echo",]`, `42["echo"]x`, "\x1e",
	} {
		t.Run(in, func(t *testing.T) {
			c, _ := s.join()
			c.Text(in)
			if code := c.ExpectClosed(); code != websocket.CodeNoStatus {
				t.Errorf("closed with %d, want an empty close frame", code)
			}
			healthy.Text(`421["echo",1]`)
			healthy.Expect(`431[1]`)
		})
	}
	for name, f := range map[string]func(*wire.Client){
		"binary that nobody announced": func(c *wire.Client) { c.Binary([]byte{1}) },
		"text amid attachments": func(c *wire.Client) {
			c.Text(`452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
			c.Binary([]byte{1})
			c.Text(`42["echo"]`)
		},
		"event after leaving": func(c *wire.Client) { c.Text("41", `42["echo"]`) },
		"bad base64":          func(c *wire.Client) { c.Text("b!!") },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := s.join()
			f(c)
			c.ExpectClosed()
		})
	}
	for _, in := range []string{"42", "43", `43999["x"]`, "42[1]", `42["unknown"]`, "0", "5", "6", `42["echo"`[:3] + `1]`} {
		t.Run("ignored "+in, func(t *testing.T) {
			c, _ := s.join()
			c.Text(in, `421["echo",1]`)
			c.Expect(`431[1]`)
		})
	}
	t.Run("client close packet", func(t *testing.T) {
		c, _ := s.join()
		c.Text("1")
		c.ExpectClosed()
	})
}

func TestNamespaces(t *testing.T) {
	reasons := make(chan string, 10)
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		echo(srv)
		admin := srv.Of("admin")
		admin.Use(func(s *engine.Socket, next func(error)) {
			var auth struct{ Token string }
			if json.Unmarshal(s.Auth(), &auth) != nil || auth.Token != "123" {
				next(&engine.ConnectError{Message: "nope", Data: map[string]any{"code": 7}})
				return
			}
			next(nil)
		})
		admin.OnConnection(func(s *engine.Socket) { _ = s.Emit("auth", s.Auth()) })
		admin.OnDisconnect(func(_ *engine.Socket, reason string) { reasons <- reason })
		admin.On("kick", func(s *engine.Socket, e *engine.Event) { s.Disconnect(e.Len() > 0) })
	})
	c := s.dial()
	c.Text(`40/random,`)
	c.Expect(`44/random,{"message":"Invalid namespace"}`)
	c.Text(`40/admin,{"token":"x"}`)
	c.Expect(`44/admin,{"message":"nope","data":{"code":7}}`)
	c.Text(`40/admin,{"token":"123"}`)
	if r := c.Receive(); !strings.HasPrefix(r, `40/admin,{"sid":"`) {
		t.Fatalf("CONNECT reply %q", r)
	}
	c.Expect(`42/admin,["auth",{"token":"123"}]`)
	c.Text(`41/admin,`)
	if r := <-reasons; r != engine.ReasonClientNamespaceDisconnect {
		t.Errorf("reason %q", r)
	}
	c.Text(`40/admin,{"token":"123"}`)
	c.Receive()
	c.Receive()
	c.Text(`42/admin,["kick"]`)
	c.Expect(`41/admin,`)
	if r := <-reasons; r != engine.ReasonServerNamespaceDisconnect {
		t.Errorf("reason %q", r)
	}
	c.Text("40") // the conn lives on
	c.Receive()
	c.Text(`40/admin,{"token":"123"}`)
	c.Receive()
	c.Receive()
	c.Text(`42/admin,["kick",true]`)
	got := map[string]bool{c.Receive(): true, c.Receive(): true}
	if !got["41"] || !got["41/admin,"] {
		t.Errorf("before the close: %v", got)
	}
	c.ExpectClosed()
}

func TestRoomsAndOperators(t *testing.T) {
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		n := srv.Of("/")
		n.On("join", func(s *engine.Socket, e *engine.Event) {
			var room string
			_ = e.Bind(0, &room)
			s.Join(room, func(err error) { _ = e.Ack(err == nil) })
		})
		n.On("leave", func(s *engine.Socket, e *engine.Event) {
			var room string
			_ = e.Bind(0, &room)
			s.Leave(room, nil)
			_ = e.Ack()
		})
		n.On("cast", func(s *engine.Socket, e *engine.Event) {
			var rooms, except []string
			_ = e.Bind(0, &rooms)
			_ = e.Bind(1, &except)
			var mode string
			_ = e.Bind(2, &mode)
			b := s.Namespace().To(rooms...).Except(except...)
			switch mode {
			case "others":
				b = s.To(rooms...).Except(except...)
			case "local":
				b = b.Local()
			case "volatile":
				b = b.Volatile()
			}
			if err := b.Emit("cast", e.Raw(3)); err != nil {
				t.Errorf("emit: %v", err)
			}
		})
	})
	a, aid := s.join()
	b, bid := s.join()
	c, _ := s.join()
	all := []*wire.Client{a, b, c}
	join := func(c *wire.Client, room string) { c.Text(`421["join","` + room + `"]`); c.Expect(`431[true]`) }
	join(a, "r1")
	join(b, "r1")
	join(b, "r2")
	join(c, "r2")
	n := 0
	check := func(rooms, except, mode string, want ...*wire.Client) {
		t.Helper()
		n++
		mark := string(rune('A' + n))
		a.Text(`42["cast",` + rooms + `,` + except + `,"` + mode + `","` + mark + `"]`)
		for _, w := range want {
			w.Expect(`42["cast","` + mark + `"]`)
		}
		// A message to everybody behind it proves that nobody else got one.
		a.Text(`42["cast",[],[],"","end"]`)
		for _, w := range all {
			w.Expect(`42["cast","end"]`)
		}
	}
	check(`[]`, `[]`, "", a, b, c)
	check(`["r1"]`, `[]`, "", a, b)
	check(`["r1","r2"]`, `[]`, "", a, b, c)
	check(`["r1","r2"]`, `["r2"]`, "", a)
	check(`["r1","r1"]`, `["nobody"]`, "", a, b)
	check(`["r1"]`, `["`+bid+`"]`, "", a)
	check(`["`+aid+`"]`, `[]`, "", a)
	check(`["`+bid+`","r1"]`, `[]`, "", a, b)
	check(`["r1"]`, `[]`, "others", b)
	check(`["r1"]`, `[]`, "volatile", a, b)
	check(`["none"]`, `[]`, "")
	check(`["r2"]`, `[]`, "local", b, c)
	b.Text(`421["leave","r1"]`)
	b.Expect("431[]")
	check(`["r1"]`, `[]`, "", a)
}

func TestServerAcks(t *testing.T) {
	type answer struct {
		*engine.Ack
		err error
	}
	answers := make(chan answer, 1)
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		srv.Of("/").On("ask", func(s *engine.Socket, e *engine.Event) {
			var ms int
			_ = e.Bind(0, &ms)
			if err := s.EmitWithAck(time.Duration(ms)*time.Millisecond, func(a *engine.Ack, err error) { answers <- answer{a, err} }, "question", 1); err != nil {
				t.Errorf("emit: %v", err)
			}
		})
	})
	c, _ := s.join()
	c.Text(`42["ask",10000]`)
	c.Expect(`420["question",1]`)
	c.Text(`437["other id"]`, `430[5,{"test":true}]`, `430["again"]`)
	if a := <-answers; a.err != nil || len(a.Args) != 2 || string(a.Args[1]) != `{"test":true}` {
		t.Errorf("answer %s, %v", a.Args, a.err)
	}
	c.Text(`42["ask",10000]`)
	c.Expect(`421["question",1]`)
	c.Text(`461-1[{"_placeholder":true,"num":0}]`)
	c.Binary([]byte("abc"))
	var b []byte
	if a := <-answers; a.Bind(0, &b) != nil || string(b) != "abc" {
		t.Errorf("binary answer %s, %v", a.Args, a.err)
	}
	c.Text(`42["ask",20]`)
	c.Expect(`422["question",1]`)
	if a := <-answers; a.err != engine.ErrAckTimeout {
		t.Errorf("answer %s, %v", a.Args, a.err)
	}
}

// TestPanickingHandler: a panic ends its event and nothing else.
func TestPanickingHandler(t *testing.T) {
	for _, inline := range []bool{false, true} {
		var opts []engine.NamespaceOption
		if inline {
			opts = append(opts, engine.Inline())
		}
		s := newServer(t, engine.Config{}, func(srv *engine.Server) {
			srv.Of("/", opts...).On("boom", func(*engine.Socket, *engine.Event) { panic("boom") })
			echo(srv)
		})
		c, _ := s.join()
		c.Text(`42["boom"]`, `421["echo",1]`)
		c.Expect(`431[1]`)
		counts(t, s.m.HandlerPanics, 1)
	}
}

// TestPanickingMiddleware: the client is told instead of left waiting.
func TestPanickingMiddleware(t *testing.T) {
	s := newServer(t, engine.Config{}, func(srv *engine.Server) {
		echo(srv)
		srv.Of("/bad").Use(func(*engine.Socket, func(error)) { panic("boom") })
	})
	c, _ := s.join()
	c.Text("40/bad,")
	c.Expect(`44/bad,{"message":"internal error"}`)
	c.Text(`421["echo",1]`)
	c.Expect(`431[1]`)
}

// TestHold: packets behind a pending operation wait, in order, bounded in bytes.
func TestHold(t *testing.T) {
	releases := make(chan func(), 1)
	s := newServer(t, engine.Config{MaxPayload: 1000, InboundBytes: 4000}, func(srv *engine.Server) {
		echo(srv)
		srv.Of("/", engine.Inline()).On("wait", func(_ *engine.Socket, e *engine.Event) { releases <- e.Hold() })
	})
	c, _ := s.join()
	c.Text(`42["wait"]`, `421["echo",1]`, `422["echo",2]`)
	release := <-releases
	c.Raw(websocket.AppendMaskedFrame(nil, websocket.Ping, []byte("p"), [4]byte{}))
	c.Expect(`op 10 "p"`) // the conn itself does not wait
	release()
	release() // harmless
	c.Expect(`431[1]`, `432[2]`)

	c.Text(`42["wait"]`)
	<-releases
	for range 20 {
		c.Text(`42["echo","` + strings.Repeat("x", 900) + `"]`)
	}
	c.ExpectClosed()
	eventually(t, "close counted", func() bool { return counter(s.m.Closes[metrics.CloseInboundOverflow]) == 1 })
}

func TestHeartbeat(t *testing.T) {
	patient := newServer(t, engine.Config{PingInterval: 60 * time.Millisecond, PingTimeout: 2 * time.Second, ConnectTimeout: time.Hour}, echo)
	answering, _ := patient.join()
	for range 3 { // each a tick after the one before, of which there are ten in PingTimeout
		answering.Expect("2")
		answering.Text("3")
	}
	s := newServer(t, engine.Config{PingInterval: 60 * time.Millisecond, PingTimeout: 50 * time.Millisecond, ConnectTimeout: time.Hour}, echo)
	silent := s.dial() // however slowly it reads, it says nothing that may come too late
	silent.Expect("2")
	silent.ExpectClosed()
	eventually(t, "close counted", func() bool { return counter(s.m.Closes[metrics.ClosePingTimeout]) >= 1 })
}

func TestConnectTimeout(t *testing.T) {
	cfg := engine.Config{ConnectTimeout: 50 * time.Millisecond, PingTimeout: 100 * time.Millisecond}
	s := newServer(t, cfg, func(srv *engine.Server) {
		srv.Of("/", engine.Inline()) // joined as soon as asked
		echo(srv)
	})
	joined := wire.Dial(t, s.addr, query, nil, "40") // not later: it may be too late
	joined.Receive()                                 // open
	if r := joined.Receive(); !strings.HasPrefix(r, "40{") {
		t.Fatalf("CONNECT reply: %q", r)
	}
	s.dial().ExpectClosed()
	counts(t, s.m.Closes[metrics.CloseConnectTimeout], 1)
	joined.Text("41", "40")
	if r := joined.Receive(); !strings.HasPrefix(r, "40{") {
		t.Errorf("a conn that once joined was not left alone: %q", r)
	}
}

func TestMaxPayload(t *testing.T) {
	s := newServer(t, engine.Config{MaxPayload: 1000}, echo)
	healthy, _ := s.join()
	c, _ := s.join()
	c.Text(`42["echo","` + strings.Repeat("x", 1000) + `"]`)
	if code := c.ExpectClosed(); code != websocket.CodeTooBig {
		t.Errorf("closed with %d", code)
	}
	counts(t, s.m.Closes[metrics.CloseMessageTooBig], 1)
	healthy.Text(`421["echo",1]`)
	healthy.Expect(`431[1]`)
}

func TestShutdownSendsNoDisconnect(t *testing.T) {
	reasons := make(chan string, 1)
	m := metrics.New(prometheus.NewRegistry(), "test")
	srv, err := engine.New(engine.Config{}, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	srv.Of("/").OnDisconnect(func(_ *engine.Socket, r string) { reasons <- r })
	leak.Check(t)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: srv}
	go func() { _ = front.Serve(l) }()
	s := &server{Server: srv, t: t, addr: l.Addr().String(), m: m}
	c, _ := s.join()
	_ = front.Close()
	done := make(chan error, 1)
	go func() { done <- srv.Shutdown(context.Background()) }()
	f, err := c.Next()
	if err != nil || f.Op != websocket.Close || f.Code != websocket.CodeGoingAway {
		t.Errorf("the client saw %v, %v", f, err)
	}
	_ = c.Conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r := <-reasons; r != engine.ReasonServerShuttingDown {
		t.Errorf("reason %q", r)
	}
}
