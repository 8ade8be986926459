package socketio

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// RemoteSocket describes a socket in the answer to RequestRemoteFetch.
type RemoteSocket struct {
	ID        string
	Handshake json.RawMessage // object; nil is sent as {}
	Rooms     []string
	Data      json.RawMessage // nil is sent as {}
}

// Response is a message on a response channel. It is recognised by its RequestID; which of the fields it has depends on the
// request that it answers, and each Has field tells whether the message carried its list or value at all: Node.js counts
// such an answer but never completes on it, here the caller may decide.
type Response struct {
	RequestID string
	Type      RequestType // meaningful with HasType: RequestServerSideEmit or one of the two answers to RequestBroadcast
	HasType   bool

	SocketIDs  []string       // answer to RequestSockets
	Sockets    []RemoteSocket // answer to RequestRemoteFetch
	HasSockets bool           // either of the two, possibly empty
	Rooms      []string       // answer to RequestAllRooms
	HasRooms   bool

	ClientCount int             // of RequestBroadcastClientCount
	Data        json.RawMessage // of RequestServerSideEmit: one value, nil if absent
	Packet      []byte          // of RequestBroadcastAck: one MessagePack value, nil if the client acknowledged with nothing
}

// ParseResponse reads a message of a response channel, JSON if it starts with a brace, else MessagePack. Data and Packet
// may alias payload. An error means the message is to be ignored.
func ParseResponse(payload []byte) (Response, error) {
	var r Response
	var err error
	if len(payload) > 0 && payload[0] == '{' {
		err = r.fromJSON(payload)
	} else {
		err = r.fromMsgpack(payload)
	}
	if err == nil && r.RequestID == "" {
		err = errors.New("socketio: response without requestId")
	}
	if err != nil {
		return Response{}, err
	}
	return r, nil
}

func (r *Response) fromJSON(payload []byte) error {
	return eachMember(payload, MaxDepth+envelopeDepth, func(name string, value []byte) (err error) {
		switch name {
		case "requestId":
			r.RequestID, err = textFromJSON(value, "requestId")
		case "type":
			r.HasType = true
			r.Type, err = requestType(value)
		case "sockets":
			err = r.socketsFromJSON(value)
		case "rooms":
			r.Rooms, err = textsFromJSON(value, "rooms")
			r.HasRooms = value[0] == '['
		case "clientCount":
			r.ClientCount, err = strconv.Atoi(string(value))
			if err != nil || r.ClientCount < 0 {
				err = fmt.Errorf("socketio: clientCount is %.20s", value)
			}
		case "data":
			r.Data = value
		case "packet":
			r.Packet, err = AppendMsgpackFromJSON(nil, value, nil)
		}
		return err
	})
}

// socketsFromJSON reads the socket ids of one kind of answer or the descriptions of the other.
func (r *Response) socketsFromJSON(value []byte) error {
	if r.HasSockets = value[0] == '['; !r.HasSockets {
		return nil
	}
	return eachElement(value, MaxDepth+envelopeDepth, func(element []byte) error {
		if element[0] != '{' {
			id, err := textFromJSON(element, "sockets")
			r.SocketIDs = append(r.SocketIDs, id)
			return err
		}
		socket, err := remoteSocketFromJSON(element)
		r.Sockets = append(r.Sockets, socket)
		return err
	})
}

func remoteSocketFromJSON(data []byte) (RemoteSocket, error) {
	var s RemoteSocket
	err := eachMember(data, MaxDepth+envelopeDepth, func(name string, value []byte) (err error) {
		switch name {
		case "id":
			s.ID, err = textFromJSON(value, "id")
		case "handshake":
			s.Handshake = value
		case "rooms":
			s.Rooms, err = textsFromJSON(value, "rooms")
		case "data":
			s.Data = value
		}
		return err
	})
	return s, err
}

