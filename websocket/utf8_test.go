package websocket

import (
	"bytes"
	"strings"
	"testing"
)

// The strings of Autobahn's families 6.5 to 6.23, which are those of Markus
// Kuhn's UTF-8 decoder stress test.
var (
	validUTF8 = []string{
		"", "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!", "\u03ba\u1f79\u03c3\u03bc\u03b5", // 6.2, 6.6
		"\x00", "\xC2\x80", "\xE0\xA0\x80", "\xF0\x90\x80\x80", // 6.7 first of each length
		"\x7F", "\xDF\xBF", "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF", // 6.9 last of each length
		"\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBD", // 6.11 around the surrogates
		"\xEF\xBF\xBE", "\xF0\x9F\xBF\xBE", "\xF3\xBF\xBF\xBF", "\xF4\x8F\xBF\xBE", // 6.22 noncharacters
		"\xEF\xBB\xBF", "\u200b", "\U0001F600", // 6.23 and others
	}
	invalidUTF8 = []string{
		"\xF8\x88\x80\x80\x80", "\xFC\x84\x80\x80\x80\x80", // 6.8 five and six bytes
		"\xF7\xBF\xBF\xBF", "\xFB\xBF\xBF\xBF\xBF", "\xFD\xBF\xBF\xBF\xBF\xBF", // 6.10
		"\xF4\x90\x80\x80",                                             // 6.11 above U+10FFFF
		"\x80", "\xBF", "\x80\xBF", "\x80\xBF\x80\xBF\x80", "\x41\x80", // 6.12 lone continuation bytes
		"\xC0 \xC1 \xC2 ", "\xE0 \xE1 ", "\xF0 \xF1 ", "\xF8 ", "\xFC ", // 6.13 lone start bytes
		"\xC0", "\xE0\x80", "\xF0\x80\x80", "\xF8\x80\x80\x80", "\xDF", "\xEF\xBF", "\xF3\xBF\xBF", "\xFB\xBF\xBF\xBF", // 6.14
		"\xC0\xE0\x80\xF0\x80\x80",         // 6.15
		"\xFE", "\xFF", "\xFE\xFE\xFF\xFF", // 6.16
		"\xC0\xAF", "\xE0\x80\xAF", "\xF0\x80\x80\xAF", // 6.17 overlong
		"\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", // 6.18 longest overlong
		"\xC0\x80", "\xE0\x80\x80", "\xF0\x80\x80\x80", // 6.19 overlong NUL
		"\xED\xA0\x80", "\xED\xAD\xBF", "\xED\xAE\x80", "\xED\xBF\xBF", // 6.20 lone surrogates
		"\xED\xA0\x80\xED\xB0\x80", "\xED\xAF\xBF\xED\xBF\xBF", // 6.21 paired surrogates
		"\u03ba\u1f79\u03c3\u03bc\u03b5\xED\xA0\x80edited", // 6.3
	}
)

func TestAutobahn6UTF8(t *testing.T) {
	var cases []exchange
	each := func(s string, want event) {
		// Around the string, ASCII that takes the fast path on both sides.
		for _, around := range []string{"", strings.Repeat("ascii 8 ", 5)} {
			s, want := around+s+around, want
			if want.op == Text {
				want.data = s
			}
			cases = append(cases,
				exchange{"one frame", func(p *peer) { p.text(s) }, []event{want}},
				exchange{"frame per byte", func(p *peer) { p.fragments(Text, s, 1) }, []event{want}},
				exchange{"frames of three bytes", func(p *peer) { p.fragments(Text, s, 3) }, []event{want}},
				exchange{"pings between", func(p *peer) {
					p.frame(0x01, "").frame(0x00, s[:len(s)/2]).ping("\xFF").frame(0x00, s[len(s)/2:]).frame(0x80, "")
				}, nil})
			last := &cases[len(cases)-1]
			// Where the first half is already invalid, the ping is never reached.
			if last.want = []event{ping("\xFF"), want}; possible([]byte(s[:len(s)/2])) < len(s)/2 {
				last.want = []event{want}
			}
		}
	}
	for _, s := range validUTF8 {
		each(s, text(s))
	}
	for _, s := range invalidUTF8 {
		each(s, fails(CodeInvalidPayload))
	}
	cases = append(cases,
		exchange{"binary is not checked", func(p *peer) { p.binary("\xFF").fragments(Binary, "\xC0\x80\xED\xA0\x80", 2) },
			[]event{bin("\xFF"), bin("\xC0\x80\xED\xA0\x80")}},
		exchange{"a message starts anew", func(p *peer) { p.fragments(Text, "\u00e4", 1).text("\xA4") },
			[]event{text("\u00e4"), fails(CodeInvalidPayload)}})
	run(t, cases)
}

