package socketio

import (
	"encoding/binary"
	"fmt"
)

// SyntaxError tells where JSON text stops being JSON (RFC 8259) or passes a limit of this package.
type SyntaxError struct {
	Offset  int    // bytes before the offending one, within the JSON text
	Problem string // what was wrong there
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("socketio: invalid JSON at byte %d: %s", e.Offset, e.Problem)
}

// scanner walks over JSON text and checks the full grammar of RFC 8259 without allocating. Strings may contain escaped
// lone surrogates, as JSON.parse allows; bytes above 0x7f are not checked here, since text frames are checked on
// arrival and every transcoder replaces bad bytes. The methods return false once problem is set.
type scanner struct {
	data     []byte
	pos      int
	depth    int
	maxDepth int
	problem  string // empty while all is well

	escaped  bool // the last string contained a backslash
	fraction bool // the last number had a fraction or an exponent
}

func newScanner(data []byte) scanner { return scanner{data: data, maxDepth: MaxDepth} }

func (s *scanner) fail(problem string) bool {
	if s.problem == "" {
		s.problem = problem
	}
	return false
}

// err returns the problem as an error, or nil.
func (s *scanner) err() error {
	if s.problem == "" {
		return nil
	}
	return &SyntaxError{Offset: s.pos, Problem: s.problem}
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// document scans one value with white space around it up to the end of the data and returns the value alone.
func (s *scanner) document() ([]byte, bool) {
	s.space()
	start := s.pos
	if !s.value() {
		return nil, false
	}
	end := s.pos
	return s.data[start:end:end], s.end()
}

// end checks that nothing but white space follows.
func (s *scanner) end() bool {
	s.space()
	if s.pos < len(s.data) {
		return s.fail("data after the value")
	}
	return true
}

func (s *scanner) value() bool {
	if s.pos >= len(s.data) {
		return s.fail("unexpected end")
	}
	switch c := s.data[s.pos]; c {
	case '"':
		return s.str()
	case '{':
		return s.object()
	case '[':
		return s.array()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		if c == '-' || isDigit(c) {
			return s.number()
		}
		return s.fail("unexpected character")
	}
}

func (s *scanner) array() bool {
	for more := s.open(']'); more; more = s.next(']') {
		if !s.value() {
			return false
		}
	}
	return s.problem == ""
}

func (s *scanner) object() bool {
	for more := s.open('}'); more; more = s.next('}') {
		if _, ok := s.key(); !ok || !s.value() {
			return false
		}
	}
	return s.problem == ""
}

// open enters the array or object at pos and reports whether it has a first element.
func (s *scanner) open(closing byte) bool {
	if s.depth++; s.depth > s.maxDepth {
		return s.fail("nested too deeply")
	}
	s.pos++
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == closing {
		s.pos++
		s.depth--
		return false
	}
	return true
}

// next moves behind the comma to the next element, or behind the closing bracket, and reports which.
func (s *scanner) next(closing byte) bool {
	s.space()
	if s.pos >= len(s.data) {
		return s.fail("unexpected end")
	}
	switch s.data[s.pos] {
	case ',':
		s.pos++
		s.space()
		return true
	case closing:
		s.pos++
		s.depth--
		return false
	}
	return s.fail("missing comma or closing bracket")
}

// key scans a member's name and the colon and returns the name's characters between the quotes, still escaped; escaped
// tells of them.
func (s *scanner) key() ([]byte, bool) {
	start := s.pos
	if start >= len(s.data) || s.data[start] != '"' {
		return nil, s.fail("missing member name")
	}
	if !s.str() {
		return nil, false
	}
	name := s.data[start+1 : s.pos-1]
	s.space()
	if s.pos >= len(s.data) || s.data[s.pos] != ':' {
		return nil, s.fail("missing colon")
	}
	s.pos++
	s.space()
	return name, true
}

func (s *scanner) literal(want string) bool {
	if len(s.data)-s.pos < len(want) || string(s.data[s.pos:s.pos+len(want)]) != want {
		return s.fail("unexpected character")
	}
	s.pos += len(want)
	return true
}

// str scans the string whose opening quote is at pos.
func (s *scanner) str() bool {
	s.escaped = false
	d, i := s.data, s.pos+1
	for {
		for len(d)-i >= 8 && plainText(binary.LittleEndian.Uint64(d[i:])) {
			i += 8
		}
		for i < len(d) && d[i] >= 0x20 && d[i] != '"' && d[i] != '\\' {
			i++
		}
		if s.pos = i; i >= len(d) {
			return s.fail("unterminated string")
		}
		switch d[i] {
		case '"':
			s.pos++
			return true
		case '\\':
			s.escaped = true
			if !s.escape() {
				return false
			}
			i = s.pos
		default:
			return s.fail("control character in string")
		}
	}
}

// plainText reports whether none of the eight bytes of w is a quote, a backslash or a control character: the usual
// zero-byte test (x-0x01…)&^x&0x80… on w xored with each character, and its less-than form for 0x20.
func plainText(w uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, slash := w^(ones*'"'), w^(ones*'\\')
	return ((w-ones*0x20)&^w|(quote-ones)&^quote|(slash-ones)&^slash)&high == 0
}

// escape scans the escape sequence whose backslash is at pos.
func (s *scanner) escape() bool {
	if s.pos++; s.pos >= len(s.data) {
		return s.fail("unterminated string")
	}
	c := s.data[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		if len(s.data)-s.pos < 4 {
			return s.fail("unterminated string")
		}
		for range 4 {
			if _, ok := hexDigit(s.data[s.pos]); !ok {
				return s.fail("invalid unicode escape")
			}
			s.pos++
		}
		return true
	}
	return s.fail("invalid escape")
}

func (s *scanner) number() bool {
	s.fraction = false
	if s.data[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		s.fraction = true
		if s.pos++; !s.digits() {
			return false
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.fraction = true
		if s.pos++; s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		return s.digits()
	}
	return true
}

// digits scans one or more decimal digits.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && isDigit(s.data[s.pos]) {
		s.pos++
	}
	if s.pos == start {
		return s.fail("missing digit")
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func hexDigit(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
