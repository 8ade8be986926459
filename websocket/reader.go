package websocket

import (
	"math"
	"unicode/utf8"
)

// What a zero in [Limits] means.
const (
	DefaultMaxMessage   = 1 << 20 // bytes
	DefaultMaxFragments = 1 << 16
)

// Limits is what the Readers of one server, or of one client, have in common. It
// must not change once a Reader uses it.
type Limits struct {
	// Server is the role of the reading side: a server requires masked frames, a
	// client refuses them (RFC 6455 section 5.1).
	Server bool
	// MaxMessage is the largest message in bytes, all fragments together; 0 means
	// DefaultMaxMessage. A compressed message may exceed it neither before nor after
	// it is inflated.
	MaxMessage int
	// MaxFragments is the largest number of frames of one message, so that a peer
	// cannot continue an empty message for ever; 0 means DefaultMaxFragments.
	MaxFragments int
	// Inflater is what Readers inflate with after AcceptDeflate, which needs it.
	Inflater *Inflater
}

func (l *Limits) maxMessage() int {
	if l.MaxMessage <= 0 {
		return DefaultMaxMessage
	}
	return l.MaxMessage
}

func (l *Limits) maxFragments() int {
	if l.MaxFragments <= 0 {
		return DefaultMaxFragments
	}
	return min(l.MaxFragments, math.MaxInt32)
}

// Message is one complete data message or one control frame.
type Message struct {
	// Op is Text, Binary, Close, Ping or Pong.
	Op Opcode
	// Code is the code of a close frame, CodeNoStatus if it has none; 0 for all
	// other messages.
	Code Code
	// Data is the message, the payload of a ping or pong, or the reason of a close
	// frame. It is valid until the next call of Next or until the input is reused.
	Data []byte
}

// Reader turns the bytes of one connection into messages. The zero value is
// ready to use. It must not be copied after the first call, nor used by two
// goroutines at once.
//
// Its size is part of the memory of every idle connection and is tested to stay
// within 64 bytes; the phase of the mask and the rest of a frame are therefore
// computed from buf and head rather than stored.
type Reader struct {
	// buf holds the message so far and the payload so far of an incomplete frame,
	// unmasked. It is nil unless there are such bytes.
	buf []byte
	// frame is where the payload of the incomplete frame starts in buf. A control
	// frame between fragments lies behind the message for as long as it is
	// incomplete.
	frame   int
	failure *Error // sticky

	// fragments counts the frames of the message in progress.
	fragments uint32

	head     [maxHeader]byte // header of the incomplete frame
	headSize uint8           // bytes in head
	// message is the type of the message in progress, Continuation if there is
	// none.
	message Opcode
	flags   uint8
	tail    uint8 // bytes at the end of a text message that belong to an incomplete character
}

const (
	flagPayload    = 1 << iota // head is complete, payload is being collected
	flagClosed                 // a close frame was delivered
	flagDeflate                // messages may be compressed
	flagCompressed             // the message in progress is
)

// Next takes the next message out of in. Call it with every input that arrives,
// and again with rest for as long as ok is true; ok false means that all of in
// was consumed and more is needed.
//
// in is the Reader's to change during the call. If a message lies completely in
// one frame in in, its Data is a part of in; otherwise it is a buffer that the
// Reader lets go of. Text messages are valid UTF-8. Pings, pongs and close frames
// are returned in their place, also between the fragments of a message; nothing
// is answered. After a close frame all further input is discarded (RFC 6455
// section 1.4).
//
// err is an *[Error] and final: the buffers are released and every later call
// returns the same.
func (r *Reader) Next(in []byte, lim *Limits) (m Message, rest []byte, ok bool, err error) {
	if r.failure != nil {
		return Message{}, nil, false, r.failure
	}
	if r.flags&flagClosed != 0 {
		return Message{}, nil, false, nil
	}
	for len(in) > 0 {
		var fail *Error
		if r.flags&flagPayload == 0 {
			m, in, ok, fail = r.begin(in, lim)
		} else {
			m, in, ok, fail = r.resume(in, lim)
		}
		if fail != nil {
			*r = Reader{failure: fail}
			return Message{}, nil, false, fail
		}
		if ok {
			return m, in, true, nil
		}
	}
	return Message{}, nil, false, nil
}

