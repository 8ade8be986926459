package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/socketio"
)

// Broadcast selects sockets of a namespace, on all nodes unless Local, and emits
// to them. It is a value: every method returns a changed copy. With no room it
// selects everybody; rooms add up; Except takes away; each socket is selected once.
type Broadcast struct {
	nsp    *Namespace
	rooms  []string
	except []string
	flags  socketio.Flags
	once   string
	digest string
}

func (n *Namespace) broadcast() Broadcast { return Broadcast{nsp: n} }

// To selects the sockets of the rooms; a socket id is the name of a room.
func (n *Namespace) To(rooms ...string) Broadcast { return n.broadcast().To(rooms...) }

// Except selects everybody but the sockets of the rooms.
func (n *Namespace) Except(rooms ...string) Broadcast { return n.broadcast().Except(rooms...) }

// Local selects the sockets of this node only.
func (n *Namespace) Local() Broadcast { return n.broadcast().Local() }

// Volatile selects everybody who is writable at the moment of delivery.
func (n *Namespace) Volatile() Broadcast { return n.broadcast().Volatile() }

// Emit sends an event to everybody in the namespace, on all nodes.
func (n *Namespace) Emit(event string, args ...any) error { return n.broadcast().Emit(event, args...) }

// To adds rooms.
func (b Broadcast) To(rooms ...string) Broadcast {
	b.rooms = append(b.rooms[:len(b.rooms):len(b.rooms)], rooms...)
	return b
}

// In is To.
func (b Broadcast) In(rooms ...string) Broadcast { return b.To(rooms...) }

// Except excludes the sockets of rooms.
func (b Broadcast) Except(rooms ...string) Broadcast {
	b.except = append(b.except[:len(b.except):len(b.except)], rooms...)
	return b
}

// Volatile lets the event be dropped for clients that are not writable.
func (b Broadcast) Volatile() Broadcast { b.flags.Volatile = true; return b }

// Local keeps the event on this node; it does not go through Redis.
func (b Broadcast) Local() Broadcast { b.flags.Local = true; return b }

// Once lets the event count once: of several with the same text, on any node,
// within 5 minutes, the first is delivered and the others are not, and no error.
// An event's text should name its sender, and be shorter than 200 bytes.
func (b Broadcast) Once(text string) Broadcast { b.once = text; return b }

// OnceOf is Once, and tells events with the same text apart by their digests: one
// with another digest than the first's is refused with socketio.ErrOnceConflict.
func (b Broadcast) OnceOf(text, digest string) Broadcast { b.once, b.digest = text, digest; return b }

// Compress says whether the event may be compressed, where compression is on.
func (b Broadcast) Compress(on bool) Broadcast { b.flags.NoCompress = !on; return b }

// Emit sends an event to the selected sockets. The error tells what is wrong
// with the event, or that the publish queue is full; what
// delivery promises is in the package documentation.
func (b Broadcast) Emit(event string, args ...any) error {
	p, err := encodeEvent(event, args)
	if err != nil {
		return err
	}
	return b.EmitPayload(p, nil)
}

// EmitPayload sends an encoded event. done, if not nil and if no error is
// returned, is called once, from another goroutine: with nil when Redis accepted
// the message, or with the reason why not. It must not block.
func (b Broadcast) EmitPayload(p *Payload, done func(error)) error {
	if len(p.Attachments) > maxAttachments {
		return fmt.Errorf("%w: %d", ErrTooManyAttachments, len(p.Attachments))
	}
	size := len(p.JSON)
	for _, a := range p.Attachments {
		size += len(a)
	}
	if size > b.nsp.srv.maxPacket {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	b.rooms, b.except = distinct(b.rooms), distinct(b.except)
	if b.flags.Local {
		b.local(p)
		if done != nil {
			done(nil)
		}
		return nil
	}
	return b.publish(p, done)
}

// local delivers on this node without Redis.
func (b Broadcast) local(p *Payload) {
	srv := b.nsp.srv
	pkt := socketio.Packet{Type: socketio.Event, Namespace: b.nsp.nameBytes, Data: p.JSON}
	if len(p.Attachments) > 0 {
		pkt.Type, pkt.Attachments = socketio.BinaryEvent, len(p.Attachments)
	}
	var text scratch
	m := newMessage(socketio.AppendPacket(text.room(len(p.JSON)+len(pkt.Namespace)+32), &pkt), p.Attachments)
	m.Volatile, m.Plain = b.flags.Volatile, b.flags.NoCompress
	m.Namespace, m.Stamp = b.nsp.number, srv.recovery != nil
	m.Arrived = time.Now()
	if t, ok := srv.target(b.nsp, b.rooms, b.except); ok {
		srv.hub.Deliver(m, t)
	}
}

// publish sends the event to every node, this one included, through the bus.
func (b Broadcast) publish(p *Payload, done func(error)) error {
	srv := b.nsp.srv
	data, err := socketio.AppendMsgpackFromJSON(make([]byte, 0, len(p.JSON)+16), p.JSON, p.Attachments)
	if err != nil {
		return fmt.Errorf("engine: event data: %w", err)
	}
	seq, sent := srv.flights.take()
	journal := b.journals()
	payload := socketio.AppendBroadcast(make([]byte, 0, len(data)+96), &socketio.Broadcast{
		UID: srv.cfg.UID, Namespace: b.nsp.name, Data: data,
		Rooms: b.rooms, Except: b.except, Flags: b.flags, Seq: seq, Journal: journal,
	})
	room := ""
	if len(b.rooms) == 1 {
		room = b.rooms[0]
	}
	return srv.bus.Publish(socketio.Publication{
		Namespace: b.nsp.name, Room: room, Payload: payload, Journal: journal, Once: b.once, Digest: b.digest, Sent: sent, Done: done,
	})
}

// distinct removes repeated names, keeping the order.
func distinct(names []string) []string {
	if len(names) < 2 {
		return names
	}
	out := names[:0:0]
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// target resolves room names to what is here: rooms with local members, sockets by
// their private rooms, and those of a user by the user's. It reports false when nobody can be selected.
func (s *Server) target(n *Namespace, rooms, except []string) (*fanout.Target, bool) {
	t := &fanout.Target{}
	if len(rooms) == 0 {
		if r := s.hub.Room(n.key("")); r != nil {
			t.Rooms = []*fanout.Room{r}
		}
	}
	for _, name := range rooms {
		if name == "" {
			continue // would be the namespace itself
		}
		if r := s.hub.Room(n.key(name)); r != nil {
			t.Rooms = append(t.Rooms, r)
		}
		t.Members = s.members(t.Members, name, n)
	}
	if len(t.Rooms) == 0 && len(t.Members) == 0 {
		return nil, false
	}
	for _, name := range except {
		if name == "" {
			continue
		}
		if r := s.hub.Room(n.key(name)); r != nil {
			t.Except = append(t.Except, r)
		}
		t.ExceptMembers = s.members(t.ExceptMembers, name, n)
	}
	return t, true
}
