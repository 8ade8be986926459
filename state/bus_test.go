package state

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// modes runs a test on every backend and subscription mode there is.
func modes(t *testing.T, test func(t *testing.T, b *backend, pattern bool)) {
	t.Run("in-process", func(t *testing.T) { test(t, inProcess(t), true) })
	t.Run("pattern", func(t *testing.T) { test(t, realRedis(t), true) })
	t.Run("exact", func(t *testing.T) { test(t, realRedis(t), false) })
}

func subscribe(t *testing.T, n *node, ns, room string, gen uint64) {
	t.Helper()
	n.Bus().Subscribe(ns, room, gen)
	eventually(t, "subscribed "+room, func() error {
		if n.announced(ns, room, gen) == 0 {
			return errNotYet
		}
		return nil
	})
}

func publish(t *testing.T, n *node, ns, room, payload string) {
	t.Helper()
	done, c := outcome()
	if err := n.Bus().Publish(socketio.Publication{Namespace: ns, Room: room, Payload: []byte(payload), Done: done}); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "publish", c); err != nil {
		t.Fatal(err)
	}
}

// expect waits until exactly these deliveries were made, in this order.
func expect(t *testing.T, n *node, want ...delivery) {
	t.Helper()
	eventually(t, "deliveries", func() error {
		if got := n.delivered(); !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

func TestDeliverEveryKindOfChannelOnce(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern, c.HeardRooms = pattern, "user:" })
		n.Bus().Open("/chat")
		own := n.id + "123456789012" // a private room: our pattern covers it
		glob := "a*[b]?"
		for i, room := range []string{"r1", own, glob, "user:ada"} {
			subscribe(t, n, "/", room, uint64(i+1))
		}
		subscribe(t, n, "/chat", "r1", 9)
		want := []delivery{
			{"/", "", "base"}, {"/", "r1", "one"}, {"/", own, "private"}, {"/", glob, "glob"}, {"/", "user:ada", "wanted"}, {"/", "user:bob", "heard"},
			{"/chat", "r1", "chat"}, {"/", "", "last"},
		}
		for _, d := range want {
			publish(t, n, d.ns, d.room, d.payload)
		}
		expect(t, n, want...)
		if pattern {
			return
		}
		// Exact: a room nobody asked for does not arrive, and neither the private room nor the user's has a channel of its own.
		publish(t, n, "/", "unknown", "x")
		publish(t, n, "/", "", "after")
		expect(t, n, append(want, delivery{"/", "", "after"})...)
		got := b.list(t, "PUBSUB", "CHANNELS")
		slices.Sort(got)
		channels := []string{
			"socket.io#/#", "socket.io#/#a*[b]?#", "socket.io#/#r1#", "socket.io#/chat#", "socket.io#/chat#r1#",
			"socket.io-request#/#", "socket.io-request#/chat#", "socket.io-response#/#", "socket.io-response#/#deAAAA#",
			"socket.io-response#/chat#", "socket.io-response#/chat#deAAAA#", "{room:a*[b]?:users}:ev", "{room:r1:users}:ev",
			n.bus.control,
		}
		slices.Sort(channels)
		if !slices.Equal(got, channels) {
			t.Errorf("channels\n got %q\nwant %q", got, channels)
		}
		if got := b.number(t, "PUBSUB", "NUMPAT"); got != 4 {
			t.Errorf("%d patterns, want two per namespace", got)
		}
		if got := testutil.ToFloat64(n.metrics.Subscriptions); got != float64(len(channels)+4) {
			t.Errorf("subscriptions gauge is %v, want %d", got, len(channels)+4)
		}
	})
}

func TestSubscriptionGenerations(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern = pattern })
		subscribe(t, n, "/", "r", 1)
		n.Bus().Unsubscribe("/", "r", 1)
		subscribe(t, n, "/", "r", 2)
		n.Bus().Unsubscribe("/", "r", 1) // late: generation 2 stays
		subscribe(t, n, "/", "sync", 1)
		publish(t, n, "/", "r", "kept")
		expect(t, n, delivery{"/", "r", "kept"})
		if n.announced("/", "r", 1) != 1 || n.announced("/", "r", 2) != 1 {
			t.Error("a generation was announced more than once")
		}
		if pattern {
			return
		}
		n.Bus().Unsubscribe("/", "r", 2)
		eventually(t, "channels are given up", func() error {
			for _, c := range b.list(t, "PUBSUB", "CHANNELS") {
				if strings.Contains(c, "r#") || strings.Contains(c, ":r:") {
					return fmt.Errorf("still subscribed to %s", c)
				}
			}
			return nil
		})
	})
}

