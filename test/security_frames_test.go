package test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/websocket"
)

// noCode is how a close frame without a code is told.
const noCode = websocket.CodeNoStatus

// closedWith fails the test unless the edge closes the connection with that code.
func closedWith(t *testing.T, c *wire.Client, want websocket.Code) {
	t.Helper()
	if got := c.ExpectClosed(); got != want {
		t.Errorf("closed with %d, want %d", got, want)
	}
}

// frame is a masked frame with any first byte and any length said to follow.
func frame(first byte, length uint64, payload string) []byte {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), length)
	}
	return append(append(b, 0, 0, 0, 0), payload...) // a key of zeros masks nothing
}

// First bytes of frames.
const (
	firstText, firstBinary, firstMore, finText, finMore = 0x01, 0x02, 0x00, 0x81, 0x80
	compressedText                                      = 0xc1
)

// securityFrames attacks with what a client may send once it has a WebSocket.
func securityFrames(t *testing.T, bin string) {
	a := attack(t, bin, "")
	for name, f := range map[string]func(*testing.T, *attacked){
		"unbounded attachments (CVE-2026-33151)":  unboundedAttachments,
		"zero attachments (CVE-2026-69185)":       zeroAttachments,
		"placeholder confusion (CVE-2022-2421)":   placeholderConfusion,
		"event name confusion (CVE-2023-32695)":   eventNameConfusion,
		"tiny-fragment flood":                     tinyFragmentFlood,
		"endless fragments":                       endlessFragments,
		"64-bit length overflow (CVE-2020-27813)": lengthOverflow,
		"decompression bomb (CVE-2026-1526)":      decompressionBomb,
		"reserved bits (CVE-2022-21676)":          reservedBits,
		"invalid UTF-8":                           invalidUTF8,
		"prototype-like keys":                     prototypeKeys,
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { a.alone(t) })
			f(t, a)
		})
	}
}

// CVE-2026-33151, socket.io-parser: a packet announced any number of attachments, and
// what came of them was kept.
func unboundedAttachments(t *testing.T, a *attacked) {
	for _, count := range []string{"11", "1000000", "4294967297", "18446744073709551617", strings.Repeat("9", 1000)} {
		took := a.suffers(t, counted{"close forced_close": 1}, func() {
			c := a.attacker(t)
			c.Text("45" + count + `-["message","lobby",{"_placeholder":true,"num":0}]`)
			closedWith(t, c, noCode)
		})
		bounded(t, took, len(count))
	}
	t.Run("polling", func(t *testing.T) {
		a.suffers(t, counted{"close forced_close": 1}, func() {
			s := a.session(t)
			a.post(t, s, "40")
			if status, _ := a.post(t, s, `4511-["a"]`); status != 400 {
				t.Errorf("answered %d", status)
			}
		})
	})
	t.Run("as many as allowed, each as large as allowed, but for the last", func(t *testing.T) {
		const most = 10
		took := a.suffers(t, counted{"close forced_close": 1}, func() {
			c := a.attacker(t)
			placeholders := make([]string, most)
			for i := range placeholders {
				placeholders[i] = fmt.Sprintf(`{"_placeholder":true,"num":%d}`, i)
			}
			c.Text(`4510-["message","lobby",` + strings.Join(placeholders, ",") + "]")
			for range most - 1 {
				c.Binary(make([]byte, attackedPayload))
			}
			a.healthy(t)
			c.Text(`42["message","lobby","instead"]`)
			closedWith(t, c, noCode)
		})
		bounded(t, took, most*attackedPayload)
	})
}

// CVE-2026-69185, socket.io-parser: a packet that announced no attachment was never
// complete, and any number of them was kept for it.
func zeroAttachments(t *testing.T, a *attacked) {
	for _, packet := range []string{`450-["message","lobby","x"]`, `460-0["x"]`, `45-["x"]`, `4500-["x"]`} {
		a.suffers(t, counted{"close forced_close": 1}, func() {
			c := a.attacker(t)
			c.Text(packet)
			for range 3 {
				c.Binary([]byte("x"))
			}
			closedWith(t, c, noCode)
		})
	}
}

// CVE-2022-2421, socket.io-parser: the number of a placeholder could be anything, such as
// the name of a function of arrays.
func placeholderConfusion(t *testing.T, a *attacked) {
	for _, num := range []string{`"splice"`, `"__proto__"`, "-1", "1", "0.5", "1e3", "null", "{}", "99999999999999999999"} {
		a.suffers(t, counted{"close forced_close": 1}, func() {
			c := a.attacker(t)
			c.Text(`451-["message","lobby",{"_placeholder":true,"num":` + num + "}]")
			c.Binary([]byte("x"))
			closedWith(t, c, noCode)
		})
	}
}

