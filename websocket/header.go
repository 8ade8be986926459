package websocket

import (
	"encoding/binary"
	"math"
	"strconv"
)

// header is one decoded frame header.
type header struct {
	op         Opcode
	fin        bool
	masked     bool
	compressed bool   // RSV1: the first frame of a compressed message
	size       uint8  // header bytes; 0 while they are not all there
	key        uint32 // masking key, little-endian
	length     uint64 // payload bytes; checked against the limit once size is set
}

// parseHeader decodes and checks the frame header at the start of b, which has
// at least one byte. Each field is checked as soon as its bytes are there, so a
// violation does not wait for the rest of the header. The length is compared
// with the limit before anything is computed from it.
func (r *Reader) parseHeader(b []byte, lim *Limits) (h header, fail *Error) {
	h.op, h.fin = Opcode(b[0]&bitsOpcode), b[0]&bitFin != 0
	h.compressed = b[0]&bitDeflated != 0
	if fail := r.checkOpcode(b[0], h, lim); fail != nil {
		return h, fail
	}
	if len(b) < 2 {
		return h, nil
	}
	h.masked = b[1]&bitMask != 0
	if h.masked != lim.Server {
		if lim.Server {
			return h, protocolError("client frame is not masked")
		}
		return h, protocolError("server frame is masked")
	}
	size := 2
	h.length = uint64(b[1] & bitsLength)
	if h.op.Control() && h.length > maxControl {
		return h, protocolError(h.op.String() + " frame with a payload over 125 bytes")
	}
	if h.length >= length16 {
		if size, fail = h.parseExtendedLength(b); fail != nil || size == 0 {
			return h, fail
		}
	}
	if !h.op.Control() {
		if fail := r.checkLength(h.length, lim); fail != nil {
			return h, fail
		}
	}
	if h.masked {
		if len(b) < size+4 {
			return h, nil
		}
		h.key = binary.LittleEndian.Uint32(b[size:])
		size += 4
	}
	h.size = uint8(size)
	return h, nil
}

// parseExtendedLength replaces the marker in h.length by the length that follows
// the first two bytes. size is the header's size without the key, 0 while bytes
// are missing.
func (h *header) parseExtendedLength(b []byte) (size int, fail *Error) {
	if h.length == length16 {
		if len(b) < 4 {
			return 0, nil
		}
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
		if h.length < length16 {
			return 0, protocolError("payload length " + strconv.FormatUint(h.length, 10) + " not in the shortest form")
		}
		return 4, nil
	}
	if len(b) < 10 {
		return 0, nil
	}
	h.length = binary.BigEndian.Uint64(b[2:])
	if h.length > math.MaxInt64 {
		return 0, protocolError("payload length with the highest bit set")
	}
	if h.length <= math.MaxUint16 {
		return 0, protocolError("payload length " + strconv.FormatUint(h.length, 10) + " not in the shortest form")
	}
	return 10, nil
}

// checkOpcode checks the first header byte against the state of the message.
// This is the one place that decides about the reserved bits.
func (r *Reader) checkOpcode(b0 byte, h header, lim *Limits) *Error {
	// RSV1 is for the first frame of a message only (RFC 7692 section 6.1).
	begins := h.compressed && (h.op == Text || h.op == Binary) && r.flags&flagDeflate != 0 && lim.Inflater != nil
	if reserved := b0 & bitsReserved; reserved != 0 && !(begins && reserved == bitDeflated) {
		return protocolError("reserved bits set: 0x" + strconv.FormatUint(uint64(b0&bitsReserved), 16))
	}
	switch {
	case h.op.reserved():
		return protocolError("reserved opcode " + strconv.Itoa(int(h.op)))
	case h.op.Control():
		if !h.fin {
			return protocolError("fragmented " + h.op.String() + " frame")
		}
	case h.op == Continuation:
		if r.message == Continuation {
			return protocolError("continuation frame without a message to continue")
		}
		if int(r.fragments) >= lim.maxFragments() {
			return &Error{Code: CodeTooBig, Text: "message of more than " + strconv.Itoa(lim.maxFragments()) + " fragments"}
		}
	case r.message != Continuation:
		return protocolError(h.op.String() + " frame inside a fragmented message")
	}
	return nil
}

// checkLength refuses a data frame that would take its message over the limit.
func (r *Reader) checkLength(length uint64, lim *Limits) *Error {
	limit := lim.maxMessage()
	// Between frames the buffer holds the message so far, which the same check
	// kept within the limit: the difference is not negative.
	if length > uint64(limit-len(r.buf)) {
		return &Error{Code: CodeTooBig, Text: "message over the limit of " + strconv.Itoa(limit) + " bytes"}
	}
	return nil
}

// decodeHeader decodes a complete header that parseHeader accepted before.
func decodeHeader(b []byte) header {
	h := header{
		op:     Opcode(b[0] & bitsOpcode),
		fin:    b[0]&bitFin != 0,
		masked: b[1]&bitMask != 0,
		size:   uint8(len(b)),
		length: uint64(b[1] & bitsLength),
	}
	switch h.length {
	case length16:
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
	case length64:
		h.length = binary.BigEndian.Uint64(b[2:])
	}
	if h.masked {
		h.key = binary.LittleEndian.Uint32(b[len(b)-4:])
	}
	return h
}
