package socketio

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParse(f *testing.F) {
	for _, text := range []string{chatEvent, `0{"a":1}`, `1/admin,`, `52-/admin,5["a",{"b":{"_placeholder":true,"num":0},"c":[{"_placeholder":true,"num":1}]}]`, `3`, `4"x"`, `2["conn\u0065ct"]`, `2/a["b"]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "socketio: ") {
				t.Fatalf("error %q", err)
			}
			return
		}
		if p.Data != nil && !json.Valid(p.Data) {
			t.Fatalf("data %q is not JSON", p.Data)
		}
		again, err := Parse(AppendPacket(nil, &p))
		if err != nil || !samePacket(p, again) {
			t.Fatalf("%s came back as %s, %v", packetText(p), packetText(again), err)
		}
		if p.Type == Event && p.Data != nil {
			elements, err := SplitArray(p.Data, nil)
			if err != nil || len(elements) == 0 {
				t.Fatalf("%q: %v", p.Data, err)
			}
			if name, ok := EventName(elements[0]); !ok || elements[0][0] == '"' && ReservedEvent(name) {
				t.Fatalf("event %q from %q", name, elements[0])
			}
		}
		if p.Type.Binary() {
			var a Assembler
			if a.Begin(p) == nil {
				for done := false; !done; {
					if done, err = a.Add([]byte{1}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := AppendMsgpackFromJSON(nil, a.Packet().Data, a.Attachments()); err != nil && len(p.Data) > 0 {
					t.Fatalf("%q passed Begin: %v", p.Data, err)
				}
			}
		}
	})
}

func FuzzScanner(f *testing.F) {
	for _, text := range jsonSamples {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := newScanner(text)
		_, ok := s.document()
		if want := json.Valid(text); ok != want && !(want && s.problem == "nested too deeply") {
			t.Fatalf("%q: %v (%v), want %v", text, ok, s.err(), want)
		}
		if literal, err := AppendUnquoted(nil, text); err == nil {
			var want string
			if err := json.Unmarshal(text, &want); err != nil || string(literal) != want {
				t.Fatalf("%q: %q, want %q %v", text, literal, want, err)
			}
		}
	})
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "é\x00\x1e\"\\", "\xff\xed\xa0\x80", "\u2028<>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		literal := AppendString(nil, s)
		if !json.Valid(literal) || !utf8.Valid(literal) || bytes.IndexByte(literal, Separator) >= 0 {
			t.Fatalf("%q", literal)
		}
		back, err := AppendUnquoted(nil, literal)
		if err != nil || string(back) != strings.ToValidUTF8(s, "\uFFFD") && string(back) != string([]rune(s)) {
			t.Fatalf("%q came back as %q, %v", s, back, err)
		}
	})
}

// FuzzJSONRoundTrip sends JSON through MessagePack and back and compares the values.
func FuzzJSONRoundTrip(f *testing.F) {
	for _, text := range jsonSamples {
		f.Add([]byte(text))
	}
	f.Add([]byte(`[1e21,1e-7,0.1,-0.0,1e400,18446744073709551615,-9223372036854775808,9007199254740993,1.0,{"a":1,"a":[2]}]`))
	f.Add([]byte("[[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]],{\"\\n\":1}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		msgpack, err := AppendMsgpackFromJSON(nil, text, nil)
		if err != nil {
			return
		}
		if rest, err := SkipMsgpack(msgpack); err != nil || len(rest) != 0 {
			t.Fatalf("%q became % x", text, msgpack)
		}
		out, atts, rest, err := AppendJSONFromMsgpack(nil, msgpack, nil)
		if err != nil || len(rest) != 0 || len(atts) != 0 {
			t.Fatalf("%q became % x: %v", text, msgpack, err)
		}
		if !json.Valid(out) || !utf8.Valid(out) {
			t.Fatalf("%q came back as %q", text, out)
		}
		if a, b := decode(t, text), decode(t, out); !sameValue(a, b) {
			t.Fatalf("%q came back as %q", text, out)
		}
		again, err := AppendMsgpackFromJSON(nil, out, nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, _, _, _ := AppendJSONFromMsgpack(nil, again, nil); !bytes.Equal(back, out) {
			t.Fatalf("%q, then %q", out, back)
		}
	})
}

func decode(t *testing.T, text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// sameValue compares decoded JSON; numbers are equal if they are the same 64-bit integer or read as the same float64, and
// one beyond the range of a float64 has become null.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			_, err := a.Float64()
			return err != nil
		}
		x, okA := new(big.Int).SetString(a.String(), 10)
		y, okB := new(big.Int).SetString(b.String(), 10)
		if okA && okB && (x.IsInt64() || x.IsUint64()) {
			return x.Cmp(y) == 0
		}
		fa, _ := a.Float64()
		fb, _ := b.Float64()
		return fa == fb
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if v, ok := b[k]; !ok || !sameValue(a[k], v) {
				return false
			}
		}
		return true
	}
	return a == b
}

func FuzzMsgpack(f *testing.F) {
	for _, g := range goldens() {
		f.Add(unhex(f, g.hex))
	}
	for _, in := range hostileMsgpack() {
		f.Add(in[:min(len(in), 1000)])
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, atts, rest, err := AppendJSONFromMsgpack(nil, in, nil)
		if err == nil {
			if !json.Valid(out) || !utf8.Valid(out) {
				t.Fatalf("% x: %q", in, out)
			}
			if skipped, err := SkipMsgpack(in); err != nil || len(skipped) != len(rest) {
				t.Fatalf("% x: %d bytes left, skipped to %d, %v", in, len(rest), len(skipped), err)
			}
			if n := bytes.Count(out, []byte(`{"_placeholder":true,"num":`)); n < len(atts) {
				t.Fatalf("% x: %d attachments, %d placeholders in %q", in, len(atts), n, out)
			}
		}
		text, atts, err := AppendClientEvent(nil, "/", 1, true, in, nil)
		if err != nil {
			return
		}
		p, err := Parse(text)
		if err != nil && !strings.Contains(err.Error(), "too deep") || err == nil && p.Attachments != len(atts) {
			t.Fatalf("% x: client gets %q, %v", in, text, err)
		}
		if p.Type == BinaryEvent && CheckPlaceholders(p.Data, len(atts)) != nil {
			t.Fatalf("% x: client gets %q with %d attachments", in, text, len(atts))
		}
	})
}

func FuzzBroadcast(f *testing.F) {
	for _, g := range goldens() {
		f.Add(unhex(f, g.hex))
	}
	f.Add(packed(f, `["u",{"data":["e"],"type":2},{"rooms":[1,null],"flags":{"timeout":1e300}}]`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		b := Broadcast{UID: "old", Rooms: []string{"x", "y"}, Except: []string{"z"}}
		if ParseBroadcast(payload, &b) != nil {
			return
		}
		b.Flags.Local = false
		b.Flags.Timeout = b.Flags.Timeout.Truncate(1e6)
		var again Broadcast
		if err := ParseBroadcast(AppendBroadcast(nil, &b), &again); err != nil || !sameBroadcast(b, again) {
			t.Fatalf("%+v came back as %+v, %v", b, again, err)
		}
	})
}

func FuzzRequestAndResponse(f *testing.F) {
	f.Add(unhex(f, broadcastRequest))
	f.Add(AppendBroadcastAck(nil, "R", []byte{1}))
	for _, text := range []string{`{"uid":"a","type":2,"opts":{"rooms":["r"],"except":[]},"rooms":[1]}`, `{"type":6,"requestId":"R","data":["a"]}`, `{"type":4,"sid":"s","close":1}`,
		`{"requestId":"R","sockets":[{"id":"a","handshake":{},"rooms":[],"data":1},"b"]}`, `{"type":8,"requestId":"R","clientCount":2}`, `{"requestId":"R","rooms":[]}`} {
		f.Add([]byte(text))
		f.Add(packed(f, text))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if r, err := ParseRequest(payload); err == nil {
			out := AppendRequest(nil, &r)
			again, err := ParseRequest(out)
			if err != nil || !bytes.Equal(AppendRequest(nil, &again), out) {
				t.Fatalf("%+v as %q: %v", r, out, err)
			}
		}
		if r, err := ParseResponse(payload); err == nil && r.RequestID == "" {
			t.Fatalf("%q: %+v", payload, r)
		}
		ParseOpen(payload)
		if p, err := ParseEngine(payload); err == nil && p.Binary {
			if again, err := ParseEngine(AppendEngineBinary(nil, p.Data)); err != nil || !bytes.Equal(again.Data, p.Data) {
				t.Fatalf("%q: %v", payload, err)
			}
		}
	})
}
