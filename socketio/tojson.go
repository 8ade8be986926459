package socketio

import (
	"errors"
	"strconv"
)

// AppendJSONFromMsgpack appends the JSON form of the first MessagePack value as JSON.stringify prints what notepack.io
// decodes, except that 64-bit integers stay exact. Binary data becomes placeholders, numbered on from len(atts), and is
// appended to attsOut, aliasing msgpack; a caller that builds a packet of it must refuse more than MaxAttachments. Dates
// (extension -1 and notepack's old 0) become ISO 8601 text with milliseconds, the old form of undefined becomes null, other
// extensions become [type,bytes], NaN and the infinities null. A map key that is a number, a boolean, nil or binary
// becomes its text; a container or extension as key is an error. Bad UTF-8 becomes U+FFFD, so out is always valid JSON.
//
// rest is what follows the value. On error out and attsOut are dst and atts. Nothing is allocated beyond growing them.
func AppendJSONFromMsgpack(dst, msgpack []byte, atts [][]byte) (out []byte, attsOut [][]byte, rest []byte, err error) {
	w := jsonWriter{cursor: cursor{data: msgpack}, dst: dst, atts: atts, count: len(atts)}
	if err := w.value(0); err != nil {
		return dst, atts, nil, err
	}
	return w.dst, w.atts, w.rest(), nil
}

// jsonWriter reads MessagePack and writes JSON.
type jsonWriter struct {
	cursor
	dst   []byte
	atts  [][]byte
	count int // binaries found, also those beyond limit
	limit int // binaries kept in atts; 0 means all
}

func (w *jsonWriter) value(depth int) error {
	h, err := w.header()
	if err != nil {
		return err
	}
	switch h.kind {
	case kindNil:
		w.dst = append(w.dst, "null"...)
	case kindBool:
		w.dst = strconv.AppendBool(w.dst, h.bits != 0)
	case kindUint:
		w.dst = strconv.AppendUint(w.dst, h.bits, 10)
	case kindInt:
		w.dst = strconv.AppendInt(w.dst, int64(h.bits), 10)
	case kindFloat:
		w.dst = appendFloat(w.dst, h.float())
	case kindString:
		w.dst = appendQuoted(w.dst, w.take(h.n))
	case kindBin:
		w.binary(w.take(h.n))
	case kindExt:
		w.extension(h)
	case kindArray:
		return w.array(h.n, depth+1)
	case kindMap:
		return w.object(h.n, depth+1)
	}
	return nil
}

func (w *jsonWriter) array(n, depth int) error {
	if depth > MaxDepth {
		return errTooDeep
	}
	w.dst = append(w.dst, '[')
	for i := range n {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		if err := w.value(depth); err != nil {
			return err
		}
	}
	w.dst = append(w.dst, ']')
	return nil
}

func (w *jsonWriter) object(n, depth int) error {
	if depth > MaxDepth {
		return errTooDeep
	}
	w.dst = append(w.dst, '{')
	for i := range n {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		if err := w.key(); err != nil {
			return err
		}
		w.dst = append(w.dst, ':')
		if err := w.value(depth); err != nil {
			return err
		}
	}
	w.dst = append(w.dst, '}')
	return nil
}

func (w *jsonWriter) key() error {
	h, err := w.header()
	if err != nil {
		return err
	}
	if h.kind == kindString || h.kind == kindBin {
		w.dst = appendQuoted(w.dst, w.take(h.n))
		return nil
	}
	var ok bool
	w.dst = append(w.dst, '"')
	if w.dst, ok = appendScalarText(w.dst, h); !ok {
		return errors.New("socketio: MessagePack map key is of kind " + h.kind.String())
	}
	w.dst = append(w.dst, '"')
	return nil
}

// appendScalarText appends the text that JavaScript's String gives for nil, a boolean or a number.
func appendScalarText(dst []byte, h head) ([]byte, bool) {
	switch h.kind {
	case kindNil:
		return append(dst, "null"...), true
	case kindBool:
		return strconv.AppendBool(dst, h.bits != 0), true
	case kindUint:
		return strconv.AppendUint(dst, h.bits, 10), true
	case kindInt:
		return strconv.AppendInt(dst, int64(h.bits), 10), true
	case kindFloat:
		return appendNumberText(dst, h.float()), true
	}
	return dst, false
}

func (w *jsonWriter) binary(data []byte) {
	w.dst = append(w.dst, `{"_placeholder":true,"num":`...)
	w.dst = strconv.AppendInt(w.dst, int64(w.count), 10)
	w.dst = append(w.dst, '}')
	w.count++
	if w.limit == 0 || w.count <= w.limit {
		w.atts = append(w.atts, data)
	}
}

// extension writes an extension as notepack's decoder understands it.
func (w *jsonWriter) extension(h head) {
	data := w.take(h.n)
	fixed := h.form >= 0xd4 && h.form <= 0xd8
	switch {
	case h.ext == 0 && !fixed: // an ArrayBuffer of notepack before 3
		w.binary(data)
	case h.ext == 0 && h.n == 1: // undefined of notepack before 3
		w.dst = append(w.dst, "null"...)
	default:
		if ms, ok := extensionDate(h, data); ok {
			w.dst = appendDate(w.dst, ms)
			return
		}
		w.dst = append(w.dst, '[')
		w.dst = strconv.AppendInt(w.dst, int64(h.ext), 10)
		w.dst = append(w.dst, ',')
		w.binary(data)
		w.dst = append(w.dst, ']')
	}
}
