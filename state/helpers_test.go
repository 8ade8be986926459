package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const patience = 30 * time.Second // of eventually; only failures take that long

// eventually polls until check returns nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing came", what)
		panic("unreachable")
	}
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

// heardCut is one recorded Cut, and how much had been delivered before it.
type heardCut struct {
	sid        string
	generation uint64
	at         socketio.Offset
	before     int
}

// recorder is a Deliverer and Responder that remembers.
type recorder struct {
	mu         sync.Mutex
	deliveries []delivery
	subscribed map[announcement]int
	unheard    int
	advanced   []socketio.Offset
	missed     []int // how much had been delivered when Missed was called
	cuts       []heardCut
	calls      []string
	sockets    []socketio.RemoteSocket
	rooms      []string
	acks       [][]byte
	silent     int    // clients of LocalBroadcast that do not acknowledge
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

func (r *recorder) Unheard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unheard++
}

func (r *recorder) Missed(string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missed = append(r.missed, len(r.deliveries))
}

func (r *recorder) Replaced(ns, sid string, generation uint64) {
	r.called("replaced %s %s %d", ns, sid, generation)
}

func (r *recorder) Cut(ns, sid string, generation uint64, at socketio.Offset) {
	r.called("cut %s %s %d %s", ns, sid, generation, at)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cuts = append(r.cuts, heardCut{sid, generation, at, len(r.deliveries)})
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
	clients(len(r.acks) + r.silent)
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

// all are the lines so far.
func (l *logLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// open makes a node that does not run yet.
func (b *backend) open(t testing.TB, id string, change func(*Config)) *node {
	t.Helper()
	lines := &logLines{}
	cfg := Config{
		Lease: defaultLease,
		Key:   "socket.io", Node: id, UID: id[2:], Cache: true, PublishQueue: 65536,
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
func (n *node) run(t testing.TB) *node {
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
func (n *node) stop(t testing.TB) {
	n.cancel()
	await(t, "Run returns", n.done)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// start opens and runs a node that serves "/", and waits until it is ready.
func (b *backend) start(t testing.TB, id string, change func(*Config)) *node {
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

func (n *node) connect(t testing.TB, user, socket string) {
	t.Helper()
	done, c := outcome()
	n.Presence().Connect(user, socket, 0, done)
	if err := await(t, "connect "+user, c); err != nil {
		t.Fatal(err)
	}
}

func (n *node) join(t testing.TB, user, socket, room string) {
	t.Helper()
	done, c := outcome()
	n.Presence().Join(user, socket, room, done)
	if err := await(t, "join "+user, c); err != nil {
		t.Fatal(err)
	}
}

// settled waits until Redis has everything the node wants.
func (n *node) settled(t testing.TB) {
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

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// incarnation is the node's present one.
func (n *node) incarnation() string {
	n.presence.mu.Lock()
	defer n.presence.mu.Unlock()
	return n.presence.ledger.incarnation()
}

func (r *recorder) Advanced(ns string, end socketio.Offset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advanced = append(r.advanced, end)
}
