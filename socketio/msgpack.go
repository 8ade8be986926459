package socketio

import (
	"encoding/binary"
	"math"
)

// The AppendMsgpack functions append one MessagePack value, or the header of one, in the smallest form, choosing among
// the forms as notepack.io 3 does: non-negative integers unsigned, negative ones signed, floats always 64-bit.

// AppendMsgpackNil appends nil.
func AppendMsgpackNil(dst []byte) []byte { return append(dst, 0xc0) }

// AppendMsgpackBool appends a boolean.
func AppendMsgpackBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

// AppendMsgpackUint appends a non-negative integer.
func AppendMsgpackUint(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

// AppendMsgpackInt appends an integer.
func AppendMsgpackInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendMsgpackUint(dst, uint64(v))
	case v >= -0x20:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

// AppendMsgpackFloat appends a 64-bit float.
func AppendMsgpackFloat(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(v))
}

// AppendMsgpackNumber appends a number as notepack does a JavaScript number: as an integer when it is one of the 64-bit
// range, so that 2.0 is 2 and -0 is 0, else as a 64-bit float.
func AppendMsgpackNumber(dst []byte, v float64) []byte {
	switch {
	case v != math.Trunc(v) || math.IsInf(v, 0):
		return AppendMsgpackFloat(dst, v)
	case v >= 0 && v < 1<<64:
		return AppendMsgpackUint(dst, uint64(v))
	case v < 0 && v >= -1<<63:
		return AppendMsgpackInt(dst, int64(v))
	}
	return AppendMsgpackFloat(dst, v)
}

// AppendMsgpackString appends a string. Bytes that are not UTF-8 are appended as they are.
func AppendMsgpackString(dst []byte, s string) []byte {
	return append(appendStringHeader(dst, len(s)), s...)
}

func appendStringHeader(dst []byte, n int) []byte {
	switch {
	case n < 0x20:
		return append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
}

// AppendMsgpackBin appends binary data.
func AppendMsgpackBin(dst, data []byte) []byte {
	switch n := len(data); {
	case n <= math.MaxUint8:
		dst = append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
	}
	return append(dst, data...)
}

// AppendMsgpackArrayHeader appends the header of an array; its n elements follow.
func AppendMsgpackArrayHeader(dst []byte, n int) []byte {
	return appendContainerHeader(dst, n, 0x90, 0xdc)
}

// AppendMsgpackMapHeader appends the header of a map; its n pairs of key and value follow.
func AppendMsgpackMapHeader(dst []byte, n int) []byte {
	return appendContainerHeader(dst, n, 0x80, 0xde)
}

// appendContainerHeader appends the header of n elements; fix is the format byte of the smallest form, wide that of the
// 16-bit form, which that of the 32-bit form follows.
func appendContainerHeader(dst []byte, n int, fix, wide byte) []byte {
	switch {
	case n < 0x10:
		return append(dst, fix|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, wide), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, wide+1), uint32(n))
}
