package state

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// BenchmarkPublish is the cost of one message through the queue, Redis and back.
func BenchmarkPublish(b *testing.B) {
	for _, kind := range []string{"in-process", "redis-server"} {
		b.Run(kind, func(b *testing.B) {
			n := benchmarkNode(b, kind)
			payload := make([]byte, 256)
			var wg sync.WaitGroup
			room := make(chan struct{}, 20000) // below the queue's bound
			b.ResetTimer()
			for range b.N {
				wg.Add(1)
				room <- struct{}{}
				if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Room: "r", Payload: payload, Done: func(err error) {
					if err != nil {
						b.Error(err)
					}
					<-room
					wg.Done()
				}}); err != nil {
					b.Fatal(err)
				}
			}
			wg.Wait()
		})
	}
}

// BenchmarkPublishJournal is what a message costs through the queue, Redis and
// back: as PUBLISH, and journalled in numbered batches. redis-us/msg is Redis's
// own time.
func BenchmarkPublishJournal(b *testing.B) {
	for _, kind := range []string{"plain", "journal"} {
		for _, size := range []int{100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) {
				back := realRedis(b)
				n := back.start(b, "nodeAAAA", recovering)
				payload := entry("/", "r", strings.Repeat("x", size))
				var wg sync.WaitGroup
				room := make(chan struct{}, 20000) // below the queue's bound
				back.do(b, "CONFIG", "RESETSTAT")
				b.ResetTimer()
				for range b.N {
					wg.Add(1)
					room <- struct{}{}
					if err := n.Bus().Publish(socketio.Publication{
						Namespace: "/", Room: "r", Payload: payload, Journal: kind == "journal",
						Done: func(err error) {
							if err != nil {
								b.Error(err)
							}
							<-room
							wg.Done()
						},
					}); err != nil {
						b.Fatal(err)
					}
				}
				wg.Wait()
				b.StopTimer()
				command := map[string]string{"plain": "publish", "journal": "evalsha"}[kind]
				_, after, _ := strings.Cut(back.text(b, "INFO", "commandstats"), "cmdstat_"+command+":")
				var calls, usec int
				if _, err := fmt.Sscanf(after, "calls=%d,usec=%d", &calls, &usec); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(usec)/float64(b.N), "redis-us/msg")
				b.ReportMetric(float64(b.N)/float64(calls), "msgs/call")
			})
		}
	}
}

// BenchmarkConnect is the cost of one user coming online and entering a room of 100.
func BenchmarkConnect(b *testing.B) {
	for _, kind := range []string{"in-process", "redis-server"} {
		b.Run(kind, func(b *testing.B) {
			n := benchmarkNode(b, kind)
			var wg sync.WaitGroup
			wg.Add(2 * b.N)
			done := func(err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}
			b.ResetTimer()
			for i := range b.N {
				user := fmt.Sprintf("u%d", i)
				n.Presence().Connect(user, "s"+user, 0, done)
				n.Presence().Join(user, "s"+user, fmt.Sprintf("r%d", i/100), done)
			}
			wg.Wait()
		})
	}
}

func benchmarkNode(b *testing.B, kind string) *node {
	backend := inProcess
	if kind != "in-process" {
		backend = realRedis
	}
	return backend(b).start(b, "nodeAAAA", nil)
}

// BenchmarkScripts is what the presence scripts cost Redis itself, per member or
// socket, in batches as a busy node sends them, beside other holders of the same set.
func BenchmarkScripts(b *testing.B) {
	for _, others := range []int{0, 2, 19} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			back := realRedis(b)
			m := metrics.New(prometheus.NewRegistry(), "test")
			cfg := Config{Lease: time.Hour, Log: slog.New(slog.DiscardHandler)}
			p := newPresence(cfg, newLink(back.options, false, "bench", cfg.Log, m), "I", newUpdates(0, 0), m)
			c := &clients{gen: 1, cmd: back.observer}
			if err := errors.Join(p.scripts.load(b.Context(), c.cmd), p.beat(b.Context(), c)); err != nil {
				b.Fatal(err)
			}
			for i := range others { // each holds everybody, which is the worst
				holder := fmt.Sprint("other", i)
				for from := 0; from < 20*batchMembers; from += 1000 {
					hold := []string{"HSET", "{room:r:users}:i:" + holder}
					for k := from; k < from+1000; k++ {
						hold = append(hold, "user"+strconv.Itoa(k), "1")
					}
					back.do(b, hold...)
				}
				back.do(b, "SADD", "{room:r:users}:n", holder)
			}
			set := &presenceSet{room: "r"}
			done := 0
			back.do(b, "CONFIG", "RESETSTAT")
			for b.Loop() {
				o := operation{op: metrics.PresenceHold, set: set}
				for k := range batchMembers {
					o.members = append(o.members, &member{user: "user" + strconv.Itoa(done%20*batchMembers+k)})
				}
				for _, op := range []metrics.PresenceOp{metrics.PresenceHold, metrics.PresenceAssert, metrics.PresenceRelease} {
					o.op = op
					if r := p.send(b.Context(), c, []operation{o}, p.lease.until)[0]; r.err != nil {
						b.Fatal(r.err)
					}
				}
				done++
			}
			info := back.text(b, "INFO", "commandstats")
			_, after, _ := strings.Cut(info, "cmdstat_evalsha:")
			var calls, usec int
			if _, err := fmt.Sscanf(after, "calls=%d,usec=%d", &calls, &usec); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(usec)/float64(done*batchMembers), "redis-us/hold+assert+release")
		})
	}
}
