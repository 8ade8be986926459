package websocket

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// ClientHandshake is a client's opening handshake.
type ClientHandshake struct {
	Host string // host, or host:port
	Path string // path and query; "/" if empty
	// Key is base64 of 16 random bytes, new for each connection.
	Key    string
	Header http.Header // further headers, such as Origin or Sec-WebSocket-Protocol
}

// AppendRequest appends the complete request (RFC 6455 section 4.1). Headers that
// the handshake sets itself are left out of h.Header.
func AppendRequest(dst []byte, h ClientHandshake) []byte {
	path := h.Path
	if path == "" {
		path = "/"
	}
	dst = append(dst, "GET "...)
	dst = appendOneLine(dst, path)
	dst = append(dst, " HTTP/1.1\r\n"...)
	dst = appendField(dst, "Host", h.Host)
	dst = append(dst, "Upgrade: websocket\r\nConnection: Upgrade\r\n"...)
	dst = appendField(dst, "Sec-WebSocket-Key", h.Key)
	dst = appendField(dst, "Sec-WebSocket-Version", version)
	dst = appendFields(dst, h.Header, "Host", "Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version")
	return append(dst, "\r\n"...)
}

// maxResponse is the largest header of an answer that is waited for, in bytes.
const maxResponse = 16 << 10

// ReadSwitchingProtocols checks the server's answer to a request with the given
// key (RFC 6455 section 4.1). in is everything that arrived so far; ok false means
// that the header is not complete, and the caller comes back with more. rest is
// what follows the header: the first frames. The error is a *[HandshakeError]
// with the status of the answer. Whether a subprotocol in the answer was offered
// is not checked; extensions are refused.
func ReadSwitchingProtocols(in []byte, key string) (rest []byte, ok bool, err error) {
	const start = "HTTP/1."
	if n := min(len(in), len(start)); string(in[:n]) != start[:n] {
		return nil, false, &HandshakeError{Text: "the answer is not HTTP/1"}
	}
	end := bytes.Index(in[:min(len(in), maxResponse)], []byte("\r\n\r\n"))
	if end < 0 {
		if len(in) >= maxResponse {
			return nil, false, &HandshakeError{Text: "the answer's header exceeds " + strconv.Itoa(maxResponse) + " bytes"}
		}
		return nil, false, nil
	}
	line, fields, _ := strings.Cut(string(in[:end]), "\r\n")
	status, err := parseStatus(line)
	if err != nil {
		return nil, false, err
	}
	if status != http.StatusSwitchingProtocols {
		return nil, false, &HandshakeError{Status: status, Text: "the server answered " + strconv.Quote(line)}
	}
	header, text := parseFields(fields)
	if text == "" {
		text = checkAnswer(header, key)
	}
	if text != "" {
		return nil, false, &HandshakeError{Status: status, Text: text}
	}
	return in[end+4:], true, nil
}

// parseStatus returns the status of "HTTP/1.1 101 Switching Protocols".
func parseStatus(line string) (int, error) {
	protocol, rest, _ := strings.Cut(line, " ")
	digits, _, _ := strings.Cut(rest, " ")
	status, err := strconv.ParseUint(digits, 10, 16)
	if protocol != "HTTP/1.1" || len(digits) != 3 || err != nil {
		return 0, &HandshakeError{Text: "the answer begins with " + strconv.Quote(line)}
	}
	return int(status), nil
}

// parseFields splits header lines; a text names the first that is malformed.
func parseFields(fields string) (h http.Header, text string) {
	h = make(http.Header)
	if fields == "" {
		return h, ""
	}
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) {
			return nil, "malformed header line " + strconv.Quote(line)
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		h[name] = append(h[name], trimSpace(value))
	}
	return h, ""
}

// checkAnswer names what keeps the header of an answer 101 from accepting key.
func checkAnswer(h http.Header, key string) string {
	accept := h["Sec-Websocket-Accept"]
	switch {
	case !hasToken(h["Upgrade"], "websocket"):
		return "no \"websocket\" in the answer's Upgrade header"
	case !hasToken(h["Connection"], "upgrade"):
		return "no \"upgrade\" in the answer's Connection header"
	case len(accept) != 1 || accept[0] != AcceptKey(key):
		return "the answer's Sec-WebSocket-Accept does not match the key"
	case len(h["Sec-Websocket-Extensions"]) != 0:
		return "the answer has a Sec-WebSocket-Extensions header, none was offered"
	}
	return ""
}
