package socketio

import (
	"strconv"
	"strings"
)

// Offset is a position in the journal of a namespace, as clients are given it and send it back (Socket.IO's connection
// state recovery): after the entry of that id. Its text is <epoch>.<ms>-<seq>, an epoch and the id of a Redis stream
// entry. Positions compare only within one epoch. The zero Offset is none.
type Offset struct {
	Epoch   string // epochLen characters of the base64url alphabet
	Ms, Seq uint64
}

// epochLen is the length of an epoch.
const epochLen = 8

// IsZero reports whether o is no position.
func (o Offset) IsZero() bool { return o.Epoch == "" }

// After reports whether o is behind p in the same epoch.
func (o Offset) After(p Offset) bool {
	return o.Epoch == p.Epoch && (o.Ms > p.Ms || o.Ms == p.Ms && o.Seq > p.Seq)
}

// Append appends the text of o.
func (o Offset) Append(dst []byte) []byte {
	dst = append(append(dst, o.Epoch...), '.')
	return o.AppendID(dst)
}

// AppendID appends the id of the stream entry: the text without the epoch.
func (o Offset) AppendID(dst []byte) []byte {
	dst = strconv.AppendUint(dst, o.Ms, 10)
	return strconv.AppendUint(append(dst, '-'), o.Seq, 10)
}

// String is the text of o, "" of the zero Offset.
func (o Offset) String() string {
	if o.IsZero() {
		return ""
	}
	return string(o.Append(nil))
}

// ParseOffset reads the text of an offset. It is strict: what it accepts, Append writes the same way.
func ParseOffset(s string) (Offset, bool) {
	if len(s) <= epochLen || s[epochLen] != '.' || !IsBase64URL(s[:epochLen]) {
		return Offset{}, false
	}
	o, ok := ParseEntryID(s[epochLen+1:])
	o.Epoch = s[:epochLen]
	return o, ok
}

// ParseEntryID reads the id of a stream entry, <ms>-<seq>, into an Offset without an epoch.
func ParseEntryID(s string) (o Offset, ok bool) {
	ms, seq, found := strings.Cut(s, "-")
	if !found {
		return Offset{}, false
	}
	var okMs, okSeq bool
	o.Ms, okMs = parseDecimal(ms)
	o.Seq, okSeq = parseDecimal(seq)
	return o, okMs && okSeq
}

// parseDecimal reads a number without sign and leading zeros.
func parseDecimal(s string) (uint64, bool) {
	if len(s) == 0 || len(s) > 1 && s[0] == '0' || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// IsBase64URL reports whether s uses the alphabet of base64url only, without padding: that of ids and epochs.
func IsBase64URL(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// entryName is the key of a broadcast's last option as MessagePack.
const entryName = "\xa5entry"

// EntryOf returns the journal position at the end of a broadcast's payload, without reading the rest of it. It reports
// false for a payload that has none: of a message that is not journalled, or of another publisher.
func EntryOf(payload []byte) (Offset, bool) {
	const shortest = epochLen + len(".0-0")
	for n := shortest; n < 32 && n+1+len(entryName) <= len(payload); n++ { // 32 is the end of MessagePack's short strings
		at := len(payload) - n
		if payload[at-1] == 0xa0|byte(n) && string(payload[at-1-len(entryName):at-1]) == entryName {
			return ParseOffset(string(payload[at:]))
		}
	}
	return Offset{}, false
}

// SetEntry appends payload, whose last option is the nil that AppendBroadcast wrote for a journalled message, with
// that position instead of the nil: what the publish script does in Redis.
func SetEntry(dst, payload []byte, o Offset) []byte {
	dst = append(dst, payload[:len(payload)-1]...)
	return AppendMsgpackString(dst, o.String())
}
