package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stellara/edge/socketio"
)

var eventData = []byte(unhex("92a561636b6d65a171"))

func TestBroadcastWithAck(t *testing.T) {
	for _, specific := range []bool{false, true} {
		t.Run(fmt.Sprintf("specific=%v", specific), func(t *testing.T) {
			fleet(t, func(c *Config) { c.SpecificResponses = specific }, func(t *testing.T, _ *backend, nodes []*node) {
				var want []string
				for i, n := range nodes {
					n.acks = [][]byte{{byte(i)}, nil}
					want = append(want, fmt.Sprintf("%x", i), "nil")
				}
				for _, n := range nodes {
					acks, c := n.broadcastWithAck(room1, socketio.Flags{}, 10*time.Second)
					if got := once(t, "broadcast", c); got.err != nil || got.value != 2*len(nodes) {
						t.Fatalf("got %d clients, %v", got.value, got.err)
					}
					if got := drain(acks); !slices.Equal(got, sorted(want)) {
						t.Errorf("acknowledged %q, want %q", got, want)
					}
				}
				for _, n := range nodes {
					n.called(t, slices.Repeat([]string{"broadcast / [room1] [] 92a561636b6d65a171"}, len(nodes))...)
				}
				// Only here.
				acks, c := nodes[0].broadcastWithAck(socketio.BroadcastOptions{}, socketio.Flags{Local: true}, 10*time.Second)
				if got := once(t, "local broadcast", c); got.err != nil || got.value != 2 {
					t.Errorf("got %d clients, %v", got.value, got.err)
				}
				if got := drain(acks); !slices.Equal(got, []string{"0", "nil"}) {
					t.Errorf("acknowledged %q", got)
				}
			})
		})
	}
}

// broadcastWithAck returns what is acknowledged, and the end.
func (n *node) broadcastWithAck(o socketio.BroadcastOptions, flags socketio.Flags, timeout time.Duration) (<-chan string, <-chan result[int]) {
	acks := make(chan string, 100)
	done, c := results[int]()
	n.Bus().BroadcastWithAck("/", o, flags, eventData, timeout, func(packet []byte) {
		if packet == nil {
			acks <- "nil"
		} else {
			acks <- fmt.Sprintf("%x", packet[0])
		}
	}, done)
	return acks, c
}

// drain returns what is in the channel, sorted.
func drain(c <-chan string) []string {
	var out []string
	for len(c) > 0 {
		out = append(out, <-c)
	}
	return sorted(out)
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

func TestBroadcastWithAckReturnsWhatCame(t *testing.T) {
	fleet(t, nil, func(t *testing.T, b *backend, nodes []*node) {
		for _, n := range nodes {
			n.acks = [][]byte{{7}}
		}
		last := nodes[len(nodes)-1]
		last.silent = 1
		acks, c := nodes[0].broadcastWithAck(room1, socketio.Flags{}, time.Hour)
		nodes[0].lapse(t, broadcast, len(nodes), len(nodes))
		got := once(t, "broadcast", c)
		want := fmt.Sprintf("timeout reached: only %d acknowledgements received out of %d, from %d servers out of %[1]d", len(nodes), len(nodes)+1, len(nodes))
		if got.err == nil || got.err.Error() != want || got.value != len(nodes)+1 {
			t.Errorf("got %d clients, %v, want %s", got.value, got.err, want)
		}
		if got := drain(acks); len(got) != len(nodes) {
			t.Errorf("acknowledged %q", got)
		}
		last.silent = 0
		b.deaf(t)
		acks, c = nodes[0].broadcastWithAck(room1, socketio.Flags{}, time.Hour)
		nodes[0].lapse(t, broadcast, len(nodes), len(nodes))
		if got := once(t, "broadcast", c); !errors.Is(got.err, context.DeadlineExceeded) || got.value != len(nodes) {
			t.Errorf("got %d clients, %v", got.value, got.err)
		}
		if got := drain(acks); len(got) != len(nodes) {
			t.Errorf("acknowledged %q", got)
		}
	})
}

func TestServerSideEmit(t *testing.T) {
	for _, specific := range []bool{false, true} { // such answers come on the shared channel all the same
		t.Run(fmt.Sprintf("specific=%v", specific), func(t *testing.T) {
			fleet(t, func(c *Config) { c.SpecificResponses = specific }, func(t *testing.T, _ *backend, nodes []*node) {
				want := []string{}
				for i, n := range nodes {
					n.reply = fmt.Appendf(nil, `{"node":%d}`, i)
					if i > 0 {
						want = append(want, string(n.reply))
					}
				}
				done, c := results[[]json.RawMessage]()
				nodes[0].Bus().ServerSideEmit("/", []byte(`["hello",{"a":[1]}]`), done)
				got := once(t, "emit", c)
				texts := []string{}
				for _, r := range got.value {
					texts = append(texts, string(r))
				}
				if slices.Sort(texts); got.err != nil || got.value == nil || !slices.Equal(texts, want) {
					t.Errorf("got %q, %v, want %q", texts, got.err, want)
				}
				nodes[0].Bus().ServerSideEmit("/", []byte(`["bye"]`), nil)
				for _, n := range nodes[1:] {
					n.called(t, `emit / ["hello",{"a":[1]}] true`, `emit / ["bye"] false`)
				}
				nodes[0].called(t)
			})
		})
	}
}

// timed is a responder that is told timeouts.
type timed struct{ *recorder }

func (r timed) LocalBroadcastFor(ns string, o socketio.BroadcastOptions, data []byte, timeout time.Duration, clients func(int), ack func([]byte)) {
	r.called("for %v", timeout)
	r.LocalBroadcast(ns, o, data, clients, ack)
}

func TestTimedResponder(t *testing.T) {
	b := inProcess(t)
	var nodes []*node
	for _, id := range []string{"nodeAAAA", "nodeBBBB"} {
		n := b.open(t, id, nil)
		n.Bus().Open("/")
		ctx, cancel := context.WithCancel(context.Background())
		n.cancel = cancel
		go func() { defer close(n.done); _ = n.Run(ctx, n.recorder, timed{n.recorder}, nil) }()
		t.Cleanup(func() { n.stop(t) })
		eventually(t, "ready", n.Ready)
		nodes = append(nodes, n)
	}
	for _, timeout := range []time.Duration{7 * time.Second, 0} { // 0: as other requests
		_, c := nodes[0].broadcastWithAck(room1, socketio.Flags{}, timeout)
		if got := once(t, "broadcast", c); got.err != nil {
			t.Error(got.err)
		}
	}
	b.do(t, "PUBLISH", "socket.io-request#/#", unhex("84a3756964a178a9726571756573744964a152a474797065"+"07"+"a67061636b657482a46461746191a161a36e7370a12f")) // no opts: malformed
	for _, n := range nodes {
		n.called(t, "for 7s", "broadcast / [room1] [] 92a561636b6d65a171", "for 5s", "broadcast / [room1] [] 92a561636b6d65a171")
	}
}
