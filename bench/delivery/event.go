package delivery

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/stellara/edge/socketio"
)

// offsetOf returns what the official client remembers as its position after an event: its last argument,
// the name included, if that is a string.
func offsetOf(event []byte) (offset string, ok bool) {
	body, ok := bytes.CutSuffix(event, []byte(`"]`))
	if !ok {
		return "", false
	}
	if bytes.IndexByte(body, '\\') < 0 {
		return string(body[bytes.LastIndexByte(body, '"')+1:]), true
	}
	var args []json.RawMessage
	if json.Unmarshal(event, &args) != nil || len(args) == 0 {
		return "", false
	}
	return offset, json.Unmarshal(args[len(args)-1], &offset) == nil
}

// Of a message of a Publisher: {"stream":3,"n":17,...}. Where it is among the arguments of the event
// differs between servers.
const streamMark, numberMark = `{"stream":`, `,"n":`

// appendMessage appends the event with which a publisher sends, ["message",room,{...}]; with an id the
// room is {room, id}.
func appendMessage(b []byte, room, id string, stream int, n uint64, pad int) []byte {
	b = append(b, `["message",`...)
	if id == "" {
		b = socketio.AppendString(b, room)
	} else {
		b = socketio.AppendString(append(b, `{"room":`...), room)
		b = append(socketio.AppendString(append(b, `,"id":`...), id), '}')
	}
	b = strconv.AppendInt(append(b, `,`+streamMark...), int64(stream), 10)
	b = strconv.AppendUint(append(b, numberMark...), n, 10)
	if pad > 0 {
		b = append(append(b, `,"pad":"`...), bytes.Repeat([]byte{'x'}, pad)...)
		b = append(b, '"')
	}
	return append(b, `}]`...)
}

// Numbered reads stream and number out of a message of a Publisher.
func Numbered(event []byte) (stream int, n uint64, ok bool) {
	at := bytes.Index(event, []byte(streamMark))
	if at < 0 {
		return 0, 0, false
	}
	text, rest, ok := bytes.Cut(event[at+len(streamMark):], []byte(numberMark))
	if !ok {
		return 0, 0, false
	}
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return 0, 0, false
	}
	stream, err := strconv.Atoi(string(text))
	if err != nil {
		return 0, 0, false
	}
	n, err = strconv.ParseUint(string(rest[:end]), 10, 64)
	return stream, n, err == nil && n > 0
}
