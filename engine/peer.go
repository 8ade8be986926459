package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"

	"github.com/stellara/edge/socketio"
)

// Peers reaches the other nodes, for requests that concern their sessions. A
// session's id begins with the name of the node that owns it.
type Peers interface {
	// Open begins a stream to the node of that name; ctx bounds what it may take.
	// Calls to r may begin before it returns. The error is ErrNoPeer if there is no such
	// node any more, else the node cannot be reached now.
	Open(ctx context.Context, node string, r Receiver) (Stream, error)
}

// Stream is one conversation with another node. Methods may be called from any
// goroutine and never block.
type Stream interface {
	// Send queues a copy of a message. What is sent arrives in order. After an error
	// the message does not, and the stream is of no use: it is to be closed.
	Send(kind byte, payload []byte) error
	// Close ends the stream; what was sent before arrives before the other side is
	// told. No call to this side's Receiver begins after it.
	Close()
}

// Receiver is what a stream's messages go to: one at a time, in order. Its methods
// must not block.
type Receiver interface {
	Receive(kind byte, payload []byte) // payload is valid during the call only
	// Broken is the last call: the other side closed the stream, or the nodes lost
	// each other.
	Broken(err error)
}

// ErrNoPeer says that there is no node of that name, or none any more.
var ErrNoPeer = errors.New("engine: no such node")

// Messages between the node that a request reached and the owner of its session.
// Numbers are never used for anything else: nodes of different versions meet.
const (
	// The first message of a stream, to the owner: what it is about.
	msgPoll    byte = 1  // sid: a GET. Answered with msgAnswer
	msgPost    byte = 2  // sid, then the body. Answered with msgAnswer
	msgSpoilt  byte = 12 // sid: a POST that cannot be read. Answered with msgAnswer
	msgKnown   byte = 13 // sid: is there such a session? Answered with msgAnswer
	msgUpgrade byte = 3  // sid: a WebSocket wants to take over. Answered with msgAnswer; 200 means that it may probe, with the body readsDeflate that it may agree to permessage-deflate

	// Of a WebSocket, to the owner of its conn.
	msgProbed   byte = 4  // the probe was answered
	msgTake     byte = 5  // the client sent its "5". From here on its bytes are kept until msgRelay. 1 byte: it agreed to permessage-deflate
	msgFrames   byte = 6  // bytes from the client, as they come
	msgWritten  byte = 7  // uvarint: so many bytes of msgOutput are with the kernel
	msgFrozen   byte = 8  // the answer to msgFreeze: from here on the client's bytes are kept
	msgDeclined byte = 9  // the answer to msgOffer: the move is off. 1 byte: a socket of it ended too late, and the others may have moved
	msgSettled  byte = 10 // the conn has moved, and what named its old node names the new one
	msgLost     byte = 11 // the client's connection ended: 1 byte, 0 for an end in order

	// Of a WebSocket, from the owner.
	msgAnswer byte = 20 // see appendAnswer
	msgRelay  byte = 21 // pass on what is kept, and what comes
	msgOutput byte = 22 // frames for the client
	msgFreeze byte = 23 // keep the client's bytes
	msgOffer  byte = 24 // an offer in JSON: take the conn over
	msgEnd    byte = 25 // an ending in JSON: all that was for the client before the cut has been sent
	msgOver   byte = 26 // a socket ended while it moved: what becomes of its session, a fate, 1 byte; its id
)

// readsDeflate says that the owner reads compressed messages, whether it agrees to
// them itself or not. Owners of older versions do not say it.
const readsDeflate = "deflate"

// peerOf is the node that owns a session of that id, "" if that is not another
// node, or the id is none.
func (s *Server) peerOf(sid string) string {
	if s.cfg.Peers == nil || len(sid) != idLen || !socketio.IsBase64URL(sid) || sid[:nodeLen] == s.cfg.Node {
		return ""
	}
	return sid[:nodeLen]
}

// Accept takes a stream that another node opened, with its first message. It
// returns nil if the stream is of no use. What another node asks is answered by
// this one or not at all: nothing is relayed twice.
func (s *Server) Accept(st Stream, kind byte, payload []byte) Receiver {
	if len(payload) < idLen {
		return nil
	}
	c, body := s.sessions.get(string(payload[:idLen])), payload[idLen:]
	switch kind {
	case msgPoll:
		return s.servePoll(st, c)
	case msgPost, msgSpoilt:
		st.Send(msgAnswer, appendAnswer(nil, servePost(c, kind, body)))
		st.Close()
		return ignored{}
	case msgKnown:
		a := answer{status: http.StatusOK}
		if c == nil {
			a = failure(socketio.ErrSessionIDUnknown)
		}
		st.Send(msgAnswer, appendAnswer(nil, a))
		st.Close()
		return ignored{}
	case msgUpgrade:
		return s.serveUpgrade(st, c)
	}
	return nil
}

// ignored is the Receiver of a stream that is over.
type ignored struct{}

func (ignored) Receive(byte, []byte) {}
func (ignored) Broken(error)         {}

// noError stands for the code of an answer that is none of Engine.IO's errors.
const noError = 0xff

// appendAnswer encodes an answer: its status, 2 bytes; the code of Engine.IO's
// error or noError; the body.
func appendAnswer(dst []byte, a answer) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(a.status))
	if a.failed != nil {
		return append(dst, byte(a.failed.Code))
	}
	return append(append(dst, noError), a.body...)
}

// parseAnswer decodes what appendAnswer encoded; the body is a copy.
func parseAnswer(b []byte) answer {
	if len(b) < 3 {
		return answer{status: http.StatusBadGateway}
	}
	a := answer{status: int(binary.BigEndian.Uint16(b))}
	if a.status < 200 || a.status > 599 {
		return answer{status: http.StatusBadGateway}
	}
	if b[2] == noError {
		a.body = append([]byte{}, b[3:]...)
		return a
	}
	for _, e := range []socketio.EngineError{
		socketio.ErrTransportUnknown, socketio.ErrSessionIDUnknown, socketio.ErrBadHandshakeMethod, socketio.ErrBadRequest,
		socketio.ErrForbidden, socketio.ErrUnsupportedProtocol,
	} {
		if e.Code == int(b[2]) {
			return failure(e)
		}
	}
	return answer{status: http.StatusBadGateway}
}
