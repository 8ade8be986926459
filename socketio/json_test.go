package socketio

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// jsonSamples are texts at the edges of the grammar, valid and not.
var jsonSamples = []string{
	`null`, ` true `, `false`, `0`, `-0`, `-`, `1`, `12.5e-3`, `1E+2`, `1e`, `1.`, `.1`, `00`, `-01`, `0x1`, `1_0`, `+1`,
	`""`, `"a`, `"\`, `"\"`, `"\""`, `"\u00"`, `"\u00zz"`, `"\uD800"`, `"\a"`, "\"\t\"", "\"\x7f\"", "\"\xff\"", `"12345678"`, `"1234567"`, `"123456789\n"`, `"é€😀é€😀"`,
	`[]`, `[ ]`, `[,]`, `[1,]`, `[1 2]`, `[1,2`, `[1,2]]`, `[[],{}]`, `{}`, `{ }`, `{"a":1}`, `{"a":1,}`, `{"a" : 1 , "b":[]}`, `{a:1}`, `{"a":}`, `{"a",1}`, `{"a":1 "b":2}`, `{,}`,
	``, ` `, `nul`, `nulll`, `truE`, `tru`, `[nul]`, "\ufeff1", "1\x00", "[1]\n\t\r ", "\v1", `{"a":1}}`, `["a"}`, `{"a":1]`, `"a"b`, `1 2`, `'a'`, `/**/1`, `NaN`, `Infinity`,
	"\"1234567\x1f\"", "\"\x1f1234567\"", "\"\xff\xfe\xfd\xfc\x80\x81\x82\x83\"", "\"abcdefg\"\"", "\"!!!!!!!!\"", "\"#######\\u0041\"", "\"[[[[[[[[]]]]]]]]\"",
}

func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	for _, text := range jsonSamples {
		s := newScanner([]byte(text))
		_, ok := s.document()
		if want := json.Valid([]byte(text)); ok != want {
			t.Errorf("%q: %v (%v), want %v", text, ok, s.err(), want)
		}
		if ok != (s.err() == nil) {
			t.Errorf("%q: %v but error %v", text, ok, s.err())
		}
	}
}

// Every position and every special byte of the string fast path.
func TestScannerStringBytes(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				text := bytes.Repeat([]byte{'x'}, length+2)
				text[0], text[length+1], text[1+at] = '"', '"', byte(c)
				s := newScanner(text)
				if _, ok := s.document(); ok != json.Valid(text) {
					t.Fatalf("%q: %v", text, ok)
				}
			}
		}
	}
}

func TestSyntaxErrorNamesThePlace(t *testing.T) {
	for text, want := range map[string]string{
		`["a",tru]`: "socketio: invalid JSON at byte 5: unexpected character",
		`["a"`:      "socketio: invalid JSON at byte 4: unexpected end",
		`["a"] x`:   "socketio: invalid JSON at byte 6: data after the value",
		`{"a" 1}`:   "socketio: invalid JSON at byte 5: missing colon",
		`{1:1}`:     "socketio: invalid JSON at byte 1: missing member name",
	} {
		s := newScanner([]byte(text))
		s.document()
		if err := s.err(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestDepth(t *testing.T) {
	for _, pair := range []string{"[]", "{}"} {
		opening := pair[:1]
		if pair == "{}" {
			opening = `{"a":`
		}
		nested := func(n int) []byte {
			return []byte(strings.Repeat(opening, n-1) + pair + strings.Repeat(pair[1:], n-1))
		}
		s := newScanner(nested(MaxDepth))
		if _, ok := s.document(); !ok {
			t.Errorf("%s: depth %d refused: %v", pair, MaxDepth, s.err())
		}
		s = newScanner(nested(MaxDepth + 1))
		if _, ok := s.document(); ok {
			t.Errorf("%s: depth %d accepted", pair, MaxDepth+1)
		}
	}
	// Depth counts nesting, not containers.
	s := newScanner([]byte("[" + strings.Repeat("[],{},", 1000) + "1]"))
	if _, ok := s.document(); !ok {
		t.Error(s.err())
	}
}

func TestSplitArray(t *testing.T) {
	tests := []struct {
		data string
		want []string
	}{
		{``, nil}, {`[]`, nil}, {` [ ] `, nil}, {`["a"]`, []string{`"a"`}},
		{` [ 1 , "a,]" , {"b":[1,2]} , [ ] , null ] `, []string{`1`, `"a,]"`, `{"b":[1,2]}`, `[ ]`, `null`}},
	}
	for _, tt := range tests {
		got, err := SplitArray([]byte(tt.data), [][]byte{[]byte("kept")})
		if err != nil || string(got[0]) != "kept" || len(got) != 1+len(tt.want) {
			t.Errorf("%s: %q, %v", tt.data, got, err)
			continue
		}
		for i, want := range tt.want {
			if string(got[1+i]) != want {
				t.Errorf("%s: element %d is %s", tt.data, i, got[1+i])
			}
		}
	}
	for _, data := range []string{` `, `{}`, `1`, `[1`, `[1,]`, `[1] 2`, `["a" "b"]`, `[tru]`} {
		into := [][]byte{[]byte("kept")}
		if got, err := SplitArray([]byte(data), into); err == nil || len(got) != 1 {
			t.Errorf("%s: %q, %v", data, got, err)
		}
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                            `""`,
		"plain <b>&amp;</b> é😀\u2028": `"plain <b>&amp;</b> é😀` + "\u2028" + `"`,
		"\"\\/":                       `"\"\\/"`,
		"\b\t\n\f\r":                  `"\b\t\n\f\r"`,
		"\x00\x01\x0b\x1e\x1f\x7f":    `"\u0000\u0001\u000b\u001e\u001f` + "\x7f" + `"`,
		"a\xffb":                      `"a` + "\uFFFD" + `b"`,
		"\xe2\x82":                    `"` + "\uFFFD\uFFFD" + `"`,
		"\xed\xa0\x80":                `"` + "\uFFFD\uFFFD\uFFFD" + `"`,
		"\uFFFD":                      `"` + "\uFFFD" + `"`,
	} {
		if got := string(AppendString([]byte("x"), in)); got != "x"+want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestAppendUnquoted(t *testing.T) {
	for in, want := range map[string]string{
		`""`: "", ` "a" `: "a", `"\"\\\/\b\f\n\r\t"`: "\"\\/\b\f\n\r\t", `"\u0041\u00E9\u20ac"`: "Aé€",
		`"\ud83d\ude00"`: "😀", `"\ud83d\u0041"`: "\uFFFDA", `"\ud83d\ud83d\ude00"`: "\uFFFD😀", `"\ude00"`: "\uFFFD", `"\ud83d\n"`: "\uFFFD\n", `"\ud83d"`: "\uFFFD",
		"\"\xff\"": "\uFFFD", `"\u0000"`: "\x00",
	} {
		got, err := AppendUnquoted([]byte("x"), []byte(in))
		if err != nil || string(got) != "x"+want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{``, `a`, `"a`, `1`, `["a"]`, `"a"x`, `"\x"`} {
		if got, err := AppendUnquoted([]byte("x"), []byte(in)); err == nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

func TestNumbersLikeJavaScript(t *testing.T) {
	for in, want := range map[float64]string{
		0: "0", 1: "1", -1.5: "-1.5", 0.1: "0.1", 1e20: "100000000000000000000", 1e21: "1e+21", -1e21: "-1e+21", 123456789012345680000: "123456789012345680000",
		0.000001: "0.000001", 0.0000015: "0.0000015", 1e-7: "1e-7", 1.5e-7: "1.5e-7", 1.25e-10: "1.25e-10", 1e100: "1e+100", 1e-100: "1e-100",
		5e-324: "5e-324", 1.7976931348623157e308: "1.7976931348623157e+308", 9007199254740992: "9007199254740992", 0.30000000000000004: "0.30000000000000004",
	} {
		if got := string(appendFloat(nil, in)); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}
