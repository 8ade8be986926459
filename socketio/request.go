package socketio

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// RequestType is the type of a request between the nodes of the classic adapter, or of an answer that carries one.
type RequestType uint8

// The types of requests and answers; the last two are answers to RequestBroadcast.
const (
	RequestSockets RequestType = iota // legacy
	RequestAllRooms
	RequestRemoteJoin
	RequestRemoteLeave
	RequestRemoteDisconnect
	RequestRemoteFetch
	RequestServerSideEmit
	RequestBroadcast
	RequestBroadcastClientCount
	RequestBroadcastAck
)

// BroadcastOptions select sockets: those in any of Rooms (in the namespace, if there are none) and in none of Except.
type BroadcastOptions struct {
	Rooms, Except []string
}

// Request is a message on the request channel. Which fields matter depends on Type:
//
//	RequestSockets           RequestID, Rooms
//	RequestAllRooms          RequestID
//	RequestRemoteJoin/Leave  Opts and Rooms; the legacy form, without HasOpts: RequestID, SID, Room
//	RequestRemoteDisconnect  Opts and Close; the legacy form: RequestID, SID, Close
//	RequestRemoteFetch       RequestID, Opts
//	RequestServerSideEmit    Data, and RequestID if an answer is wanted
//	RequestBroadcast         RequestID, Namespace, Packet, Opts, Flags
type Request struct {
	UID       string // sender; "emitter" or empty for an emitter
	RequestID string // empty if no answer is wanted
	Type      RequestType

	Opts    BroadcastOptions
	HasOpts bool
	Flags   Flags
	Rooms   []string

	SID, Room string // legacy forms
	Close     bool

	Data      json.RawMessage // JSON array [event, ...args]
	Namespace string          // of Packet
	Packet    []byte          // MessagePack array [event, ...args]
}

// ParseRequest reads a message of the request channel, JSON if it starts with a brace, else MessagePack. Data and Packet
// may alias payload. A missing list is empty, rooms that are numbers become text. An error means the message is to be
// ignored: it is malformed, its type is unknown or an answer's, or it lacks what its type needs.
func ParseRequest(payload []byte) (Request, error) {
	var r Request
	var err error
	if len(payload) > 0 && payload[0] == '{' {
		r, err = requestFromJSON(payload)
	} else {
		r, err = requestFromMsgpack(payload)
	}
	if err != nil {
		return Request{}, err
	}
	return r, r.check()
}

// check tells what the request lacks.
func (r *Request) check() error {
	needsID := false
	switch r.Type {
	case RequestRemoteJoin, RequestRemoteLeave, RequestRemoteDisconnect:
		if !r.HasOpts && r.SID == "" {
			return fmt.Errorf("socketio: request of type %d has neither opts nor sid", r.Type)
		}
	case RequestServerSideEmit:
		if len(r.Data) == 0 || r.Data[0] != '[' {
			return errors.New("socketio: server-side emit without a data array")
		}
	case RequestBroadcast:
		if r.Packet == nil {
			return errors.New("socketio: broadcast request without a packet")
		}
		needsID = true
	case RequestSockets, RequestAllRooms, RequestRemoteFetch:
		needsID = true
	default:
		return fmt.Errorf("socketio: unknown request type %d", r.Type)
	}
	if needsID && r.RequestID == "" {
		return fmt.Errorf("socketio: request of type %d without requestId", r.Type)
	}
	if (r.Type == RequestBroadcast || r.Type == RequestRemoteFetch) && !r.HasOpts {
		return fmt.Errorf("socketio: request of type %d without opts", r.Type)
	}
	return nil
}

// AppendRequest appends the request as its initiator in @socket.io/redis-adapter sends it (with an empty UID: as the
// emitter does), JSON except for RequestBroadcast, which is MessagePack. Lists are never null.
func AppendRequest(dst []byte, r *Request) []byte {
	if r.Type == RequestBroadcast {
		return appendBroadcastRequest(dst, r)
	}
	withID := r.RequestID != ""
	switch r.Type {
	case RequestRemoteJoin, RequestRemoteLeave, RequestRemoteDisconnect:
		withID = withID && !r.HasOpts
	}
	dst = append(dst, '{')
	if r.UID != "" {
		dst = append(AppendString(append(dst, `"uid":`...), r.UID), ',')
	}
	if withID {
		dst = append(AppendString(append(dst, `"requestId":`...), r.RequestID), ',')
	}
	dst = strconv.AppendUint(append(dst, `"type":`...), uint64(r.Type), 10)
	switch r.Type {
	case RequestSockets:
		dst = appendStrings(append(dst, `,"rooms":`...), r.Rooms)
	case RequestRemoteJoin, RequestRemoteLeave:
		if r.HasOpts {
			dst = appendOpts(dst, r.Opts)
			dst = appendStrings(append(dst, `,"rooms":`...), r.Rooms)
		} else {
			dst = AppendString(append(dst, `,"sid":`...), r.SID)
			dst = AppendString(append(dst, `,"room":`...), r.Room)
		}
	case RequestRemoteDisconnect:
		if r.HasOpts {
			dst = appendOpts(dst, r.Opts)
		} else {
			dst = AppendString(append(dst, `,"sid":`...), r.SID)
		}
		dst = strconv.AppendBool(append(dst, `,"close":`...), r.Close)
	case RequestRemoteFetch:
		dst = appendOpts(dst, r.Opts)
	case RequestServerSideEmit:
		dst = appendRaw(append(dst, `,"data":`...), r.Data, "[]")
	}
	return append(dst, '}')
}

func appendOpts(dst []byte, o BroadcastOptions) []byte {
	dst = appendStrings(append(dst, `,"opts":{"rooms":`...), o.Rooms)
	dst = appendStrings(append(dst, `,"except":`...), o.Except)
	return append(dst, '}')
}

// appendRaw appends raw JSON, or what stands for it when there is none.
func appendRaw(dst []byte, raw json.RawMessage, absent string) []byte {
	if len(raw) == 0 {
		return append(dst, absent...)
	}
	return append(dst, raw...)
}

func appendBroadcastRequest(dst []byte, r *Request) []byte {
	dst = AppendMsgpackMapHeader(dst, 5)
	dst = AppendMsgpackString(AppendMsgpackString(dst, "uid"), r.UID)
	dst = AppendMsgpackString(AppendMsgpackString(dst, "requestId"), r.RequestID)
	dst = AppendMsgpackUint(AppendMsgpackString(dst, "type"), uint64(r.Type))
	dst = appendEventPacket(AppendMsgpackString(dst, "packet"), r.Namespace, r.Packet, 0, false)
	dst = AppendMsgpackMapHeader(AppendMsgpackString(dst, "opts"), 3)
	return appendTarget(dst, r.Opts.Rooms, r.Opts.Except, &r.Flags)
}
