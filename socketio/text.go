package socketio

import (
	"encoding/binary"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string literal exactly as JSON.stringify prints it: control characters escaped, no
// HTML escaping, everything else as it is. Bytes that are not UTF-8 become U+FFFD, so the result is always valid.
func AppendString(dst []byte, s string) []byte { return appendQuoted(dst, s) }

func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := len(dst)
	dst = append(dst, s...)
	if !isPlain(dst[start:]) {
		dst = appendEscaped(dst[:start], s)
	}
	return append(dst, '"')
}

// isPlain reports whether text is valid UTF-8 and stands for itself in a JSON string.
func isPlain(text []byte) bool {
	i := 0
	for len(text)-i >= 8 {
		if !plainText(binary.LittleEndian.Uint64(text[i:])) {
			return false
		}
		i += 8
	}
	for _, c := range text[i:] {
		if c < 0x20 || c == '"' || c == '\\' {
			return false
		}
	}
	return utf8.Valid(text)
}

// appendEscaped appends s with escape sequences, and U+FFFD for bytes that are not UTF-8.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
			i++
			start = i
			continue
		}
		// The conversion of a few bytes stays on the stack, whichever type s has.
		r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			start = i
			continue
		}
		i += size
	}
	return append(dst, s[start:]...)
}

// appendEscape appends the escape sequence of a quote, a backslash or a control character.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\t':
		return append(dst, '\\', 't')
	case '\n':
		return append(dst, '\\', 'n')
	case '\f':
		return append(dst, '\\', 'f')
	case '\r':
		return append(dst, '\\', 'r')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// AppendUnquoted appends the text that the JSON string literal stands for. Lone surrogates and bytes that are not UTF-8
// become U+FFFD. White space around the literal is allowed; anything but one string is an error.
func AppendUnquoted(dst, literal []byte) ([]byte, error) {
	s := newScanner(literal)
	text, ok := s.document()
	if !ok {
		return dst, s.err()
	}
	if text[0] != '"' {
		return dst, errors.New("socketio: JSON value is not a string")
	}
	return appendUnescaped(dst, text[1:len(text)-1]), nil
}

// appendUnescaped appends the text of a scanned string: raw is what stands between the quotes.
func appendUnescaped(dst, raw []byte) []byte {
	start := 0
	for i := 0; i < len(raw); {
		c := raw[i]
		if c < utf8.RuneSelf && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(raw[i:])
			if r != utf8.RuneError || size != 1 {
				i += size
				continue
			}
			dst = append(dst, raw[start:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			start = i
			continue
		}
		dst = append(dst, raw[start:i]...)
		var r rune
		r, i = unescapeRune(raw, i+1)
		dst = utf8.AppendRune(dst, r)
		start = i
	}
	return append(dst, raw[start:]...)
}

// unescapeRune decodes the escape sequence whose character after the backslash is raw[i] and returns the index behind
// it. A surrogate that is not half of a pair decodes to U+FFFD.
func unescapeRune(raw []byte, i int) (rune, int) {
	switch c := raw[i]; c {
	case 'b':
		return '\b', i + 1
	case 'f':
		return '\f', i + 1
	case 'n':
		return '\n', i + 1
	case 'r':
		return '\r', i + 1
	case 't':
		return '\t', i + 1
	case 'u':
		r := hexRune(raw[i+1:])
		i += 5
		if !utf16.IsSurrogate(r) {
			return r, i
		}
		if len(raw)-i >= 6 && raw[i] == '\\' && raw[i+1] == 'u' {
			if pair := utf16.DecodeRune(r, hexRune(raw[i+2:])); pair != utf8.RuneError {
				return pair, i + 6
			}
		}
		return utf8.RuneError, i
	default:
		return rune(c), i + 1
	}
}

// hexRune reads the four hexadecimal digits that a scanner has checked.
func hexRune(digits []byte) rune {
	var r rune
	for _, c := range digits[:4] {
		d, _ := hexDigit(c)
		r = r<<4 | rune(d)
	}
	return r
}

// longestEscape is the number of bytes of the longest way to write one character below U+10000 in JSON: \u0000.
const longestEscape = 6

// textIs reports whether the scanned string raw stands for want, which must be ASCII. It does not allocate.
func textIs(raw []byte, escaped bool, want string) bool {
	if !escaped {
		return string(raw) == want
	}
	if len(raw) < len(want) || len(raw) > longestEscape*len(want) {
		return false
	}
	for i, n := 0, 0; ; n++ {
		if i >= len(raw) {
			return n == len(want)
		}
		if n >= len(want) {
			return false
		}
		r := rune(raw[i])
		if raw[i] == '\\' {
			r, i = unescapeRune(raw, i+1)
		} else {
			i++
		}
		if r != rune(want[n]) {
			return false
		}
	}
}
