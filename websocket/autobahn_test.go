package websocket

import (
	"slices"
	"strings"
	"testing"
)

// peer builds what the other side sends, in either role.
type peer struct {
	masked bool
	out    []byte
}

func (p *peer) frame(b0 byte, payload string) *peer {
	p.out = append(p.out, rawFrame(p.masked, b0, payload)...)
	return p
}

func (p *peer) text(s string) *peer   { return p.frame(0x81, s) }
func (p *peer) binary(s string) *peer { return p.frame(0x82, s) }
func (p *peer) ping(s string) *peer   { return p.frame(0x89, s) }
func (p *peer) pong(s string) *peer   { return p.frame(0x8A, s) }

// fragments sends a message in frames of n bytes of payload.
func (p *peer) fragments(op Opcode, s string, n int) *peer {
	b0 := byte(op)
	for len(s) > n {
		p.frame(b0, s[:n])
		b0, s = 0, s[n:]
	}
	return p.frame(b0|bitFin, s)
}

func (p *peer) close(code Code, reason string) *peer {
	return p.frame(0x88, string([]byte{byte(code >> 8), byte(code)})+reason)
}

// exchange is one case: what the peer sends, and what the Reader makes of it.
type exchange struct {
	name string
	send func(p *peer)
	want []event
}

// run reads every case in both roles.
func run(t *testing.T, cases []exchange) {
	t.Helper()
	for _, c := range cases {
		for role, server := range map[string]bool{"server": true, "client": false} {
			t.Run(c.name+"/"+role, func(t *testing.T) {
				p := &peer{masked: server}
				c.send(p)
				check(t, p.out, &Limits{Server: server}, c.want)
			})
		}
	}
}

func TestAutobahn1Framing(t *testing.T) {
	var cases []exchange
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
		body := strings.Repeat("*", n)
		raw := strings.Repeat("\xFE", n)
		cases = append(cases,
			exchange{"1.1 text", func(p *peer) { p.text(body) }, []event{text(body)}},
			exchange{"1.2 binary", func(p *peer) { p.binary(raw) }, []event{bin(raw)}})
	}
	run(t, cases)
}

func TestAutobahn2Pings(t *testing.T) {
	full := strings.Repeat("\xFE", 125)
	many := slices.Repeat([]event{ping("p")}, 10)
	run(t, []exchange{
		{"2.1 empty", func(p *peer) { p.ping("") }, []event{ping("")}},
		{"2.2 payload", func(p *peer) { p.ping("Hello, world!") }, []event{ping("Hello, world!")}},
		{"2.3 binary payload", func(p *peer) { p.ping("\x00\xFF\xFE\xFD") }, []event{ping("\x00\xFF\xFE\xFD")}},
		{"2.4 125 bytes", func(p *peer) { p.ping(full) }, []event{ping(full)}},
		{"2.5 126 bytes", func(p *peer) { p.ping(full + "x") }, []event{fails(CodeProtocolError)}},
		{"2.7 unsolicited pong", func(p *peer) { p.pong("") }, []event{pong("")}},
		{"2.9 pong, then ping", func(p *peer) { p.pong("no").ping("yes") }, []event{pong("no"), ping("yes")}},
		{"2.10 ten pings", func(p *peer) {
			for range 10 {
				p.ping("p")
			}
		}, many},
	})
}

func TestAutobahn3ReservedBits(t *testing.T) {
	var cases []exchange
	for rsv := byte(0x10); rsv <= 0x70; rsv += 0x10 {
		for _, b0 := range []byte{0x81, 0x82, 0x01, 0x88, 0x89, 0x8A} {
			cases = append(cases, exchange{"3 bits set", func(p *peer) {
				p.text("before").frame(b0|rsv, "x").ping("")
			}, []event{text("before"), fails(CodeProtocolError)}})
		}
		cases = append(cases, exchange{"3 in a continuation", func(p *peer) {
			p.frame(0x01, "a").frame(0x80|rsv, "b")
		}, []event{fails(CodeProtocolError)}})
	}
	run(t, cases)
}

