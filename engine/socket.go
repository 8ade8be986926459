package engine

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Socket is one client in one namespace. Its methods may be called from any
// goroutine; its handlers run one at a time, in order.
type Socket struct {
	// Set when the client asked to connect, then read-only.
	conn *conn
	nsp  *Namespace
	id   id
	auth string // the client's auth object as JSON, "" if it sent none

	member fanout.Member
	box    mailbox

	mu      sync.Mutex // guards the fields below; taken before a shard's lock
	state   socketState
	data    any
	session *session // nil without recovery; the pointer is set with the fields above
	rare    *rare    // nil until there is something in it
}

// rare is what few sockets have.
type rare struct {
	user     string             // without recovery; else the session has it
	handlers map[string]Handler // of this socket only; nil until the first On
}

// rarely returns what few sockets have, to be changed; the caller holds s.mu.
func (s *Socket) rarely() *rare {
	if s.rare == nil {
		s.rare = &rare{}
	}
	return s.rare
}

type socketState uint8

const (
	socketPending      socketState = iota // middleware has not decided, its session is not stored, or it is on its way back
	socketConnected                       // the client was told
	socketMoved                           // it is another node's; its handlers here have not been told
	socketDisconnected                    // for good
)

// Handler handles one event of one socket.
type Handler func(s *Socket, e *Event)

// ID is the socket's public id: 20 characters, unique in the fleet, and the name
// of the private room that reaches this socket.
func (s *Socket) ID() string { return s.id.String() }

// Namespace is the namespace the socket belongs to.
func (s *Socket) Namespace() *Namespace { return s.nsp }

// Auth is the auth object the client connected with, as JSON; {} if it sent none.
func (s *Socket) Auth() json.RawMessage {
	if s.auth == "" {
		return json.RawMessage("{}")
	}
	return json.RawMessage(s.auth)
}

// Handshake describes the request that opened the conn.
func (s *Socket) Handshake() *Handshake { return s.conn.handshake.expand([]byte(s.auth)) }

// Data is the value set by SetData, nil at first. It is shown to other nodes,
// as JSON, by FetchSockets.
func (s *Socket) Data() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data
}

// SetData attaches a value to the socket. With recovery it is stored as JSON.
func (s *Socket) SetData(v any) {
	if s.postpone(deferred{op: deferredOp{Op: opData}, data: v, run: func() { s.setData(v) }}) {
		return
	}
	defer s.changed()
	s.setData(v)
}

// setData is SetData, whether or not a move is under way.
func (s *Socket) setData(v any) {
	s.mu.Lock()
	s.data = v
	s.mu.Unlock()
	if ref := s.ref(); ref.PID != "" {
		s.conn.srv.recovery.SetData(ref, encodeData(v))
	}
}

// SetUser says who the client is, for middleware to call; later it changes nothing.
// With recovery the socket is given back to nobody else, and with Config.UserRooms
// it is in the user's room.
func (s *Socket) SetUser(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state != socketPending:
	case s.session == nil:
		s.rarely().user = user
	case s.session.pid == "":
		s.session.user = user
	}
}

// User is who SetUser said that the client is, "" if it did not.
func (s *Socket) User() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.session != nil:
		return s.session.user
	case s.rare != nil:
		return s.rare.user
	}
	return ""
}

// Recovered reports whether the socket came back: it has the id, the rooms and
// the data that it had before its conn was lost.
func (s *Socket) Recovered() bool { return s.session != nil && s.session.recovered }

// Generation counts the times the socket was recovered, from 0.
func (s *Socket) Generation() uint64 {
	if g := s.ref().Generation; g > 0 {
		return g - 1
	}
	return 0
}

// Connected reports whether the socket is in its namespace.
func (s *Socket) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == socketConnected
}

// On sets the handler of an event for this socket; it takes precedence over the
// namespace's.
func (s *Socket) On(event string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rarely()
	if r.handlers == nil {
		r.handlers = make(map[string]Handler)
	}
	r.handlers[event] = h
}