// AcceptDeflate lets the peer compress messages (RFC 7692), which the handshakes
// have agreed to. It is called before the first Next; a Reader that takes over from
// an idle one needs its own.
func (r *Reader) AcceptDeflate() { r.flags |= flagDeflate }

// Idle reports whether the Reader is between two messages: it has nothing of the
// next one, and another Reader could go on.
func (r *Reader) Idle() bool {
	return r.failure == nil && r.flags&^flagDeflate == 0 && r.headSize == 0 && r.fragments == 0 && len(r.buf) == 0
}

// Buffered returns the number of bytes the Reader holds for an incomplete
// message, as allocated: 0 for an idle connection.
func (r *Reader) Buffered() int { return cap(r.buf) }

// begin reads a frame from its header on.
func (r *Reader) begin(in []byte, lim *Limits) (m Message, rest []byte, ok bool, fail *Error) {
	h, in, fail := r.nextHeader(in, lim)
	if fail != nil || h.size == 0 {
		return m, nil, false, fail
	}
	if !h.op.Control() {
		if h.op != Continuation {
			r.message = h.op
			if h.compressed {
				r.flags |= flagCompressed
			}
		}
		r.fragments++
	}
	r.frame = len(r.buf)
	if h.length > uint64(len(in)) {
		r.flags |= flagPayload
		return m, in, false, nil
	}
	n := int(h.length)
	payload, rest := in[:n:n], in[n:]
	r.headSize = 0
	if h.masked {
		mask(payload, h.key, 0)
	}
	switch {
	case h.op.Control():
		m, fail = r.control(h.op, payload)
		return m, rest, true, fail
	case h.fin && h.op != Continuation:
		m, fail = r.whole(payload, lim)
		return m, rest, true, fail
	}
	if fail := r.store(payload, h, lim); fail != nil {
		return m, nil, false, fail
	}
	m, ok, fail = r.endFrame(h, lim)
	return m, rest, ok, fail
}

// nextHeader reads a header from in, or from what is kept of an earlier input
// and in. If it is not complete, its size is 0 and what there is of it is kept.
// If the payload is not complete in rest, all of the header is kept.
func (r *Reader) nextHeader(in []byte, lim *Limits) (h header, rest []byte, fail *Error) {
	kept := int(r.headSize)
	if kept == 0 {
		if h, fail = r.parseHeader(in, lim); fail != nil {
			return h, nil, fail
		}
		if h.size != 0 && h.length <= uint64(len(in)-int(h.size)) {
			return h, in[h.size:], nil // the fast path keeps nothing
		}
	}
	b := r.head[:kept+copy(r.head[kept:], in)]
	if kept != 0 {
		if h, fail = r.parseHeader(b, lim); fail != nil {
			return h, nil, fail
		}
	}
	if h.size == 0 {
		r.headSize = uint8(len(b)) // a header that is not complete has less than maxHeader bytes
		return h, nil, nil
	}
	r.headSize = h.size
	return h, in[int(h.size)-kept:], nil
}

// resume adds input to the payload of a frame that began in an earlier one.
func (r *Reader) resume(in []byte, lim *Limits) (m Message, rest []byte, ok bool, fail *Error) {
	h := decodeHeader(r.head[:r.headSize])
	have := len(r.buf) - r.frame
	n := len(in)
	if missing := h.length - uint64(have); uint64(n) > missing {
		n = int(missing)
	}
	chunk, rest := in[:n], in[n:]
	if h.masked {
		mask(chunk, h.key, have)
	}
	if fail := r.store(chunk, h, lim); fail != nil {
		return m, nil, false, fail
	}
	if uint64(have+n) < h.length {
		return m, rest, false, nil
	}
	r.flags &^= flagPayload
	r.headSize = 0
	if !h.op.Control() {
		m, ok, fail = r.endFrame(h, lim)
		return m, rest, ok, fail
	}
	payload := r.buf[r.frame:len(r.buf):len(r.buf)]
	if r.frame == 0 {
		r.buf = nil
	} else {
		r.buf = r.buf[:r.frame] // the payload is overwritten by the next call at the earliest
	}
	m, fail = r.control(h.op, payload)
	return m, rest, true, fail
}

