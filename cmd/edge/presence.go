package main

import (
	"encoding/json"
	"strconv"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/state"
)

// askPresence answers who is there: for a room the socket is in, {ok, room,
// count, users, seq, epoch}; for an array of user ids, {ok, online} with those
// that are online, in the order asked. The socket's later packets wait for the answer,
// so a client has one question open at a time.
func (a *app) askPresence(s socket, e event) {
	if e.Len() > 0 && len(e.Raw(0)) > 0 && e.Raw(0)[0] == '[' {
		a.askUsers(e)
		return
	}
	room, f := a.memberRoom(s, e)
	if f != nil {
		a.refuse(e, f)
		return
	}
	if !e.WantsAck() {
		return // nobody to tell
	}
	release := e.Hold()
	a.reads.members(room, func(snap *snapshot, err error) {
		a.answer(e, snap, err)
		release()
	})
}

func (a *app) askUsers(e event) {
	var users []string
	if json.Unmarshal(e.Raw(0), &users) != nil {
		a.refuse(e, fail(codePayloadInvalid, "the user ids are not an array of strings"))
		return
	}
	if len(users) > maxListed {
		a.refuse(e, fail(codePayloadInvalid, "%d user ids asked for, at most %d are answered", len(users), maxListed))
		return
	}
	for _, u := range users {
		if err := a.validID("user", u); err != nil {
			a.refuse(e, invalidID(codePayloadInvalid, err))
			return
		}
	}
	if !e.WantsAck() {
		return
	}
	release := e.Hold()
	a.reads.online(users, func(snap *snapshot, err error) {
		a.answer(e, snap, err)
		release()
	})
}

// answer acknowledges a read.
func (a *app) answer(e event, snap *snapshot, err error) {
	if err != nil {
		a.refuse(e, unavailable())
		return
	}
	acknowledge(e, snap.ack)
}

// snapshot is an answer to a presence read, encoded once for all who asked the same.
type snapshot struct {
	ack  *engine.Payload
	room state.Snapshot // of which it is
}

// event is the snapshot as an event for one socket. Called with reads.order held.
func (s *snapshot) event() *engine.Payload {
	return &engine.Payload{JSON: updatePayload(state.PresenceUpdate{
		Room: s.room.Room, Full: true, Users: s.room.Users, Count: s.room.Count, Seq: s.room.Seq, Epoch: s.room.Epoch,
	})}
}

// roomOnly answers for a room about which nothing could be read.
func roomOnly(room string) *snapshot {
	b := socketio.AppendString([]byte(`[{"ok":true,"room":`), room)
	return &snapshot{ack: &engine.Payload{JSON: append(b, `}]`...)}}
}

// roomSnapshot lists the users if they are few enough; count, and where in the
// room's history it is, always hold.
func roomSnapshot(m state.Snapshot) *snapshot {
	b := socketio.AppendString([]byte(`[{"ok":true,"room":`), m.Room)
	b = appendCount(b, m.Count)
	if listed(m.Count, m.Users) {
		b = appendStrings(append(b, `,"users":`...), m.Users)
	}
	return &snapshot{ack: &engine.Payload{JSON: append(appendPosition(b, m.Epoch, m.Seq), `}]`...)}, room: m}
}

// listed reports whether all of a room's users are there and fit into one packet.
func listed(count int, users []string) bool {
	return count <= maxListed && len(users) == count && listable(users)
}

func appendCount(b []byte, count int) []byte {
	return strconv.AppendInt(append(b, `,"count":`...), int64(count), 10)
}

// appendPosition says after which change of the room something holds.
func appendPosition(b []byte, epoch string, seq uint64) []byte {
	b = strconv.AppendUint(append(b, `,"seq":`...), seq, 10)
	return socketio.AppendString(append(b, `,"epoch":`...), epoch)
}

// onlineSnapshot lists those of users that are online.
func onlineSnapshot(users []string, online []bool) *snapshot {
	there := make([]string, 0, len(users))
	for i, u := range users {
		if online[i] {
			there = append(there, u)
		}
	}
	b := appendStrings([]byte(`[{"ok":true,"online":`), there)
	return &snapshot{ack: &engine.Payload{JSON: append(b, `}]`...)}}
}

// presenceUpdated tells the room's members on this node. Every node hears
// every update of the rooms it has members in, so each tells its own.
func (a *app) presenceUpdated(u state.PresenceUpdate) {
	p := &engine.Payload{JSON: updatePayload(u)}
	a.reads.update(u, func() {
		if err := a.local(u.Room, p); err != nil {
			a.log.Debug("presence update not delivered", "error", err)
		}
	})
}

// updatePayload is ["presence", {room, joined, left, count, prev, seq, epoch}],
// or with a snapshot ["presence", {room, users, count, seq, epoch}]; in large
// rooms the names are omitted and only the numbers remain.
func updatePayload(u state.PresenceUpdate) []byte {
	b := socketio.AppendString([]byte(`["presence",{"room":`), u.Room)
	switch {
	case u.Full && listed(u.Count, u.Users):
		b = appendStrings(append(b, `,"users":`...), u.Users)
	case !u.Full && u.Count <= maxListed && listable(u.Joined, u.Left):
		b = appendStrings(append(b, `,"joined":`...), u.Joined)
		b = appendStrings(append(b, `,"left":`...), u.Left)
	}
	b = appendCount(b, u.Count)
	if !u.Full {
		b = strconv.AppendUint(append(b, `,"prev":`...), u.Prev, 10)
	}
	return append(appendPosition(b, u.Epoch, u.Seq), `}]`...)
}

// listable reports whether the names fit into one packet.
func listable(lists ...[]string) bool {
	names, bytes := 0, 0
	for _, l := range lists {
		names += len(l)
		for _, s := range l {
			bytes += len(s) + 3
		}
	}
	return names <= maxListed && bytes <= maxListBytes
}

// appendStrings appends a JSON array of strings, [] when there are none.
func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = socketio.AppendString(dst, s)
	}
	return append(dst, ']')
}
