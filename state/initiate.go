package state

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stellara/edge/socketio"
)

// requestsTimeout is how long a request waits for the answers of all nodes, as in Node.js.
const requestsTimeout = 5 * time.Second

// newRequestID returns 60 random bits.
func newRequestID() string { return rand.Text()[:12] }

// FetchSockets describes the sockets that match on all nodes, each once. What
// done gets must not be written to.
func (b *Bus) FetchSockets(ns string, o socketio.BroadcastOptions, done func([]socketio.RemoteSocket, error)) {
	o = cloneOptions(o)
	r := b.newRequest(ns, socketio.RequestRemoteFetch, b.requester.timeout)
	r.finish = func(err error) { done(orEmpty(r.sockets), err) }
	r.local = func() {
		b.responder.LocalSockets(ns, o, func(sockets []socketio.RemoteSocket) {
			size := 0
			for i := range sockets {
				size += len(sockets[i].Handshake) + len(sockets[i].Data) + textSize*len(sockets[i].Rooms)
			}
			b.answerLocally(&socketio.Response{RequestID: r.id, Sockets: sockets, HasSockets: true}, size)
		})
	}
	b.request(r, socketio.Request{Opts: o, HasOpts: true})
}

// AllRooms names the rooms that have members on any node, private rooms
// included, each once and sorted.
func (b *Bus) AllRooms(ns string, done func([]string, error)) {
	r := b.newRequest(ns, socketio.RequestAllRooms, b.requester.timeout)
	r.finish = func(err error) { done(orEmpty(slices.Sorted(maps.Keys(r.seen))), err) }
	r.local = func() {
		b.responder.LocalRooms(ns, func(rooms []string) {
			b.answerLocally(&socketio.Response{RequestID: r.id, Rooms: rooms, HasRooms: true}, textSize*len(rooms))
		})
	}
	b.request(r, socketio.Request{})
}

// SocketsJoin makes the matching sockets join rooms. Every node does so, this
// one included, when the message reaches it: after what was published before,
// and before what is published afterwards. done, which may be nil, says whether
// Redis accepted it.
func (b *Bus) SocketsJoin(ns string, o socketio.BroadcastOptions, rooms []string, done func(error)) {
	b.command(ns, socketio.Request{Type: socketio.RequestRemoteJoin, Opts: o, HasOpts: true, Rooms: rooms}, done)
}

// SocketsLeave makes the matching sockets leave rooms, as SocketsJoin does.
func (b *Bus) SocketsLeave(ns string, o socketio.BroadcastOptions, rooms []string, done func(error)) {
	b.command(ns, socketio.Request{Type: socketio.RequestRemoteLeave, Opts: o, HasOpts: true, Rooms: rooms}, done)
}

// DisconnectSockets disconnects the matching sockets, with closeConn their
// conns, too; see SocketsJoin.
func (b *Bus) DisconnectSockets(ns string, o socketio.BroadcastOptions, closeConn bool, done func(error)) {
	b.command(ns, socketio.Request{Type: socketio.RequestRemoteDisconnect, Opts: o, HasOpts: true, Close: closeConn}, done)
}

// BroadcastWithAck emits data, a msgpack array [event, ...args], to the
// matching sockets of all nodes and waits until every client has acknowledged,
// no longer than timeout (5 s if it is not positive). ack gets the first
// argument of each acknowledgement in msgpack, nil when there is none; none
// comes after done. done gets the number of clients that are known to have
// been sent the event. This node's own sockets get it directly. flags.Timeout
// is set to timeout; with flags.Local it stays on this node.
func (b *Bus) BroadcastWithAck(ns string, o socketio.BroadcastOptions, flags socketio.Flags, data []byte, timeout time.Duration,
	ack func(packet []byte), done func(clients int, err error),
) {
	if timeout <= 0 {
		timeout = b.requester.timeout
	}
	flags.Timeout = timeout
	o, data = cloneOptions(o), slices.Clone(data)
	r := b.newRequest(ns, socketio.RequestBroadcast, timeout)
	r.alone = flags.Local
	r.ack = ack
	r.finish = func(err error) { done(r.clients, err) }
	r.local = func() {
		b.localBroadcast(ns, o, data, timeout, func(n int) {
			b.answerLocally(&socketio.Response{RequestID: r.id, HasType: true, Type: socketio.RequestBroadcastClientCount, ClientCount: n}, 0)
		}, func(packet []byte) {
			b.answerLocally(&socketio.Response{RequestID: r.id, HasType: true, Type: socketio.RequestBroadcastAck, Packet: packet}, len(packet))
		})
	}
	b.request(r, socketio.Request{Opts: o, HasOpts: true, Flags: flags, Namespace: ns, Packet: data})
}

// ServerSideEmit sends an event, a JSON array [event, ...args], to the other
// servers. done gets the JSON value each of them answered; nil: no answers are
// wanted, and a message that cannot be sent is lost without a word.
func (b *Bus) ServerSideEmit(ns string, data []byte, done func(responses []json.RawMessage, err error)) {
	if done == nil {
		b.command(ns, socketio.Request{Type: socketio.RequestServerSideEmit, Data: data}, nil)
		return
	}
	r := b.newRequest(ns, socketio.RequestServerSideEmit, b.requester.timeout)
	r.finish = func(err error) { done(orEmpty(r.responses), err) }
	b.request(r, socketio.Request{Data: data})
}

func (b *Bus) newRequest(ns string, kind socketio.RequestType, timeout time.Duration) *request {
	now := time.Now()
	return &request{
		id: b.requester.newID(), ns: ns, kind: kind, position: -1,
		patience: now.Add(b.patience), deadline: now.Add(timeout),
	}
}

// request starts a request that waits for answers.
func (b *Bus) request(r *request, q socketio.Request) {
	q.RequestID, q.Type = r.id, r.kind
	payload, err := b.encode(r.ns, &q)
	if err == nil {
		r.payload = payload
		err = b.requester.admit(r)
	}
	if err != nil {
		b.requester.later(func() { r.finish(err) })
	}
}

// command publishes a request that nobody answers: at once, because it has its
// place among the messages.
func (b *Bus) command(ns string, q socketio.Request, done func(error)) {
	payload, err := b.encode(ns, &q)
	if err == nil {
		err = b.publishRequest(ns, payload, done)
	}
	if err != nil && done != nil {
		b.requester.later(func() { done(err) })
	}
}

// encode makes the message. What this node would not understand itself must
// not reach others: a Node.js server may stop at it.
func (b *Bus) encode(ns string, q *socketio.Request) ([]byte, error) {
	if !slices.Contains(b.routes.Load().namespaces, ns) {
		return nil, fmt.Errorf("state: namespace %q is not open", ns)
	}
	q.UID = b.uid
	payload := socketio.AppendRequest(nil, q)
	if _, err := socketio.ParseRequest(payload); err != nil {
		return nil, fmt.Errorf("state: request: %w", err)
	}
	return payload, nil
}

// answerLocally is this node's own answer to its own request.
func (b *Bus) answerLocally(a *socketio.Response, size int) {
	q := &b.requester
	q.put(input{apply: func() { q.table.answer(a, size) }, id: a.RequestID, size: size})
}

func cloneOptions(o socketio.BroadcastOptions) socketio.BroadcastOptions {
	return socketio.BroadcastOptions{Rooms: slices.Clone(o.Rooms), Except: slices.Clone(o.Except)}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
