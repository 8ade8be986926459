package hostile

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	randv2 "math/rand/v2"
	"net"
	"net/http"
	"strings"

	"github.com/stellara/edge/websocket"
)

// webSocket opens a WebSocket, which agrees to compression or does not.
func (a *attack) webSocket(compressed bool) bool {
	headers := upgradeHeaders
	if compressed {
		headers += "Sec-WebSocket-Extensions: permessage-deflate\r\n"
	}
	if !a.request("GET", openWebSocket, headers, "") {
		return false
	}
	status, _ := a.answer()
	return status == http.StatusSwitchingProtocols
}

// user is a WebSocket of a user, in the main namespace.
func (a *attack) user(compressed bool) bool {
	token := Token(a.plan.Secret, fmt.Sprintf("mallory%d", randv2.IntN(1000)))
	if !a.webSocket(compressed) || !a.text(`40{"token":"`+token+`","userId":"mallory"}`) {
		return false
	}
	for {
		text, closed := a.next()
		if closed || strings.HasPrefix(text, "44") {
			return false
		}
		if strings.HasPrefix(text, "40") {
			return true
		}
	}
}

// text sends a text message.
func (a *attack) text(message string) bool {
	return a.write(websocket.AppendMaskedFrame(nil, websocket.Text, []byte(message), [4]byte{1, 2, 3, 4}))
}

// frame is a frame with any first byte, masked with zeros, and any length said to follow.
func frame(first byte, length uint64, payload []byte) []byte {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), length)
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// next reads one frame and returns its text; closed if it is a close frame, or the connection ended.
func (a *attack) next() (text string, closed bool) {
	first, err := a.in.ReadByte()
	if err != nil {
		return "", true
	}
	length, err := a.in.ReadByte()
	n := int(length & 0x7f)
	if n >= 126 {
		var extended [8]byte
		size := 2 + 6*(n-126)
		if _, err = io.ReadFull(a.in, extended[8-size:]); err == nil {
			n = int(binary.BigEndian.Uint64(extended[:]))
		}
	}
	if err != nil {
		return "", true
	}
	b := make([]byte, min(n, 4096)) // the rest says no more
	if _, err = io.ReadFull(a.in, b); err == nil {
		_, err = a.in.Discard(n - len(b))
	}
	return string(b), err != nil || first&0x0f == byte(websocket.Close)
}

// untilClosed reads until the node closes the WebSocket.
func (a *attack) untilClosed() Outcome {
	for {
		head, err := a.in.Peek(1)
		if err != nil {
			return a.gone()
		}
		closing := head[0]&0x0f == byte(websocket.Close)
		if _, closed := a.next(); closed {
			if closing {
				return Refused
			}
			return a.gone()
		}
	}
}

func badToken(a *attack) Outcome {
	good := Token(a.plan.Secret, "admin")
	parts := strings.Split(good, ".")
	token := oneOf(
		Token("another secret, which is as long as it must be", "admin"), parts[0]+"."+parts[1]+".", "eyJhbGciOiJub25lIn0."+parts[1]+".", parts[0]+".eyJzdWIiOiJyb290In0."+parts[2],
		"", "x", strings.Repeat("a.", 5000), "__proto__", good[:len(good)-1],
	)
	if !a.webSocket(false) || !a.text(`40{"token":"`+token+`"}`) {
		return a.gone()
	}
	for {
		text, closed := a.next()
		switch {
		case closed:
			return a.gone()
		case strings.HasPrefix(text, "44"):
			return Refused
		case strings.HasPrefix(text, "40"):
			return Served
		}
	}
}

