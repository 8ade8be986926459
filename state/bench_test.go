package state

import (
	"fmt"
	"sync"
	"testing"
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
				if err := n.Bus().Publish("/", "r", payload, nil, func(err error) {
					if err != nil {
						b.Error(err)
					}
					<-room
					wg.Done()
				}); err != nil {
					b.Fatal(err)
				}
			}
			wg.Wait()
		})
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
