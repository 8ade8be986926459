//go:build linux

package load

import "bytes"

// A stamp is the head of every message's argument: who sent it as which of his messages, and when
// it was due. Fixed width and plain ASCII, so that it survives JSON unchanged and is read without
// decoding it:
//
//	"~bench:" sender(8 hex) seq(8 hex) due(16 hex), then padding
type stamp struct {
	sender uint32 // number of the sender, room*Senders+j
	seq    uint32 // messages of that sender before this one
	due    int64  // intended send time, monotonic nanoseconds
}

const (
	stampMark = "~bench:"
	stampSize = len(stampMark) + 8 + 8 + 16
)

// appendStamp appends the stamp and fills up with padding to size bytes.
func appendStamp(dst []byte, s stamp, size int) []byte {
	end := len(dst) + size
	dst = append(dst, stampMark...)
	dst = appendHex(dst, uint64(s.sender), 8)
	dst = appendHex(dst, uint64(s.seq), 8)
	dst = appendHex(dst, uint64(s.due), 16)
	for len(dst) < end {
		dst = append(dst, 'x')
	}
	return dst
}

// findStamp reads the stamp out of the text of a message event; ok is false if there is none.
func findStamp(text []byte) (s stamp, ok bool) {
	i := bytes.Index(text, []byte(stampMark))
	if i < 0 || len(text)-i < stampSize {
		return stamp{}, false
	}
	b := text[i+len(stampMark):]
	sender, ok1 := hex(b[:8])
	seq, ok2 := hex(b[8:16])
	due, ok3 := hex(b[16:32])
	return stamp{uint32(sender), uint32(seq), int64(due)}, ok1 && ok2 && ok3
}

// Stamped reads who sent the message of an event, and how many that sender had sent before; ok is false if
// the event is no message of a loader.
func Stamped(event []byte) (sender, seq uint32, ok bool) {
	s, ok := findStamp(event)
	return s.sender, s.seq, ok
}

const digits = "0123456789abcdef"

func appendHex(dst []byte, v uint64, width int) []byte {
	for shift := 4 * (width - 1); shift >= 0; shift -= 4 {
		dst = append(dst, digits[v>>shift&15])
	}
	return dst
}

func hex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}
