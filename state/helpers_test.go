package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const patience = 20 * time.Second // of eventually; only failures take that long

// eventually polls until check returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing came", what)
		panic("unreachable")
	}
}

// redisServer is a redis-server process of a test.
type redisServer struct {
	port string
	dir  string
	cmd  *exec.Cmd
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	r := &redisServer{port: freePort(t), dir: t.TempDir()}
	t.Cleanup(r.stop)
	r.start(t)
	return r
}

func (r *redisServer) start(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("redis-server is not installed, and these tests need a real one (make test installs it): %v", err)
	}
	r.cmd = exec.Command(path, "--port", r.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", r.dir)
	r.cmd.Stdout, r.cmd.Stderr = io.Discard, io.Discard
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "redis-server starts", func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("PING\r\n")); err != nil {
			return err
		}
		reply := make([]byte, 7)
		if _, err := io.ReadFull(c, reply); err != nil || string(reply) != "+PONG\r\n" {
			return fmt.Errorf("PING answered %q, %v", reply, err)
		}
		return nil
	})
}

// stop kills the process; a frozen one, too.
func (r *redisServer) stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *redisServer) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (r *redisServer) freeze(t *testing.T) { r.signal(t, syscall.SIGSTOP) }
func (r *redisServer) thaw(t *testing.T)   { r.signal(t, syscall.SIGCONT) }

func (r *redisServer) url() string { return "redis://127.0.0.1:" + r.port }

// backend is a Redis for a test: in-process or a redis-server.
type backend struct {
	name     string
	options  redisOptions
	redis    *redisServer // nil in-process
	observer *client
}

// backends runs a test on both.
func backends(t *testing.T, test func(t *testing.T, b *backend)) {
	t.Run("in-process", func(t *testing.T) { test(t, inProcess(t)) })
	t.Run("redis-server", func(t *testing.T) { test(t, realRedis(t)) })
}

func inProcess(t *testing.T) *backend {
	e := startEmbedded()
	t.Cleanup(e.stop)
	return observed(t, &backend{name: "in-process", options: e.options()})
}

func realRedis(t *testing.T) *backend {
	r := startRedis(t)
	options, err := parseURL(r.url())
	if err != nil {
		t.Fatal(err)
	}
	return observed(t, &backend{name: "redis-server", options: options, redis: r})
}

func observed(t *testing.T, b *backend) *backend {
	b.observe(t)
	t.Cleanup(func() { b.observer.end() })
	return b
}

// observe connects the observer, anew after a restart.
func (b *backend) observe(t *testing.T) {
	t.Helper()
	if b.observer != nil {
		b.observer.end()
	}
	eventually(t, "observer connects", func() (err error) {
		b.observer, err = commandClient(b.options, "observer")
		return err
	})
}

// do runs one command for the test.
func (b *backend) do(t *testing.T, words ...string) rueidis.RedisMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	m, err := b.observer.Do(ctx, b.observer.B().Arbitrary(words...).Build()).ToMessage()
	if err != nil && !rueidis.IsRedisNil(err) {
		t.Fatalf("%v: %v", words, err)
	}
	return m
}

func (b *backend) list(t *testing.T, words ...string) []string {
	t.Helper()
	m := b.do(t, words...)
	list, err := m.AsStrSlice()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return list
}

func (b *backend) text(t *testing.T, words ...string) string {
	t.Helper()
	m := b.do(t, words...)
	if m.IsNil() {
		return ""
	}
	s, err := m.ToString()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return s
}

func (b *backend) number(t *testing.T, words ...string) int64 {
	t.Helper()
	m := b.do(t, words...)
	n, err := m.AsInt64()
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return n
}

// node is a running State of a test.
type node struct {
	*State
	id      string
	metrics *metrics.Metrics
	*recorder
	updates chan PresenceUpdate
	cancel  context.CancelFunc
	done    chan struct{}
	log     *logLines
}

// delivery is one recorded Deliver.
type delivery struct{ ns, room, payload string }

// recorder is a Deliverer and Responder that remembers.
type recorder struct {
	mu         sync.Mutex
	deliveries []delivery
	subscribed map[announcement]int
	calls      []string
	sockets    []socketio.RemoteSocket
	rooms      []string
	acks       [][]byte
	reply      []byte // of ServerSideEmit
}

func (r *recorder) Deliver(ns, room string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliveries = append(r.deliveries, delivery{ns, room, string(payload)})
}

func (r *recorder) Subscribed(ns, room string, gen uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscribed[announcement{ns, room, gen}]++
}

