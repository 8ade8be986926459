package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// userRoomPrefix begins the names of the users' rooms, in which a user's sockets are without joining.
const userRoomPrefix = "user:"

// socketIDLen is the length of a socket id, by which adapters tell private rooms from others.
const socketIDLen = 20

// room returns the room an event names in its first argument, or why the name cannot be used.
func (a *app) room(e event) (string, *failure) {
	if e.Len() == 0 {
		return "", fail(codeRoomInvalid, "the room is missing")
	}
	name, ok := decodeString(e.Raw(0))
	if !ok {
		return "", fail(codeRoomInvalid, "the room is not a string")
	}
	return name, a.checkRoom(name)
}

// checkRoom says why clients may not use a room's name.
func (a *app) checkRoom(name string) *failure {
	if err := a.validID("room", name); err != nil {
		return invalidID(codeRoomInvalid, err)
	}
	if isReserved(name) {
		return fail(codeRoomReserved, "rooms named like a socket id or beginning with %s belong to the server", userRoomPrefix)
	}
	return nil
}

func notMember() *failure { return fail(codeRoomUnknown, "the socket is not in the room") }

// memberRoom is room for events that only members may send.
func (a *app) memberRoom(s socket, e event) (string, *failure) {
	room, f := a.room(e)
	if f == nil && !s.In(room) {
		return "", notMember()
	}
	return room, f
}

// isReserved reports whether a name belongs to the server: a private room (20
// characters of a socket id's alphabet) would let a client read what is sent to another one.
func isReserved(room string) bool { return strings.HasPrefix(room, userRoomPrefix) || isSocketID(room) }

// isSocketID reports whether a name has the shape of a socket id.
func isSocketID(name string) bool {
	if len(name) != socketIDLen {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// decodeString decodes a JSON string. One without escapes, as names are, costs no decoder.
func decodeString(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), true
	}
	var s string
	return s, json.Unmarshal(raw, &s) == nil
}
