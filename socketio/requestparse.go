package socketio

import (
	"errors"
	"fmt"
)

func requestFromJSON(payload []byte) (Request, error) {
	var r Request
	hasType := false
	err := eachMember(payload, MaxDepth+envelopeDepth, func(name string, value []byte) (err error) {
		switch name {
		case "uid":
			r.UID, err = textFromJSON(value, "uid")
		case "requestId":
			r.RequestID, err = textFromJSON(value, "requestId")
		case "type":
			hasType = true
			r.Type, err = requestType(value)
		case "opts":
			if r.HasOpts = !isNull(value); r.HasOpts {
				err = r.optsFromJSON(value)
			}
		case "rooms":
			r.Rooms, err = textsFromJSON(value, "rooms")
		case "sid":
			r.SID, err = textFromJSON(value, "sid")
		case "room":
			r.Room, err = textFromJSON(value, "room")
		case "close":
			r.Close = jsonTruthy(value)
		case "data":
			r.Data = value
		case "packet":
			err = r.packetFromJSON(value)
		}
		return err
	})
	if err == nil && !hasType {
		err = errors.New("socketio: request without type")
	}
	return r, err
}

// requestType reads a type of a request or answer.
func requestType(value []byte) (RequestType, error) {
	if len(value) != 1 || !isDigit(value[0]) {
		return 0, fmt.Errorf("socketio: unknown request type %.20s", value)
	}
	return RequestType(value[0] - '0'), nil
}

func (r *Request) optsFromJSON(data []byte) error {
	return eachMember(data, MaxDepth+envelopeDepth, func(name string, value []byte) (err error) {
		switch name {
		case "rooms":
			r.Opts.Rooms, err = textsFromJSON(value, "rooms")
		case "except":
			r.Opts.Except, err = textsFromJSON(value, "except")
		case "flags":
			r.Flags, err = flagsFromJSON(value, MaxDepth+envelopeDepth)
		}
		return err
	})
}

// packetFromJSON reads the packet of a broadcast request; a peer with another parser may send it as JSON.
func (r *Request) packetFromJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	r.Namespace = "/"
	return eachMember(data, MaxDepth+envelopeDepth, func(name string, value []byte) (err error) {
		switch name {
		case "data":
			if value[0] != '[' {
				return errors.New("socketio: packet data is not an array")
			}
			r.Packet, err = AppendMsgpackFromJSON(nil, value, nil)
		case "nsp":
			r.Namespace, err = textFromJSON(value, "nsp")
		}
		return err
	})
}

func requestFromMsgpack(payload []byte) (Request, error) {
	var r Request
	hasType := false
	c := cursor{data: payload}
	n, err := c.expect(kindMap, "request")
	if err != nil {
		return r, err
	}
	for range n {
		name, err := c.name()
		if err != nil {
			return r, err
		}
		if string(name) == "type" {
			hasType = true
		}
		if string(name) != "type" && c.skipNil() {
			continue
		}
		if err := r.fieldFromMsgpack(&c, string(name)); err != nil {
			return r, err
		}
	}
	if !hasType {
		return r, errors.New("socketio: request without type")
	}
	return r, c.end()
}

// fieldFromMsgpack reads the value of one field of the request.
func (r *Request) fieldFromMsgpack(c *cursor, name string) (err error) {
	switch name {
	case "uid":
		r.UID, err = c.text("", "uid")
	case "requestId":
		r.RequestID, err = c.text("", "requestId")
	case "type":
		r.Type, err = c.requestType()
	case "opts":
		var b Broadcast
		err = c.options(&b)
		r.HasOpts, r.Opts, r.Flags = true, BroadcastOptions{Rooms: b.Rooms, Except: b.Except}, b.Flags
	case "rooms":
		r.Rooms, err = c.texts(nil, "rooms")
	case "sid":
		r.SID, err = c.text("", "sid")
	case "room":
		r.Room, err = c.text("", "room")
	case "close":
		var h head
		start := c.pos
		if h, err = c.header(); err == nil {
			r.Close = h.truthy()
			c.pos = start
			err = c.skip()
		}
	case "data":
		r.Data, err = c.json("data")
	case "packet":
		var b Broadcast
		err = c.eventPacket(&b)
		r.Namespace, r.Packet = b.Namespace, b.Data
	default:
		err = c.skip()
	}
	return err
}

func (c *cursor) requestType() (RequestType, error) {
	t, err := c.integer("request type")
	if err == nil && t > uint64(RequestBroadcastAck) {
		err = fmt.Errorf("socketio: unknown request type %d", t)
	}
	return RequestType(t), err
}

// json reads one value as JSON in new memory. Binary data has no place in it.
func (c *cursor) json(what string) ([]byte, error) {
	out, atts, rest, err := AppendJSONFromMsgpack(nil, c.rest(), nil)
	if err == nil && len(atts) > 0 {
		err = fmt.Errorf("socketio: %s contains binary data", what)
	}
	if err != nil {
		return nil, err
	}
	c.pos = len(c.data) - len(rest)
	return out, nil
}

// isNull reports whether raw JSON is null.
func isNull(value []byte) bool { return string(value) == "null" }

// jsonTruthy reports what JavaScript makes of a value in a condition.
func jsonTruthy(value []byte) bool {
	switch value[0] {
	case 'n', 'f':
		return false
	case '"':
		return len(value) > 2
	case '[', '{', 't':
		return true
	}
	return parseFloat(value) != 0
}

// textFromJSON reads a string, or a number or boolean as its text; null counts as empty.
func textFromJSON(value []byte, what string) (string, error) {
	if value[0] == 't' || value[0] == 'f' {
		return string(value), nil
	}
	if isNull(value) {
		return "", nil
	}
	text, ok := EventName(value)
	if !ok {
		return "", fmt.Errorf("socketio: %s is neither string nor number", what)
	}
	return text, nil
}

// textsFromJSON reads an array of texts; null counts as empty.
func textsFromJSON(value []byte, what string) ([]string, error) {
	if isNull(value) {
		return nil, nil
	}
	var list []string
	err := eachElement(value, MaxDepth+envelopeDepth, func(element []byte) error {
		text, err := textFromJSON(element, what)
		list = append(list, text)
		return err
	})
	return list, err
}