func (r *recorder) delivered() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]delivery(nil), r.deliveries...)
}

func (r *recorder) announced(ns, room string, gen uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscribed[announcement{ns, room, gen}]
}

func (r *recorder) called(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *recorder) LocalRooms(ns string, reply func([]string)) {
	r.called("rooms %s", ns)
	r.mu.Lock()
	defer r.mu.Unlock()
	go reply(r.rooms)
}

func (r *recorder) LocalSockets(ns string, o socketio.BroadcastOptions, reply func([]socketio.RemoteSocket)) {
	r.called("sockets %s %v %v", ns, o.Rooms, o.Except)
	r.mu.Lock()
	defer r.mu.Unlock()
	go reply(r.sockets)
}

func (r *recorder) LocalJoin(ns string, o socketio.BroadcastOptions, rooms []string) {
	r.called("join %s %v %v %v", ns, o.Rooms, o.Except, rooms)
}

func (r *recorder) LocalLeave(ns string, o socketio.BroadcastOptions, rooms []string) {
	r.called("leave %s %v %v %v", ns, o.Rooms, o.Except, rooms)
}

func (r *recorder) LocalDisconnect(ns string, o socketio.BroadcastOptions, close bool) {
	r.called("disconnect %s %v %v %v", ns, o.Rooms, o.Except, close)
}

func (r *recorder) LocalBroadcast(ns string, o socketio.BroadcastOptions, data []byte, clients func(int), ack func([]byte)) {
	r.called("broadcast %s %v %v %x", ns, o.Rooms, o.Except, data)
	clients(len(r.acks))
	for _, a := range r.acks {
		ack(a)
	}
}

func (r *recorder) ServerSideEmit(ns string, data []byte, reply func([]byte)) {
	r.called("emit %s %s %v", ns, data, reply != nil)
	if reply != nil {
		reply(r.reply)
	}
}

// logLines counts log records by message.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// open makes a node that does not run yet.
func (b *backend) open(t *testing.T, id string, change func(*Config)) *node {
	t.Helper()
	lines := &logLines{}
	cfg := Config{
		Key: "socket.io", Node: id, UID: id[2:], Cache: true, PublishQueue: 65536,
		Log: slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	m := metrics.New(prometheus.NewRegistry(), "test")
	return &node{
		State: assemble(cfg, b.options, m), id: id, metrics: m, log: lines,
		recorder: &recorder{subscribed: make(map[announcement]int)},
		updates:  make(chan PresenceUpdate, 1000), done: make(chan struct{}),
	}
}

// run starts the node; it ends with the test.
func (n *node) run(t *testing.T) *node {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.done)
		_ = n.Run(ctx, n.recorder, n.recorder, func(u PresenceUpdate) { n.updates <- u })
	}()
	t.Cleanup(func() { n.stop(t) })
	return n
}

// stop ends Run and closes the node.
func (n *node) stop(t *testing.T) {
	n.cancel()
	await(t, "Run returns", n.done)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// start opens and runs a node that serves "/", and waits until it is ready.
func (b *backend) start(t *testing.T, id string, change func(*Config)) *node {
	t.Helper()
	n := b.open(t, id, change)
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "node is ready", n.Ready)
	return n
}

// done returns a callback and the channel its error arrives on.
func outcome() (func(error), <-chan error) {
	c := make(chan error, 2) // a second call would show
	return func(err error) { c <- err }, c
}

func (n *node) connect(t *testing.T, user, socket string) {
	t.Helper()
	done, c := outcome()
	n.Presence().Connect(user, socket, done)
	if err := await(t, "connect "+user, c); err != nil {
		t.Fatal(err)
	}
}

func (n *node) join(t *testing.T, user, socket, room string) {
	t.Helper()
	done, c := outcome()
	n.Presence().Join(user, socket, room, done)
	if err := await(t, "join "+user, c); err != nil {
		t.Fatal(err)
	}
}

// settled waits until Redis has everything the node wants.
func (n *node) settled(t *testing.T) {
	t.Helper()
	eventually(t, "presence settles", func() error {
		n.presence.mu.Lock()
		defer n.presence.mu.Unlock()
		if u := n.presence.ledger.unsettled; u > 0 {
			return fmt.Errorf("%d facts unsettled", u)
		}
		return nil
	})
}

var errNotYet = errors.New("not yet")

// expectSet compares a Redis set.
func (b *backend) expectSet(t *testing.T, key string, want ...string) {
	t.Helper()
	got := b.list(t, "SMEMBERS", key)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s is %q, want %q", key, got, want)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
