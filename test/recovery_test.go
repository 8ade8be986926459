package test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

// scenario is what any server with connection state recovery does, whatever
// keeps its journal and sessions.
type scenario struct {
	config engine.Config
	setup  func(*engine.Server) // in addition to serveRooms
	peers  *peering             // nil: none
	run    func(t *testing.T, n *recoveryNode)
}

// TestRecovery is the contract of the two implementations of recovery, the one of
// a server on its own and the one of package state, the latter on both kinds of
// Redis: all of them go through the same scenarios.
func TestRecovery(t *testing.T) {
	scenarios := map[string]scenario{}
	for _, group := range []map[string]scenario{returns(), refusals(), rooms(), replays(), races(), transports(), keeps()} {
		for name, s := range group {
			scenarios[name] = s
		}
	}
	for name, start := range map[string]func(t *testing.T) stateOf{
		"on its own":       func(*testing.T) stateOf { return nil },
		"in-process Redis": func(*testing.T) stateOf { return inRedis("") },
		"redis-server":     func(t *testing.T) stateOf { return inRedis(needRedis(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			open := start(t)
			for name, s := range scenarios {
				t.Run(name, func(t *testing.T) {
					leak.Check(t)
					s.run(t, startRecovery(t, s, open, randomText(6)))
				})
			}
		})
	}
}

// needRedis starts a redis-server, or skips or fails the test as requirements does.
func needRedis(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("EDGE_E2E") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return startRedis(t)
}

// stateOf opens the state of a node whose keys begin with key; nil is none.
type stateOf func(cfg engine.Config, key string, m *metrics.Metrics) (*state.State, error)

// inRedis is state on a Redis, the in-process one without a URL.
func inRedis(url string) stateOf {
	return func(cfg engine.Config, key string, m *metrics.Metrics) (*state.State, error) {
		return state.Open(state.Config{
			URL: url, Key: key, Node: cfg.Node, UID: cfg.UID, Recovery: true, ProofLag: cfg.ProofLag(), Log: cfg.Logger,
		}, m)
	}
}

// recoveryNode is a server whose sockets can be recovered.
type recoveryNode struct {
	*engine.Server
	m    *metrics.Metrics
	addr string
	end  func() error // in order, as cmd/edge does; again is no change

	breakTrunks func() // with peers

	begun chan string // ids of sockets, by their connection handlers
	ended chan string // reasons, by their disconnect handlers
}

// startRecovery starts a server that ends with the test.
func startRecovery(t *testing.T, s scenario, open stateOf, key string) *recoveryNode {
	t.Helper()
	m := metrics.New(prometheus.NewRegistry(), "test")
	cfg := s.config
	cfg.Node, cfg.UID, cfg.Logger = randomText(8), randomText(6), slog.New(slog.NewTextHandler(io.Discard, nil))
	recovery := engine.Recovery{}
	if cfg.Recovery != nil {
		recovery = *cfg.Recovery
	}
	cfg.Recovery = &recovery
	if s.peers != nil {
		cfg.Peers = s.peers.of(cfg.Node)
	}
	var st *state.State
	var bus engine.Bus
	if open != nil {
		var err error
		if st, err = open(cfg, key, m); err != nil {
			t.Fatal(err)
		}
		bus, recovery.Sessions = st.Bus(), st.Sessions()
	}
	srv, err := engine.New(cfg, bus, m)
	if err != nil {
		t.Fatal(err)
	}
	n := &recoveryNode{Server: srv, m: m, begun: make(chan string, 1024), ended: make(chan string, 1024)}
	n.serveRooms("/")
	n.serveRooms("/chat")
	if s.setup != nil {
		s.setup(srv)
	}
	n.serve(t, st)
	if s.peers != nil {
		s.peers.serve(t, cfg.Node, n)
	}
	return n
}

// serve opens the server for clients.
func (n *recoveryNode) serve(t *testing.T, st *state.State) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = listener.Addr().String()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: n, ReadHeaderTimeout: patience}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	if st != nil {
		running.Go(func() { _ = st.Run(ctx, n.Server, n.Server, nil) })
	}
	running.Go(func() { _ = front.Serve(listener) })
	n.end = sync.OnceValue(func() error {
		late, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := n.Shutdown(late)
		_ = front.Close()
		if st != nil {
			err = errors.Join(err, st.Sessions().Flush(late))
		}
		stop()
		running.Wait()
		if st != nil {
			err = errors.Join(err, st.Close(late))
		}
		return err
	})
	t.Cleanup(func() {
		if err := n.end(); err != nil {
			t.Errorf("end the server: %v", err)
		}
	})
	if st != nil {
		until(t, "the server to be ready", st.Ready)
	}
}