func (r *Response) fromMsgpack(payload []byte) error {
	c := cursor{data: payload}
	n, err := c.expect(kindMap, "response")
	if err != nil {
		return err
	}
	for range n {
		name, err := c.name()
		if err != nil {
			return err
		}
		switch string(name) {
		case "requestId":
			r.RequestID, err = c.text("", "requestId")
		case "type":
			r.HasType = true
			r.Type, err = c.requestType()
		case "rooms":
			r.Rooms, err = c.texts(nil, "rooms")
			r.HasRooms = true
		case "clientCount":
			var n uint64
			n, err = c.integer("clientCount")
			r.ClientCount = int(n)
		case "packet":
			r.Packet, err = c.raw()
		case "data":
			r.Data, err = c.json("data")
		case "sockets":
			var sockets []byte
			if sockets, err = c.json("sockets"); err == nil {
				err = r.socketsFromJSON(sockets)
			}
		default:
			err = c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.end()
}

func appendRequestID(dst []byte, requestID string) []byte {
	return AppendString(append(dst, `"requestId":`...), requestID)
}

// AppendSocketsResponse appends the answer to RequestSockets: the ids of local sockets.
func AppendSocketsResponse(dst []byte, requestID string, ids []string) []byte {
	dst = appendRequestID(append(dst, '{'), requestID)
	dst = appendStrings(append(dst, `,"sockets":`...), ids)
	return append(dst, '}')
}

// AppendRoomsResponse appends the answer to RequestAllRooms: the names of local rooms.
func AppendRoomsResponse(dst []byte, requestID string, rooms []string) []byte {
	dst = appendRequestID(append(dst, '{'), requestID)
	dst = appendStrings(append(dst, `,"rooms":`...), rooms)
	return append(dst, '}')
}

// AppendFetchResponse appends the answer to RequestRemoteFetch: the matching local sockets.
func AppendFetchResponse(dst []byte, requestID string, sockets []RemoteSocket) []byte {
	dst = appendRequestID(append(dst, '{'), requestID)
	dst = append(dst, `,"sockets":[`...)
	for i := range sockets {
		if i > 0 {
			dst = append(dst, ',')
		}
		s := &sockets[i]
		dst = AppendString(append(dst, `{"id":`...), s.ID)
		dst = appendRaw(append(dst, `,"handshake":`...), s.Handshake, "{}")
		dst = appendStrings(append(dst, `,"rooms":`...), s.Rooms)
		dst = appendRaw(append(dst, `,"data":`...), s.Data, "{}")
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// AppendClientCount appends the first answer to RequestBroadcast: how many local clients it went to, also when none.
func AppendClientCount(dst []byte, requestID string, n int) []byte {
	dst = appendRequestID(append(dst, `{"type":8,`...), requestID)
	dst = strconv.AppendInt(append(dst, `,"clientCount":`...), int64(n), 10)
	return append(dst, '}')
}

// AppendBroadcastAck appends the further answer to RequestBroadcast for each client that acknowledged. packet is the
// first argument of the acknowledgement as one MessagePack value, nil if it had none.
func AppendBroadcastAck(dst []byte, requestID string, packet []byte) []byte {
	n := 2
	if packet != nil {
		n++
	}
	dst = AppendMsgpackMapHeader(dst, n)
	dst = AppendMsgpackUint(AppendMsgpackString(dst, "type"), uint64(RequestBroadcastAck))
	dst = AppendMsgpackString(AppendMsgpackString(dst, "requestId"), requestID)
	if packet != nil {
		dst = append(AppendMsgpackString(dst, "packet"), packet...)
	}
	return dst
}

// AppendServerSideEmitResponse appends the answer to RequestServerSideEmit: data is one JSON value, nil is sent as null.
// It always goes to the response channel that all nodes share.
func AppendServerSideEmitResponse(dst []byte, requestID string, data json.RawMessage) []byte {
	dst = appendRequestID(append(dst, `{"type":6,`...), requestID)
	dst = appendRaw(append(dst, `,"data":`...), data, "null")
	return append(dst, '}')
}

// AppendLegacyResponse appends the answer to a request in its legacy form, which only the owner of the socket gives.
func AppendLegacyResponse(dst []byte, requestID string) []byte {
	return append(appendRequestID(append(dst, '{'), requestID), '}')
}
