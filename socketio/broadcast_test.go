package socketio

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

// packed encodes JSON, in which {"_placeholder":true,"num":k} stands for atts[k], as MessagePack.
func packed(t testing.TB, json string, atts ...[]byte) []byte {
	t.Helper()
	if atts == nil {
		atts = [][]byte{}
	}
	out, err := AppendMsgpackFromJSON(nil, []byte(json), atts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// golden is a message captured from a published package.
type golden struct {
	name    string
	hex     string
	size    int
	json    string // data
	atts    [][]byte
	want    Broadcast // without Data
	channel string
	text    string // what a client gets
	emitter bool   // the emitter's order of opts: AppendBroadcast writes another
}

// goldens are the broadcasts of @socket.io/redis-adapter 8.3.0 (uid aBcDeF) and @socket.io/redis-emitter 5.1.0.
func goldens() []golden {
	const head = "93a661426344654683a47479706502a464617461"
	return []golden{
		{name: "E1 plain", size: 62, channel: "socket.io#/#",
			hex:  "93 a6 614263446546 | 83 a4 74797065 02 a4 64617461 92 a5 68656c6c6f a5 776f726c64 a3 6e7370 a1 2f | 83 a5 726f6f6d73 90 a6 657863657074 90 a5 666c616773 80",
			json: `["hello","world"]`, want: Broadcast{UID: "aBcDeF", Namespace: "/"}, text: `2["hello","world"]`},
		{name: "E2 room", size: 77, channel: "socket.io#/#room1#",
			hex:  "93a661426344654683a47479706502a46461746195a568656c6c6f01c3c081a161cb3ff8000000000000a36e7370a12f83a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677380",
			json: `["hello",1,true,null,{"a":1.5}]`, want: Broadcast{UID: "aBcDeF", Namespace: "/", Rooms: []string{"room1"}}, text: `2["hello",1,true,null,{"a":1.5}]`},
		{name: "E3 two rooms, except, volatile", size: 98, channel: "socket.io#/#",
			hex:  head + "96a178ffd1ff38ce00011170cf0000000100000000d3fffffffeffffffffa36e7370a12f83a5726f6f6d7392a27231a27232a665786365707491a27233a5666c61677381a8766f6c6174696c65c3",
			json: `["x",-1,-200,70000,4294967296,-4294967297]`,
			want: Broadcast{UID: "aBcDeF", Namespace: "/", Rooms: []string{"r1", "r2"}, Except: []string{"r3"}, Flags: Flags{Volatile: true}},
			text: `2["x",-1,-200,70000,4294967296,-4294967297]`},
		{name: "E4 binary", size: 69, channel: "socket.io#/#room1#",
			hex:  head + "93a362696ec403010203c4020908a36e7370a12f83a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677380",
			json: `["bin",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, atts: [][]byte{{1, 2, 3}, {9, 8}},
			want: Broadcast{UID: "aBcDeF", Namespace: "/", Rooms: []string{"room1"}},
			text: `52-["bin",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`},
		{name: "E5 dates", size: 73, channel: "socket.io#/#",
			hex:  head + "95a164d6ff6553f100c0d7ff1d5353006553f10081a16b01a36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677380",
			want: Broadcast{UID: "aBcDeF", Namespace: "/"}, text: `2["d","2023-11-14T22:13:20.000Z",null,"2023-11-14T22:13:20.123Z",{"k":1}]`},
		{name: "E6 compress(false)", size: 62, channel: "socket.io#/#",
			hex:  head + "91a165a36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677381a8636f6d7072657373c2",
			json: `["e"]`, want: Broadcast{UID: "aBcDeF", Namespace: "/", Flags: Flags{NoCompress: true}}, text: `2["e"]`},
		{name: "E7 namespace", size: 63, channel: "socket.io#/chat#room1#",
			hex:  head + "91a26869a36e7370a52f6368617483a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677380",
			json: `["hi"]`, want: Broadcast{UID: "aBcDeF", Namespace: "/chat", Rooms: []string{"room1"}}, text: `2/chat,["hi"]`},
		{name: "E8 emitter", size: 69, channel: "socket.io#/#room1#", emitter: true,
			hex:  "93a7656d697474657283a47479706502a46461746192a568656c6c6fa5776f726c64a36e7370a12f83a5726f6f6d7391a5726f6f6d31a5666c61677380a665786365707490",
			json: `["hello","world"]`, want: Broadcast{UID: "emitter", Namespace: "/", Rooms: []string{"room1"}}, text: `2["hello","world"]`},
		{name: "E9 emitter, everything", size: 101, channel: "socket.io#/#", emitter: true,
			hex:  "93a7656d697474657283a47479706502a46461746192a568656c6c6f81a161920102a36e7370a12f83a5726f6f6d7392a5726f6f6d31a5726f6f6d32a5666c61677382a8766f6c6174696c65c3a8636f6d7072657373c2a665786365707491a5726f6f6d33",
			json: `["hello",{"a":[1,2]}]`,
			want: Broadcast{UID: "emitter", Namespace: "/", Rooms: []string{"room1", "room2"}, Except: []string{"room3"}, Flags: Flags{Volatile: true, NoCompress: true}},
			text: `2["hello",{"a":[1,2]}]`},
	}
}

func TestBroadcastGoldens(t *testing.T) {
	var b Broadcast // reused, as a bus reader does
	for _, g := range goldens() {
		t.Run(g.name, func(t *testing.T) {
			payload := unhex(t, g.hex)
			if len(payload) != g.size {
				t.Fatalf("%d bytes, want %d", len(payload), g.size)
			}
			if err := ParseBroadcast(payload, &b); err != nil {
				t.Fatal(err)
			}
			if g.json != "" {
				if want := packed(t, g.json, g.atts...); !bytes.Equal(b.Data, want) {
					t.Errorf("data % x, want % x", b.Data, want)
				}
			}
			got := b
			got.Data = nil
			if !sameBroadcast(got, g.want) {
				t.Errorf("%+v\nwant %+v", got, g.want)
			}
			if channel := (Channels{}).Target(b.Namespace, b.Rooms); channel != g.channel {
				t.Errorf("channel %s, want %s", channel, g.channel)
			}
			text, atts, err := AppendClientEvent(nil, b.Namespace, 0, false, b.Data, nil)
			if err != nil || string(text) != g.text || len(atts) != len(g.atts) {
				t.Fatalf("client gets %s % x %v, want %s", text, atts, err, g.text)
			}
			for i := range atts {
				if !bytes.Equal(atts[i], g.atts[i]) {
					t.Errorf("attachment %d is % x", i, atts[i])
				}
			}
			again := AppendBroadcast(nil, &b)
			if !g.emitter && !bytes.Equal(again, payload) {
				t.Errorf("encoded again:\n%x\nwant\n%x", again, payload)
			}
			if len(again) != len(payload) {
				t.Errorf("encoded again: %d bytes, want %d", len(again), len(payload))
			}
		})
	}
}

// sameBroadcast compares all fields; an empty slice is as good as nil.
func sameBroadcast(a, b Broadcast) bool {
	empty := func(p *Broadcast) {
		if len(p.Rooms) == 0 {
			p.Rooms = nil
		}
		if len(p.Except) == 0 {
			p.Except = nil
		}
	}
	empty(&a)
	empty(&b)
	return reflect.DeepEqual(a, b)
}

func TestBroadcastRoundTrip(t *testing.T) {
	want := Broadcast{
		UID: "aBcDeF", Namespace: "/n", Data: packed(t, `["e",{"a":[]}]`), ID: 0, HasID: true,
		Rooms: []string{"a", "b"}, Except: []string{"c"},
		Flags: Flags{Volatile: true, NoCompress: true, Timeout: 1500 * time.Millisecond, Broadcast: true, ExpectSingleResponse: true},
		Entry: "1700000000000-0", Seq: 7,
	}
	payload := AppendBroadcast(nil, &want)
	for _, dirty := range []Broadcast{{}, {UID: "x", ID: 9, Rooms: []string{"1", "2", "3"}, Except: []string{"4"}, Entry: "old", Seq: 1, Flags: Flags{Local: true}}} {
		if err := ParseBroadcast(payload, &dirty); err != nil || !sameBroadcast(dirty, want) {
			t.Errorf("%+v, %v\nwant %+v", dirty, err, want)
		}
	}
	// Nothing of a former message stays.
	reused := want
	plain := Broadcast{UID: "u", Namespace: "/", Data: packed(t, `["e"]`)}
	if err := ParseBroadcast(AppendBroadcast(nil, &plain), &reused); err != nil || !sameBroadcast(reused, plain) {
		t.Errorf("%+v, %v", reused, err)
	}
	// Local is never sent.
	local := plain
	local.Flags.Local = true
	if !bytes.Equal(AppendBroadcast(nil, &local), AppendBroadcast(nil, &plain)) {
		t.Error("local travels")
	}
}

// What Node.js accepts from adapters, emitters and other libraries.
func TestParseBroadcastQuirks(t *testing.T) {
	tests := []struct {
		name, json string
		want       Broadcast
	}{
		{"no nsp", `["u",{"type":2,"data":["e"]},{"rooms":[],"except":[],"flags":{}}]`, Broadcast{UID: "u", Namespace: "/"}},
		{"nil nsp", `["u",{"nsp":null,"type":2,"data":["e"]},{}]`, Broadcast{UID: "u", Namespace: "/"}},
		{"no opts members", `["u",{"data":["e"],"nsp":"/x","type":2},{}]`, Broadcast{UID: "u", Namespace: "/x"}},
		{"nil opts members", `["u",{"data":["e"],"nsp":"/x","type":2},{"rooms":null,"except":null,"flags":null,"entry":null,"seq":null}]`, Broadcast{UID: "u", Namespace: "/x"}},
		{"rooms of other types", `["u",{"type":2,"data":["e"]},{"rooms":[1,-5,1.5,"a",true,4294967296],"except":[7]}]`,
			Broadcast{UID: "u", Namespace: "/", Rooms: []string{"1", "-5", "1.5", "a", "true", "4294967296"}, Except: []string{"7"}}},
		{"id 0", `["u",{"type":2,"data":["e"],"nsp":"/","id":0},{}]`, Broadcast{UID: "u", Namespace: "/", HasID: true}},
		{"nil id", `["u",{"type":2,"data":["e"],"nsp":"/","id":null},{}]`, Broadcast{UID: "u", Namespace: "/"}},
		{"unknown members", `["u",{"type":2,"x":{"y":[1,2]},"data":["e"],"options":{"compress":true}},{"z":[[]],"flags":{"binary":true,"preEncoded":[1],"volatile":1}}]`,
			Broadcast{UID: "u", Namespace: "/", Flags: Flags{Volatile: true}}},
		{"flags", `["u",{"type":2,"data":["e"]},{"flags":{"local":true,"volatile":false,"compress":true,"timeout":2500.5,"broadcast":"yes","expectSingleResponse":null}}]`,
			Broadcast{UID: "u", Namespace: "/", Flags: Flags{Local: true, Timeout: 2500500 * time.Microsecond, Broadcast: true}}},
		{"absurd timeout", `["u",{"type":2,"data":["e"]},{"flags":{"timeout":1e300}}]`, Broadcast{UID: "u", Namespace: "/", Flags: Flags{Timeout: maxTimeout}}},
		{"negative timeout", `["u",{"type":2,"data":["e"]},{"flags":{"timeout":-1}}]`, Broadcast{UID: "u", Namespace: "/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b Broadcast
			if err := ParseBroadcast(packed(t, tt.json), &b); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Data, packed(t, `["e"]`)) {
				t.Errorf("data % x", b.Data)
			}
			if b.Data = nil; !sameBroadcast(b, tt.want) {
				t.Errorf("%+v\nwant %+v", b, tt.want)
			}
		})
	}
	// Keys that are not strings, an id as float, bad UTF-8 in a room.
	var b Broadcast
	payload := unhex(t, "93a175 85 01c0 9001 a474797065cb4000000000000000 a46461746191a165 a26964cb4014000000000000 81 a5726f6f6d7391a161")
	payload[len(payload)-1] = 0xff
	if err := ParseBroadcast(payload, &b); err != nil || b.ID != 5 || !b.HasID || b.Rooms[0] != "\uFFFD" {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestParseBroadcastErrors(t *testing.T) {
	good := packed(t, `["u",{"type":2,"data":["e"],"nsp":"/"},{"rooms":[]}]`)
	var b Broadcast
	if err := ParseBroadcast(good, &b); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if ParseBroadcast(good[:n], &b) == nil {
			t.Errorf("%d of %d bytes accepted", n, len(good))
		}
	}
	if err := ParseBroadcast(append(bytes.Clone(good), 0xc0), &b); err == nil || !strings.Contains(err.Error(), "1 bytes after") {
		t.Errorf("trailing byte: %v", err)
	}
	for _, json := range []string{
		`{"type":9,"data":{}}`, `"text"`, `null`, `[]`, `["u",{"type":2,"data":["e"]}]`, `["u",{"type":2,"data":["e"]},{},1]`,
		`[{},{"type":2,"data":["e"]},{}]`, `["u",null,{}]`, `["u",["e"],{}]`, `["u",{"type":2,"data":["e"]},null]`, `["u",{"type":2,"data":["e"]},[]]`,
		`["u",{"data":["e"]},{}]`, `["u",{"type":3,"data":["e"]},{}]`, `["u",{"type":"2","data":["e"]},{}]`, `["u",{"type":2},{}]`, `["u",{"type":2,"data":null},{}]`,
		`["u",{"type":2,"data":{"0":"e"}},{}]`, `["u",{"type":2,"data":["e"],"nsp":[]},{}]`, `["u",{"type":2,"data":["e"],"id":-1},{}]`, `["u",{"type":2,"data":["e"],"id":1.5},{}]`,
		`["u",{"type":2,"data":["e"],"id":9007199254740992},{}]`, `["u",{"type":2,"data":["e"]},{"rooms":"a"}]`, `["u",{"type":2,"data":["e"]},{"rooms":[[]]}]`,
		`["u",{"type":2,"data":["e"]},{"except":{}}]`, `["u",{"type":2,"data":["e"]},{"flags":[]}]`, `["u",{"type":2,"data":["e"]},{"seq":"1"}]`, `["u",{"type":2,"data":["e"]},{"entry":[]}]`,
	} {
		if err := ParseBroadcast(packed(t, json), &b); err == nil {
			t.Errorf("%s accepted: %+v", json, b)
		}
	}
	deep := append(unhex(t, "93a17583a47479706502a464617461"), bytes.Repeat([]byte{0x91}, MaxDepth+1)...)
	if err := ParseBroadcast(append(deep, unhex(t, "c0a36e7370a12f80")...), &b); err != errTooDeep {
		t.Errorf("deep data: %v", err)
	}
}

func TestAppendClientEvent(t *testing.T) {
	bin := unhex(t, "92a362696ec403010203")
	tests := []struct {
		namespace string
		id        uint64
		hasID     bool
		data      []byte
		tail      string
		want      string
		atts      int
	}{
		{"/", 0, false, packed(t, `["foo","bar"]`), `"Q87QTGK"`, `2["foo","bar","Q87QTGK"]`, 0},
		{"", 0, true, packed(t, `["withack"]`), "", `20["withack"]`, 0},
		{"/admin", 5, true, packed(t, `["x"]`), "", `2/admin,5["x"]`, 0},
		{"/admin", 5, true, bin, "", `51-/admin,5["bin",{"_placeholder":true,"num":0}]`, 1},
		{"/", 0, false, bin, `"1-0"`, `51-["bin",{"_placeholder":true,"num":0},"1-0"]`, 1},
		{"/", 0, false, packed(t, `[7]`), "", `2[7]`, 0},
		// Without real attachments a literal placeholder is an ordinary object: clients do not look at it.
		{"/", 0, false, AppendMsgpackString(AppendMsgpackArrayHeader(nil, 1), "_placeholder"), "", `2["_placeholder"]`, 0},
	}
	for _, tt := range tests {
		var tail []byte
		if tt.tail != "" {
			tail = []byte(tt.tail)
		}
		text, atts, err := AppendClientEvent([]byte("4"), tt.namespace, tt.id, tt.hasID, tt.data, tail)
		if err != nil || string(text) != "4"+tt.want || len(atts) != tt.atts {
			t.Errorf("%s, %d attachments, %v; want 4%s", text, len(atts), err, tt.want)
		}
	}
	literal, err := AppendMsgpackFromJSON(nil, []byte(`["e",{"_placeholder":true,"num":99}]`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _, err := AppendClientEvent(nil, "/", 0, false, literal, nil); err != nil || string(text) != `2["e",{"_placeholder":true,"num":99}]` {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAppendClientEventAttachmentCount(t *testing.T) {
	event := func(n int) []byte {
		data := AppendMsgpackString(AppendMsgpackArrayHeader(nil, n+1), "m")
		for k := range n {
			data = AppendMsgpackBin(data, []byte{byte(k)})
		}
		return data
	}
	text, atts, err := AppendClientEvent(nil, "/", 0, false, event(MaxAttachments), nil)
	if err != nil || len(atts) != 10 || !strings.HasPrefix(string(text), `510-["m",`) {
		t.Errorf("ten: %s, %d, %v", text, len(atts), err)
	}
	p, err := Parse(text)
	if err != nil || CheckPlaceholders(p.Data, p.Attachments) != nil {
		t.Errorf("ten: %v", err)
	}
	for _, n := range []int{11, 5000} {
		text, atts, err := AppendClientEvent([]byte("x"), "/", 0, false, event(n), nil)
		if err == nil || string(text) != "x" || atts != nil {
			t.Errorf("%d attachments: %.20s, %v", n, text, err)
		} else if want := map[int]string{11: "count 11 ", 5000: "count 5000 "}[n]; !strings.Contains(err.Error(), want) {
			t.Errorf("%d attachments: %v", n, err)
		}
	}
}

// A client would close its connection on each of these.
func TestAppendClientEventErrors(t *testing.T) {
	for name, in := range map[string]string{
		"empty":                       "",
		"not an array":                "81a16101",
		"an extension":                "d40501",
		"a binary":                    "c40101",
		"no name":                     "90",
		"nil name":                    "91c0",
		"binary name":                 "91c40101",
		"reserved name":               "91aa646973636f6e6e656374",
		"truncated":                   "92a161",
		"trailing bytes":              "91a161c0",
		"literal placeholder 9":       "93a161c4010182ac5f706c616365686f6c646572c3a36e756d09",
		"literal placeholder 0 again": "93a161c4010182ac5f706c616365686f6c646572c3a36e756d00",
	} {
		text, atts, err := AppendClientEvent([]byte("x"), "/", 0, false, unhex(t, in), nil)
		if err == nil || string(text) != "x" || atts != nil {
			t.Errorf("%s: %s, % x, %v", name, text, atts, err)
		}
	}
}
