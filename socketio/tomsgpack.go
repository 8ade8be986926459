package socketio

import (
	"errors"
	"math"
	"slices"
	"unicode/utf8"
)

// AppendMsgpackFromJSON appends the MessagePack form of one JSON value, byte for byte as notepack.io 3 encodes what
// JSON.parse returns, except that integers of the 64-bit range stay exact, duplicate keys and the order of keys are kept,
// and lone surrogates become U+FFFD.
//
// If attachments is not nil, json is the data of a binary packet: each placeholder becomes the attachment it names, and
// one that names none, or one already used, is an error. With nil, objects that look like placeholders are ordinary.
//
// On error dst is returned as it was. Nothing is allocated beyond growing dst, unless the value contains arrays or
// objects of over 15 elements, which need a short list.
func AppendMsgpackFromJSON(dst, json []byte, attachments [][]byte) ([]byte, error) {
	if len(attachments) > MaxAttachments {
		return dst, tooManyAttachments(len(attachments))
	}
	if uint64(len(json)) > math.MaxUint32 {
		return dst, errors.New("socketio: JSON text exceeds 4 GiB")
	}
	t := msgpackWriter{
		scanner:     newScanner(json),
		dst:         dst,
		attachments: attachments,
		use:         attachmentUse{n: len(attachments)},
	}
	t.space()
	if t.value(); t.problem == "" && t.invalid == nil {
		t.end()
	}
	if t.invalid != nil {
		return dst, t.invalid
	}
	if t.problem != "" {
		return dst, t.err()
	}
	return t.finish(), nil
}

// wideHeader is a container whose count does not fit the one byte that was reserved for its header.
type wideHeader struct {
	at    int // index of the reserved byte in dst
	count int
	array bool
}

// extra is the number of bytes the header takes in addition to the reserved one.
func (w wideHeader) extra() int {
	if w.count > math.MaxUint16 {
		return 4
	}
	return 2
}

// msgpackWriter scans JSON and writes MessagePack as it goes. The count of a container is only known at its end, so one
// byte is reserved for each header, and finish widens those that need it, moving every byte at most once.
type msgpackWriter struct {
	scanner
	dst  []byte
	wide []wideHeader

	attachments [][]byte
	use         attachmentUse
	invalid     error // a wrong placeholder
}

func (t *msgpackWriter) value() bool {
	if t.pos >= len(t.data) {
		return t.fail("unexpected end")
	}
	start := t.pos
	switch t.data[start] {
	case '{':
		return t.object()
	case '[':
		return t.array()
	case '"':
		if !t.str() {
			return false
		}
		t.dst = appendMsgpackText(t.dst, t.data[start+1:t.pos-1], t.escaped)
		return true
	}
	if !t.scanner.value() {
		return false
	}
	switch literal := t.data[start:t.pos]; literal[0] {
	case 'n':
		t.dst = AppendMsgpackNil(t.dst)
	case 't', 'f':
		t.dst = AppendMsgpackBool(t.dst, literal[0] == 't')
	default:
		t.dst = appendMsgpackNumber(t.dst, literal, t.fraction)
	}
	return true
}

func (t *msgpackWriter) array() bool {
	at, count := len(t.dst), 0
	t.dst = append(t.dst, 0)
	for more := t.open(']'); more; more = t.next(']') {
		if !t.value() {
			return false
		}
		count++
	}
	t.header(wideHeader{at: at, count: count, array: true})
	return t.problem == ""
}

func (t *msgpackWriter) object() bool {
	at, count, wide, used := len(t.dst), 0, len(t.wide), t.use.used
	t.dst = append(t.dst, 0)
	var p placeholder
	for more := t.open('}'); more; more = t.next('}') {
		name, ok := t.key()
		if !ok {
			return false
		}
		escaped, start := t.escaped, t.pos
		t.dst = appendMsgpackText(t.dst, name, escaped)
		if !t.value() {
			return false
		}
		if t.attachments != nil {
			p.member(name, escaped, t.data[start:t.pos])
		}
		count++
	}
	if t.problem != "" {
		return false
	}
	if !p.marked {
		t.header(wideHeader{at: at, count: count})
		return true
	}
	// A placeholder: take back what was written for the object.
	t.dst, t.wide, t.use.used = t.dst[:at], t.wide[:wide], used
	k, err := t.use.take(p.num)
	if err != nil {
		t.invalid = err
		return false
	}
	t.dst = AppendMsgpackBin(t.dst, t.attachments[k])
	return true
}

// header fills in the reserved byte, or notes that it is not enough.
func (t *msgpackWriter) header(w wideHeader) {
	switch {
	case w.count > 15:
		t.wide = append(t.wide, w)
	case w.array:
		t.dst[w.at] = 0x90 | byte(w.count)
	default:
		t.dst[w.at] = 0x80 | byte(w.count)
	}
}

// finish makes room for the wide headers from the last to the first and returns the complete value.
func (t *msgpackWriter) finish() []byte {
	if len(t.wide) == 0 {
		return t.dst
	}
	slices.SortFunc(t.wide, func(a, b wideHeader) int { return a.at - b.at })
	total := 0
	for _, w := range t.wide {
		total += w.extra()
	}
	end := len(t.dst)
	out := slices.Grow(t.dst, total)[:end+total]
	for i := len(t.wide) - 1; i >= 0; i-- {
		w := t.wide[i]
		copy(out[w.at+1+total:], out[w.at+1:end])
		end = w.at
		total -= w.extra()
		at := w.at + total
		if w.array {
			AppendMsgpackArrayHeader(out[:at], w.count)
		} else {
			AppendMsgpackMapHeader(out[:at], w.count)
		}
	}
	return out
}

// appendMsgpackText appends the string that stands between two quotes in JSON.
func appendMsgpackText(dst, raw []byte, escaped bool) []byte {
	if !escaped && utf8.Valid(raw) {
		return append(appendStringHeader(dst, len(raw)), raw...)
	}
	// The length is known only afterwards: leave room for the largest header, then move the text down to the real one.
	const room = 5
	at := len(dst)
	dst = append(dst, make([]byte, room)...)
	dst = appendUnescaped(dst, raw)
	n := len(dst) - at - room
	text := len(appendStringHeader(dst[:at], n))
	copy(dst[text:], dst[at+room:])
	return dst[:text+n]
}

// appendMsgpackNumber appends a scanned JSON number.
func appendMsgpackNumber(dst, literal []byte, fraction bool) []byte {
	if !fraction {
		magnitude, negative, ok := integer(literal)
		switch {
		case ok && negative:
			return AppendMsgpackInt(dst, int64(-magnitude))
		case ok:
			return AppendMsgpackUint(dst, magnitude)
		}
	}
	return AppendMsgpackNumber(dst, parseFloat(literal))
}
