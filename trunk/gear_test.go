package trunk

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/metrics"
)

const secret = "0123456789abcdef0123456789abcdef"

// fleet is a registry of nodes, as Redis is one.
type fleet struct {
	mu    sync.Mutex
	addrs map[string]string
}

func (f *fleet) set(node, addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.addrs == nil {
		f.addrs = map[string]string{}
	}
	f.addrs[node] = addr
}

func (f *fleet) resolve(_ context.Context, node string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if addr, ok := f.addrs[node]; ok {
		return addr, nil
	}
	return "", ErrUnknown
}

// network is TCP without a kernel, for tests in a bubble whose clock jumps.
type network struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
	dials     int
	wrap      func(net.Conn) net.Conn // applied to what a dialer gets
}

func (n *network) listen(addr string) *pipeListener {
	l := &pipeListener{addr: pipeAddr(addr), conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = map[string]*pipeListener{}
	}
	n.listeners[addr] = l
	return l
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dials++
	l, wrap := n.listeners[addr], n.wrap
	n.mu.Unlock()
	if l == nil {
		return nil, net.ErrClosed
	}
	near, far := net.Pipe()
	select {
	case l.conns <- pipeConn{far, l.addr}:
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if wrap != nil {
		return wrap(near), nil
	}
	return pipeConn{near, l.addr}, nil
}

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

type pipeConn struct {
	net.Conn
	addr pipeAddr
}

func (c pipeConn) RemoteAddr() net.Addr { return c.addr }

type pipeListener struct {
	addr  pipeAddr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return l.addr }

// testNode returns Trunks for a node of a fleet. change may be nil.
func testNode(f *fleet, name string, accept func(*Stream, byte, []byte) Receiver, change func(*Config)) *Trunks {
	cfg := Config{
		Node: name, Secret: func() []byte { return []byte(secret) }, Resolve: f.resolve, Accept: accept,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	return New(cfg, metrics.New(prometheus.NewRegistry(), "test"))
}

// serveTCP lets a node listen on the loopback until the test ends.
func serveTCP(t testing.TB, f *fleet, trunks *Trunks) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.set(trunks.cfg.Node, l.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- trunks.Serve(l) }()
	t.Cleanup(func() {
		trunks.Close()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l
}

// servePipe is serveTCP for a bubble.
func servePipe(t testing.TB, f *fleet, n *network, trunks *Trunks) {
	t.Helper()
	trunks.dial = n.dial
	l := n.listen("of " + trunks.cfg.Node)
	f.set(trunks.cfg.Node, "of "+trunks.cfg.Node)
	ended := make(chan error, 1)
	go func() { ended <- trunks.Serve(l) }()
	t.Cleanup(func() {
		trunks.Close()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// message is a received message.
type message struct {
	kind    byte
	payload string
}

// recorder is a receiver that keeps everything.
type recorder struct {
	messages chan message
	broken   chan error
	on       func(kind byte, payload []byte) // may be nil
}

func newRecorder() *recorder {
	return &recorder{messages: make(chan message, 1000), broken: make(chan error, 100)}
}

func (r *recorder) Receive(kind byte, payload []byte) {
	if r.on != nil {
		r.on(kind, payload)
	}
	r.messages <- message{kind, string(payload)}
}

func (r *recorder) Broken(err error) { r.broken <- err }

// next waits for a message.
func (r *recorder) next(t testing.TB) message {
	t.Helper()
	select {
	case m := <-r.messages:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message")
	}
	return message{}
}

// end waits for Broken.
func (r *recorder) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.broken:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("not broken")
	}
	return nil
}

// echo answers every message on its stream, the first included.
func echo(s *Stream, kind byte, payload []byte) Receiver {
	r := echoing{s}
	r.Receive(kind, payload)
	return r
}

type echoing struct{ s *Stream }

func (e echoing) Receive(kind byte, payload []byte) { _ = e.s.Send(kind, payload) }
func (e echoing) Broken(error)                      {}

func open(t testing.TB, trunks *Trunks, node string, r Receiver) *Stream {
	t.Helper()
	s, err := trunks.Open(t.Context(), node, r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t testing.TB, s *Stream, kind byte, payload string) {
	t.Helper()
	if err := s.Send(kind, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}
