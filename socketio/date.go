package socketio

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// extensionDate returns the time value of an extension that is a date: type -1 in its three forms (MessagePack
// specification, "Timestamp extension type"), or the old type 0 of notepack before 3. The arithmetic is JavaScript's, in
// milliseconds as floats.
func extensionDate(h head, data []byte) (ms float64, ok bool) {
	switch {
	case h.ext == -1 && h.form == 0xd6:
		return float64(binary.BigEndian.Uint32(data)) * 1e3, true
	case h.ext == -1 && h.form == 0xd7:
		bits := binary.BigEndian.Uint64(data)
		return float64(bits&(1<<34-1))*1e3 + float64(bits>>34)/1e6, true
	case h.ext == -1 && h.form == 0xc7 && h.n == 12:
		seconds := int64(binary.BigEndian.Uint64(data[4:]))
		return float64(seconds)*1e3 + float64(binary.BigEndian.Uint32(data))/1e6, true
	case h.ext == 0 && h.form == 0xd7:
		return float64(int64(binary.BigEndian.Uint64(data))), true
	}
	return 0, false
}

// maxDate is the largest time value of a JavaScript Date, in milliseconds around 1970.
const maxDate = 8.64e15

// appendDate appends the JSON form of a JavaScript Date: its ISO 8601 text in UTC with milliseconds, years outside of
// 0 … 9999 with a sign and six digits, or null for a time outside of its range.
func appendDate(dst []byte, ms float64) []byte {
	if !(math.Abs(ms) <= maxDate) {
		return append(dst, "null"...)
	}
	t := time.UnixMilli(int64(ms)).UTC()
	year := t.Year()
	dst = append(dst, '"')
	if year >= 0 && year <= 9999 {
		dst = appendPadded(dst, year, 4)
	} else {
		sign := byte('+')
		if year < 0 {
			sign, year = '-', -year
		}
		dst = appendPadded(append(dst, sign), year, 6)
	}
	return t.AppendFormat(dst, `-01-02T15:04:05.000Z"`)
}

// appendPadded appends v ≥ 0 with at least width digits.
func appendPadded(dst []byte, v, width int) []byte {
	for limit := 10; width > 1; width, limit = width-1, limit*10 {
		if v < limit {
			for range width - 1 {
				dst = append(dst, '0')
			}
			break
		}
	}
	return strconv.AppendInt(dst, int64(v), 10)
}
