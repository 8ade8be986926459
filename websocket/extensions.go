package websocket

import (
	"strconv"
	"strings"
)

// What permessage-deflate is negotiated with, RFC 7692 section 7.1.
const (
	deflateName = "permessage-deflate"

	paramServerTakeover = "server_no_context_takeover"
	paramClientTakeover = "client_no_context_takeover"
	paramServerWindow   = "server_max_window_bits"
	paramClientWindow   = "client_max_window_bits"

	// deflateAnswer lets neither side use a window of earlier messages: what is
	// compressed once is right for every connection, and no connection keeps a
	// window.
	deflateAnswer = deflateName + "; " + paramServerTakeover + "; " + paramClientTakeover

	minWindowBits = 8
	maxWindowBits = 15 // what compress/flate uses, and nothing less
)

// extension is one offer of a Sec-WebSocket-Extensions header.
type extension struct {
	name   string
	params []param
}

// param is a parameter of an extension; its value is a token, quoted or not.
type param struct {
	name, value string
	valued      bool
}

// AnswerDeflate decides about permessage-deflate (RFC 7692): offers are the values
// of the client's Sec-WebSocket-Extensions headers. It returns the Extensions of the
// [Upgrade], for the first offer that can be accepted; empty if there is none. Other
// extensions are passed over, and so is an offer with a parameter that is unknown,
// repeated or has a value that it may not have, or that demands a window smaller than
// 32 KiB of the server.
//
// The error is a *[HandshakeError]: the headers are not those of RFC 6455 section
// 9.1, which is to fail the handshake.
func AnswerDeflate(offers []string) (answer string, err error) {
	for _, value := range offers {
		list, ok := parseExtensions(value)
		if !ok {
			return "", badRequest("Sec-WebSocket-Extensions is malformed: " + strconv.Quote(value))
		}
		for i := range list {
			if answer == "" {
				answer = list[i].deflateAnswer()
			}
		}
	}
	return answer, nil
}

// deflateAnswer is the answer that accepts the offer, empty to decline it.
func (e *extension) deflateAnswer() string {
	if !strings.EqualFold(e.name, deflateName) {
		return ""
	}
	answer := deflateAnswer
	for i, p := range e.params {
		for _, other := range e.params[:i] {
			if strings.EqualFold(other.name, p.name) {
				return ""
			}
		}
		bits := windowBits(p.value)
		switch name := strings.ToLower(p.name); {
		case (name == paramServerTakeover || name == paramClientTakeover) && !p.valued:
		case name == paramClientWindow && (!p.valued || bits != 0): // it may stay at any size
		case name == paramServerWindow && bits == maxWindowBits: // to accept it is to repeat it
			answer += "; " + paramServerWindow + "=" + p.value
		default:
			return ""
		}
	}
	return answer
}

// windowBits returns the size of a window, a decimal number from 8 to 15 without
// leading zeros; 0 for anything else.
func windowBits(value string) int {
	n, err := strconv.ParseUint(value, 10, 8)
	if err != nil || value[0] == '0' || n < minWindowBits || n > maxWindowBits {
		return 0
	}
	return int(n)
}

// parseExtensions reads the value of one header by the grammar of RFC 6455 section
// 9.1. Empty elements of the list are passed over (RFC 9110 section 5.6.1), and a
// list of nothing else is no offer: so do proxies take one back.
func parseExtensions(value string) (list []extension, ok bool) {
	s := scanner{rest: value}
	for {
		for s.accept(',') {
		}
		if s.rest == "" {
			return list, true
		}
		e := extension{name: s.token()}
		if e.name == "" {
			return nil, false
		}
		for s.accept(';') {
			p, ok := s.param()
			if !ok {
				return nil, false
			}
			e.params = append(e.params, p)
		}
		list = append(list, e)
		if s.rest != "" && s.rest[0] != ',' {
			return nil, false
		}
	}
}

// scanner takes a header value apart.
type scanner struct{ rest string }

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

// accept takes c, with the whitespace around it, if it is next.
func (s *scanner) accept(c byte) bool {
	s.space()
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	s.space()
	return true
}

// token takes a token; it is empty if none is next.
func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && isToken(s.rest[n:n+1]) {
		n++
	}
	token := s.rest[:n]
	s.rest = s.rest[n:]
	s.space()
	return token
}

func (s *scanner) param() (p param, ok bool) {
	if p.name = s.token(); p.name == "" {
		return p, false
	}
	if !s.accept('=') {
		return p, true
	}
	p.valued = true
	if s.rest != "" && s.rest[0] == '"' {
		p.value, ok = s.quoted()
	} else {
		p.value = s.token()
		ok = p.value != ""
	}
	return p, ok
}

// quoted takes a quoted-string (RFC 9110 section 5.6.4), whose content must be a
// token.
func (s *scanner) quoted() (value string, ok bool) {
	var content []byte
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			s.space()
			return string(content), isToken(string(content))
		case '\\':
			if i++; i == len(s.rest) {
				return "", false
			}
			content = append(content, s.rest[i])
		default:
			content = append(content, c)
		}
	}
	return "", false
}
