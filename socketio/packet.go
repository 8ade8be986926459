package socketio

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Type is the type of a Socket.IO packet.
type Type uint8

// The packet types of Socket.IO protocol revision 5.
const (
	Connect Type = iota
	Disconnect
	Event
	Ack
	ConnectError
	BinaryEvent
	BinaryAck
)

// String returns the name the protocol gives the type.
func (t Type) String() string {
	names := [...]string{"CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR", "BINARY_EVENT", "BINARY_ACK"}
	if int(t) < len(names) {
		return names[t]
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

// Binary reports whether packets of the type are followed by attachments.
func (t Type) Binary() bool { return t == BinaryEvent || t == BinaryAck }

// rootNamespace is what Parse returns for "/"; nobody writes to it.
var rootNamespace = []byte{'/'}

// Packet is the text of a Socket.IO packet taken apart. As Parse returns it, Namespace and Data alias the input.
type Packet struct {
	Type        Type
	Namespace   []byte // "/" when the packet names none; not to be modified
	ID          uint64 // acknowledgement id; meaningful with HasID, since 0 is a valid id
	HasID       bool
	Attachments int    // 1 … MaxAttachments for the binary types, else 0
	Data        []byte // raw, well-formed JSON without surrounding white space; nil when absent
}

// Parse takes apart the text of a Socket.IO packet: a text message without the Engine.IO type '4' in front. It accepts
// what the reference decoder (socket.io-parser 4.2.7) accepts, with a few exceptions that only malformed packets meet:
// an attachment count and an acknowledgement id are plain decimal digits, the id is at most MaxID, and the JSON nests at
// most MaxDepth levels. So `2`, `3` and an ACK without id pass, as they do there, and are for the caller to ignore.
//
// The data is checked: an object (or nothing) for CONNECT, nothing for DISCONNECT, for events an array that starts with
// a number or with a string that is not reserved, an array for acknowledgements, a string or an object for
// CONNECT_ERROR. The placeholders of a binary packet are not; Assembler does that. Parse does not allocate unless it
// fails; the error names what was wrong, and on it the reference closes the whole connection.
func Parse(text []byte) (Packet, error) {
	p := Packet{Namespace: rootNamespace}
	if len(text) == 0 {
		return Packet{}, errors.New("socketio: empty packet")
	}
	if text[0] < '0' || text[0] > '6' {
		return Packet{}, fmt.Errorf("socketio: unknown packet type %q", text[0])
	}
	p.Type = Type(text[0] - '0')
	rest := text[1:]
	var err error
	if p.Type.Binary() {
		if p.Attachments, rest, err = cutAttachments(rest); err != nil {
			return Packet{}, err
		}
	}
	if len(rest) > 0 && rest[0] == '/' {
		end := bytes.IndexByte(rest, ',')
		if end < 0 {
			p.Namespace, rest = rest, nil
		} else {
			p.Namespace, rest = rest[:end:end], rest[end+1:]
		}
	}
	if len(rest) > 0 && isDigit(rest[0]) {
		if p.ID, rest, err = cutID(rest); err != nil {
			return Packet{}, err
		}
		p.HasID = true
	}
	if len(rest) > 0 {
		if p.Data, err = packetData(p.Type, rest); err != nil {
			return Packet{}, err
		}
	}
	return p, nil
}

// cutAttachments reads the attachment count and the dash behind it.
func cutAttachments(text []byte) (int, []byte, error) {
	digits := 0
	for digits < len(text) && isDigit(text[digits]) {
		digits++
	}
	if digits == 0 || digits == len(text) || text[digits] != '-' {
		return 0, nil, errors.New("socketio: binary packet without attachment count")
	}
	n, err := strconv.Atoi(string(text[:min(digits, 18)]))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("socketio: attachment count: %w", err)
	case digits > 18 || n > MaxAttachments:
		return 0, nil, fmt.Errorf("socketio: attachment count %s exceeds %d", text[:min(digits, 18)], MaxAttachments)
	case n == 0:
		return 0, nil, errors.New("socketio: binary packet announces no attachments")
	}
	return n, text[digits+1:], nil
}

// cutID reads the acknowledgement id that text starts with.
func cutID(text []byte) (uint64, []byte, error) {
	var id uint64
	i := 0
	for ; i < len(text) && isDigit(text[i]); i++ {
		// id ≤ MaxID before the step, so the step cannot overflow.
		if id = id*10 + uint64(text[i]-'0'); id > MaxID {
			return 0, nil, fmt.Errorf("socketio: ack id exceeds %d", int64(MaxID))
		}
	}
	return id, text[i:], nil
}

// packetData checks the JSON of a packet of the given type.
func packetData(t Type, text []byte) ([]byte, error) {
	if t == Disconnect {
		return nil, errors.New("socketio: DISCONNECT with data")
	}
	s := newScanner(text)
	data, ok := s.document()
	if !ok {
		return nil, s.err()
	}
	c := data[0]
	switch t {
	case Connect:
		if c != '{' {
			return nil, errors.New("socketio: CONNECT data is not an object")
		}
	case ConnectError:
		if c != '{' && c != '"' {
			return nil, errors.New("socketio: CONNECT_ERROR data is neither object nor string")
		}
	default:
		if c != '[' {
			return nil, fmt.Errorf("socketio: %v data is not an array", t)
		}
		if t == Event || t == BinaryEvent {
			return data, checkEvent(data)
		}
	}
	return data, nil
}

// AppendPacket appends the text of the packet, again without the Engine.IO type: the header and then Data verbatim. It
// checks nothing; an empty Namespace counts as "/".
func AppendPacket(dst []byte, p *Packet) []byte {
	dst = append(dst, '0'+byte(p.Type))
	if p.Type.Binary() {
		dst = strconv.AppendInt(dst, int64(p.Attachments), 10)
		dst = append(dst, '-')
	}
	if len(p.Namespace) > 0 && string(p.Namespace) != "/" {
		dst = append(dst, p.Namespace...)
		dst = append(dst, ',')
	}
	if p.HasID {
		dst = strconv.AppendUint(dst, p.ID, 10)
	}
	return append(dst, p.Data...)
}
