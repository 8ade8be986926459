package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// everything asks and commands all there is; the channel gets one error each.
func everything(n *node) (asked int, errs <-chan error) {
	c := make(chan error, 20)
	bus := n.Bus()
	bus.FetchSockets("/", room1, func(_ []socketio.RemoteSocket, err error) { c <- err })
	bus.AllRooms("/", func(_ []string, err error) { c <- err })
	bus.BroadcastWithAck("/", room1, socketio.Flags{}, eventData, time.Hour, func([]byte) {}, func(_ int, err error) { c <- err })
	bus.ServerSideEmit("/", []byte(`["x"]`), func(_ []json.RawMessage, err error) { c <- err })
	bus.SocketsJoin("/", room1, []string{"r"}, func(err error) { c <- err })
	bus.SocketsLeave("/", room1, []string{"r"}, func(err error) { c <- err })
	bus.DisconnectSockets("/", room1, true, func(err error) { c <- err })
	return 7, c
}

func allAre(t *testing.T, n *node, want error) {
	t.Helper()
	asked, c := everything(n)
	for range asked {
		if err := await(t, "done", c); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if len(c) > 0 {
		t.Error("done was called again")
	}
}

func TestRequestsWhileRedisIsAway(t *testing.T) {
	n := awayNode(t, 300*time.Millisecond)
	allAre(t, n, ErrUnavailable)
	n.called(t) // nothing was done here either
}

func TestRequestsEndWithTheNode(t *testing.T) {
	n := awayNode(t, time.Hour)
	n.bus.requester.timeout = time.Hour
	asked, c := everything(n)
	eventually(t, "requests are under way", func() error {
		n.bus.requester.mu.Lock()
		defer n.bus.requester.mu.Unlock()
		if len(n.bus.requester.open) != 4 || len(n.bus.requester.inputs) != 0 {
			return errNotYet
		}
		return nil
	})
	n.stop(t)
	for range asked {
		if err := await(t, "done", c); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
	allAre(t, n, ErrClosed)
}

// A node that is closed without having run, with requests that waited for Run.
func TestRequestsOfANodeThatNeverRan(t *testing.T) {
	s, err := Open(Config{Node: "nodeAAAA", UID: "uidABC", Log: slog.New(slog.DiscardHandler)}, metrics.New(prometheus.NewRegistry(), "test"))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{State: s}
	s.Bus().Open("/")
	asked, c := everything(n)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range asked {
		if err := await(t, "done", c); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
	allAre(t, n, ErrClosed)
}

func TestRequestsAcrossARedisRestart(t *testing.T) {
	b := realRedis(t)
	nodes := b.fleet(t, 2, nil)
	nodes[1].sockets = []socketio.RemoteSocket{{ID: "b"}}
	b.redis.stop()
	for _, n := range nodes {
		eventually(t, "not ready", func() error {
			if n.Ready() == nil {
				return errNotYet
			}
			return nil
		})
	}
	// One that gives up, one that is still there when Redis is back.
	n := nodes[0]
	n.bus.requester.timeout = 100 * time.Millisecond
	short, shortDone := results[[]socketio.RemoteSocket]()
	n.Bus().FetchSockets("/", room1, short)
	if got := once(t, "fetch", shortDone); !errors.Is(got.err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", got.err)
	}
	b.redis.start(t)
	b.observe(t)
	for _, n := range nodes {
		eventually(t, "ready", n.Ready)
	}
	n.bus.requester.timeout = patience
	done, c := results[[]socketio.RemoteSocket]()
	n.Bus().FetchSockets("/", room1, done)
	if got := once(t, "fetch", c); got.err != nil || !slices.Equal(socketIDs(got.value), []string{"b"}) {
		t.Errorf("got %+v", got)
	}
}

// A node that does not hear waits before it asks: it would miss the answers.
func TestRequestsWaitForTheSubscriptions(t *testing.T) {
	realModes(t, func(t *testing.T, b *backend, pattern bool) {
		nodes := b.fleet(t, 3, func(c *Config) { c.Pattern = pattern })
		var want []string
		for _, n := range nodes {
			n.sockets = []socketio.RemoteSocket{{ID: n.id}}
			want = append(want, n.id)
		}
		slices.Sort(want)
		for round := 1; round <= 3; round++ {
			b.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
			for _, n := range nodes {
				eventually(t, "the loss is noticed", func() error {
					if testutil.ToFloat64(n.metrics.BusReconnects) != float64(round) {
						return errNotYet
					}
					return nil
				})
			}
			for _, n := range nodes[1:] {
				eventually(t, "the others are back", n.Ready)
			}
			done, c := results[[]socketio.RemoteSocket]()
			nodes[0].Bus().FetchSockets("/", room1, done)
			if got := once(t, "fetch", c); got.err != nil || !slices.Equal(socketIDs(got.value), want) {
				t.Errorf("got %q, %v", socketIDs(got.value), got.err)
			}
		}
	})
}

func TestRequestsWaitUntilTheNodeHears(t *testing.T) {
	n := inProcess(t).start(t, "nodeAAAA", nil)
	b, q := n.bus, &n.bus.requester
	b.subsMu.Lock()
	responses := b.subs.topics[topic{"socket.io-response#/#", false}]
	responses.pending++ // as if Redis had yet to confirm it
	b.subsMu.Unlock()
	done, c := results[[]string]()
	n.Bus().AllRooms("/", done)
	for range 3 {
		waits := make(chan bool)
		q.put(input{apply: func() { waits <- len(q.table.waiting) == 1 && !q.counting }})
		if !await(t, "requestLoop", waits) {
			t.Fatal("counted while the node does not hear answers")
		}
	}
	b.subsMu.Lock()
	responses.pending--
	b.subsMu.Unlock()
	if got := once(t, "rooms", c); got.err != nil {
		t.Error(got.err)
	}
}

// A count that the lost connection took with it is repeated.
func TestRequestsAreCountedAgain(t *testing.T) {
	b := realRedis(t)
	n := b.open(t, "nodeAAAA", nil)
	n.bus.patience, n.bus.requester.timeout = 2*patience, 2*patience
	n.sockets = []socketio.RemoteSocket{{ID: "a"}}
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "ready", n.Ready)
	b.redis.freeze(t)
	done, c := results[[]socketio.RemoteSocket]()
	n.Bus().FetchSockets("/", room1, done)
	eventually(t, "the loss is noticed", func() error {
		if n.link.down() == nil {
			return errNotYet
		}
		return nil
	})
	b.redis.thaw(t)
	if got := once(t, "fetch", c); got.err != nil || len(got.value) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestRequestsThatRedisRefuses(t *testing.T) {
	b := realRedis(t)
	n := b.fleet(t, 2, nil)[0]
	for _, command := range []string{"pubsub", "publish"} {
		b.do(t, "ACL", "SETUSER", "edge", "-"+command)
		done, c := results[[]string]()
		n.Bus().AllRooms("/", done)
		if got := once(t, "rooms", c); got.err == nil || !strings.Contains(got.err.Error(), "'"+command) || errors.Is(got.err, ErrUnavailable) {
			t.Errorf("without %s: %v", command, got.err)
		}
		b.do(t, "ACL", "SETUSER", "edge", "+"+command)
	}
	b.do(t, "ACL", "LOG", "RESET") // of what was meant to be refused
}

// A request that cannot be published ends, and nothing is done here either.
func TestRequestsThatAreNotPublished(t *testing.T) {
	n := inProcess(t).open(t, "nodeAAAA", func(c *Config) { c.PublishQueue = 1 })
	n.Bus().Open("/")
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/"}); err != nil {
		t.Fatal(err)
	}
	q := &n.bus.requester
	var ended []error
	start := func() *request {
		r := newTableRequest(newRequestID(), broadcast)
		r.deadline = time.Now().Add(time.Hour)
		r.patience = r.deadline
		r.local = func() { t.Error("the local part begins") }
		r.finish = func(err error) { ended = append(ended, err) }
		if err := q.admit(r); err != nil {
			t.Fatal(err)
		}
		n.bus.requestRound()
		return r
	}
	n.bus.counted(start(), 2)
	if len(ended) != 1 || !errors.Is(ended[0], ErrQueueFull) {
		t.Errorf("got %v, want ErrQueueFull", ended)
	}
	lost := start()
	q.table.count(lost, 2)
	for _, err := range []error{nil, fmt.Errorf("state: publish: %w", io.EOF), ErrClosed} {
		n.bus.requestPublished(lost, err)
		n.bus.requestRound()
	}
	if len(ended) != 2 || !errors.Is(ended[1], ErrUnavailable) || !errors.Is(ended[1], io.EOF) {
		t.Errorf("got %v, want one more that is ErrUnavailable", ended)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// FuzzResponse: whatever comes on a response channel, nothing panics, nothing
// ends twice, and what is held is accounted for.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		`{"requestId":"F","sockets":[{"id":"a","handshake":{},"rooms":["a"],"data":{}}]}`, `{"requestId":"A","rooms":["a"]}`,
		`{"type":6,"requestId":"E","data":{"a":1}}`, `{"type":8,"requestId":"B","clientCount":1}`, `{"requestId":"F","sockets":null}`,
		string(socketio.AppendBroadcastAck(nil, "B", []byte{0xa3, 'y', 'e', 's'})), string(socketio.AppendBroadcastAck(nil, "B", nil)),
		`{"type":8,"requestId":"B","clientCount":1e300}`, "{", "", "\x83\xa4type\x09\xa9requestId\xa1B", "\x81\xa9requestId\xa1A",
	} {
		f.Add([]byte(seed))
	}
	options, err := parseURL("redis://127.0.0.1:1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		n := (&backend{options: options}).open(t, "nodeAAAA", nil)
		q := &n.bus.requester
		ended := make(map[string]int)
		for _, kind := range []socketio.RequestType{fetch, allRooms, emit, broadcast} {
			r := newTableRequest(string("AEFB"[map[socketio.RequestType]int{allRooms: 0, emit: 1, fetch: 2, broadcast: 3}[kind]]), kind)
			r.deadline = time.Now().Add(time.Hour)
			r.patience = r.deadline
			r.ack, r.finish = func([]byte) {}, func(error) { ended[r.id]++ }
			if err := q.admit(r); err != nil {
				t.Fatal(err)
			}
			n.bus.requestRound()
			q.table.count(r, 3)
		}
		for range 4 {
			n.bus.receiveResponse(payload)
			n.bus.requestRound()
			open := 0
			for _, r := range q.table.byID {
				open += r.size
			}
			if q.size != 0 || q.table.size != open || len(q.open) != len(q.table.byID) || len(q.table.order) != len(q.open) {
				t.Fatalf("%d bytes of inputs, %d of %d bytes of answers, %d and %d requests", q.size, q.table.size, open, len(q.open), len(q.table.byID))
			}
		}
		q.end()
		for id, times := range ended {
			if times != 1 {
				t.Errorf("%s ended %d times", id, times)
			}
		}
		if len(ended) != 4 {
			t.Errorf("%d requests ended", len(ended))
		}
	})
}
