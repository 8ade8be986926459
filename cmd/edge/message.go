package main

import (
	"strconv"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/socketio"
)

// message publishes ["message", room, {from, ts}, ...args] to the room. The
// ack says {ok:true} only after Redis accepted it. The arguments are passed on
// as the bytes they came in, attachments included.
func (a *app) message(s socket, e event) {
	room, f := a.memberRoom(s, e)
	if f == nil && e.Len() < 2 {
		f = fail(codePayloadInvalid, "the message has no content")
	}
	if f != nil {
		a.refuse(e, f)
		return
	}
	p := &engine.Payload{JSON: messagePayload(room, identityOf(s).User, a.now().UnixMilli(), e), Attachments: e.Attachments()}
	err := a.publish(room, p, func(err error) {
		if err != nil {
			a.log.Debug("message not published", "error", err)
			a.refuse(e, unavailable())
			return
		}
		accept(e)
	})
	if err != nil {
		a.refuse(e, publishRefused(err))
	}
}

// messagePayload is the data array of the event that members receive. ts is
// the publishing node's clock in Unix milliseconds. The room is a string
// without placeholders, so the attachments keep their numbers.
func messagePayload(room, user string, ts int64, e event) []byte {
	size := 64 + len(room) + len(user)
	for i := 1; i < e.Len(); i++ {
		size += 1 + len(e.Raw(i))
	}
	b := append(make([]byte, 0, size), `["message",`...)
	b = socketio.AppendString(b, room)
	b = append(b, `,{"from":`...)
	b = socketio.AppendString(b, user)
	b = append(b, `,"ts":`...)
	b = strconv.AppendInt(b, ts, 10)
	b = append(b, '}')
	for i := 1; i < e.Len(); i++ {
		b = append(b, ',')
		b = append(b, e.Raw(i)...)
	}
	return append(b, ']')
}
