package engine

import (
	"errors"
	"sync"
)

// loopbackQueue bounds the messages waiting in a loopback.
const loopbackQueue = 65536

// ErrQueueFull is returned by emits of a server without a bus of its own when
// too many messages wait.
var ErrQueueFull = errors.New("engine: publish queue is full")

// loopback is the bus of a single node: what is published is delivered here, in
// order, by one goroutine.
type loopback struct {
	s       *Server
	queue   chan loopbackMessage
	stop    chan struct{}
	stopped sync.WaitGroup
}

type loopbackMessage struct {
	ns, room string
	payload  []byte
	sent     func()
	done     func(error)
}

func newLoopback(s *Server) *loopback {
	l := &loopback{s: s, queue: make(chan loopbackMessage, loopbackQueue), stop: make(chan struct{})}
	l.stopped.Go(l.run)
	return l
}

func (l *loopback) run() {
	for {
		select {
		case <-l.stop:
			return
		case m := <-l.queue:
			if m.sent != nil {
				m.sent()
			}
			l.s.Deliver(m.ns, m.room, m.payload)
			if m.done != nil {
				m.done(nil)
			}
		}
	}
}

func (l *loopback) close() {
	close(l.stop)
	l.stopped.Wait()
}

// Open implements Bus; there is nothing to do.
func (l *loopback) Open(string) {}

// Publish implements Bus.
func (l *loopback) Publish(ns, room string, payload []byte, sent func(), done func(error)) error {
	select {
	case l.queue <- loopbackMessage{ns, room, payload, sent, done}:
		return nil
	default:
		return ErrQueueFull
	}
}

// Subscribe implements Bus: everything is live at once.
func (l *loopback) Subscribe(ns, room string, generation uint64) {
	l.s.Subscribed(ns, room, generation)
}

// Unsubscribe implements Bus; there is nothing to do.
func (l *loopback) Unsubscribe(string, string, uint64) {}