// control returns the message of a complete control frame.
func (r *Reader) control(op Opcode, payload []byte) (Message, *Error) {
	if op != Close {
		return Message{Op: op, Data: payload}, nil
	}
	m, fail := parseClose(payload)
	*r = Reader{flags: flagClosed} // nothing of an unfinished message will be needed
	return m, fail
}

// whole returns the message that the frame begun in the input is all of.
func (r *Reader) whole(payload []byte, lim *Limits) (Message, *Error) {
	m := Message{Op: r.message, Data: payload}
	r.message, r.fragments = Continuation, 0
	if r.flags&flagCompressed != 0 {
		return r.inflated(m, lim)
	}
	if m.Op == Text {
		if tail, valid := utf8Prefix(payload); !valid || tail != 0 {
			return Message{}, errText()
		}
	}
	return m, nil
}

// inflated returns the message that m, complete and compressed, stands for.
func (r *Reader) inflated(m Message, lim *Limits) (Message, *Error) {
	r.flags &^= flagCompressed
	data, fail := lim.Inflater.inflate(m.Data, lim.maxMessage())
	if fail != nil {
		return Message{}, fail
	}
	if m.Op == Text && !utf8.Valid(data) {
		return Message{}, errText()
	}
	m.Data = data
	return m, nil
}

// endFrame completes a data frame whose payload is in buf, and with the last one
// the message.
func (r *Reader) endFrame(h header, lim *Limits) (m Message, ok bool, fail *Error) {
	if !h.fin {
		return m, false, nil
	}
	if r.tail != 0 {
		return m, false, errText()
	}
	m = Message{Op: r.message, Data: r.buf}
	r.buf, r.frame = nil, 0
	r.message, r.fragments = Continuation, 0
	if r.flags&flagCompressed != 0 {
		m, fail = r.inflated(m, lim)
	}
	return m, true, fail
}

// store copies unmasked payload to the end of buf, and checks it if it is text.
func (r *Reader) store(p []byte, h header, lim *Limits) *Error {
	if len(p) == 0 {
		return nil
	}
	if need := len(r.buf) + len(p); need > cap(r.buf) {
		r.grow(need, h, lim)
	}
	r.buf = append(r.buf, p...)
	if r.message != Text || h.op.Control() || r.flags&flagCompressed != 0 {
		return nil
	}
	tail, valid := utf8Prefix(r.buf[len(r.buf)-len(p)-int(r.tail):])
	if !valid {
		return errText()
	}
	r.tail = uint8(tail)
	return nil
}

// minBuffer is the smallest capacity of a buffer, in bytes, if the message is
// not known to be smaller.
const minBuffer = 64

// grow makes room for need bytes, which have arrived, and for as many again: the
// cost of copying stays in proportion to the message. Where three times need
// reach the most that can come, that is taken at once, which saves the last and
// largest copy. Only the last frame of a
// message bounds the capacity by its own end; another frame must not, or a
// message in many small frames would be copied once per frame.
func (r *Reader) grow(need int, h header, lim *Limits) {
	limit := lim.maxMessage()
	bound := limit + min(maxControl, math.MaxInt-limit)
	if h.fin && !h.op.Control() {
		bound = r.frame + int(h.length)
	}
	size := max(2*need, minBuffer)
	if size > bound-need {
		size = bound
	}
	buf := make([]byte, len(r.buf), size)
	copy(buf, r.buf)
	r.buf = buf
}

func errText() *Error {
	return &Error{Code: CodeInvalidPayload, Text: "text message is not UTF-8"}
}
