package main

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/state"
)

// message publishes ["message", room, {from, ts, id?}, ...args] to the room. The
// ack says {ok:true} only after Redis accepted it. The arguments are passed on
// as the bytes they came in, attachments included.
//
// Instead of the room's name a client may send {room, id}: of all messages that
// its user sent with that id within 5 minutes, to whatever node, the first is
// published and the others are acknowledged as if they were.
func (a *app) message(s socket, e event) {
	room, id, f := a.address(s, e)
	who := identityOf(s)
	if f == nil && !who.grant.Load().mayPublish(room) {
		f = fail(codeNotAllowed, "the token does not allow to send to this room")
	}
	if f == nil && e.Len() < 2 {
		f = fail(codePayloadInvalid, "the message has no content")
	}
	if f != nil {
		a.refuse(e, f)
		return
	}
	p := &engine.Payload{JSON: messagePayload(room, who.User, id, a.now().UnixMilli(), e), Attachments: e.Attachments()}
	once := ""
	if id != "" {
		once = onceName(who.User, id)
	}
	err := a.publish(room, once, p, func(err error) {
		switch {
		case errors.Is(err, state.ErrUnknown):
			a.log.Debug("message of unknown fate", "error", err)
			a.refuse(e, unknown())
		case err != nil:
			a.log.Debug("message not published", "error", err)
			a.refuse(e, unavailable())
		default:
			accept(e)
		}
	})
	if err != nil {
		a.refuse(e, publishRefused(err))
	}
}

// onceName is the name under which a user's message of that id is published once. No user has braces in its id, so nobody
// can name another user's messages, whatever is in the ids: a user that may choose "b#1" is not the user "a#b".
func onceName(user, id string) string { return user + "{}#" + id }

// maxMessageID bounds a client's message id, in bytes.
const maxMessageID = 64

// address is the room of a message, and its id if the client gave it one.
func (a *app) address(s socket, e event) (room, id string, f *failure) {
	if e.Len() == 0 || len(e.Raw(0)) == 0 || e.Raw(0)[0] != '{' {
		room, f = a.memberRoom(s, e)
		return room, "", f
	}
	var to struct{ Room, ID *string }
	if json.Unmarshal(e.Raw(0), &to) != nil || to.Room == nil {
		return "", "", fail(codeRoomInvalid, "the message is not addressed to a room: a name, or {room, id}")
	}
	if to.ID != nil {
		if id = *to.ID; id == "" || len(id) > maxMessageID {
			return "", "", fail(codePayloadInvalid, "the message id must have 1 to %d bytes", maxMessageID)
		}
	}
	if f = a.checkRoom(*to.Room); f == nil && !s.In(*to.Room) {
		f = notMember()
	}
	return *to.Room, id, f
}

// messagePayload is the data array of the event that members receive. ts is
// the publishing node's clock in Unix milliseconds. The room is a string
// without placeholders, so the attachments keep their numbers.
func messagePayload(room, user, id string, ts int64, e event) []byte {
	size := 80 + len(room) + len(user) + len(id)
	for i := 1; i < e.Len(); i++ {
		size += 1 + len(e.Raw(i))
	}
	b := append(make([]byte, 0, size), `["message",`...)
	b = socketio.AppendString(b, room)
	b = append(b, `,{"from":`...)
	b = socketio.AppendString(b, user)
	b = append(b, `,"ts":`...)
	b = strconv.AppendInt(b, ts, 10)
	if id != "" {
		b = socketio.AppendString(append(b, `,"id":`...), id)
	}
	b = append(b, '}')
	for i := 1; i < e.Len(); i++ {
		b = append(b, ',')
		b = append(b, e.Raw(i)...)
	}
	return append(b, ']')
}
