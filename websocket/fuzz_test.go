package websocket

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzReader reads arbitrary bytes, once whole and once in chunks: the results
// must be the same and keep the promises of Next.
func FuzzReader(f *testing.F) {
	for _, server := range []bool{true, false} {
		p := &peer{masked: server}
		p.text("Hello").binary("\xFF").ping("p").fragments(Text, "\u03ba\u1f79\U0001F600", 2).frame(0x02, "ab").pong("").frame(0x80, "c").
			text(strings.Repeat("\u00e4", 90)).close(1000, "bye")
		f.Add(p.out, server, uint64(1))
		f.Add(slices.Concat(rawFrame(server, 0x01, "\xE2\x82"), rawFrame(server, 0x80, "\xAC\xED\xA0")), server, uint64(2))
		f.Add(slices.Concat(rawFrame(server, 0x88, "\x03\xF7")), server, uint64(3))
	}
	f.Add([]byte("\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x02\x03\x04"), true, uint64(4))
	f.Add(rfcFragments, false, uint64(5))
	f.Add([]byte("\x82\xFE\x00\x7E\x01\x02\x03\x04abc"), true, uint64(6))
	f.Fuzz(func(t *testing.T, in []byte, server bool, seed uint64) {
		lim := &Limits{Server: server, MaxMessage: 200, MaxFragments: 5}
		whole := readWhole(in, lim)
		rng := rand.New(rand.NewPCG(seed, 0))
		for _, size := range []int{1, 1 + rng.IntN(20), 1 + rng.IntN(300)} {
			var r Reader
			got := feed(&r, lim, randomChunks(in, rng, size))
			if !slices.Equal(got, whole) {
				t.Fatalf("chunks of up to %d bytes give %v, the whole input %v", size, got, whole)
			}
			if r.Buffered() > lim.MaxMessage+maxControl {
				t.Fatalf("%d bytes held", r.Buffered())
			}
		}
		for i, e := range whole {
			checkPromises(t, e, i == len(whole)-1, lim)
		}
	})
}

func checkPromises(t *testing.T, e event, last bool, lim *Limits) {
	t.Helper()
	switch e.op {
	case Text, Close:
		if !utf8.ValidString(e.data) {
			t.Errorf("%v is not UTF-8", e)
		}
	case violation:
		if e.code != CodeProtocolError && e.code != CodeInvalidPayload && e.code != CodeTooBig || len(e.data) > maxReason {
			t.Errorf("%v", e)
		}
	case Binary, Ping, Pong:
	default:
		t.Errorf("%v is not a message", e)
	}
	switch {
	case e.op.Control() && e.op != violation && len(e.data) > maxControl, len(e.data) > lim.MaxMessage:
		t.Errorf("%v has %d bytes", e, len(e.data))
	case (e.op == Close || e.op == violation) && !last:
		t.Errorf("%v is not the last", e)
	case e.op == Close && e.code != CodeNoStatus && !e.code.Valid():
		t.Errorf("%v", e)
	}
}

// FuzzRoundTrip reads what the Append functions wrote.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("Hello"), byte(0), []byte("\x37\xfa\x21\x3d"), uint64(1))
	f.Add(bytes.Repeat([]byte("\xE2\x82\xAC"), 50), byte(0), []byte("\x00\x00\x00\x01"), uint64(2))
	f.Add([]byte("\xFF\xFE"), byte(1), []byte("keyy"), uint64(3))
	f.Add([]byte("beat"), byte(2), []byte("abcd"), uint64(4))
	f.Add(bytes.Repeat([]byte{7}, 70000), byte(1), []byte("wxyz"), uint64(5))
	f.Fuzz(func(t *testing.T, payload []byte, kind byte, keyBytes []byte, seed uint64) {
		var key [4]byte
		copy(key[:], keyBytes)
		op := []Opcode{Text, Binary, Ping, Pong}[kind%4]
		if op.Control() && len(payload) > maxControl {
			payload = payload[:maxControl]
		}
		want := []event{{op: op, data: string(payload)}, {op: op, data: string(payload)}}
		if op == Text && !utf8.Valid(payload) {
			want = []event{{violation, CodeInvalidPayload, errText().Text}}
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, server := range []bool{true, false} {
			lim := &Limits{Server: server}
			var stream []byte
			for range 2 {
				if server {
					stream = AppendMaskedFrame(stream, op, payload, key)
				} else {
					stream = AppendFrame(stream, op, payload)
				}
			}
			for _, chunks := range [][][]byte{{stream}, randomChunks(stream, rng, 1+len(stream)/3)} {
				if got := feed(new(Reader), lim, chunks); !slices.Equal(got, want) {
					t.Fatalf("read %v, want %v", got, want)
				}
			}
		}
	})
}

// FuzzUTF8Prefix compares with the ABNF of RFC 3629.
func FuzzUTF8Prefix(f *testing.F) {
	for _, s := range slices.Concat(validUTF8, invalidUTF8) {
		f.Add([]byte(s))
		f.Add([]byte(strings.Repeat("12345678", 4) + s))
	}
	f.Fuzz(func(t *testing.T, p []byte) { checkPrefix(t, p) })
}

// FuzzHandshake answers arbitrary upgrades: whatever is accepted must be read
// back, and no header may come out of a value.
func FuzzHandshake(f *testing.F) {
	f.Add("websocket", "Upgrade", rfcKey, "chat, superchat", "value", []byte(nil))
	f.Add("h2c,WebSocket", "keep-alive,upgrade", rfcKey, "a", "1\r\nEvil: 2", []byte("HTTP/1.1 101 x\r\nA: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, upgrade, connection, key, protocol, extra string, answer []byte) {
		if _, ok, err := ReadSwitchingProtocols(answer, key); ok && err != nil {
			t.Fatalf("both ok and %v", err)
		}
		u, err := CheckUpgrade(&http.Request{
			Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Host: "h",
			Header: http.Header{"Upgrade": {upgrade}, "Connection": {connection}, "Sec-Websocket-Key": {key},
				"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Protocol": {protocol}},
		})
		if err != nil {
			return
		}
		out := AppendSwitchingProtocols(nil, u, http.Header{"X-Extra": {extra}})
		if n := bytes.Count(out, []byte("\r\n")); n != 7 {
			t.Fatalf("%d lines in %q, want 7", n, out)
		}
		if rest, ok, err := ReadSwitchingProtocols(append(out, "rest"...), u.Key); !ok || err != nil || string(rest) != "rest" {
			t.Fatalf("%q is read as %q %v %v", out, rest, ok, err)
		}
	})
}
