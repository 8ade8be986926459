package socketio

import (
	"math"
	"strconv"
)

// appendFloat appends f as JSON.stringify prints a number: the shortest digits that read back as f, an exponent below
// 1e-6 and from 1e21 (ECMAScript Number::toString), 0 for -0, null for NaN and the infinities.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return appendFinite(dst, f)
}

func appendFinite(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	switch {
	case abs == 0:
		return append(dst, '0')
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go pads the exponent to two digits, ECMAScript does not.
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// appendNumberText appends the text of a number as String(n) gives it, which is also how JavaScript names a property
// or a room that is a number.
func appendNumberText(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	return appendFinite(dst, f)
}

// integer reads a JSON number without fraction and exponent. ok is false when it lies outside the 64-bit range:
// -2^63 … 2^64-1. The value is magnitude, negated if negative.
func integer(literal []byte) (magnitude uint64, negative, ok bool) {
	if literal[0] == '-' {
		negative = true
		literal = literal[1:]
	}
	for _, c := range literal {
		d := uint64(c - '0')
		if magnitude > (math.MaxUint64-d)/10 {
			return 0, negative, false
		}
		magnitude = magnitude*10 + d
	}
	if negative && magnitude > 1<<63 {
		return 0, negative, false
	}
	return magnitude, negative && magnitude != 0, true
}

// parseFloat reads any scanned JSON number as JavaScript does: what is too large becomes an infinity.
func parseFloat(literal []byte) float64 {
	f, _ := strconv.ParseFloat(string(literal), 64)
	return f
}

// appendCanonicalNumber appends a scanned JSON number the way String(n) prints it; integers of the 64-bit range stay exact.
func appendCanonicalNumber(dst, literal []byte, fraction bool) []byte {
	if !fraction {
		if magnitude, negative, ok := integer(literal); ok {
			if negative {
				dst = append(dst, '-')
			}
			return strconv.AppendUint(dst, magnitude, 10)
		}
	}
	return appendNumberText(dst, parseFloat(literal))
}