func TestAutobahn4Opcodes(t *testing.T) {
	var cases []exchange
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		cases = append(cases,
			exchange{"4 reserved, empty", func(p *peer) { p.frame(0x80|op, "") }, []event{fails(CodeProtocolError)}},
			exchange{"4 reserved, payload", func(p *peer) { p.text("a").frame(0x80|op, "reserved").ping("") },
				[]event{text("a"), fails(CodeProtocolError)}},
			exchange{"4 reserved, inside a message", func(p *peer) { p.frame(0x01, "a").frame(0x80|op, "") },
				[]event{fails(CodeProtocolError)}})
	}
	run(t, cases)
}

func TestAutobahn5Fragmentation(t *testing.T) {
	bad := []event{fails(CodeProtocolError)}
	run(t, []exchange{
		{"5.1 fragmented ping", func(p *peer) { p.frame(0x09, "a").frame(0x80, "b") }, bad},
		{"5.2 fragmented pong", func(p *peer) { p.frame(0x0A, "a").frame(0x80, "b") }, bad},
		{"5.2b fragmented close", func(p *peer) { p.frame(0x08, "") }, bad},
		{"5.3 two fragments", func(p *peer) { p.frame(0x01, "fragment1").frame(0x80, "fragment2") }, []event{text("fragment1fragment2")}},
		{"5.6 ping between", func(p *peer) { p.frame(0x01, "fragment1").ping("ping").frame(0x80, "fragment2") },
			[]event{ping("ping"), text("fragment1fragment2")}},
		{"5.9 continuation without start", func(p *peer) { p.frame(0x80, "x").text("Hello") }, bad},
		{"5.12 open continuation without start", func(p *peer) { p.frame(0x00, "x").text("Hello") }, bad},
		{"5.15 continuation after the end", func(p *peer) { p.frame(0x01, "a").frame(0x80, "b").frame(0x00, "c").text("d") },
			[]event{text("ab"), fails(CodeProtocolError)}},
		{"5.16 again and again", func(p *peer) { p.frame(0x00, "a").frame(0x01, "b").frame(0x80, "c") }, bad},
		{"5.18 text inside a message", func(p *peer) { p.frame(0x01, "a").text("b") }, bad},
		{"5.18b start inside a message", func(p *peer) { p.frame(0x02, "a").frame(0x01, "b") }, bad},
		{"5.18c binary inside an empty message", func(p *peer) { p.frame(0x02, "").binary("b") }, bad},
		{"5.19 five fragments and pings", func(p *peer) {
			p.frame(0x01, "1").frame(0x00, "2").ping("x").frame(0x00, "3").frame(0x00, "4").ping("y").frame(0x80, "5")
		}, []event{ping("x"), ping("y"), text("12345")}},
		{"5 empty fragments", func(p *peer) { p.frame(0x01, "").frame(0x00, "").frame(0x80, "") }, []event{text("")}},
		{"5 empty fragment and ping", func(p *peer) { p.frame(0x02, "").ping("ping").frame(0x00, "a").frame(0x80, "") }, []event{ping("ping"), bin("a")}},
		{"5 pings that grow", func(p *peer) {
			p.frame(0x02, "m").ping("").ping("a").pong("bb").ping(strings.Repeat("c", 125)).frame(0x80, "n")
		}, []event{ping(""), ping("a"), pong("bb"), ping(strings.Repeat("c", 125)), bin("mn")}},
		{"5 message after message", func(p *peer) {
			p.fragments(Text, "Hello", 2).fragments(Binary, "\xFF\xFE\xFD", 1).text("!")
		}, []event{text("Hello"), bin("\xFF\xFE\xFD"), text("!")}},
	})
}

