package socketio

import (
	"errors"
	"fmt"
)

// reservedEvents are the names no packet may carry as event, in either direction (socket.io-parser, RESERVED_EVENTS).
func reservedEvents() [6]string {
	return [...]string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
}

// ReservedEvent reports whether name may not be used as an event name: Socket.IO gives it a meaning of its own.
func ReservedEvent(name string) bool {
	for _, reserved := range reservedEvents() {
		if name == reserved {
			return true
		}
	}
	return false
}

// EventName decodes the first element of an event's array, as SplitArray gives it. An event name is a string or a number;
// a number counts as its text, as in JavaScript (1.0 is "1"). ok is false for anything else.
func EventName(first []byte) (name string, ok bool) {
	s := newScanner(first)
	literal, ok := s.document()
	if !ok {
		return "", false
	}
	var text [64]byte // so that the name is the only allocation
	switch c := literal[0]; {
	case c == '"':
		return string(appendUnescaped(text[:0], literal[1:len(literal)-1])), true
	case c == '-' || isDigit(c):
		return string(appendCanonicalNumber(text[:0], literal, s.fraction)), true
	}
	return "", false
}

// checkEvent checks the first element of an event's array: data is well-formed JSON that starts with a bracket.
func checkEvent(data []byte) error {
	s := scanner{data: data, pos: 1, maxDepth: MaxDepth}
	s.space()
	switch c := data[s.pos]; {
	case c == '-' || isDigit(c):
		return nil
	case c == ']':
		return errors.New("socketio: event without a name")
	case c != '"':
		return errors.New("socketio: event name is neither string nor number")
	}
	start := s.pos + 1
	s.str()
	raw := data[start : s.pos-1]
	for _, name := range reservedEvents() {
		if textIs(raw, s.escaped, name) {
			return fmt.Errorf("socketio: event name %q is reserved", name)
		}
	}
	return nil
}