// Rooms are the names of the rooms the socket is in, first of all its own id.
func (s *Socket) Rooms() []string { return s.member.Rooms([]string{s.ID()}) }

// In reports whether the socket is in the room.
func (s *Socket) In(room string) bool {
	return room == s.ID() || s.member.In(s.nsp.key(room))
}

// Emit sends an event to this client, in order with its other direct emits.
func (s *Socket) Emit(event string, args ...any) error {
	p, err := encodeEvent(event, args)
	if err != nil {
		return err
	}
	return s.EmitPayload(p)
}

// EmitPayload sends an encoded event to this client.
func (s *Socket) EmitPayload(p *Payload) error {
	return s.sendPacket(&socketio.Packet{Type: socketio.Event, Data: p.JSON}, p.Attachments, false)
}

// EmitVolatile is Emit for events that may be dropped when the client is not
// writable.
func (s *Socket) EmitVolatile(event string, args ...any) error {
	p, err := encodeEvent(event, args)
	if err != nil {
		return err
	}
	return s.sendPacket(&socketio.Packet{Type: socketio.Event, Data: p.JSON}, p.Attachments, true)
}

// EmitWithAck sends an event and calls ack once: with the client's answer, or
// with ErrAckTimeout after the timeout. ack runs in order with the socket's handlers.
func (s *Socket) EmitWithAck(timeout time.Duration, ack func(a *Ack, err error), event string, args ...any) error {
	p, err := encodeEvent(event, args)
	if err != nil {
		return err
	}
	fail := func(err error) { s.post(task{run: func() { ack(&Ack{}, err) }}) }
	if s.postpone(deferred{done: fail, run: func() {
		if err := s.emitWithAck(timeout, ack, p); err != nil {
			fail(err) // the caller was told nothing
		}
	}}) {
		return nil
	}
	defer s.changed()
	return s.emitWithAck(timeout, ack, p)
}

func (s *Socket) emitWithAck(timeout time.Duration, ack func(*Ack, error), p *Payload) error {
	id := s.nsp.acks.expect(timeout, s, ack)
	err := s.sendPacket(&socketio.Packet{Type: socketio.Event, ID: id, HasID: true, Data: p.JSON}, p.Attachments, false)
	if err != nil {
		s.nsp.acks.forget(id)
	}
	return err
}

// To selects rooms, without this socket, for a broadcast.
func (s *Socket) To(rooms ...string) Broadcast { return s.Broadcast().To(rooms...) }

// Broadcast selects everybody in the namespace but this socket.
func (s *Socket) Broadcast() Broadcast { return s.nsp.broadcast().Except(s.ID()) }

// Disconnect leaves the namespace; with closeConn the whole connection is closed.
// The client does not come back by itself (reason "io server disconnect").
func (s *Socket) Disconnect(closeConn bool) {
	if closeConn {
		s.CloseConn(metrics.CloseServer)
		return
	}
	s.sendPacket(&socketio.Packet{Type: socketio.Disconnect}, nil, false)
	s.conn.remove(s)
	s.leave(ReasonServerNamespaceDisconnect, deleteSession)
}

// CloseConn is Disconnect(true) with a reason of its own in edge_closes_total. The
// sockets of the conn cannot be recovered.
func (s *Socket) CloseConn(reason metrics.Close) {
	s.conn.disconnectAll()
	s.conn.close(reason, noCode)
}

