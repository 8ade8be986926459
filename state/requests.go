package state

import (
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Responder answers for this node's sockets. Its methods are called on the
// Pub/Sub reader, in order with Deliverer.Deliver, and must return at once; the
// functions they are given may be called later and from any goroutine. Slices
// given to them may be kept.
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
	answered := true
	switch q.Type {
	case socketio.RequestRemoteJoin, socketio.RequestRemoteLeave, socketio.RequestRemoteDisconnect:
		b.change(ns, &q)
	case socketio.RequestSockets, socketio.RequestAllRooms, socketio.RequestRemoteFetch:
		if answered = !own; answered {
			b.describe(ns, &q)
		}
	case socketio.RequestServerSideEmit:
		if answered = !own; answered {
			b.serverSideEmit(ns, &q)
		}
	case socketio.RequestBroadcast:
		if answered = !own; answered {
			b.broadcastWithAck(ns, &q)
		}
	default:
		answered = false
	}
	if answered {
		b.metrics.AdapterRequests.Inc()
	}
}

// answer publishes a response on the channel every node of the namespace
// listens to. A full queue loses it: the requester has its timeout.
func (b *Bus) answer(ns string, payload []byte) {
	_ = b.enqueue(message{channel: b.channels.Response(ns), payload: payload, called: time.Now()})
}

// describe serves requests about rooms and sockets. A node without any answers
// too, with an empty list: the requester waits for every node.
func (b *Bus) describe(ns string, q *socketio.Request) {
	id := q.RequestID
	switch q.Type {
	case socketio.RequestAllRooms:
		b.responder.LocalRooms(ns, func(rooms []string) {
			b.answer(ns, socketio.AppendRoomsResponse(nil, id, rooms))
		})
	case socketio.RequestRemoteFetch:
		b.responder.LocalSockets(ns, q.Opts, func(sockets []socketio.RemoteSocket) {
			b.answer(ns, socketio.AppendFetchResponse(nil, id, sockets))
		})
	default: // the legacy form: ids only
		b.responder.LocalSockets(ns, socketio.BroadcastOptions{Rooms: q.Rooms}, func(sockets []socketio.RemoteSocket) {
			ids := make([]string, len(sockets))
			for i := range sockets {
				ids[i] = sockets[i].ID
			}
			b.answer(ns, socketio.AppendSocketsResponse(nil, id, ids))
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
	sid, id, only := q.SID, q.RequestID, socketio.BroadcastOptions{Rooms: []string{q.SID}}
	confirm := func(sockets []socketio.RemoteSocket) {
		for i := range sockets {
			if sockets[i].ID == sid {
				b.answer(ns, socketio.AppendLegacyResponse(nil, id))
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
	if id := q.RequestID; id != "" {
		reply = func(data []byte) { b.answer(ns, socketio.AppendServerSideEmitResponse(nil, id, data)) }
	}
	b.responder.ServerSideEmit(ns, q.Data, reply)
}

func (b *Bus) broadcastWithAck(ns string, q *socketio.Request) {
	id := q.RequestID
	b.responder.LocalBroadcast(ns, q.Opts, q.Packet,
		func(n int) { b.answer(ns, socketio.AppendClientCount(nil, id, n)) },
		func(packet []byte) { b.answer(ns, socketio.AppendBroadcastAck(nil, id, packet)) })
}
