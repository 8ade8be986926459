package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/stellara/edge/socketio"
)

// Event is one event from a client, as its handler sees it. The handler's
// socket runs no other handler meanwhile. Ack, AckPayload and the function
// returned by Hold may be called from any goroutine, also after the handler
// returned; everything else belongs to the handler.
type Event struct {
	socket *Socket
	name   string
	args   [][]byte // raw JSON, without the name
	binary [][]byte
	ackID  uint64
	hasAck bool
	acked  atomic.Bool
	inline [4][]byte // room for args without an allocation
}

// Name is the event's name.
func (e *Event) Name() string { return e.name }

// Len is the number of arguments.
func (e *Event) Len() int { return len(e.args) }

// Raw is argument i as JSON; binary values in it are Socket.IO placeholders.
// It is valid only while the handler runs. It is nil if there is no argument i.
func (e *Event) Raw(i int) json.RawMessage {
	if i < 0 || i >= len(e.args) {
		return nil
	}
	return e.args[i]
}

// Attachments are the binary values that placeholders refer to, by number.
// They may be kept.
func (e *Event) Attachments() [][]byte { return e.binary }

// Bind decodes argument i into v as encoding/json does; a *[]byte takes the
// attachment of a placeholder.
func (e *Event) Bind(i int, v any) error {
	raw := e.Raw(i)
	if raw == nil {
		return fmt.Errorf("engine: event %q has %d arguments, no number %d", e.name, len(e.args), i)
	}
	if err := bind(raw, e.binary, v); err != nil {
		return fmt.Errorf("engine: argument %d of event %q: %w", i, e.name, err)
	}
	return nil
}

// bind decodes one value.
func bind(raw []byte, attachments [][]byte, v any) error {
	if b, ok := v.(*[]byte); ok {
		if k, ok := placeholder(raw); ok && k < len(attachments) {
			*b = attachments[k]
			return nil
		}
	}
	return json.Unmarshal(raw, v)
}

// placeholder returns the number in {"_placeholder":true,"num":k}.
func placeholder(raw []byte) (int, bool) {
	var p struct {
		Placeholder bool `json:"_placeholder"`
		Num         *int `json:"num"`
	}
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &p) != nil || !p.Placeholder || p.Num == nil || *p.Num < 0 {
		return 0, false
	}
	return *p.Num, true
}

// WantsAck reports whether the client waits for an acknowledgement.
func (e *Event) WantsAck() bool { return e.hasAck }

// Ack answers the client. Only the first call counts; without WantsAck it does
// nothing. An argument that cannot be encoded answers with no arguments and is
// returned as an error.
func (e *Event) Ack(args ...any) error {
	p, err := encodeArgs(nil, args)
	if err != nil {
		p = &Payload{JSON: []byte("[]")}
	}
	if aerr := e.AckPayload(p); err == nil {
		err = aerr
	}
	return err
}

// AckPayload answers with an encoded array of arguments.
func (e *Event) AckPayload(p *Payload) error {
	if !e.hasAck || !e.acked.CompareAndSwap(false, true) {
		return nil
	}
	s := e.socket
	defer s.box.owes(-1)
	return s.sendPacket(&socketio.Packet{Type: socketio.Ack, ID: e.ackID, HasID: true, Data: p.JSON}, p.Attachments, false)
}

// markAcked says that nobody will answer the client.
func (e *Event) markAcked() {
	if e.hasAck && e.acked.CompareAndSwap(false, true) {
		e.socket.box.owes(-1)
	}
}

// Hold makes the socket's later packets wait until the returned function is
// called: the handler started something that they must find done. What waits is
// bounded in bytes (Config.InboundBytes); over it the conn is closed.
func (e *Event) Hold() (release func()) { return e.socket.hold() }

// clone copies what aliases the read buffer, so that the event can wait.
func (e *Event) clone() (size int) {
	for _, a := range e.args {
		size += len(a)
	}
	buf := make([]byte, 0, size)
	for i, a := range e.args {
		at := len(buf)
		buf = append(buf, a...)
		e.args[i] = buf[at:len(buf):len(buf)]
	}
	for _, a := range e.binary {
		size += len(a) // attachments are copies already
	}
	return size + 256
}

// newEvent splits a parsed EVENT packet. A packet without an event name that a
// handler could have is no event: nil.
func newEvent(s *Socket, p *socketio.Packet, binary [][]byte) *Event {
	e := &Event{socket: s, ackID: p.ID, hasAck: p.HasID, binary: binary}
	args, err := socketio.SplitArray(p.Data, e.inline[:0])
	if err != nil || len(args) == 0 {
		return nil
	}
	name, ok := socketio.EventName(args[0])
	if !ok {
		return nil
	}
	e.name, e.args = name, slices.Delete(args, 0, 1)
	if e.hasAck {
		s.box.owes(1)
	}
	return e
}
