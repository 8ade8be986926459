package engine

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Namespace is one Socket.IO namespace. Handlers and middleware are set before
// the Server serves, or at any time for sockets that connect later.
type Namespace struct {
	// Set by Server.Of, then read-only.
	srv       *Server
	name      string
	nameBytes []byte
	number    uint32
	inline    bool
	acks      *ackTable
	recoverer Recoverer

	count atomic.Int64 // connected sockets
	at    position

	mu    sync.Mutex // serialises writers of table; taken alone
	table atomic.Pointer[hooks]
}

// hooks is what the application set; it is replaced, never changed, so that
// packets read it without a lock.
type hooks struct {
	middleware    []Middleware
	connection    []func(*Socket)
	disconnecting []func(*Socket, string)
	disconnect    []func(*Socket, string)
	serverJoin    []func(*Socket, string)
	serverLeave   []func(*Socket, string)
	handlers      map[string]Handler
	any           []Handler
	server        map[string]func([]json.RawMessage, func(any))
}

// Middleware decides about a socket before it is connected: it calls next with
// nil to go on or with an error to refuse, once, from any goroutine. The message
// of the error, and the Data of a *ConnectError, reach the client.
type Middleware func(s *Socket, next func(error))

// ConnectError refuses a socket with a message and data for the client's
// connect_error event.
type ConnectError struct {
	Message string
	Data    any // encoded as JSON; nil is left out
}

// errMiddlewarePanicked tells the client no more than it may know; the log has the rest.
var errMiddlewarePanicked = errors.New("internal error")

// Error returns the message.
func (e *ConnectError) Error() string { return e.Message }

// NamespaceOption changes how a namespace works; see Server.Of.
type NamespaceOption func(*Namespace)

// Inline makes the namespace's middleware and handlers run on the goroutine that
// read the packet whenever they can run at once. They must never wait: a handler
// that blocks stops every client of its poller. Without it handlers run on a
// bounded pool.
func Inline() NamespaceOption { return func(n *Namespace) { n.inline = true } }

// Name is the namespace's name, with its slash.
func (n *Namespace) Name() string { return n.name }

// Count is the number of sockets connected on this node.
func (n *Namespace) Count() int { return int(n.count.Load()) }

// Use adds a middleware, run after the earlier ones.
func (n *Namespace) Use(m Middleware) {
	n.change(func(h *hooks) { h.middleware = append(h.middleware, m) })
}

// OnConnection adds a handler for sockets that connected. The client has been
// told; nothing of the socket is handled before it returned.
func (n *Namespace) OnConnection(f func(*Socket)) {
	n.change(func(h *hooks) { h.connection = append(h.connection, f) })
}

// OnDisconnecting adds a handler that runs while the socket still has its rooms.
func (n *Namespace) OnDisconnecting(f func(s *Socket, reason string)) {
	n.change(func(h *hooks) { h.disconnecting = append(h.disconnecting, f) })
}

// OnDisconnect adds a handler that runs after the socket left; reason is one of
// the Reason constants.
func (n *Namespace) OnDisconnect(f func(s *Socket, reason string)) {
	n.change(func(h *hooks) { h.disconnect = append(h.disconnect, f) })
}

// OnServerJoin adds a handler that is called when a server, of any node, made a
// socket join a room (Broadcast.SocketsJoin), where the socket is; not for its own
// Join. A socket that comes from another node has the rooms it was made to join
// meanwhile already. The handler runs in order with deliveries: it must not wait.
func (n *Namespace) OnServerJoin(f func(s *Socket, room string)) {
	n.change(func(h *hooks) { h.serverJoin = append(h.serverJoin, f) })
}

// OnServerLeave is OnServerJoin for Broadcast.SocketsLeave.
func (n *Namespace) OnServerLeave(f func(s *Socket, room string)) {
	n.change(func(h *hooks) { h.serverLeave = append(h.serverLeave, f) })
}

// On sets the handler of an event for all sockets of the namespace.
func (n *Namespace) On(event string, f Handler) {
	n.change(func(h *hooks) {
		m := make(map[string]Handler, len(h.handlers)+1)
		for k, v := range h.handlers {
			m[k] = v
		}
		m[event] = f
		h.handlers = m
	})
}

// OnAny adds a handler that is called for every event of every socket, before
// the event's own handler.
func (n *Namespace) OnAny(f Handler) {
	n.change(func(h *hooks) { h.any = append(h.any, f) })
}

