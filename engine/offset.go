package engine

import (
	"encoding/binary"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// appendOffset adds a position as the last element of an event's data array,
// which is at the end of text.
func appendOffset(text []byte, o socketio.Offset) []byte {
	text = append(text[:len(text)-1], `,"`...)
	return append(o.Append(text), `"]`...)
}

// stamp is m with a position: what it carries as an event to one receiver or
// another, so that a client never takes an argument of the application for one
// (https://socket.io/docs/v4/connection-state-recovery: the offset).
func (s *Server) stamp(m *fanout.Message, id fanout.ID) *fanout.Message {
	o := s.recovery.epochs.offset(id)
	if o.IsZero() {
		return m
	}
	payload, rest := firstFrame(m.Frame)
	size := len(payload) + len(`,""`) + len(o.Epoch) + 42 // two numbers of 20 digits at most
	text := appendOffset(append(make([]byte, 0, size), payload...), o)
	frame := make([]byte, 0, websocket.FrameSize(len(text))+len(rest))
	frame = append(websocket.AppendFrame(frame, websocket.Text, text), rest...)
	return m.WithFrame(frame)
}

// firstFrame splits the frames of a packet, as appendFrames made them, into the
// payload of the first and the rest.
func firstFrame(frames []byte) (payload, rest []byte) {
	at, n := 2, int(frames[1])
	switch n {
	case 126:
		at, n = 4, int(binary.BigEndian.Uint16(frames[2:]))
	case 127:
		at, n = 10, int(binary.BigEndian.Uint64(frames[2:]))
	}
	return frames[at : at+n], frames[at+n:]
}
