package socketio

import "bytes"

// Separator stands between the packets of a polling payload: the record separator. Socket.IO text never contains it,
// since JSON escapes control characters.
const Separator = 0x1e

// CutPayload returns the first packet of a polling payload, still encoded (ParseEngine takes it apart), and what follows
// its separator. more is false when there was none: packet was the last. Both alias payload.
func CutPayload(payload []byte) (packet, rest []byte, more bool) {
	return bytes.Cut(payload, []byte{Separator})
}

// AppendPayload appends packets, each encoded by AppendEngine or AppendEngineBinary, as one polling payload.
func AppendPayload(dst []byte, packets ...[]byte) []byte {
	for i, p := range packets {
		if i > 0 {
			dst = append(dst, Separator)
		}
		dst = append(dst, p...)
	}
	return dst
}