// change replaces the hooks by a changed copy.
func (n *Namespace) change(f func(*hooks)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := *n.table.Load()
	// Appending must not write into an array that readers see.
	h.middleware = h.middleware[:len(h.middleware):len(h.middleware)]
	h.connection = h.connection[:len(h.connection):len(h.connection)]
	h.disconnecting = h.disconnecting[:len(h.disconnecting):len(h.disconnecting)]
	h.disconnect = h.disconnect[:len(h.disconnect):len(h.disconnect)]
	h.serverJoin = h.serverJoin[:len(h.serverJoin):len(h.serverJoin)]
	h.serverLeave = h.serverLeave[:len(h.serverLeave):len(h.serverLeave)]
	h.any = h.any[:len(h.any):len(h.any)]
	f(&h)
	n.table.Store(&h)
}

func (n *Namespace) hooks() *hooks { return n.table.Load() }

func (n *Namespace) handler(event string) Handler { return n.hooks().handlers[event] }

// key is the fan-out key of a room of this namespace.
func (n *Namespace) key(room string) fanout.Key { return fanout.Key{Namespace: n.number, Room: room} }

// admit runs the middleware from number i on and then connects the socket.
func (n *Namespace) admit(s *Socket, middleware []Middleware, i int) {
	if i == len(middleware) {
		n.connect(s)
		return
	}
	var once sync.Once
	panicked := true
	s.guard(func() {
		middleware[i](s, func(err error) {
			once.Do(func() {
				if err != nil {
					n.refuse(s, err)
					return
				}
				n.admit(s, middleware, i+1)
			})
		})
		panicked = false
	})
	if panicked { // the client must not wait for a decision that nobody will make
		once.Do(func() { n.refuse(s, errMiddlewarePanicked) })
	}
}

// connect takes in a socket that was admitted: with recovery after its session
// is stored.
func (n *Namespace) connect(s *Socket) {
	if n.srv.recovery != nil {
		n.srv.recovery.create(s)
		return
	}
	n.welcome(s, fanout.ID{}, n.srv.kicks.now(), false)
}

// welcome makes the socket a member of what is after start, answers the client
// and runs the connection handlers.
// kicks is the number of the last kick when its admission was complete.
// inTurn says that it is called in the socket's turn, so that nothing of the
// socket is handled before they returned.
func (n *Namespace) welcome(s *Socket, start fanout.ID, kicks uint64, inTurn bool) {
	s.mu.Lock()
	if s.state != socketPending {
		s.mu.Unlock()
		if ref := s.ref(); ref.PID != "" { // nobody was told of it
			n.srv.recovery.Delete(ref, nil)
		}
		return
	}
	s.state = socketConnected
	s.mu.Unlock()
	srv := n.srv
	n.count.Add(1)
	srv.m.Sockets.Inc()
	srv.sockets.put(s)
	if !s.Connected() { // its conn ended this moment, and it was not to be found yet
		srv.sockets.remove(s)
	}
	if !start.IsZero() {
		srv.hub.SetFloor(&s.member, start)
	}
	srv.hub.Join(&s.member, n.key(""), fanout.ID{}, nil)
	s.conn.mark(markJoined)
	_ = s.sendPacket(n.connectPacket(s), nil, false) // it is connected

	run := func() {
		for _, f := range n.hooks().connection {
			s.guard(func() { f(s) })
		}
	}
	switch {
	case inTurn:
		run()
	case n.inline && s.box.begin():
		run()
		s.end()
	default:
		s.post(task{run: run})
	}
	s.kickedSince(kicks, s.In)
}

// connectPacket is the answer to the socket's CONNECT.
func (n *Namespace) connectPacket(s *Socket) *socketio.Packet {
	data := append(append(make([]byte, 0, 64), `{"sid":"`...), s.id[:]...)
	if ref := s.ref(); ref.PID != "" {
		data = append(append(data, `","pid":"`...), ref.PID...)
	}
	return &socketio.Packet{Type: socketio.Connect, Namespace: n.nameBytes, Data: append(data, `"}`...)}
}

// refuse answers the client with CONNECT_ERROR and forgets the socket.
func (n *Namespace) refuse(s *Socket, err error) {
	n.srv.m.Refusals[metrics.RefusalMiddleware].Inc()
	s.conn.remove(s)
	s.leave("", deleteSession)
	data := append([]byte(`{"message":`), socketio.AppendString(nil, err.Error())...)
	if ce, ok := err.(*ConnectError); ok && ce.Data != nil {
		if p, perr := encodeArgs(nil, []any{ce.Data}); perr == nil && len(p.Attachments) == 0 {
			data = append(data, `,"data":`...)
			data = append(data, json.RawMessage(p.JSON[1:len(p.JSON)-1])...)
		}
	}
	s.conn.sendConnectError(n.nameBytes, append(data, '}'))
}
