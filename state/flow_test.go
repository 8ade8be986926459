package state

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// flow publishes numbered messages to a room and the base channel in turn.
type flow struct {
	stop    chan struct{}
	once    sync.Once // closes stop
	stopped chan struct{}
	count   atomic.Int64

	mu       sync.Mutex
	accepted []string         // in the order of the calls
	outcomes map[string]error // of all that are settled
	wait     sync.WaitGroup
}

func startFlow(t testing.TB, n *node, every time.Duration) *flow {
	f := &flow{stop: make(chan struct{}), stopped: make(chan struct{}), outcomes: make(map[string]error)}
	t.Cleanup(func() { f.once.Do(func() { close(f.stop) }); <-f.stopped })
	go func() {
		defer close(f.stopped)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-f.stop:
				return
			case <-tick.C:
			}
			text, room := strconv.Itoa(i), "r1"
			if i%3 == 0 {
				room = ""
			}
			f.wait.Add(1)
			err := n.Bus().Publish(socketio.Publication{
				Namespace: "/", Room: room, Payload: entry("/", room, text), Journal: true,
				Done: func(err error) {
					f.mu.Lock()
					f.outcomes[text] = err
					if err == nil {
						f.accepted = append(f.accepted, text)
					}
					f.mu.Unlock()
					f.wait.Done()
				},
			})
			if err != nil {
				t.Error(err)
				f.wait.Done()
			}
			f.count.Add(1)
		}
	}()
	return f
}

// more waits until n further messages were published.
func (f *flow) more(t testing.TB, n int64) {
	t.Helper()
	until := f.count.Load() + n
	eventually(t, "messages are published", func() error {
		if f.count.Load() < until {
			return errNotYet
		}
		return nil
	})
}

// end stops the flow and waits until everything is settled.
func (f *flow) end(t testing.TB) {
	f.once.Do(func() { close(f.stop) })
	<-f.stopped
	done := make(chan struct{})
	go func() { f.wait.Wait(); close(done) }()
	await(t, "all messages are settled", done)
}

// received checks that a node got everything that was accepted once, in order,
// and nothing else but what may have been.
func (f *flow) received(t testing.TB, n *node) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	eventually(t, n.id+" has everything, once and in order", func() error {
		var got []string
		seen := map[string]bool{}
		for _, text := range n.texts() {
			if _, numbered := f.outcomes[text]; !numbered {
				continue
			}
			if seen[text] {
				t.Fatalf("%s got %s twice", n.id, text)
			}
			seen[text] = true
			if f.outcomes[text] == nil {
				got = append(got, text)
			}
		}
		if !slices.Equal(got, f.accepted) {
			for i := range f.accepted {
				if i >= len(got) || got[i] != f.accepted[i] {
					return fmt.Errorf("got %d, want %d; at %d: got %q…, want %q…", len(got), len(f.accepted), i, got[min(i, len(got)):min(i+3, len(got))], f.accepted[i:min(i+3, len(f.accepted))])
				}
			}
			return fmt.Errorf("got %d, want %d", len(got), len(f.accepted))
		}
		return nil
	})
}

// pair starts a publisher and a listener with the room r1.
func pair(t *testing.T, b *backend, change func(*Config)) (publisher, listener *node) {
	t.Helper()
	publisher, listener = b.start(t, "nodePPPP", change), b.start(t, "nodeLLLL", change)
	subscribe(t, publisher, "/", "r1", 1)
	subscribe(t, listener, "/", "r1", 1)
	return publisher, listener
}

func (n *node) repairs(cause metrics.Gap) float64 {
	return testutil.ToFloat64(n.metrics.GapRepairs[cause])
}

func (n *node) repaired(t testing.TB, cause metrics.Gap, more float64) {
	t.Helper()
	eventually(t, "the gap is repaired", func() error {
		if got := n.repairs(cause); got < more {
			return fmt.Errorf("%v repairs", got)
		}
		return n.Ready()
	})
}

func (r *recorder) misses() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.missed)
}
