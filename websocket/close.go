package websocket

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Code is a close status code, RFC 6455 section 7.4 and the IANA registry
// "WebSocket Close Code Number".
type Code uint16

// The registered codes.
const (
	CodeNormal           Code = 1000
	CodeGoingAway        Code = 1001
	CodeProtocolError    Code = 1002
	CodeUnsupported      Code = 1003 // a kind of message the receiver does not accept
	CodeNoStatus         Code = 1005 // stands for a close frame without a code; never sent
	CodeAbnormal         Code = 1006 // stands for a connection that ended without a close frame; never sent
	CodeInvalidPayload   Code = 1007 // text that is not UTF-8
	CodePolicy           Code = 1008
	CodeTooBig           Code = 1009
	CodeMissingExtension Code = 1010 // sent by clients only
	CodeInternal         Code = 1011
	CodeServiceRestart   Code = 1012
	CodeTryAgainLater    Code = 1013
	CodeBadGateway       Code = 1014
	CodeTLSHandshake     Code = 1015 // stands for a failed TLS handshake; never sent
)

// Valid reports whether the code may appear in a close frame: the registered
// codes but those that only stand for something, and 3000 to 4999 (RFC 6455
// section 7.4.2).
func (c Code) Valid() bool {
	switch {
	case c >= CodeNormal && c <= CodeUnsupported:
		return true
	case c >= CodeInvalidPayload && c <= CodeBadGateway:
		return true
	}
	return c >= 3000 && c <= 4999
}

// Error is a violation by the peer: the code to close the connection with, and
// what was wrong. Text is short enough for the reason of a close frame.
type Error struct {
	Code Code
	Text string
}

// Error returns what was wrong and the close code.
func (e *Error) Error() string {
	return "websocket: " + e.Text + " (close code " + strconv.Itoa(int(e.Code)) + ")"
}

func protocolError(text string) *Error { return &Error{Code: CodeProtocolError, Text: text} }

// maxReason is what a control frame leaves for the reason after the code, in
// bytes.
const maxReason = maxControl - 2

// AppendClosePayload appends the payload of a close frame. A reason longer than
// 123 bytes is cut at a character, and what is not UTF-8 in it becomes U+FFFD. A
// code that may not be sent, such as CodeNoStatus, gives an empty payload.
func AppendClosePayload(dst []byte, code Code, reason string) []byte {
	if !code.Valid() {
		return dst
	}
	dst = append(dst, byte(code>>8), byte(code))
	return append(dst, closeReason(reason)...)
}

func closeReason(reason string) string {
	if !utf8.ValidString(reason) {
		reason = strings.ToValidUTF8(reason, string(utf8.RuneError))
	}
	if len(reason) <= maxReason {
		return reason
	}
	cut := maxReason
	for !utf8.RuneStart(reason[cut]) {
		cut--
	}
	return reason[:cut]
}

// AppendClose appends an unmasked close frame; code and reason are treated as by
// [AppendClosePayload]. A client masks the payload with [AppendMaskedFrame].
func AppendClose(dst []byte, code Code, reason string) []byte {
	var payload [maxControl]byte
	return AppendFrame(dst, Close, AppendClosePayload(payload[:0], code, reason))
}

// parseClose splits the payload of a received close frame (RFC 6455 section
// 5.5.1).
func parseClose(payload []byte) (Message, *Error) {
	if len(payload) == 0 {
		return Message{Op: Close, Code: CodeNoStatus}, nil
	}
	if len(payload) == 1 {
		return Message{}, protocolError("close frame with a payload of 1 byte")
	}
	code := Code(payload[0])<<8 | Code(payload[1])
	if !code.Valid() {
		return Message{}, protocolError("close code " + strconv.Itoa(int(code)) + " may not be sent")
	}
	if !utf8.Valid(payload[2:]) {
		return Message{}, &Error{Code: CodeInvalidPayload, Text: "close reason is not UTF-8"}
	}
	return Message{Op: Close, Data: payload[2:], Code: code}, nil
}