// TestAutobahn64FailFast sends Autobahn's invalid message in frames and in
// pieces of one frame: the violation must come with the byte that makes the text
// impossible, not with the end of the frame or message.
func TestAutobahn64FailFast(t *testing.T) {
	lim := &Limits{Server: true}
	const good = "\u03ba\u1f79\u03c3\u03bc\u03b5"
	for _, bad := range []string{"\xF4\x90\x80\x80", "\xED\xA0\x80", "\xE0\x80\x80", "\xF0\x80\x80\x80", "\xC0\x80", "\xFF", "\xF5", "\xE2\x82\x28", "\xF0\x9F\x98("} {
		message := good + bad + "edited"
		decisive := possible([]byte(message)) // all up to here may still become text
		oneFrame := rawFrame(true, 0x81, message)
		var perByte []byte
		perByte = append(perByte, rawFrame(true, 0x01, "")...)
		for i := range len(message) {
			perByte = append(perByte, rawFrame(true, 0x00, message[i:i+1])...)
		}
		for name, tt := range map[string]struct {
			in     []byte
			failAt int
		}{
			"one frame":      {oneFrame, 6 + decisive},
			"frame per byte": {perByte, 6 + 7*decisive + 6},
		} {
			var r Reader
			for i, chunk := range byteByByte(tt.in) {
				events := feed(&r, lim, [][]byte{chunk})
				if failed := len(events) != 0; failed != (i >= tt.failAt) {
					t.Errorf("%q, %s: after byte %d of the stream: %v; want the violation at byte %d", message, name, i, events, tt.failAt)
					break
				}
			}
		}
	}
}

// possible returns how many bytes of p may begin a UTF-8 text, by the ABNF of
// RFC 3629 section 4 and without the standard library.
func possible(p []byte) int {
	type span struct{ lo, hi byte }
	var pending []span // what the next bytes have to be
	tail := span{0x80, 0xBF}
	for i, c := range p {
		if len(pending) > 0 {
			if c < pending[0].lo || c > pending[0].hi {
				return i
			}
			pending = pending[1:]
			continue
		}
		switch {
		case c <= 0x7F:
		case c >= 0xC2 && c <= 0xDF:
			pending = []span{tail}
		case c == 0xE0:
			pending = []span{{0xA0, 0xBF}, tail}
		case c == 0xED:
			pending = []span{{0x80, 0x9F}, tail}
		case c >= 0xE1 && c <= 0xEF:
			pending = []span{tail, tail}
		case c == 0xF0:
			pending = []span{{0x90, 0xBF}, tail, tail}
		case c >= 0xF1 && c <= 0xF3:
			pending = []span{tail, tail, tail}
		case c == 0xF4:
			pending = []span{{0x80, 0x8F}, tail, tail}
		default:
			return i
		}
	}
	return len(p)
}

// incomplete returns how many bytes at the end of p, all of it possible, belong
// to a character that is not complete.
func incomplete(p []byte) int {
	n := 0
	for n < len(p) && possible(append(bytes.Clone(p[:len(p)-n]), 'x')) <= len(p)-n {
		n++
	}
	return n
}

func checkPrefix(t *testing.T, p []byte) {
	t.Helper()
	tail, ok := utf8Prefix(p)
	if want := possible(p) == len(p); ok != want {
		t.Fatalf("% x: valid %v, want %v", p, ok, want)
	}
	if ok && tail != incomplete(p) {
		t.Fatalf("% x: tail of %d bytes, want %d", p, tail, incomplete(p))
	}
}

// TestUTF8PrefixExhaustive tries all sequences of up to four bytes out of those
// that border on a range of RFC 3629.
func TestUTF8PrefixExhaustive(t *testing.T) {
	borders := []byte("\x00\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF")
	var extend func(p []byte)
	extend = func(p []byte) {
		checkPrefix(t, p)
		if len(p) == 4 {
			return
		}
		for _, c := range borders {
			extend(append(p, c))
		}
	}
	extend(make([]byte, 0, 4))
}