// serveRooms gives a namespace an application with rooms.
func (n *recoveryNode) serveRooms(name string) {
	nsp := n.Of(name)
	nsp.OnConnection(func(s *engine.Socket) { n.begun <- s.ID() })
	nsp.OnDisconnect(func(_ *engine.Socket, reason string) { n.ended <- reason })
	nsp.On("join", func(s *engine.Socket, e *engine.Event) {
		var room string
		_ = e.Bind(0, &room)
		release := e.Hold()
		s.Join(room, func(error) {
			_ = e.Ack()
			release()
		})
	})
	nsp.On("leave", func(s *engine.Socket, e *engine.Event) {
		var room string
		_ = e.Bind(0, &room)
		s.Leave(room, func(error) { _ = e.Ack() })
	})
	nsp.On("whoami", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.ID(), s.Recovered(), s.Rooms()) })
	nsp.On("direct", func(s *engine.Socket, e *engine.Event) { _ = s.Emit("direct", e.Raw(0), "text") })
	nsp.On("data", func(s *engine.Socket, e *engine.Event) { s.SetData(json.RawMessage(e.Raw(0))); _ = e.Ack() })
	nsp.On("getdata", func(s *engine.Socket, e *engine.Event) { _ = e.Ack(s.Data()) })
}

// emit sends event "x" with arguments and returns when the bus has taken it.
func emit(b engine.Broadcast, args ...any) error {
	data, err := json.Marshal(append([]any{"x"}, args...))
	if err != nil {
		return err
	}
	taken := make(chan error, 1)
	if err := b.EmitPayload(&engine.Payload{JSON: data}, func(err error) { taken <- err }); err != nil {
		return err
	}
	select {
	case err := <-taken:
		return err
	case <-time.After(patience):
		return errors.New("the bus does not say whether it has taken a message")
	}
}

// everybody selects all of the main namespace.
func (n *recoveryNode) everybody() engine.Broadcast { return n.Of("/").Except() }

// publish is emit that fails the test.
func publish(t *testing.T, b engine.Broadcast, args ...any) {
	t.Helper()
	if err := emit(b, args...); err != nil {
		t.Fatal(err)
	}
}

// gone waits until a socket has ended, and returns why.
func (n *recoveryNode) gone(t *testing.T) string {
	t.Helper()
	return await(t, "the end of a socket", n.ended)
}

// recoveries is how many wishes for a session ended so.
func (n *recoveryNode) recoveries(result metrics.Recovery) int {
	return int(testutil.ToFloat64(n.m.Recoveries[result]))
}

// asked is how many wishes for a session ended, however.
func (n *recoveryNode) asked() (all int) {
	for r := range n.m.Recoveries {
		all += n.recoveries(metrics.Recovery(r))
	}
	return all
}

// replaced is how many conns were closed for the sake of another.
func (n *recoveryNode) replaced() int {
	return int(testutil.ToFloat64(n.m.Closes[metrics.CloseReplaced]))
}

// await returns what comes next.
func await[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v in vain for %s", patience, what)
		panic("unreachable")
	}
}
