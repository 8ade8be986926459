package socketio

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

// unhex decodes hexadecimal text; spaces and bars are for the eye.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// jsonOf transcodes one complete MessagePack value.
func jsonOf(t testing.TB, msgpack []byte) (string, [][]byte) {
	t.Helper()
	out, atts, rest, err := AppendJSONFromMsgpack(nil, msgpack, nil)
	if err != nil {
		t.Fatalf("% x: %v", msgpack, err)
	}
	if len(rest) != 0 {
		t.Fatalf("% x: rest % x", msgpack, rest)
	}
	return string(out), atts
}

// testdata/notepack.json: random values as JSON.stringify prints them, what notepack.io 3.0.1 encodes them to, and what
// JSON.stringify prints of what it decodes from that.
func TestTranscodeLikeNotepack(t *testing.T) {
	text, err := os.ReadFile("testdata/notepack.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ JSON, Hex, Back string }
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 100 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		want := unhex(t, v.Hex)
		got, err := AppendMsgpackFromJSON(nil, []byte(v.JSON), nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s\n got % x %v\nwant % x", v.JSON, got, err, want)
		}
		if back, _ := jsonOf(t, want); back != v.Back {
			t.Errorf("% x\n got %s\nwant %s", want, back, v.Back)
		}
	}
}

func TestMsgpackFromJSON(t *testing.T) {
	tests := []struct{ json, want string }{
		{`0`, "00"}, {`-0`, "00"}, {`-0.0`, "00"}, {`127`, "7f"}, {`128`, "cc80"}, {`255`, "ccff"}, {`256`, "cd0100"},
		{`65535`, "cdffff"}, {`65536`, "ce00010000"}, {`4294967295`, "ceffffffff"}, {`4294967296`, "cf0000000100000000"},
		{`-1`, "ff"}, {`-32`, "e0"}, {`-33`, "d0df"}, {`-128`, "d080"}, {`-129`, "d1ff7f"}, {`-32768`, "d18000"},
		{`-32769`, "d2ffff7fff"}, {`-2147483648`, "d280000000"}, {`-2147483649`, "d3ffffffff7fffffff"},
		{`1.0`, "01"}, {`1e3`, "cd03e8"}, {`-2.50e1`, "e7"}, {`1.5`, "cb3ff8000000000000"},
		{`9007199254740993`, "cf0020000000000001"},
		{`18446744073709551615`, "cfffffffffffffffff"}, {`-9223372036854775808`, "d38000000000000000"},
		{`18446744073709551616`, "cb43f0000000000000"}, {`-9223372036854775809`, "d38000000000000000"},
		{`1e400`, "cb7ff0000000000000"}, {`-1e400`, "cbfff0000000000000"}, {`1e-400`, "00"},
		{`null`, "c0"}, {`true`, "c3"}, {`false`, "c2"},
		{`""`, "a0"}, {`"é😀"`, "a6c3a9f09f9880"}, {`"\u00e9\ud83d\ude00"`, "a6c3a9f09f9880"},
		{`"\ud83d"`, "a3efbfbd"}, {`"\ude00\ud83d"`, "a6efbfbdefbfbd"}, {`"\ud83d\ud83d\ude00"`, "a7efbfbdf09f9880"},
		{`"\ud83dx"`, "a4efbfbd78"}, {`"\ud83d\n"`, "a4efbfbd0a"}, {"\"a\xffb\"", "a561efbfbd62"},
		{`"\b\f\n\r\t\"\\\/\u001e"`, "a9080c0a0d09225c2f1e"},
		{`[]`, "90"}, {`{}`, "80"}, {` [ 1 , {"b":[],"a":1,"b":2} ] `, "920183a16290a16101a16202"},
		{`{"_placeholder":true,"num":0}`, "82ac5f706c616365686f6c646572c3a36e756d00"},
	}
	for _, tt := range tests {
		got, err := AppendMsgpackFromJSON([]byte("x"), []byte(tt.json), nil)
		if want := append([]byte("x"), unhex(t, tt.want)...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: % x, %v; want % x", tt.json, got, err, want)
		}
	}
}