func TestAutobahn7Close(t *testing.T) {
	long := strings.Repeat("*", 123)
	big := strings.Repeat("BAsd7&jh23", 26*1024)
	cases := []exchange{
		{"7.1.1 after a message", func(p *peer) { p.text("Hello World!").close(1000, "") }, []event{text("Hello World!"), closed(1000, "")}},
		{"7.1.2 twice", func(p *peer) { p.close(1000, "").close(1000, "") }, []event{closed(1000, "")}},
		{"7.1.3 ping after close", func(p *peer) { p.close(1000, "").ping("") }, []event{closed(1000, "")}},
		{"7.1.4 text after close", func(p *peer) { p.close(1000, "").text("x") }, []event{closed(1000, "")}},
		{"7.1.4b violation after close", func(p *peer) { p.close(1000, "").frame(0xFF, "x") }, []event{closed(1000, "")}},
		{"7.1.5 inside a message", func(p *peer) { p.frame(0x01, "frag").close(1000, "").frame(0x80, "ment") }, []event{closed(1000, "")}},
		{"7.1.6 large message", func(p *peer) { p.text(big).text("Hello World!").close(1000, "").ping("") },
			[]event{text(big), text("Hello World!"), closed(1000, "")}},
		{"7.3.1 empty", func(p *peer) { p.frame(0x88, "") }, []event{closed(CodeNoStatus, "")}},
		{"7.3.2 one byte", func(p *peer) { p.frame(0x88, "a") }, []event{fails(CodeProtocolError)}},
		{"7.3.3 code", func(p *peer) { p.close(1000, "") }, []event{closed(1000, "")}},
		{"7.3.4 reason", func(p *peer) { p.close(1000, "Hello World!") }, []event{closed(1000, "Hello World!")}},
		{"7.3.5 longest reason", func(p *peer) { p.close(1000, long) }, []event{closed(1000, long)}},
		{"7.3.6 too long", func(p *peer) { p.close(1000, long+"*") }, []event{fails(CodeProtocolError)}},
		{"7.5.1 reason not UTF-8", func(p *peer) { p.close(1000, "\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited") },
			[]event{fails(CodeInvalidPayload)}},
		{"7.5.1b reason cut in a character", func(p *peer) { p.close(1000, "\xE2\x82") }, []event{fails(CodeInvalidPayload)}},
		{"7.5 code and reason wrong", func(p *peer) { p.close(1006, "\xFF") }, []event{fails(CodeProtocolError)}},
	}
	for _, code := range []Code{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, exchange{"7.7 valid code", func(p *peer) { p.close(code, "r") }, []event{closed(code, "r")}})
	}
	for _, code := range []Code{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, exchange{"7.9 invalid code", func(p *peer) { p.close(code, "") }, []event{fails(CodeProtocolError)}},
			exchange{"7.9 invalid code, reason", func(p *peer) { p.close(code, "r") }, []event{fails(CodeProtocolError)}})
	}
	run(t, cases)
}

func TestAutobahn10AutoFragmentation(t *testing.T) {
	body := strings.Repeat("*", 65536)
	run(t, []exchange{
		{"10.1.1 65536 bytes in frames of 1300", func(p *peer) { p.fragments(Text, body, 1300) }, []event{text(body)}},
		{"10 with pings between", func(p *peer) {
			p.frame(0x01, body[:1300]).ping("1").frame(0x00, body[:1300]).ping("2").frame(0x80, body[:1300])
		}, []event{ping("1"), ping("2"), text(body[:3900])}},
	})
}

func TestMaskIsRequiredFromClientsOnly(t *testing.T) {
	for _, b0 := range []byte{0x81, 0x02, 0x88, 0x89} {
		check(t, rawFrame(false, b0, "ab"), &Limits{Server: true}, []event{fails(CodeProtocolError)})
		check(t, rawFrame(true, b0, "ab"), &Limits{Server: false}, []event{fails(CodeProtocolError)})
	}
	// The second byte decides; the rest need not come.
	check(t, []byte{0x81, 0x05}, &Limits{Server: true}, []event{fails(CodeProtocolError)})
	check(t, []byte{0x81, 0x85}, &Limits{Server: false}, []event{fails(CodeProtocolError)})
}

func TestLengthsMustBeMinimal(t *testing.T) {
	server := &Limits{Server: true}
	bad := []event{fails(CodeProtocolError)}
	for _, in := range []string{
		"\x82\xFE\x00\x00", "\x82\xFE\x00\x7D",
		"\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x00", "\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x7D",
		"\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x7E", "\x82\xFF\x00\x00\x00\x00\x00\x00\xFF\xFF",
		// A control frame fails by its second byte.
		"\x89\xFE", "\x88\xFF", "\x8A\xFE",
	} {
		check(t, []byte(in), server, bad)
	}
	// One byte short of the decision, nothing is decided.
	check(t, []byte("\x82\xFE\x00"), server, nil)
	check(t, []byte("\x82\xFF\x00\x00\x00\x00\x00\x00\x00"), server, nil)
}
