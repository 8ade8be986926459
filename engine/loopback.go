package engine

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/stellara/edge/socketio"
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
	memory  *memory // nil without recovery
	queue   chan socketio.Publication
	stop    chan struct{}
	stopped sync.WaitGroup
}

func newLoopback(s *Server, m *memory) *loopback {
	l := &loopback{s: s, memory: m, queue: make(chan socketio.Publication, loopbackQueue), stop: make(chan struct{})}
	l.stopped.Go(l.run)
	return l
}

func (l *loopback) run() {
	for {
		select {
		case <-l.stop:
			return
		case p := <-l.queue:
			if p.Sent != nil {
				p.Sent()
			}
			var err error
			if l.memory == nil {
				l.s.Deliver(p.Namespace, p.Room, p.Payload)
			} else {
				err = l.publish(&p)
			}
			settled(p.Done, err)
		}
	}
}

// publish delivers a message where the journal is written: who reads that after
// something was delivered finds it there.
func (l *loopback) publish(p *socketio.Publication) (err error) {
	delivered := make(chan struct{})
	l.memory.do(func() {
		defer close(delivered)
		var payload []byte
		if payload, err = l.memory.publish(p); payload != nil {
			l.s.Deliver(p.Namespace, p.Room, payload)
		}
	})
	<-delivered
	return err
}

func (l *loopback) close() {
	close(l.stop)
	l.stopped.Wait()
	if l.memory != nil {
		l.memory.close()
	}
}

// Open implements Bus; there is nothing to do.
func (l *loopback) Open(string) {}

// Publish implements Bus.
func (l *loopback) Publish(p socketio.Publication) error {
	select {
	case l.queue <- p:
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

// The fleet of a loopback is its server alone.

// FetchSockets implements Fleet.
func (l *loopback) FetchSockets(ns string, o socketio.BroadcastOptions, done func([]socketio.RemoteSocket, error)) {
	l.s.LocalSockets(ns, o, func(r []socketio.RemoteSocket) { done(r, nil) })
}

// AllRooms implements Fleet.
func (l *loopback) AllRooms(ns string, done func([]string, error)) {
	l.s.LocalRooms(ns, func(rooms []string) { done(rooms, nil) })
}

// SocketsJoin implements Fleet.
func (l *loopback) SocketsJoin(ns string, o socketio.BroadcastOptions, rooms []string, done func(error)) {
	l.s.LocalJoin(ns, o, rooms)
	settled(done, nil)
}

// SocketsLeave implements Fleet.
func (l *loopback) SocketsLeave(ns string, o socketio.BroadcastOptions, rooms []string, done func(error)) {
	l.s.LocalLeave(ns, o, rooms)
	settled(done, nil)
}

// DisconnectSockets implements Fleet.
func (l *loopback) DisconnectSockets(ns string, o socketio.BroadcastOptions, closeConn bool, done func(error)) {
	l.s.LocalDisconnect(ns, o, closeConn)
	settled(done, nil)
}

// BroadcastWithAck implements Fleet.
func (l *loopback) BroadcastWithAck(ns string, o socketio.BroadcastOptions, _ socketio.Flags, data []byte, timeout time.Duration, ack func([]byte), done func(int, error)) {
	var mu sync.Mutex
	clients, answers, over := -1, 0, false
	end := func(err error) { // the caller holds mu
		if !over {
			over = true
			go done(max(clients, 0), err)
		}
	}
	timer := time.AfterFunc(timeout, func() {
		mu.Lock()
		defer mu.Unlock()
		end(ErrAckTimeout)
	})
	check := func() { // the caller holds mu
		if clients >= 0 && answers >= clients {
			timer.Stop()
			end(nil)
		}
	}
	l.s.LocalBroadcastFor(ns, o, data, timeout, func(n int) {
		mu.Lock()
		defer mu.Unlock()
		clients = n
		check()
	}, func(packet []byte) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		ack(packet)
		answers++
		check()
	})
}

// ServerSideEmit implements Fleet: there is nobody else.
func (l *loopback) ServerSideEmit(_ string, _ []byte, done func([]json.RawMessage, error)) {
	if done != nil {
		done(nil, nil)
	}
}