func TestMsgpackFromJSONErrors(t *testing.T) {
	for _, text := range []string{``, ` `, `[`, `[1,]`, `{"a":1,}`, `{"a"}`, `{1:2}`, `01`, `1.`, `.5`, `+1`, `1e`, `tru`, `nul`,
		`"`, `"\x"`, `"\u12g4"`, "\"\n\"", `1 2`, `[1}`, `NaN`, strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)} {
		if got, err := AppendMsgpackFromJSON([]byte("x"), []byte(text), nil); err == nil || string(got) != "x" {
			t.Errorf("%s: % x, %v", text, got, err)
		}
	}
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	packed, err := AppendMsgpackFromJSON(nil, []byte(deep), nil)
	if err != nil {
		t.Fatal(err)
	}
	if back, _ := jsonOf(t, packed); back != deep {
		t.Errorf("depth %d: %s", MaxDepth, back)
	}
}

// Headers of all widths, nested in each other and beside each other.
func TestMsgpackFromJSONWideContainers(t *testing.T) {
	list := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	object := func(n int, value string) string {
		return "{" + strings.TrimSuffix(strings.Repeat(`"k":`+value+",", n), ",") + "}"
	}
	for _, text := range []string{
		list(15, "1"), list(16, "1"), list(65535, "1"), list(65536, "1"),
		object(15, "1"), object(16, "1"), object(65535, "null"), object(65536, "null"),
		list(16, list(16, list(17, "1"))), list(3, object(20, list(300, `"x"`))), object(16, object(16, "[]")),
		list(70000, list(1, "1")), list(20, object(3, list(16, object(17, "true")))),
	} {
		packed, err := AppendMsgpackFromJSON([]byte("prefix"), []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, _ := jsonOf(t, packed[len("prefix"):]); back != text {
			t.Errorf("%.60s… came back as %.60s…", text, back)
		}
	}
	packed, _ := AppendMsgpackFromJSON(nil, []byte(list(65536, "1")), nil)
	if want := unhex(t, "dd0001000001"); !bytes.HasPrefix(packed, want) || len(packed) != 5+65536 {
		t.Errorf("array 32: % x…, %d bytes", packed[:6], len(packed))
	}
	// Strings around the boundaries of their headers, with an escape so that the length is known late.
	for _, n := range []int{0, 30, 31, 254, 255, 65534, 65535} {
		packed, err := AppendMsgpackFromJSON(nil, []byte(`"\n`+strings.Repeat("a", n)+`"`), nil)
		if want := AppendMsgpackString(nil, "\n"+strings.Repeat("a", n)); err != nil || !bytes.Equal(packed, want) {
			t.Errorf("string of %d: % x…, %v", n+1, packed[:5], err)
		}
	}
}

func TestMsgpackFromJSONPlaceholders(t *testing.T) {
	atts := [][]byte{{1, 2, 3}, {}}
	tests := []struct{ json, want string }{
		{`["m",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "93a16dc403010203c400"},
		{`[{"num":1,"_placeholder":true}]`, "91c400"},
		{`[{"_placeholder":false,"num":7}]`, "9182ac5f706c616365686f6c646572c2a36e756d07"},
		{`[{"_placeholder":1,"num":7}]`, "9182ac5f706c616365686f6c64657201a36e756d07"},
		{`{"a":{"\u005fplaceholder":true,"n\u0075m":1}}`, "81a161c400"},
		{`[{"_placeholder":true,"num":7,"num":1}]`, "91c400"},
		{`[{"_placeholder":true,"num":1,"x":{"_placeholder":true,"num":0},"y":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]},{"_placeholder":true,"num":0}]`,
			"92c400c403010203"},
	}
	for _, tt := range tests {
		got, err := AppendMsgpackFromJSON(nil, []byte(tt.json), atts)
		if err != nil || !bytes.Equal(got, unhex(t, tt.want)) {
			t.Errorf("%s: % x, %v; want %s", tt.json, got, err, tt.want)
		}
		if err := CheckPlaceholders([]byte(tt.json), len(atts)); err != nil {
			t.Errorf("CheckPlaceholders(%s): %v", tt.json, err)
		}
	}
	for _, text := range badPlaceholders {
		if got, err := AppendMsgpackFromJSON([]byte("x"), []byte(text), atts); err == nil || string(got) != "x" {
			t.Errorf("%s: % x, %v", text, got, err)
		}
	}
	if _, err := AppendMsgpackFromJSON(nil, []byte(`[]`), make([][]byte, 11)); err == nil || !strings.Contains(err.Error(), "11") {
		t.Errorf("11 attachments: %v", err)
	}
	if _, err := AppendMsgpackFromJSON(nil, []byte(`{"_placeholder":true,"num":0}`), [][]byte{}); err == nil {
		t.Error("placeholder without any attachments accepted")
	}
}

func TestJSONFromMsgpack(t *testing.T) {
	tests := []struct{ hex, want string }{
		{"c0", `null`}, {"c2", `false`}, {"c3", `true`}, {"7f", `127`}, {"e0", `-32`},
		{"ccff", `255`}, {"cdffff", `65535`}, {"ceffffffff", `4294967295`}, {"cfffffffffffffffff", `18446744073709551615`},
		{"d080", `-128`}, {"d07f", `127`}, {"d18000", `-32768`}, {"d280000000", `-2147483648`}, {"d38000000000000000", `-9223372036854775808`},
		{"ca3fc00000", `1.5`}, {"ca3dcccccd", `0.10000000149011612`}, {"cb8000000000000000", `0`}, {"ca80000000", `0`},
		{"cb7ff8000000000000", `null`}, {"cb7ff0000000000000", `null`}, {"cafff00000", `null`}, {"ca7f800000", `null`},
		{"cb4000000000000000", `2`},
		{"a0", `""`}, {"a1ff", `"` + "\uFFFD" + `"`}, {"a3eda080", `"` + "\uFFFD\uFFFD\uFFFD" + `"`}, {"a47f0a1e22", `"` + "\x7f" + `\n\u001e\""`},
		{"a9e280a8e280a93c3e26", `"` + "\u2028\u2029" + `<>&"`}, {"d90141", `"A"`}, {"da000141", `"A"`}, {"db0000000141", `"A"`},
		{"90", `[]`}, {"dc00020102", `[1,2]`}, {"dd0000000101", `[1]`}, {"80", `{}`}, {"de0001a16101", `{"a":1}`}, {"df00000001a16101", `{"a":1}`},
		{"8501a0ffa0c3a0c0a0cb3ff8000000000000a0", `{"1":"","-1":"","true":"","null":"","1.5":""}`},
		{"83cb7ff800000000000001cb7ff000000000000002cbfff000000000000003", `{"NaN":1,"Infinity":2,"-Infinity":3}`},
		{"81c402616201", `{"ab":1}`}, {"82a16101a16102", `{"a":1,"a":2}`},
		{"d6ff6553f100", `"2023-11-14T22:13:20.000Z"`}, {"d7ff1d5353006553f100", `"2023-11-14T22:13:20.123Z"`},
		{"c70cff0000000000000000ffffffff", `"2106-02-07T06:28:15.000Z"`}, {"c70cff1dcd6500ffffffffffffffff", `"1969-12-31T23:59:59.500Z"`},
		{"c70cff00000000ffffffffffffffff", `"1969-12-31T23:59:59.000Z"`}, {"c70cff000000007fffffffffffffff", `null`},
		{"d7000000018bcfe56800", `"2023-11-14T22:13:20.000Z"`}, {"d700ffffffffffffffff", `"1969-12-31T23:59:59.999Z"`}, {"d7007fffffffffffffff", `null`},
		{"d40000", `null`}, {"d4ff05", `[-1,{"_placeholder":true,"num":0}]`}, {"d50001ff", `[0,{"_placeholder":true,"num":0}]`},
		{"d40501", `[5,{"_placeholder":true,"num":0}]`}, {"c702070102", `[7,{"_placeholder":true,"num":0}]`},
		{"c702000102", `{"_placeholder":true,"num":0}`}, {"c80001000a", `{"_placeholder":true,"num":0}`}, {"c900000001000a", `{"_placeholder":true,"num":0}`},
		{"92c40101c40102", `[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`},
	}
	for _, tt := range tests {
		if got, _ := jsonOf(t, unhex(t, tt.hex)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.hex, got, tt.want)
		}
	}
}

func TestJSONFromMsgpackAttachments(t *testing.T) {
	in := append(unhex(t, "93c4020102d40509c500010a"), 0xc0)
	first := []byte{7}
	out, atts, rest, err := AppendJSONFromMsgpack([]byte("x"), in, [][]byte{first})
	if err != nil {
		t.Fatal(err)
	}
	want := `x[{"_placeholder":true,"num":1},[5,{"_placeholder":true,"num":2}],{"_placeholder":true,"num":3}]`
	if string(out) != want || len(atts) != 4 || !bytes.Equal(rest, []byte{0xc0}) {
		t.Fatalf("%s, % x, rest % x", out, atts, rest)
	}
	if !bytes.Equal(atts[1], []byte{1, 2}) || !bytes.Equal(atts[2], []byte{9}) || !bytes.Equal(atts[3], []byte{10}) {
		t.Errorf("attachments % x", atts)
	}
	if &atts[1][0] != &in[3] {
		t.Error("attachment does not alias the input")
	}
}

func TestDates(t *testing.T) {
	for _, ms := range []int64{0, -1, 1, 1700000000123, 253402300799999, 253402300800000, -62167219200000, -62167219200001, 8640000000000000, -8640000000000000} {
		at := time.UnixMilli(ms).UTC()
		want := at.Format(`"2006-01-02T15:04:05.000Z"`)
		switch ms {
		case 253402300800000:
			want = `"+010000-01-01T00:00:00.000Z"`
		case -62167219200001:
			want = `"-000001-12-31T23:59:59.999Z"`
		case 8640000000000000:
			want = `"+275760-09-13T00:00:00.000Z"`
		case -8640000000000000:
			want = `"-271821-04-20T00:00:00.000Z"`
		}
		if got := string(appendDate(nil, float64(ms))); got != want {
			t.Errorf("%d: %s, want %s", ms, got, want)
		}
	}
	for _, ms := range []float64{maxDate + 1, -maxDate - 1, math.NaN(), math.Inf(1)} {
		if got := string(appendDate(nil, ms)); got != "null" {
			t.Errorf("%v: %s", ms, got)
		}
	}
}

// hostileMsgpack are inputs that announce more than they hold, nest too deeply or are not MessagePack.
func hostileMsgpack() [][]byte {
	list := [][]byte{{}, {0xc1}, {0x91}, {0x81, 0xa1, 'a'}, {0xa5, 'a'}, {0xcc}, {0xcd, 1}, {0xcb, 1, 2}, {0xca}, {0xd9}, {0xd4}, {0xd4, 5}, {0xd8, 1, 2},
		{0xc7, 5}, {0xc7, 5, 1}, {0xc4, 9, 1}, {0x81, 0x90, 1}, {0x81, 0xd4, 5, 1, 1}, {0x81, 0x80, 1}}
	for _, form := range []byte{0xdb, 0xc6, 0xc9, 0xdd, 0xdf} {
		list = append(list, []byte{form, 0xff, 0xff, 0xff, 0xff, 1}, []byte{form, 0x7f, 0xff, 0xff, 0xff, 1})
	}
	deep := bytes.Repeat([]byte{0x91}, 1<<20)
	return append(list, deep, append(bytes.Repeat([]byte{0x81, 0xa1, 'a'}, MaxDepth+1), 0xc0))
}

func TestHostileMsgpack(t *testing.T) {
	for _, in := range hostileMsgpack() {
		out, atts, rest, err := AppendJSONFromMsgpack([]byte("x"), in, nil)
		if err == nil || string(out) != "x" || atts != nil || rest != nil {
			t.Errorf("% .20x: %s, % x, % x, %v", in, out, atts, rest, err)
		}
		_, err = SkipMsgpack(in)
		if composite := len(in) > 1 && in[0] == 0x81 && (in[1] == 0x90 || in[1] == 0xd4 || in[1] == 0x80); (err == nil) != composite {
			t.Errorf("SkipMsgpack(% .20x): %v", in, err)
		}
	}
	in := []byte{0xdd, 0xff, 0xff, 0xff, 0xff, 1}
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { AppendJSONFromMsgpack(buf, in, nil) }); n != 0 {
		t.Errorf("%v allocations for a hostile length", n)
	}
}

func TestSplitMsgpackArray(t *testing.T) {
	n, body, err := SplitMsgpackArray(unhex(t, "93 a161 9102 c0"))
	if err != nil || n != 3 {
		t.Fatal(n, err)
	}
	var elements []string
	for range n {
		rest, err := SkipMsgpack(body)
		if err != nil {
			t.Fatal(err)
		}
		elements = append(elements, hex.EncodeToString(body[:len(body)-len(rest)]))
		body = rest
	}
	if got := strings.Join(elements, " "); got != "a161 9102 c0" || len(body) != 0 {
		t.Errorf("%s, rest % x", got, body)
	}
	for _, in := range []string{"", "80", "a0", "92c0", "dc"} {
		if n, _, err := SplitMsgpackArray(unhex(t, in)); err == nil {
			t.Errorf("%q: %d", in, n)
		}
	}
}

func TestAppendMsgpack(t *testing.T) {
	big := bytes.Repeat([]byte{7}, 70000)
	tests := []struct {
		name string
		got  []byte
		want string // prefix
		n    int
	}{
		{"nil", AppendMsgpackNil(nil), "c0", 1},
		{"bin 8", AppendMsgpackBin(nil, big[:255]), "c4ff07", 257},
		{"bin 16", AppendMsgpackBin(nil, big[:256]), "c5010007", 259},
		{"bin 32", AppendMsgpackBin(nil, big), "c60001117007", 70005},
		{"str 32", AppendMsgpackString(nil, string(big)), "db0001117007", 70005},
		{"float", AppendMsgpackFloat(nil, 2), "cb4000000000000000", 9},
		{"number", AppendMsgpackNumber(nil, 2), "02", 1},
		{"number NaN", AppendMsgpackNumber(nil, math.NaN()), "cb7ff8000000000001", 9},
		{"number -Inf", AppendMsgpackNumber(nil, math.Inf(-1)), "cbfff0000000000000", 9},
		{"number 2^63", AppendMsgpackNumber(nil, 1<<63), "cf8000000000000000", 9},
		{"number 2^64", AppendMsgpackNumber(nil, 1<<64), "cb43f0000000000000", 9},
		{"map 16", AppendMsgpackMapHeader(nil, 16), "de0010", 3},
		{"map 32", AppendMsgpackMapHeader(nil, 65536), "df00010000", 5},
	}
	for _, tt := range tests {
		if !bytes.HasPrefix(tt.got, unhex(t, tt.want)) || len(tt.got) != tt.n {
			t.Errorf("%s: % .12x, %d bytes", tt.name, tt.got, len(tt.got))
		}
	}
}
