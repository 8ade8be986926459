package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/state"
)

// ackCode is the code of an ack {ok:false, code, error}. The set is closed: clients branch on it.
type ackCode string

// Ack codes.
const (
	codeRoomReserved   ackCode = "room_reserved"   // the name belongs to the server: a socket id's shape, or user:
	codeRoomInvalid    ackCode = "room_invalid"    // not a room name
	codeRoomUnknown    ackCode = "room_unknown"    // the socket is not in the room
	codeNotAllowed     ackCode = "not_allowed"     // the token does not allow it
	codeTooManyRooms   ackCode = "too_many_rooms"  // the socket is in MAX_ROOMS rooms
	codePayloadInvalid ackCode = "payload_invalid" // arguments missing or of the wrong kind
	codeTooLarge       ackCode = "too_large"       // a message that receivers could not be sent
	codeQueueFull      ackCode = "queue_full"      // the node has too many messages waiting for Redis: try again later
	codeUnavailable    ackCode = "unavailable"     // Redis could not be asked, or refused; nothing was done: try again later
	codeUnknown        ackCode = "unknown"         // Redis did not answer: the message may have been sent, or may still be
)

// failure is why an event was not carried out.
type failure struct {
	code ackCode
	text string
}

// fail makes a failure; the text is for people.
func fail(code ackCode, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// publishRefused says why publish took a message not at all: the queue, or the message.
func publishRefused(err error) *failure {
	switch {
	case errors.Is(err, state.ErrQueueFull):
		return fail(codeQueueFull, "too many messages are waiting, try again later")
	case errors.Is(err, state.ErrClosed), errors.Is(err, state.ErrUnavailable):
		return unavailable()
	case errors.Is(err, engine.ErrTooLarge):
		return fail(codeTooLarge, "the message is too large for its receivers")
	}
	return fail(codePayloadInvalid, "the message cannot be encoded")
}

// unavailable is said for whatever Redis did. Its own words stay in the logs.
func unavailable() *failure {
	return fail(codeUnavailable, "the service is unavailable, try again later")
}

// unknown is said when a message may have been published.
func unknown() *failure {
	return fail(codeUnknown, "it is not known whether the message was sent; sending it again with the same id is safe")
}

// refuse counts a failed event and tells the client if it wants to know.
func (a *app) refuse(e event, f *failure) {
	a.refused.Inc()
	if !e.WantsAck() {
		return
	}
	b := append(make([]byte, 0, 96), `[{"ok":false,"code":`...)
	b = socketio.AppendString(b, string(f.code))
	b = append(b, `,"error":`...)
	b = socketio.AppendString(b, f.text)
	acknowledge(e, &engine.Payload{JSON: append(b, `}]`...)})
}

// accept answers {ok:true}.
func accept(e event) {
	if e.WantsAck() {
		acknowledge(e, &engine.Payload{JSON: []byte(`[{"ok":true}]`)})
	}
}

// invalidID says why an id was refused, without the name of the package that found out.
func invalidID(code ackCode, err error) *failure {
	return &failure{code, strings.TrimPrefix(err.Error(), "state: ")}
}

// acknowledge answers the client. That it may be gone by now is no failure of the event.
func acknowledge(e event, p *engine.Payload) { _ = e.AckPayload(p) }