// CVE-2023-32695, socket.io-parser: an event's name could be an object whose toString was
// no function, and ended the process.
func eventNameConfusion(t *testing.T, a *attacked) {
	for _, packet := range []string{`42[{"toString":"foo"}]`, `42{"0":"message"}`, `42[null]`, `42[[]]`, `42[true]`, `42["connect"]`, `42["disconnecting"]`, `42[]`} {
		a.suffers(t, counted{"close forced_close": 1}, func() {
			c := a.attacker(t)
			c.Text(packet)
			closedWith(t, c, noCode)
		})
	}
}

// A message in fragments of a byte costs a server that keeps a list of them many times
// its size.
func tinyFragmentFlood(t *testing.T, a *attacked) {
	const most = 1 << 16 // fragments of a message
	took := a.suffers(t, counted{"close message_too_big": 1}, func() {
		c := a.attacker(t)
		flood := append(frame(firstText, 1, "4"), bytes.Repeat(frame(firstMore, 1, "x"), most+1000)...)
		go func() { _, _ = c.Conn.Write(flood) }() // it need not be read to its end
		closedWith(t, c, websocket.CodeTooBig)
	})
	bounded(t, took, 7*(most+1000))
}

// A message may be continued without end by fragments that are empty, so that no limit
// of its size is reached.
func endlessFragments(t *testing.T, a *attacked) {
	const most = 1 << 16
	took := a.suffers(t, counted{"close message_too_big": 1}, func() {
		c := a.attacker(t)
		go func() { // for as long as somebody reads
			part := bytes.Repeat(frame(firstMore, 0, ""), 1000)
			_, err := c.Conn.Write(frame(firstBinary, 0, ""))
			for err == nil {
				_, err = c.Conn.Write(part)
			}
		}()
		closedWith(t, c, websocket.CodeTooBig)
	})
	// What arrives behind the violation is read, so that the close frame is not lost to a reset, and thrown away.
	if took < 6*most {
		t.Errorf("closed after %d bytes", took)
	}
}

// CVE-2020-27813, gorilla/websocket: the sum of a message's length and a frame's of 64
// bits overflowed, and was below any limit.
func lengthOverflow(t *testing.T, a *attacked) {
	for _, c := range []struct {
		reason string
		code   websocket.Code
		bytes  []byte
	}{
		{"message_too_big", websocket.CodeTooBig, frame(firstBinary, 1<<63-1, "")},
		{"message_too_big", websocket.CodeTooBig, frame(firstBinary, attackedPayload+1, "")},
		{"message_too_big", websocket.CodeTooBig, append(frame(firstBinary, 2, "xx"), frame(finMore, 1<<63-1, "")...)},
		{"message_too_big", websocket.CodeTooBig, append(frame(firstBinary, 2, "xx"), frame(finMore, attackedPayload-1, "")...)},
		{"message_too_big", websocket.CodeTooBig, append(frame(firstText, 1, "4"), frame(firstMore, 1<<63-1, "")...)},
		{"protocol_error", websocket.CodeProtocolError, frame(firstBinary, 1<<63, "")},
		{"protocol_error", websocket.CodeProtocolError, frame(firstBinary, 1<<64-1, "")},
		{"protocol_error", websocket.CodeProtocolError, append([]byte{0x89, 0xff}, make([]byte, 12)...)}, // a ping
	} {
		took := a.suffers(t, counted{"close " + c.reason: 1}, func() {
			ws := a.attacker(t)
			ws.Raw(c.bytes)
			closedWith(t, ws, c.code)
		})
		bounded(t, took, len(c.bytes))
	}
}

