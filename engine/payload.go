package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// maxAttachments is what Socket.IO parsers accept in one packet
// (socket.io-parser 4.2.6 and later).
const maxAttachments = 10

// Errors of emits, to be matched with errors.Is.
var (
	ErrTooLarge           = errors.New("engine: packet exceeds a quarter of the outbox bound")
	ErrTooManyAttachments = errors.New("engine: packet has more than 10 attachments")
	ErrDisconnected       = errors.New("engine: socket is disconnected")
	ErrReservedEvent      = errors.New("engine: event name is reserved")
	ErrAckTimeout         = errors.New("engine: no acknowledgement in time")
)

// Payload is an encoded Socket.IO data array: the event name and its arguments
// for events, the arguments alone for acknowledgements. Placeholders in JSON
// refer to Attachments by number. A Payload may be sent any number of times; it
// must not change once it was.
type Payload struct {
	JSON        []byte
	Attachments [][]byte
}

// encodeEvent encodes an event's data array.
func encodeEvent(event string, args []any) (*Payload, error) {
	if socketio.ReservedEvent(event) {
		return nil, fmt.Errorf("%w: %q", ErrReservedEvent, event)
	}
	return encodeArgs(socketio.AppendString(nil, event), args)
}

// encodeArgs encodes args after an already encoded first element, if any.
func encodeArgs(first []byte, args []any) (*Payload, error) {
	p := &Payload{JSON: append(make([]byte, 0, 128), '[')}
	p.JSON = append(p.JSON, first...)
	for i, a := range args {
		if i > 0 || first != nil {
			p.JSON = append(p.JSON, ',')
		}
		if err := p.append(a, 0); err != nil {
			return nil, fmt.Errorf("engine: argument %d: %w", i, err)
		}
	}
	p.JSON = append(p.JSON, ']')
	if len(p.Attachments) > maxAttachments {
		return nil, fmt.Errorf("%w: %d", ErrTooManyAttachments, len(p.Attachments))
	}
	return p, nil
}

// append encodes one value as JSON.stringify would: no HTML escaping, dates
// with milliseconds, NaN and infinities as null, binary as placeholders.
func (p *Payload) append(v any, depth int) error {
	if depth > 64 {
		return errors.New("nested deeper than 64")
	}
	switch v := v.(type) {
	case nil:
		p.JSON = append(p.JSON, "null"...)
	case string:
		p.JSON = socketio.AppendString(p.JSON, v)
	case bool:
		p.JSON = strconv.AppendBool(p.JSON, v)
	case int:
		p.JSON = strconv.AppendInt(p.JSON, int64(v), 10)
	case int64:
		p.JSON = strconv.AppendInt(p.JSON, v, 10)
	case uint64:
		p.JSON = strconv.AppendUint(p.JSON, v, 10)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			p.JSON = append(p.JSON, "null"...)
			return nil
		}
		return p.marshal(v)
	case []byte:
		p.JSON = append(p.JSON, `{"_placeholder":true,"num":`...)
		p.JSON = strconv.AppendInt(p.JSON, int64(len(p.Attachments)), 10)
		p.JSON = append(p.JSON, '}')
		p.Attachments = append(p.Attachments, v)
	case json.RawMessage:
		if len(v) == 0 {
			p.JSON = append(p.JSON, "null"...)
			return nil
		}
		if !json.Valid(v) {
			return errors.New("json.RawMessage is not valid JSON")
		}
		p.JSON = append(p.JSON, v...)
	case time.Time:
		p.JSON = v.UTC().AppendFormat(p.JSON, `"2006-01-02T15:04:05.000Z"`)
	case []any:
		return p.appendSlice(v, depth)
	case map[string]any:
		return p.appendMap(v, depth)
	default:
		return p.marshal(v)
	}
	return nil
}

func (p *Payload) appendSlice(v []any, depth int) error {
	p.JSON = append(p.JSON, '[')
	for i, e := range v {
		if i > 0 {
			p.JSON = append(p.JSON, ',')
		}
		if err := p.append(e, depth+1); err != nil {
			return err
		}
	}
	p.JSON = append(p.JSON, ']')
	return nil
}

func (p *Payload) appendMap(v map[string]any, depth int) error {
	p.JSON = append(p.JSON, '{')
	first := true
	for k, e := range v {
		if !first {
			p.JSON = append(p.JSON, ',')
		}
		first = false
		p.JSON = append(socketio.AppendString(p.JSON, k), ':')
		if err := p.append(e, depth+1); err != nil {
			return err
		}
	}
	p.JSON = append(p.JSON, '}')
	return nil
}

func (p *Payload) marshal(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	p.JSON = append(p.JSON, bytes.TrimSuffix(b.Bytes(), []byte{'\n'})...)
	return nil
}

// appendFrames appends the WebSocket frames of one Socket.IO packet: text (a
// packet without the Engine.IO type), then its attachments.
func appendFrames(dst, text []byte, attachments [][]byte) []byte {
	dst = websocket.AppendHeader(dst, websocket.Text, true, len(text)+1)
	dst = append(dst, byte(socketio.EngineMessage))
	dst = append(dst, text...)
	for _, a := range attachments {
		dst = websocket.AppendFrame(dst, websocket.Binary, a)
	}
	return dst
}

// newMessage builds the message for one Socket.IO packet, in one allocation for
// its frames.
func newMessage(text []byte, attachments [][]byte) *fanout.Message {
	n := websocket.FrameSize(len(text) + 1)
	for _, a := range attachments {
		n += websocket.FrameSize(len(a))
	}
	return &fanout.Message{Frame: appendFrames(make([]byte, 0, n), text, attachments), Packets: 1 + len(attachments)}
}

// scratch holds what is encoded on the way to something else, on the stack: what most clients send has its place
// there.
type scratch [512]byte

// room returns an empty slice with room for n bytes.
func (s *scratch) room(n int) []byte {
	if n > len(s) {
		return make([]byte, 0, n)
	}
	return s[:0]
}

// engineMessage builds the message for an Engine.IO packet of the given text.
func engineMessage(text string) *fanout.Message {
	return &fanout.Message{Frame: websocket.AppendFrame(nil, websocket.Text, []byte(text)), Packets: 1}
}
