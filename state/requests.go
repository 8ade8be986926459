package state

import (
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Responder answers for this node's sockets. For requests of other nodes, and
// for all joins, leaves and disconnects, its methods are called on the Pub/Sub
// reader, in order with Deliverer.Deliver; for the node's own part in its other
// requests on another goroutine. They must return at once; the functions they
// are given may be called later and from any goroutine. Slices given to them
// may be kept, and what they pass to those functions is kept.
type Responder interface {
	// LocalRooms replies with the names of the rooms that have members here,
	// private rooms included.
	LocalRooms(ns string, reply func(rooms []string))
	// LocalSockets replies with the sockets that match; all when o.Rooms is empty.
	LocalSockets(ns string, o socketio.BroadcastOptions, reply func([]socketio.RemoteSocket))
	LocalJoin(ns string, o socketio.BroadcastOptions, rooms []string)
	LocalLeave(ns string, o socketio.BroadcastOptions, rooms []string)
	LocalDisconnect(ns string, o socketio.BroadcastOptions, close bool)
	// LocalBroadcast emits data, a msgpack array, to the sockets that match and
	// asks them to acknowledge. clients is called once with their number, ack
	// once per acknowledgement with its first argument in msgpack, or nil.
	LocalBroadcast(ns string, o socketio.BroadcastOptions, data []byte, clients func(n int), ack func(packet []byte))
	// ServerSideEmit takes an event another server emitted: a JSON array. reply
	// takes a JSON value; it is nil when no answer is wanted.
	ServerSideEmit(ns string, data []byte, reply func(data []byte))
}

// TimedResponder is a Responder that can be told how long the sender of a
// broadcast waits for acknowledgements. One that cannot decides by itself.
type TimedResponder interface {
	Responder
	// LocalBroadcastFor does what LocalBroadcast does. After timeout, which is
	// positive, no acknowledgement is of use any more.
	LocalBroadcastFor(ns string, o socketio.BroadcastOptions, data []byte, timeout time.Duration, clients func(n int), ack func(packet []byte))
}

// receiveRequest serves one message of the request channel. What cannot be
// understood is ignored, as every adapter does: the channel belongs to all.
func (b *Bus) receiveRequest(ns string, payload []byte) {
	q, err := socketio.ParseRequest(payload)
	if err != nil {
		b.metrics.Drops[metrics.DropMalformed].Inc()
		return
	}
	// A requester counts itself without answering itself. Joins, leaves and
	// disconnects it executes through this very subscription.
	own := q.UID == b.uid
	switch q.Type {
	case socketio.RequestRemoteJoin, socketio.RequestRemoteLeave, socketio.RequestRemoteDisconnect:
		b.change(ns, &q)
	case socketio.RequestSockets, socketio.RequestAllRooms, socketio.RequestRemoteFetch:
		if !own {
			b.describe(ns, &q)
		}
	case socketio.RequestServerSideEmit:
		if !own {
			b.serverSideEmit(ns, &q)
		}
	case socketio.RequestBroadcast:
		if !own {
			b.broadcastWithAck(ns, &q)
		}
	default:
		return
	}
	if !own {
		b.metrics.AdapterRequests.Inc()
	}
}

// answerChannel is where the requester listens for answers.
func (b *Bus) answerChannel(ns string, q *socketio.Request) string {
	// Node.js answers server-side emits on the shared channel whatever its setting.
	if b.specific && q.UID != "" && q.Type != socketio.RequestServerSideEmit {
		return b.channels.ResponseTo(ns, q.UID)
	}
	return b.channels.Response(ns)
}

// answer publishes a response. A full queue loses it: the requester has its timeout.
func (b *Bus) answer(channel string, payload []byte) {
	_ = b.enqueue(message{channel: channel, payload: payload, called: time.Now()})
}

// describe serves requests about rooms and sockets. A node without any answers
// too, with an empty list: the requester waits for every node.
func (b *Bus) describe(ns string, q *socketio.Request) {
	id, channel := q.RequestID, b.answerChannel(ns, q)
	switch q.Type {
	case socketio.RequestAllRooms:
		b.responder.LocalRooms(ns, func(rooms []string) {
			b.answer(channel, socketio.AppendRoomsResponse(nil, id, rooms))
		})
	case socketio.RequestRemoteFetch:
		b.responder.LocalSockets(ns, q.Opts, func(sockets []socketio.RemoteSocket) {
			b.answer(channel, socketio.AppendFetchResponse(nil, id, sockets))
		})
	default: // the legacy form: ids only
		b.responder.LocalSockets(ns, socketio.BroadcastOptions{Rooms: q.Rooms}, func(sockets []socketio.RemoteSocket) {
			ids := make([]string, len(sockets))
			for i := range sockets {
				ids[i] = sockets[i].ID
			}
			b.answer(channel, socketio.AppendSocketsResponse(nil, id, ids))
		})
	}
}

// change serves joins, leaves and disconnects.
func (b *Bus) change(ns string, q *socketio.Request) {
	if q.HasOpts {
		b.apply(ns, q, q.Opts, q.Rooms)
		return
	}
	if q.SID == "" {
		return
	}
	// The legacy form is for one socket, and only the node that has it answers.
	// The question comes first, because afterwards the socket may be gone; the
	// change does not wait for the reply, so that it keeps its place in the order
	// of messages: for a socket of another node it matches nothing.
	sid, id, channel, only := q.SID, q.RequestID, b.answerChannel(ns, q), socketio.BroadcastOptions{Rooms: []string{q.SID}}
	confirm := func(sockets []socketio.RemoteSocket) {
		for i := range sockets {
			if sockets[i].ID == sid {
				b.answer(channel, socketio.AppendLegacyResponse(nil, id))
				return
			}
		}
	}
	if id != "" {
		b.responder.LocalSockets(ns, only, confirm)
	}
	b.apply(ns, q, only, []string{q.Room})
}

func (b *Bus) apply(ns string, q *socketio.Request, o socketio.BroadcastOptions, rooms []string) {
	switch q.Type {
	case socketio.RequestRemoteJoin:
		b.responder.LocalJoin(ns, o, rooms)
	case socketio.RequestRemoteLeave:
		b.responder.LocalLeave(ns, o, rooms)
	default:
		b.responder.LocalDisconnect(ns, o, q.Close)
	}
}

func (b *Bus) serverSideEmit(ns string, q *socketio.Request) {
	var reply func([]byte)
	if id, channel := q.RequestID, b.answerChannel(ns, q); id != "" {
		reply = func(data []byte) { b.answer(channel, socketio.AppendServerSideEmitResponse(nil, id, data)) }
	}
	b.responder.ServerSideEmit(ns, q.Data, reply)
}

func (b *Bus) broadcastWithAck(ns string, q *socketio.Request) {
	id, channel := q.RequestID, b.answerChannel(ns, q)
	b.localBroadcast(ns, q.Opts, q.Packet, q.Flags.Timeout,
		func(n int) { b.answer(channel, socketio.AppendClientCount(nil, id, n)) },
		func(packet []byte) { b.answer(channel, socketio.AppendBroadcastAck(nil, id, packet)) })
}

// localBroadcast is Responder.LocalBroadcast with a timeout, if there is one
// and the responder takes it.
func (b *Bus) localBroadcast(ns string, o socketio.BroadcastOptions, data []byte, timeout time.Duration, clients func(int), ack func([]byte)) {
	if r, ok := b.responder.(TimedResponder); ok && timeout > 0 {
		r.LocalBroadcastFor(ns, o, data, timeout, clients, ack)
		return
	}
	b.responder.LocalBroadcast(ns, o, data, clients, ack)
}
