package trunk

import (
	"fmt"
	"runtime"
	"testing"
)

// counting is a receiver that says when it has received n messages, or its stream ended.
type counting struct {
	n    int // owned by the reader
	done chan struct{}
}

func (c *counting) Receive(byte, []byte) {
	if c.n--; c.n == 0 {
		close(c.done)
	}
}

func (c *counting) Broken(error) {}

// BenchmarkSend is one direction, a stream that is never idle.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{100, 1000, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			c := &counting{n: b.N, done: make(chan struct{})}
			from, _ := pair(b, func(_ *Stream, kind byte, payload []byte) Receiver {
				c.Receive(kind, payload)
				return c
			})
			s := open(b, from, nodeB, newRecorder())
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				for {
					err := s.Send(1, payload)
					if err == nil {
						break
					}
					if err != ErrFull {
						b.Fatal(err)
					}
					runtime.Gosched()
				}
			}
			<-c.done
		})
	}
}

// BenchmarkRoundTrip is a request and its answer, one after the other.
func BenchmarkRoundTrip(b *testing.B) {
	from, _ := pair(b, echo)
	r := &handing{make(chan struct{}, 1)}
	s := open(b, from, nodeB, r)
	payload := make([]byte, 200)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := s.Send(1, payload); err != nil {
			b.Fatal(err)
		}
		<-r.got
	}
}

// BenchmarkStream is a stream for each request, as relayed requests have it.
func BenchmarkStream(b *testing.B) {
	from, _ := pair(b, func(s *Stream, kind byte, payload []byte) Receiver {
		_ = s.Send(kind, payload)
		s.Close()
		return nil
	})
	r := &handing{make(chan struct{}, 1)}
	payload := make([]byte, 200)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s := open(b, from, nodeB, r)
		if err := s.Send(1, payload); err != nil {
			b.Fatal(err)
		}
		<-r.got
	}
}

// handing is a receiver that hands over that something came.
type handing struct{ got chan struct{} }

func (h *handing) Receive(byte, []byte) { h.got <- struct{}{} }
func (h *handing) Broken(error)         {}
