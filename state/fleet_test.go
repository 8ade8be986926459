package state

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/socketio"
)

// fleet runs a test with one, two and three nodes on every backend. Every node
// hears all of them.
func fleet(t *testing.T, change func(*Config), test func(t *testing.T, b *backend, nodes []*node)) {
	for size := 1; size <= 3; size++ {
		t.Run(fmt.Sprintf("%d nodes", size), func(t *testing.T) {
			backends(t, func(t *testing.T, b *backend) { test(t, b, b.fleet(t, size, change)) })
		})
	}
}

func (b *backend) fleet(t *testing.T, size int, change func(*Config)) []*node {
	t.Helper()
	var nodes []*node
	for _, id := range []string{"NoaBcDeF", "nodeBBBB", "nodeCCCC"}[:size] {
		nodes = append(nodes, b.start(t, id, change))
	}
	return nodes
}

// result is what a done callback got.
type result[T any] struct {
	value T
	err   error
}

// results returns such a callback and the channel its result arrives on.
func results[T any]() (func(T, error), <-chan result[T]) {
	c := make(chan result[T], 2) // a second call would show
	return func(v T, err error) { c <- result[T]{v, err} }, c
}

// once waits for the result and for nothing after it.
func once[T any](t *testing.T, what string, c <-chan result[T]) result[T] {
	t.Helper()
	r := await(t, what, c)
	select {
	case again := <-c:
		t.Errorf("%s: done was called again: %+v", what, again)
	default:
	}
	return r
}

func (n *node) called(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, "calls of "+n.id, func() error {
		n.recorder.mu.Lock()
		defer n.recorder.mu.Unlock()
		if !slices.Equal(n.calls, want) {
			return fmt.Errorf("got %q, want %q", n.calls, want)
		}
		return nil
	})
}

// overhear returns what is published on the channels that match, as "channel
// payload", without counting as a node.
func (b *backend) overhear(t *testing.T, pattern string) <-chan string {
	t.Helper()
	ps, err := pubsubClient(b.options, "listener")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ps.end)
	heard := make(chan string, 1000)
	before := b.number(t, "PUBSUB", "NUMPAT")
	go func() {
		_ = ps.Receive(context.Background(), ps.B().Psubscribe().Pattern(pattern).Build(),
			func(m rueidis.PubSubMessage) { heard <- m.Channel + " " + m.Message })
	}()
	eventually(t, "somebody overhears", func() error {
		if b.number(t, "PUBSUB", "NUMPAT") != before+1 {
			return errNotYet
		}
		return nil
	})
	return heard
}

func socketIDs(sockets []socketio.RemoteSocket) []string {
	ids := []string{}
	for _, s := range sockets {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

// lapse makes a request late that has exactly these answers.
func (n *node) lapse(t *testing.T, kind socketio.RequestType, answers, acks int) {
	t.Helper()
	q := &n.bus.requester
	eventually(t, "answers came", func() error {
		c := make(chan error, 1)
		q.put(input{apply: func() {
			for _, r := range q.table.byID {
				if r.kind == kind && r.answers == answers && r.acks == acks {
					r.deadline = time.Time{}
					heap.Fix(&q.table.order, r.position)
					c <- nil
					return
				}
			}
			c <- errNotYet
		}})
		return await(t, "requestLoop", c)
	})
}

// deaf makes Redis count one node more, which hears nothing.
func (b *backend) deaf(t *testing.T) {
	t.Helper()
	ps, err := pubsubClient(b.options, "deaf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ps.end)
	before := subscribers(t, b, "socket.io-request#/#")
	go func() {
		_ = ps.Receive(context.Background(), ps.B().Subscribe().Channel("socket.io-request#/#").Build(), func(rueidis.PubSubMessage) {})
	}()
	eventually(t, "the deaf node counts", func() error {
		if subscribers(t, b, "socket.io-request#/#") != before+1 {
			return errNotYet
		}
		return nil
	})
}

var room1 = socketio.BroadcastOptions{Rooms: []string{"room1"}}
