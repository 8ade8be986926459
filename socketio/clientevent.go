package socketio

import (
	"slices"
	"strconv"
)

// AppendClientEvent appends an event for a client: a Socket.IO text packet without the Engine.IO type '4' in front, such
// as `2["hello",1]` or, with binary data, `51-/ns,7["bin",{"_placeholder":true,"num":0}]`. data is the MessagePack
// array [event, ...args]; tail, if not nil, is one more element as raw JSON. The attachments that follow the text alias
// data. An empty namespace counts as "/".
//
// What a client would close its connection on is an error: data that is not an array or does not start with an event
// name, a reserved name, more than MaxAttachments attachments, a literal placeholder among real ones that is out of range
// or takes another's place. text is then dst as it was.
func AppendClientEvent(dst []byte, namespace string, id uint64, hasID bool, data, tail []byte) (text []byte, atts [][]byte, err error) {
	if _, _, err := SplitMsgpackArray(data); err != nil {
		return dst, nil, err
	}
	start := len(dst)
	out := append(dst, '0'+byte(Event))
	if namespace != "" && namespace != "/" {
		out = append(append(out, namespace...), ',')
	}
	if hasID {
		out = strconv.AppendUint(out, id, 10)
	}
	payload := len(out)
	w := jsonWriter{cursor: cursor{data: data}, dst: out, limit: MaxAttachments}
	if err := w.value(0); err != nil {
		return dst, nil, err
	}
	if err := w.end(); err != nil {
		return dst, nil, err
	}
	if w.count > MaxAttachments {
		return dst, nil, tooManyAttachments(w.count)
	}
	out = w.dst
	if err := checkEvent(out[payload:]); err != nil {
		return dst, nil, err
	}
	if tail != nil {
		out = append(append(out[:len(out)-1], ','), tail...)
		out = append(out, ']')
	}
	if w.count == 0 {
		return out, nil, nil
	}
	// The count of attachments goes between the type and what follows it.
	if err := CheckPlaceholders(out[payload:], w.count); err != nil {
		return dst, nil, err
	}
	out[start] = '0' + byte(BinaryEvent)
	var room [4]byte
	count := append(strconv.AppendInt(room[:0], int64(w.count), 10), '-')
	return slices.Insert(out, start+1, count...), w.atts, nil
}