// sendPacket encodes a packet of the socket's namespace and hands it to the shard.
func (s *Socket) sendPacket(p *socketio.Packet, attachments [][]byte, volatile bool) error {
	if len(attachments) > maxAttachments {
		return ErrTooManyAttachments
	}
	if len(attachments) > 0 {
		p.Attachments = len(attachments)
		switch p.Type {
		case socketio.Event:
			p.Type = socketio.BinaryEvent
		case socketio.Ack:
			p.Type = socketio.BinaryAck
		}
	}
	p.Namespace = s.nsp.nameBytes
	var text scratch
	m := newMessage(socketio.AppendPacket(text.room(len(p.Data)+len(p.Namespace)+32), p), attachments)
	m.Volatile = volatile
	m.Namespace, m.Stamp = s.nsp.number, s.session != nil && !p.HasID && p.Type != socketio.Connect && p.Type != socketio.Disconnect
	if len(m.Frame) > s.conn.srv.maxPacket {
		return ErrTooLarge
	}
	s.mu.Lock() // so that nothing follows the last that is sent before a move
	defer s.mu.Unlock()
	if s.state != socketConnected {
		return ErrDisconnected
	}
	s.conn.srv.hub.SendMember(&s.member, m)
	return nil
}

// handle runs an event's handlers.
func (s *Socket) handle(e *Event) {
	everything := s.nsp.hooks().any
	for _, any := range everything {
		s.guard(func() { any(s, e) })
	}
	s.mu.Lock()
	var h Handler
	if s.rare != nil {
		h = s.rare.handlers[e.name]
	}
	s.mu.Unlock()
	if h == nil {
		h = s.nsp.handler(e.name)
	}
	switch {
	case h != nil:
		s.guard(func() { h(s, e) })
	case len(everything) == 0: // nobody will
		e.markAcked()
	}
}

// dispatch runs an event's handler now, on the poller, if the namespace's
// handlers are inline and nothing is before it; else it queues a copy.
func (s *Socket) dispatch(e *Event) {
	if s.nsp.inline && s.box.begin() {
		s.handle(e)
		s.end()
		return
	}
	size := e.clone()
	s.post(task{bytes: size, run: func() { s.handle(e) }})
}

// guard confines a panic of a handler to its event.
func (s *Socket) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			s.conn.srv.m.HandlerPanics.Inc()
			s.conn.srv.log.Error("handler panicked", "namespace", s.nsp.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	f()
}

// leave ends the socket: its handlers for disconnecting and disconnect run after
// what is queued. The first reason counts. What becomes of its session is decided
// before anything else: the client may be back at once.
func (s *Socket) leave(reason string, f fate) {
	s.mu.Lock()
	was := s.state
	s.state = socketDisconnected
	r := s.conn.srv.recovery
	if was == socketMoved || was == socketConnected && r != nil {
		r.ending.begin(s.id)
	}
	leaving := was == socketConnected && s.session != nil && s.session.travels().departure != nil
	s.mu.Unlock()
	if leaving {
		s.conn.poll.away.over(s.id, f)
	}
	if was == socketDisconnected {
		return
	}
	if was == socketPending && s.session != nil && f == deleteSession {
		s.mu.Lock()
		s.session.kicked = true
		s.mu.Unlock()
	}
	if was == socketPending { // no connection handler ran, so no disconnect handler may
		s.conn.srv.hub.CloseMember(&s.member)
		return
	}
	if r != nil {
		if was == socketMoved {
			f = sessionMoved
		}
		r.end(s, f)
		s.releaseOwn()
	}
	s.conn.srv.sockets.remove(s)
	s.nsp.count.Add(-1)
	s.conn.srv.m.Sockets.Dec()
	s.finish(func() {
		for _, h := range s.nsp.hooks().disconnecting {
			s.guard(func() { h(s, reason) })
		}
		s.conn.srv.hub.CloseMember(&s.member)
		for _, h := range s.nsp.hooks().disconnect {
			s.guard(func() { h(s, reason) })
		}
		if r != nil {
			r.ending.finish(s.id)
		}
	})
}

// copyRaw copies raw JSON arguments that alias a read buffer.
func copyRaw(args [][]byte) []json.RawMessage {
	out := make([]json.RawMessage, len(args))
	for i, a := range args {
		out[i] = slices.Clone(a)
	}
	return out
}
