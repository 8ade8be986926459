package websocket

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// acceptGUID is appended to the key before hashing, RFC 6455 section 1.3.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

const (
	version   = "13" // RFC 6455 section 4.1
	keySize   = 24   // characters: base64 of 16 bytes
	nonceSize = 16
)

// HandshakeError tells why an opening handshake failed.
type HandshakeError struct {
	// Status is the HTTP status: on the server the one to answer with, on the
	// client the one that came, 0 if the answer was not HTTP.
	Status int
	// Text names what was wrong.
	Text string
	// Header has what the answer must carry, such as Sec-WebSocket-Version with
	// status 426; nil if nothing. Set on the server only.
	Header http.Header
}

// Error returns what was wrong.
func (e *HandshakeError) Error() string { return "websocket: handshake: " + e.Text }

func badRequest(text string) *HandshakeError {
	return &HandshakeError{Status: http.StatusBadRequest, Text: text}
}

// Upgrade is what the answer to an accepted opening handshake depends on.
type Upgrade struct {
	// Key is the client's Sec-WebSocket-Key.
	Key string
	// Protocol is the subprotocol to agree to, empty for none. CheckUpgrade sets
	// the first that the client offered.
	Protocol string
	// Extensions is what to agree to of the client's Sec-WebSocket-Extensions, empty
	// for nothing: what AnswerDeflate returned. CheckUpgrade leaves it empty.
	Extensions string
}

// CheckUpgrade checks a client's opening handshake (RFC 6455 section 4.2.1). The
// error is a *[HandshakeError] with the status to answer. The origin is the
// caller's to judge.
func CheckUpgrade(r *http.Request) (Upgrade, error) {
	if r.Method != http.MethodGet {
		return Upgrade{}, &HandshakeError{
			Status: http.StatusMethodNotAllowed,
			Text:   "method is " + strconv.Quote(r.Method) + ", not GET",
			Header: http.Header{"Allow": {http.MethodGet}},
		}
	}
	if !r.ProtoAtLeast(1, 1) {
		return Upgrade{}, badRequest("protocol is " + strconv.Quote(r.Proto) + ", older than HTTP/1.1")
	}
	if r.Host == "" {
		return Upgrade{}, badRequest("no Host header")
	}
	if !hasToken(r.Header["Connection"], "upgrade") {
		return Upgrade{}, badRequest("no \"upgrade\" in the Connection header")
	}
	if !hasToken(r.Header["Upgrade"], "websocket") {
		return Upgrade{}, badRequest("no \"websocket\" in the Upgrade header")
	}
	if v := r.Header["Sec-Websocket-Version"]; len(v) != 1 || v[0] != version {
		return Upgrade{}, &HandshakeError{
			Status: http.StatusUpgradeRequired,
			Text:   "Sec-WebSocket-Version is not " + version,
			// RFC 6455 section 4.4; RFC 9110 section 15.5.22 asks for Upgrade.
			Header: http.Header{"Sec-Websocket-Version": {version}, "Upgrade": {"websocket"}, "Connection": {"Upgrade"}},
		}
	}
	key := r.Header["Sec-Websocket-Key"]
	if len(key) != 1 {
		return Upgrade{}, badRequest(strconv.Itoa(len(key)) + " Sec-WebSocket-Key headers, not 1")
	}
	if !validKey(key[0]) {
		return Upgrade{}, badRequest("Sec-WebSocket-Key is not base64 of 16 bytes")
	}
	protocol, err := firstProtocol(r.Header["Sec-Websocket-Protocol"])
	if err != nil {
		return Upgrade{}, err
	}
	return Upgrade{Key: key[0], Protocol: protocol}, nil
}

func validKey(key string) bool {
	var encoded [keySize]byte
	if copy(encoded[:], key) != keySize || len(key) != keySize {
		return false
	}
	var nonce [18]byte // what the decoder may want for 24 characters
	n, err := base64.StdEncoding.Decode(nonce[:], encoded[:])
	return err == nil && n == nonceSize
}

// firstProtocol returns the first offered subprotocol, the one the client likes
// best (RFC 6455 section 4.1); empty if none is offered. All are checked.
func firstProtocol(values []string) (first string, err error) {
	for _, value := range values {
		for offered := range strings.SplitSeq(value, ",") {
			offered = trimSpace(offered)
			if !isToken(offered) {
				return "", badRequest("Sec-WebSocket-Protocol: " + strconv.Quote(offered) + " is not a token")
			}
			if first == "" {
				first = offered
			}
		}
	}
	return first, nil
}

// hasToken reports whether the comma-separated lists contain the token, in
// whatever case.
func hasToken(values []string, token string) bool {
	for _, value := range values {
		for v := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(trimSpace(v), token) {
				return true
			}
		}
	}
	return false
}

// trimSpace removes what RFC 9110 section 5.6.3 calls optional whitespace.
func trimSpace(s string) string { return strings.Trim(s, " \t") }

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// AcceptKey returns the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key
// (RFC 6455 section 4.2.2).
func AcceptKey(key string) string {
	return string(appendAcceptKey(nil, key))
}

func appendAcceptKey(dst []byte, key string) []byte {
	var input [keySize + len(acceptGUID)]byte
	sum := sha1.Sum(append(append(input[:0], key...), acceptGUID...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// AppendSwitchingProtocols appends the complete answer 101 that accepts u. Of
// extra, names that are not tokens and the five headers that the handshake sets
// itself are left out; line breaks in values become spaces.
func AppendSwitchingProtocols(dst []byte, u Upgrade, extra http.Header) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = appendAcceptKey(dst, u.Key)
	dst = append(dst, "\r\n"...)
	if u.Protocol != "" {
		dst = appendField(dst, "Sec-WebSocket-Protocol", u.Protocol)
	}
	if u.Extensions != "" {
		dst = appendField(dst, "Sec-WebSocket-Extensions", u.Extensions)
	}
	dst = appendFields(dst, extra, "Upgrade", "Connection", "Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions")
	return append(dst, "\r\n"...)
}

// appendFields appends the fields of h but those named in own, in the order of
// their names.
func appendFields(dst []byte, h http.Header, own ...string) []byte {
	names := make([]string, 0, len(h))
	for name := range h {
		if isToken(name) && !slices.Contains(own, http.CanonicalHeaderKey(name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			dst = appendField(dst, name, value)
		}
	}
	return dst
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = appendOneLine(dst, value)
	return append(dst, "\r\n"...)
}

// appendOneLine keeps a value from ending its line, and with it from adding
// headers.
func appendOneLine(dst []byte, value string) []byte {
	for i := range len(value) {
		c := value[i]
		if c == '\r' || c == '\n' || c == 0 {
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}
