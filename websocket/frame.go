package websocket

import (
	"encoding/binary"
	"slices"
)

// Opcode is the frame type of RFC 6455 section 5.2.
type Opcode uint8

// The opcodes that RFC 6455 section 11.8 registers; all others are reserved.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

// Control reports whether frames of this type may come between the fragments of
// a message (RFC 6455 section 5.5).
func (op Opcode) Control() bool { return op&0x8 != 0 }

// reserved reports whether the RFC gives the opcode no meaning.
func (op Opcode) reserved() bool { return op > Pong || op > Binary && op < Close }

// String returns the opcode's name in lower case.
func (op Opcode) String() string {
	switch op {
	case Continuation:
		return "continuation"
	case Text:
		return "text"
	case Binary:
		return "binary"
	case Close:
		return "close"
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	}
	return "reserved"
}

// The layout of a frame header, RFC 6455 section 5.2.
const (
	bitFin       = 0x80
	bitsReserved = 0x70
	bitsOpcode   = 0x0F
	bitMask      = 0x80
	bitsLength   = 0x7F

	length16 = 126 // a 16-bit length follows
	length64 = 127 // a 64-bit length follows

	maxControl = 125 // bytes of payload in a control frame
	maxHeader  = 14  // bytes: two, a 64-bit length, a masking key
)

// headerSize returns the number of header bytes of an unmasked frame with a
// payload of n bytes.
func headerSize(n int) int {
	switch {
	case n < length16:
		return 2
	case n <= 0xFFFF:
		return 4
	default:
		return 10
	}
}

// FrameSize returns the number of bytes of an unmasked frame with a payload of n
// bytes, header included.
func FrameSize(n int) int { return headerSize(n) + n }

// AppendHeader appends the header of an unmasked frame with a payload of n
// bytes. The caller appends the payload, and keeps to the order of fragments
// when fin is false.
func AppendHeader(dst []byte, op Opcode, fin bool, n int) []byte {
	return appendHeader(dst, op, fin, 0, n)
}

func appendHeader(dst []byte, op Opcode, fin bool, mask byte, n int) []byte {
	b0 := byte(op)
	if fin {
		b0 |= bitFin
	}
	switch {
	case n < length16:
		return append(dst, b0, mask|byte(n))
	case n <= 0xFFFF:
		return append(dst, b0, mask|length16, byte(n>>8), byte(n))
	default:
		dst = append(dst, b0, mask|length64)
		return binary.BigEndian.AppendUint64(dst, uint64(n))
	}
}

// AppendFrame appends payload as one unmasked, final frame: the way of a server.
func AppendFrame(dst []byte, op Opcode, payload []byte) []byte {
	dst = slices.Grow(dst, FrameSize(len(payload)))
	dst = appendHeader(dst, op, true, 0, len(payload))
	return append(dst, payload...)
}

// AppendMaskedFrame appends payload as one masked, final frame: the way of a
// client. The payload itself is left as it is; key should be unpredictable (RFC
// 6455 section 10.3).
func AppendMaskedFrame(dst []byte, op Opcode, payload []byte, key [4]byte) []byte {
	dst = slices.Grow(dst, FrameSize(len(payload))+len(key))
	dst = appendHeader(dst, op, true, bitMask, len(payload))
	dst = append(dst, key[:]...)
	start := len(dst)
	dst = append(dst, payload...)
	mask(dst[start:], binary.LittleEndian.Uint32(key[:]), 0)
	return dst
}