func badFrame(a *attack) Outcome {
	if !a.webSocket(false) {
		return a.gone()
	}
	_ = a.write(oneOf(
		[]byte{0x81, 0x02, '4', '0'}, frame(0xf1, 2, []byte("40")), frame(0x83, 0, nil), frame(0x80, 0, nil), frame(0x09, 0, nil), frame(0x89, 126, make([]byte, 126)),
		frame(0x82, 1<<63-1, nil), frame(0x82, 1<<64-1, nil), append(frame(0x02, 1, []byte("x")), frame(0x80, 1<<63-1, nil)...), frame(0x88, 1, []byte("x")), frame(0x88, 2, []byte{3, 0xed}),
	))
	return a.untilClosed()
}

func invalidUTF8(a *attack) Outcome {
	if !a.user(false) {
		return a.gone()
	}
	text := oneOf("42[\"\xff\"]", "42[\"\xc0\xaf\"]", "42[\"\xed\xa0\x80\"]", "42[\"\xe2\x82")
	_ = a.write(frame(0x81, uint64(len(text)), []byte(text)))
	return a.untilClosed()
}

// unfinishedMessage sends the largest message there may be, but for its last byte.
func unfinishedMessage(a *attack) Outcome {
	if !a.user(false) || !a.write(frame(0x82, uint64(a.plan.Payload), make([]byte, a.plan.Payload-1))) {
		return a.gone()
	}
	return a.untilClosed()
}

func fragmentFlood(a *attack) Outcome {
	if !a.user(false) || !a.write(frame(0x01, 1, []byte("4"))) {
		return a.gone()
	}
	more := bytes.Repeat(oneOf(frame(0x00, 1, []byte("x")), frame(0x00, 0, nil)), 1000)
	for range 100 { // more than a message may have
		if !a.write(more) {
			break
		}
	}
	return a.untilClosed()
}

// unfinishedAttachments sends as much of a packet as is taken, but for its last attachment.
func unfinishedAttachments(a *attack) Outcome {
	if !a.user(false) {
		return a.gone()
	}
	places := make([]string, 10)
	for i := range places {
		places[i] = fmt.Sprintf(`{"_placeholder":true,"num":%d}`, i)
	}
	_ = a.text(`4510-["message","` + a.plan.Room + `",` + strings.Join(places, ",") + "]")
	for range len(places) - 1 {
		if !a.write(frame(0x82, uint64(a.plan.Payload/10), make([]byte, a.plan.Payload/10))) {
			break
		}
	}
	return a.untilClosed()
}

func compressionBomb(a *attack) Outcome {
	if !a.webSocket(true) {
		return a.gone()
	}
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, flate.BestSpeed)
	if err != nil {
		return Failed
	}
	_, _ = w.Write(make([]byte, 8*a.plan.Payload)) // a Buffer takes everything
	_ = w.Close()
	_ = a.write(frame(0xc2, uint64(z.Len()), z.Bytes()))
	return a.untilClosed()
}

// slowReader asks for answers, in a room where others talk, and reads nothing.
func slowReader(a *attack) Outcome {
	if !a.user(false) {
		return a.gone()
	}
	if tcp, ok := a.nc.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4 << 10)
	}
	_ = a.text(`42["join","` + a.plan.Room + `"]`)
	pings := bytes.Repeat(frame(0x89, 125, make([]byte, 125)), 100)
	for a.write(pings) {
	}
	return a.gone()
}

// hostileEvents sends events that nobody handles, that are refused, or that would be more than data elsewhere.
func hostileEvents(a *attack) Outcome {
	if !a.user(false) {
		return a.gone()
	}
	const evil = `{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}`
	for _, text := range []string{
		`420["join","__proto__"]`, `421["join",` + evil + `]`, `422["join","user:admin"]`, `423["message","` + a.plan.Room + `",1]`, `424["message",` + evil + `,1]`, `42["__proto__",1]`,
		`425["presence",["a","a"]]`, `426["presence"]`, "40/admin,", `427["leave","` + strings.Repeat("x", 5000) + `"]`, `43999[]`, "42" + strings.Repeat("[", 3000) + strings.Repeat("]", 3000),
	} {
		if !a.text(text) {
			break
		}
	}
	return a.untilClosed()
}