// CVE-2026-1526, undici: a compressed message was inflated without a limit.
func decompressionBomb(t *testing.T, a *attacked) {
	var zeros bytes.Buffer
	w, err := flate.NewWriter(&zeros, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(bytes.Repeat([]byte("4"), 64<<20)) // a Buffer takes everything
	_ = w.Close()
	bomb := zeros.String()
	half := len(bomb) / 2
	finals := strings.Repeat("\x03\x00", attackedPayload/2-8) // blocks that are empty and each the last one
	for name, c := range map[string]struct {
		reason string
		code   websocket.Code
		bytes  []byte
	}{
		"whole":        {"message_too_big", websocket.CodeTooBig, frame(compressedText, uint64(len(bomb)), bomb)},
		"in fragments": {"message_too_big", websocket.CodeTooBig, append(frame(compressedText&^0x80, uint64(half), bomb[:half]), frame(finMore, uint64(len(bomb)-half), bomb[half:])...)},
		"many ends":    {"parse_error", noCode, frame(compressedText, uint64(len(finals)), finals)},
		"cut short":    {"protocol_error", websocket.CodeInvalidPayload, frame(compressedText, 10, bomb[:10])},
		"not the first fragment": {"protocol_error", websocket.CodeProtocolError,
			append(frame(firstText, 1, "4"), frame(0xc0, uint64(len(bomb)), bomb)...)},
	} {
		t.Run(name, func(t *testing.T) {
			took := a.suffers(t, counted{"close " + c.reason: 1}, func() {
				ws := a.deflating(t)
				ws.Raw(c.bytes)
				closedWith(t, ws, c.code)
			})
			bounded(t, took, len(c.bytes))
		})
	}
}

// deflating opens a WebSocket on which messages may be compressed, and reads nothing of it.
func (a *attacked) deflating(t *testing.T) *wire.Client {
	t.Helper()
	c, answer := wire.DialDeflate(t, a.addr, "/socket.io/?EIO=4&transport=websocket", "permessage-deflate")
	if answer == "" {
		t.Fatal("no compression was agreed to")
	}
	return c
}

// CVE-2022-21676, engine.io: reserved bits set in the first frame ended the process.
func reservedBits(t *testing.T, a *attacked) {
	for _, first := range []byte{0xa1, 0x91, 0xf1, 0xc1, 0xe2, 0x83, 0x8b, 0xff} {
		took := a.suffers(t, counted{"close protocol_error": 1}, func() {
			c := wire.Dial(t, a.addr, "/socket.io/?EIO=4&transport=websocket", nil)
			c.Raw(frame(first, 2, "40"))
			closedWith(t, c, websocket.CodeProtocolError)
		})
		bounded(t, took, 0)
	}
}

// RFC 6455, section 8.1: text that is not UTF-8 must not reach anybody.
func invalidUTF8(t *testing.T, a *attacked) {
	for _, text := range []string{"42[\"message\",\"lobby\",\"\xff\"]", "42[\"\xc0\xaf\"]", "42[\"\xed\xa0\x80\"]", "42[\"\xf4\x90\x80\x80\"]", "42[\"\xe2\x82"} {
		for _, bytes := range [][]byte{
			frame(finText, uint64(len(text)), text),
			append(frame(firstText, 5, text[:5]), frame(finMore, uint64(len(text)-5), text[5:])...),
		} {
			a.suffers(t, counted{"close protocol_error": 1}, func() {
				c := a.attacker(t)
				c.Raw(bytes)
				closedWith(t, c, websocket.CodeInvalidPayload)
			})
		}
		a.suffers(t, counted{"close parse_error": 1}, func() {
			s := a.session(t)
			a.post(t, s, "40")
			if status, _ := a.post(t, s, text); status != 400 {
				t.Errorf("answered %d", status)
			}
		})
	}
}

// Keys such as __proto__ and constructor reach what all objects of
// JavaScript have in common where a server merges or looks up what clients send. Here they are data, and nothing else.
func prototypeKeys(t *testing.T, a *attacked) {
	const evil = `{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}},"toString":1,"hasOwnProperty":null}`
	a.suffers(t, counted{"refusal invalid_namespace": 2}, func() {
		c := wire.Dial(t, a.addr, "/socket.io/?EIO=4&transport=websocket", nil)
		c.Receive()
		c.Text(`40/__proto__,`, `40/constructor,`)
		c.Expect(`44/__proto__,{"message":"Invalid namespace"}`, `44/constructor,{"message":"Invalid namespace"}`)
		c.Text(`40{"__proto__":{"userId":"admin"},"userId":"__proto__","constructor":1}`)
		if answer := c.Receive(); !strings.HasPrefix(answer, `40{"sid"`) {
			t.Fatalf("CONNECT is answered with %q", answer)
		}
		c.Text(`42["__proto__",1]`, `42["constructor",1]`, `42["hasOwnProperty"]`) // nobody handles these
		c.Text(`420["join","__proto__"]`)
		for answer := c.Receive(); ; answer = c.Receive() {
			if strings.HasPrefix(answer, "430") {
				if !strings.HasPrefix(answer, `430[{"ok":true,"room":"__proto__","count":1,"users":["__proto__"],`) {
					t.Errorf("join is answered with %q", answer)
				}
				break
			}
		}
		c.Text(`42["message","__proto__",` + evil + `]`)
		for answer := c.Receive(); ; answer = c.Receive() {
			if strings.HasPrefix(answer, `42["message"`) {
				if !strings.Contains(answer, evil) || !strings.Contains(answer, `"from":"__proto__"`) {
					t.Errorf("the message became %q", answer)
				}
				break
			}
		}
	})
}
