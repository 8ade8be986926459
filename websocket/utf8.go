package websocket

import "unicode/utf8"

// utf8Prefix reports whether some continuation could make p valid UTF-8, and how
// many bytes at its end (0 to 3) belong to a character that is not complete yet.
// Overlong forms, surrogates and values above U+10FFFF are refused with their
// second byte, not only when they are complete. ASCII runs are checked in words
// of 8 bytes and more (unicode/utf8.Valid).
func utf8Prefix(p []byte) (tail int, ok bool) {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		end := p[len(p)-n:]
		if end[0] < utf8.RuneSelf {
			break
		}
		if utf8.RuneStart(end[0]) {
			if !utf8.FullRune(end) {
				tail = n
			}
			break
		}
	}
	return tail, utf8.Valid(p[:len(p)-tail])
}