func TestManySubscriptions(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	const rooms = 2*subscribeBatch + 100
	for i := range rooms {
		n.Bus().Subscribe("/", "room"+strconv.Itoa(i), uint64(i))
	}
	eventually(t, "all rooms subscribed", func() error {
		for i := range rooms {
			if n.announced("/", "room"+strconv.Itoa(i), uint64(i)) != 1 {
				return fmt.Errorf("room %d is not", i)
			}
		}
		return nil
	})
	for i := range rooms {
		n.Bus().Unsubscribe("/", "room"+strconv.Itoa(i), uint64(i))
	}
	eventually(t, "all rooms given up", func() error {
		if got := len(b.list(t, "PUBSUB", "CHANNELS")); got != 5 {
			return fmt.Errorf("%d channels left", got)
		}
		return nil
	})
}

func TestPublishOrderAndCallbacks(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, pattern bool) {
		n := b.start(t, "nodeAAAA", func(c *Config) { c.Pattern = pattern })
		subscribe(t, n, "/", "r", 1)
		const messages = 3*batchCommands + 1
		var want []delivery
		var mu sync.Mutex
		var events []string
		var left atomic.Int64
		left.Store(messages)
		for i := range messages {
			text := strconv.Itoa(i)
			want = append(want, delivery{"/", "r", text})
			err := n.Bus().Publish(socketio.Publication{
				Namespace: "/", Room: "r", Payload: []byte(text),
				Sent: func() { mu.Lock(); events = append(events, "sent "+text); mu.Unlock() },
				Done: func(err error) {
					mu.Lock()
					events = append(events, fmt.Sprintf("done %s %v", text, err))
					mu.Unlock()
					left.Add(-1)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		expect(t, n, want...)
		eventually(t, "all done", func() error {
			if n := left.Load(); n != 0 {
				return fmt.Errorf("%d left", n)
			}
			return nil
		})
		mu.Lock()
		defer mu.Unlock()
		sent, done := 0, 0
		for _, e := range events {
			switch e {
			case "sent " + strconv.Itoa(sent):
				sent++
			case "done " + strconv.Itoa(done) + " <nil>":
				if done++; done > sent {
					t.Fatalf("%q came before its sent", e)
				}
			default:
				t.Fatalf("%q out of order (%d sent, %d done)", e, sent, done)
			}
		}
		if got := testutil.ToFloat64(n.metrics.Published); got != messages {
			t.Errorf("published %v, want %d", got, messages)
		}
		if got := testutil.ToFloat64(n.metrics.PublishQueue); got != 0 {
			t.Errorf("queue depth %v after all is done", got)
		}
	})
}

func TestPublishQueueFull(t *testing.T) {
	b := inProcess(t)
	n := b.open(t, "nodeAAAA", func(c *Config) { c.PublishQueue = 2 })
	done, c := outcome()
	for range 2 {
		if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte("x"), Done: done}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte("x"), Done: done}); !errors.Is(err, ErrQueueFull) {
		t.Fatalf("third message: %v, want ErrQueueFull", err)
	}
	if got := testutil.ToFloat64(n.metrics.Drops[metrics.DropPublishQueue]); got != 1 {
		t.Errorf("%v drops counted", got)
	}
	n.run(t) // the two that were accepted go out
	for range 2 {
		if err := await(t, "done", c); err != nil {
			t.Error(err)
		}
	}
	n.stop(t)
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/"}); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after the end: %v", err)
	}
}

func TestQueueBounds(t *testing.T) {
	q := queue{maxItems: 3, maxBytes: 10}
	add := func(size int) bool { return q.add(message{payload: make([]byte, size)}) }
	if !add(20) {
		t.Error("a single payload above the byte bound is refused")
	}
	if add(1) {
		t.Error("taken above the byte bound")
	}
	if got := q.take(nil, 5); len(got) != 1 || q.bytes != 0 || q.len() != 0 {
		t.Errorf("took %d, %d bytes left", len(got), q.bytes)
	}
	for range 3 {
		if !add(3) {
			t.Fatal("refused below the bounds")
		}
	}
	if add(1) {
		t.Error("taken above the message bound")
	}
	for i := range 1000 { // runs around in place
		got := q.take(nil, 1)
		if len(got) != 1 || !q.add(message{channel: strconv.Itoa(i), payload: got[0].payload}) {
			t.Fatal("queue lost its order")
		}
		if i >= 3 && got[0].channel != strconv.Itoa(i-3) {
			t.Fatalf("got %s at %d", got[0].channel, i)
		}
	}
	if cap(q.items) > 64 {
		t.Errorf("queue of 3 grew to %d", cap(q.items))
	}
}

func TestStopFailsWhatIsQueued(t *testing.T) {
	n := awayNode(t, time.Hour)
	done, c := outcome()
	if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: []byte("x"), Done: done}); err != nil {
		t.Fatal(err)
	}
	n.stop(t)
	if err := await(t, "done", c); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	select {
	case err := <-c:
		t.Errorf("done called again: %v", err)
	default:
	}
}

// awayNode runs on a port nobody listens to.
func awayNode(t *testing.T, patience time.Duration) *node {
	t.Helper()
	options, err := parseURL("redis://127.0.0.1:" + freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	n := (&backend{options: options}).open(t, "nodeAAAA", nil)
	n.bus.patience = patience
	n.Bus().Open("/")
	return n.run(t)
}
