package engine

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// The methods of this file answer the requests of other nodes of the adapter for
// this node. They never wait: replies come from a shard, or at once.

// defaultAckTimeout ends the wait for a broadcast's acknowledgements when the
// request names no timeout; the requester's own 5 s (requestsTimeout) are over then.
const defaultAckTimeout = 5 * time.Second

// maxAckTimeout bounds how long a broadcast of another node may be remembered here.
const maxAckTimeout = 10 * time.Minute

// LocalRooms replies with the names of all rooms of the namespace that have
// members here, private rooms included.
func (s *Server) LocalRooms(ns string, reply func(rooms []string)) {
	n := s.namespace(ns)
	if n == nil {
		reply(nil)
		return
	}
	s.order.run(func() { reply(s.sockets.ids(n, s.hub.RoomKeys(n.number, nil))) })
}

// LocalSockets replies with a description of the matching sockets of this node.
func (s *Server) LocalSockets(ns string, o socketio.BroadcastOptions, reply func([]socketio.RemoteSocket)) {
	s.collect(ns, o, func(sockets []*Socket) {
		out := make([]socketio.RemoteSocket, 0, len(sockets))
		for _, so := range sockets {
			out = append(out, so.describe())
		}
		reply(out)
	})
}

// describe is the socket as fetchSockets shows it.
func (s *Socket) describe() socketio.RemoteSocket {
	r := socketio.RemoteSocket{ID: s.ID(), Rooms: s.Rooms(), Data: json.RawMessage("{}")}
	if d := s.Data(); d != nil {
		if b, err := json.Marshal(d); err == nil {
			r.Data = b
		}
	}
	r.Handshake = s.Handshake().appendJSON(nil)
	return r
}

// LocalJoin makes the matching sockets of this node join rooms.
func (s *Server) LocalJoin(ns string, o socketio.BroadcastOptions, rooms []string) {
	s.collect(ns, o, func(sockets []*Socket) {
		for _, so := range sockets {
			for _, r := range rooms {
				so.joinBehind(r)
			}
		}
	})
}

// LocalLeave makes the matching sockets of this node leave rooms.
func (s *Server) LocalLeave(ns string, o socketio.BroadcastOptions, rooms []string) {
	s.collect(ns, o, func(sockets []*Socket) {
		for _, so := range sockets {
			for _, r := range rooms {
				so.leaveBehind(r)
			}
		}
	})
}

// LocalDisconnect disconnects the matching sockets of this node, with closeConn
// also their conns.
func (s *Server) LocalDisconnect(ns string, o socketio.BroadcastOptions, closeConn bool) {
	if n := s.namespace(ns); n != nil {
		n.noteKicks(o.Rooms, o.Except, closeConn)
	}
	s.collect(ns, o, func(sockets []*Socket) {
		for _, so := range sockets {
			so.Disconnect(closeConn)
		}
	})
}

// LocalBroadcast is LocalBroadcastFor with the timeout of a request that names none.
func (s *Server) LocalBroadcast(ns string, o socketio.BroadcastOptions, data []byte, clients func(n int), ack func(packet []byte)) {
	s.LocalBroadcastFor(ns, o, data, defaultAckTimeout, clients, ack)
}

// LocalBroadcastFor emits an event that asks for acknowledgements to the matching
// sockets of this node. clients is called once with their number, then ack once
// per client that answers within the timeout, which is bounded, with its first
// argument as MessagePack (nil if none).
func (s *Server) LocalBroadcastFor(ns string, o socketio.BroadcastOptions, data []byte, timeout time.Duration, clients func(n int), ack func(packet []byte)) {
	data = slices.Clone(data)
	timeout = min(timeout, maxAckTimeout)
	s.collect(ns, o, func(sockets []*Socket) {
		if len(sockets) == 0 {
			clients(0)
			return
		}
		n := sockets[0].nsp
		id := n.acks.expectEach(timeout, sockets, func(a *Ack) { ack(firstArg(a)) })
		text, attachments, err := socketio.AppendClientEvent(nil, ns, id, true, data, nil)
		if err != nil {
			n.acks.forget(id)
			s.m.Drops[metrics.DropMalformed].Inc()
			clients(0)
			return
		}
		clients(len(sockets))
		m := newMessage(text, attachments)
		m.Arrived = time.Now()
		t := &fanout.Target{}
		for _, so := range sockets {
			t.Members = append(t.Members, &so.member)
		}
		s.hub.Deliver(m, t)
	})
}

// firstArg is the first argument of an acknowledgement as MessagePack, nil if
// there is none.
func firstArg(a *Ack) []byte {
	if len(a.Args) == 0 {
		return nil
	}
	b, err := socketio.AppendMsgpackFromJSON(nil, a.Args[0], a.Attachments)
	if err != nil {
		return nil
	}
	return b
}

// ServerSideEmit takes a server-side event of another node, a JSON array. A node
// that waits for an answer to an event without a handler gets null, so that its
// call completes.
func (s *Server) ServerSideEmit(ns string, data []byte, reply func(data []byte)) {
	if reply == nil {
		reply = func([]byte) {}
	}
	n := s.namespace(ns)
	raw, err := socketio.SplitArray(data, nil)
	if n == nil || err != nil || len(raw) == 0 {
		reply([]byte("null"))
		return
	}
	event, ok := socketio.EventName(raw[0])
	f := n.hooks().server[event]
	if !ok || f == nil {
		reply([]byte("null"))
		return
	}
	args := copyRaw(raw[1:])
	var once sync.Once
	go f(args, func(v any) { // the bus must not wait for an application
		once.Do(func() {
			p, err := encodeArgs(nil, []any{v})
			if err != nil || len(p.Attachments) > 0 {
				reply([]byte("null"))
				return
			}
			reply(p.JSON[1 : len(p.JSON)-1])
		})
	})
}

// collect calls f once with the matching sockets of this node, in turn with what
// else arrives from the bus: from a shard, or at once. f must not block.
func (s *Server) collect(ns string, o socketio.BroadcastOptions, f func([]*Socket)) {
	n := s.namespace(ns)
	if n == nil {
		f(nil)
		return
	}
	o.Rooms, o.Except = slices.Clone(o.Rooms), slices.Clone(o.Except)
	s.order.run(func() {
		t, ok := s.target(n, o.Rooms, o.Except)
		if !ok {
			f(nil)
			return
		}
		var mu sync.Mutex // shards visit concurrently
		var found []*Socket
		s.order.begin()
		s.hub.Visit(t, func(m *fanout.Member) {
			mu.Lock()
			found = append(found, m.Owner().(*Socket))
			mu.Unlock()
		}, func() {
			f(found)
			s.order.end()
		})
	})
}
