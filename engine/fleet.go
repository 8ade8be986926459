package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stellara/edge/socketio"
)

// RemoteSocket describes a socket of any node.
type RemoteSocket struct {
	ID        string
	Handshake json.RawMessage // as Handshake, in Socket.IO's own form
	Rooms     []string        // its own id first
	Data      json.RawMessage

	nsp *Namespace
}

// Emit sends an event to the socket, wherever it is.
func (r RemoteSocket) Emit(event string, args ...any) error {
	return r.nsp.To(r.ID).Emit(event, args...)
}

// Join makes the socket join rooms.
func (r RemoteSocket) Join(rooms ...string) { r.nsp.To(r.ID).SocketsJoin(rooms...) }

// Leave makes the socket leave rooms.
func (r RemoteSocket) Leave(rooms ...string) { r.nsp.To(r.ID).SocketsLeave(rooms...) }

// Disconnect disconnects the socket, with closeConn also its connection.
func (r RemoteSocket) Disconnect(closeConn bool) { r.nsp.To(r.ID).DisconnectSockets(closeConn) }

// options are the rooms and exceptions as requests carry them.
func (b Broadcast) options() socketio.BroadcastOptions {
	return socketio.BroadcastOptions{Rooms: distinct(b.rooms), Except: distinct(b.except)}
}

// FetchSockets calls done once, on another goroutine, with the selected sockets
// of all nodes, or of this node with Local. When a node does not answer in time
// the error says so and the sockets of the others are there.
func (b Broadcast) FetchSockets(done func([]RemoteSocket, error)) {
	n := b.nsp
	collect := func(found []socketio.RemoteSocket, err error) {
		out := make([]RemoteSocket, 0, len(found))
		for _, r := range found {
			out = append(out, RemoteSocket{ID: r.ID, Handshake: r.Handshake, Rooms: r.Rooms, Data: r.Data, nsp: n})
		}
		go done(out, err)
	}
	if b.flags.Local {
		n.srv.LocalSockets(n.name, b.options(), func(r []socketio.RemoteSocket) { collect(r, nil) })
		return
	}
	n.srv.bus.FetchSockets(n.name, b.options(), collect)
}

// SocketsJoin makes the selected sockets join rooms.
func (b Broadcast) SocketsJoin(rooms ...string) {
	if b.flags.Local {
		b.nsp.srv.LocalJoin(b.nsp.name, b.options(), rooms)
		return
	}
	b.nsp.srv.bus.SocketsJoin(b.nsp.name, b.options(), rooms, nil)
}

// SocketsLeave makes the selected sockets leave rooms.
func (b Broadcast) SocketsLeave(rooms ...string) {
	if b.flags.Local {
		b.nsp.srv.LocalLeave(b.nsp.name, b.options(), rooms)
		return
	}
	b.nsp.srv.bus.SocketsLeave(b.nsp.name, b.options(), rooms, nil)
}

// DisconnectSockets disconnects the selected sockets, with closeConn also their
// connections.
func (b Broadcast) DisconnectSockets(closeConn bool) {
	if b.flags.Local {
		b.nsp.srv.LocalDisconnect(b.nsp.name, b.options(), closeConn)
		return
	}
	b.nsp.srv.bus.DisconnectSockets(b.nsp.name, b.options(), closeConn, nil)
}

// EmitWithAck sends an event that every selected client acknowledges. done is
// called once, on another goroutine, with the answers: the first argument of each,
// which is all that travels between nodes, or none. When not all clients answered
// in time, the error is ErrAckTimeout and the answers that came are there.
func (b Broadcast) EmitWithAck(timeout time.Duration, done func(answers []*Ack, err error), event string, args ...any) error {
	p, err := encodeEvent(event, args)
	if err != nil {
		return err
	}
	data, err := socketio.AppendMsgpackFromJSON(nil, p.JSON, p.Attachments)
	if err != nil {
		return fmt.Errorf("engine: event data: %w", err)
	}
	if len(data) > b.nsp.srv.maxPacket {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	flags := b.flags
	flags.Timeout = timeout
	c := &answers{}
	emit := b.nsp.srv.bus.BroadcastWithAck
	if b.flags.Local {
		emit = (&loopback{s: b.nsp.srv}).BroadcastWithAck
	}
	emit(b.nsp.name, b.options(), flags, data, timeout, c.add, func(_ int, err error) {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", ErrAckTimeout, err)
		}
		go done(c.take(), err)
	})
	return nil
}

// ServerSideEmit sends an event to the other servers of the fleet, not to
// clients. done, if not nil, gets what they answered.
func (n *Namespace) ServerSideEmit(done func(responses []json.RawMessage, err error), event string, args ...any) error {
	p, err := encodeEvent(event, args)
	if err != nil {
		return err
	}
	if len(p.Attachments) > 0 {
		return fmt.Errorf("engine: server-side event %q: binary arguments cannot be sent between servers", event)
	}
	n.srv.bus.ServerSideEmit(n.name, p.JSON, done)
	return nil
}

// OnServerSideEvent sets the handler of an event that other servers send with
// serverSideEmit. reply answers a server that waits for it, once; without a
// handler such a server gets null.
func (n *Namespace) OnServerSideEvent(event string, f func(args []json.RawMessage, reply func(v any))) {
	n.change(func(h *hooks) {
		m := make(map[string]func([]json.RawMessage, func(any)), len(h.server)+1)
		for k, v := range h.server {
			m[k] = v
		}
		m[event] = f
		h.server = m
	})
}

// AllRooms calls done once with the names of all rooms of all nodes.
func (n *Namespace) AllRooms(done func([]string, error)) {
	n.srv.bus.AllRooms(n.name, func(rooms []string, err error) {
		slices.Sort(rooms)
		go done(slices.Compact(rooms), err)
	})
}
