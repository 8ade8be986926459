package socketio

import (
	"errors"
	"fmt"
)

// Broadcast is a message of the classic Redis adapter on one of its broadcast channels: an event and whom it is for.
type Broadcast struct {
	UID       string // sender: an adapter's uid, or "emitter"
	Namespace string

	Data  []byte // raw MessagePack array [event, ...args], binaries inline
	ID    uint64 // acknowledgement id; meaningful with HasID
	HasID bool

	Rooms  []string // empty: all sockets of the namespace
	Except []string
	Flags  Flags

	// Members of opts that only this project writes; Node.js ignores them.
	Seq     uint64 // the publisher's own sequence number, 0 if there is none; at most MaxID
	Journal bool   // AppendBroadcast leaves a place for the position in the journal, see SetEntry; never set by ParseBroadcast
	Entry   string // the text of the position (Offset), empty if the message is not journalled
}

// AppendBroadcast appends the message as notepack encodes what the adapter of @socket.io/redis-adapter sends:
// [uid, {type:2, data, nsp, id?}, {rooms, except, flags, seq?, entry?}]. An empty Namespace is sent as "/". With Journal
// entry is the very last value, nil if b has none yet.
func AppendBroadcast(dst []byte, b *Broadcast) []byte {
	dst = AppendMsgpackArrayHeader(dst, 3)
	dst = AppendMsgpackString(dst, b.UID)
	dst = appendEventPacket(dst, b.Namespace, b.Data, b.ID, b.HasID)
	n := 3
	if b.Seq != 0 {
		n++
	}
	if b.Journal || b.Entry != "" {
		n++
	}
	dst = AppendMsgpackMapHeader(dst, n)
	dst = appendTarget(dst, b.Rooms, b.Except, &b.Flags)
	if b.Seq != 0 {
		dst = AppendMsgpackString(dst, "seq")
		dst = AppendMsgpackUint(dst, b.Seq)
	}
	switch {
	case b.Entry != "":
		dst = AppendMsgpackString(AppendMsgpackString(dst, "entry"), b.Entry)
	case b.Journal:
		dst = append(AppendMsgpackString(dst, "entry"), 0xc0)
	}
	return dst
}

// appendEventPacket appends the packet of a broadcast: {type:2, data, nsp, id?}.
func appendEventPacket(dst []byte, namespace string, data []byte, id uint64, hasID bool) []byte {
	n := 3
	if hasID {
		n++
	}
	dst = AppendMsgpackMapHeader(dst, n)
	dst = AppendMsgpackUint(AppendMsgpackString(dst, "type"), uint64(Event))
	dst = append(AppendMsgpackString(dst, "data"), data...)
	if namespace == "" {
		namespace = "/"
	}
	dst = AppendMsgpackString(AppendMsgpackString(dst, "nsp"), namespace)
	if hasID {
		dst = AppendMsgpackUint(AppendMsgpackString(dst, "id"), id)
	}
	return dst
}

// appendTarget appends the three entries rooms, except and flags, without the header of their map.
func appendTarget(dst []byte, rooms, except []string, flags *Flags) []byte {
	dst = appendMsgpackStrings(AppendMsgpackString(dst, "rooms"), rooms)
	dst = appendMsgpackStrings(AppendMsgpackString(dst, "except"), except)
	return flags.appendMsgpack(AppendMsgpackString(dst, "flags"))
}

func appendMsgpackStrings(dst []byte, list []string) []byte {
	dst = AppendMsgpackArrayHeader(dst, len(list))
	for _, s := range list {
		dst = AppendMsgpackString(dst, s)
	}
	return dst
}

// ParseBroadcast reads a message of a broadcast channel into b, whatever order its maps are in: adapters and emitters of
// all versions, with except, flags or nsp missing, and with rooms that are numbers. An error means the message is to be
// ignored, b is then undefined: not an array of three, trailing bytes, a packet that is no event, a field of a wrong kind.
//
// Data aliases payload. Every other field of b is overwritten; its slices are reused, and a string is allocated only
// where it differs from the one b held at that place, so a reused b costs nothing while sender and rooms repeat.
func ParseBroadcast(payload []byte, b *Broadcast) error {
	c := cursor{data: payload}
	n, err := c.expect(kindArray, "broadcast")
	if err != nil {
		return err
	}
	if n != 3 {
		return fmt.Errorf("socketio: broadcast has %d elements, not 3", n)
	}
	if b.UID, err = c.text(b.UID, "uid"); err != nil {
		return err
	}
	if err := c.eventPacket(b); err != nil {
		return err
	}
	if err := c.options(b); err != nil {
		return err
	}
	return c.end()
}

// end checks that nothing follows.
func (c *cursor) end() error {
	if n := len(c.rest()); n > 0 {
		return fmt.Errorf("socketio: %d bytes after the MessagePack value", n)
	}
	return nil
}

// eventPacket reads the packet of a broadcast into b's Namespace, Data, ID and HasID.
func (c *cursor) eventPacket(b *Broadcast) error {
	b.Data, b.ID, b.HasID = nil, 0, false
	n, err := c.expect(kindMap, "packet")
	if err != nil {
		return err
	}
	namespace, hasType := "/", false
	for range n {
		name, err := c.name()
		if err != nil {
			return err
		}
		switch string(name) {
		case "type":
			hasType = true
			if t, err := c.integer("packet type"); err != nil || t != uint64(Event) {
				return errors.New("socketio: packet type is not EVENT")
			}
		case "data":
			b.Data, err = c.array("packet data")
		case "nsp":
			if namespace = "/"; !c.skipNil() {
				namespace, err = c.text(b.Namespace, "nsp")
			}
		case "id":
			if b.ID, b.HasID = 0, false; !c.skipNil() {
				b.ID, err = c.integer("packet id")
				b.HasID = true
			}
		default:
			err = c.skip()
		}
		if err != nil {
			return err
		}
	}
	if !hasType {
		return errors.New("socketio: packet type is not EVENT")
	}
	if b.Data == nil {
		return errors.New("socketio: packet without data")
	}
	b.Namespace = namespace
	return nil
}

// array passes over a value that must be an array and returns its bytes.
func (c *cursor) array(what string) ([]byte, error) {
	start := c.pos
	if _, err := c.expect(kindArray, what); err != nil {
		return nil, err
	}
	c.pos = start
	return c.raw()
}

// skipNil passes over a nil and reports whether there was one.
func (c *cursor) skipNil() bool {
	if c.pos < len(c.data) && c.data[c.pos] == 0xc0 {
		c.pos++
		return true
	}
	return false
}

// options reads the third element of a broadcast into the remaining fields of b.
func (c *cursor) options(b *Broadcast) error {
	b.Rooms, b.Except, b.Flags, b.Seq, b.Journal = b.Rooms[:0], b.Except[:0], Flags{}, 0, false
	n, err := c.expect(kindMap, "opts")
	if err != nil {
		return err
	}
	entry := ""
	for range n {
		name, err := c.name()
		if err != nil {
			return err
		}
		switch string(name) {
		case "rooms":
			b.Rooms, err = c.texts(b.Rooms, "rooms")
		case "except":
			b.Except, err = c.texts(b.Except, "except")
		case "flags":
			err = c.flags(&b.Flags)
		case "entry":
			if entry = ""; !c.skipNil() {
				entry, err = c.text(b.Entry, "entry")
			}
		case "seq":
			if b.Seq = 0; !c.skipNil() {
				b.Seq, err = c.integer("seq")
			}
		default:
			err = c.skip()
		}
		if err != nil {
			return err
		}
	}
	b.Entry = entry
	return nil
}
