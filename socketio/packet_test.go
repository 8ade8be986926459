package socketio

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	type want = Packet
	ns, root := []byte("/admin"), []byte("/")
	tests := []struct {
		text string
		want Packet
	}{
		{`0`, want{Type: Connect, Namespace: root}},
		{`0/admin,`, want{Type: Connect, Namespace: ns}},
		{`0/admin`, want{Type: Connect, Namespace: ns}},
		{`0{"token":"123"}`, want{Type: Connect, Namespace: root, Data: []byte(`{"token":"123"}`)}},
		{`0/admin,{"token":"123"}`, want{Type: Connect, Namespace: ns, Data: []byte(`{"token":"123"}`)}},
		{`0/custom?a=b,`, want{Type: Connect, Namespace: []byte("/custom?a=b")}},
		{`0{"pid":"CyZevIkvwB7iIpYTAAAB","offset":"Q87QTGK"}`,
			want{Type: Connect, Namespace: root, Data: []byte(`{"pid":"CyZevIkvwB7iIpYTAAAB","offset":"Q87QTGK"}`)}},
		{`1`, want{Type: Disconnect, Namespace: root}},
		{`1/admin,`, want{Type: Disconnect, Namespace: ns}},
		{`2["hello",1,"2",{"3":[true]}]`, want{Type: Event, Namespace: root, Data: []byte(`["hello",1,"2",{"3":[true]}]`)}},
		{`2/admin,["x"]`, want{Type: Event, Namespace: ns, Data: []byte(`["x"]`)}},
		{`2/,["a"]`, want{Type: Event, Namespace: root, Data: []byte(`["a"]`)}},
		{`2/chat["a"]`, want{Type: Event, Namespace: []byte(`/chat["a"]`)}},
		{`212["wack",1]`, want{Type: Event, Namespace: root, ID: 12, HasID: true, Data: []byte(`["wack",1]`)}},
		{`20["zero"]`, want{Type: Event, Namespace: root, HasID: true, Data: []byte(`["zero"]`)}},
		{`2007["a"]`, want{Type: Event, Namespace: root, ID: 7, HasID: true, Data: []byte(`["a"]`)}},
		{`29007199254740991["a"]`, want{Type: Event, Namespace: root, ID: MaxID, HasID: true, Data: []byte(`["a"]`)}},
		{`2456["message-with-ack",1,"2",{"3":[false]}]`,
			want{Type: Event, Namespace: root, ID: 456, HasID: true, Data: []byte(`["message-with-ack",1,"2",{"3":[false]}]`)}},
		{"2 [ \"a\" , 1 ]\n", want{Type: Event, Namespace: root, Data: []byte(`[ "a" , 1 ]`)}},
		{`2["\ud800"]`, want{Type: Event, Namespace: root, Data: []byte(`["\ud800"]`)}},
		{`312[1]`, want{Type: Ack, Namespace: root, ID: 12, HasID: true, Data: []byte(`[1]`)}},
		{`312[]`, want{Type: Ack, Namespace: root, ID: 12, HasID: true, Data: []byte(`[]`)}},
		{`3/admin,5["connect"]`, want{Type: Ack, Namespace: ns, ID: 5, HasID: true, Data: []byte(`["connect"]`)}},
		{`4/random,{"message":"Invalid namespace"}`,
			want{Type: ConnectError, Namespace: []byte("/random"), Data: []byte(`{"message":"Invalid namespace"}`)}},
		{`4"text"`, want{Type: ConnectError, Namespace: root, Data: []byte(`"text"`)}},
		{`52-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, want{Type: BinaryEvent, Namespace: root,
			Attachments: 2, Data: []byte(`["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)}},
		{`52-/admin,5["a",{"b":{"_placeholder":true,"num":0},"c":[{"_placeholder":true,"num":1}]}]`, want{Type: BinaryEvent,
			Namespace: ns, ID: 5, HasID: true, Attachments: 2,
			Data: []byte(`["a",{"b":{"_placeholder":true,"num":0},"c":[{"_placeholder":true,"num":1}]}]`)}},
		{`62-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, want{Type: BinaryAck, Namespace: root, ID: 789,
			HasID: true, Attachments: 2, Data: []byte(`[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)}},
		{`510-["m"]`, want{Type: BinaryEvent, Namespace: root, Attachments: 10, Data: []byte(`["m"]`)}},
		// Tolerated and without effect.
		{`2`, want{Type: Event, Namespace: root}},
		{`3`, want{Type: Ack, Namespace: root}},
		{`3999["x"]`, want{Type: Ack, Namespace: root, ID: 999, HasID: true, Data: []byte(`["x"]`)}},
		{`2[1]`, want{Type: Event, Namespace: root, Data: []byte(`[1]`)}},
		{`2[-1.5e3]`, want{Type: Event, Namespace: root, Data: []byte(`[-1.5e3]`)}},
	}
	for _, tt := range tests {
		got, err := Parse([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if !samePacket(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.text, packetText(got), packetText(tt.want))
		}
	}
}

func samePacket(a, b Packet) bool {
	return a.Type == b.Type && bytes.Equal(a.Namespace, b.Namespace) && a.ID == b.ID && a.HasID == b.HasID &&
		a.Attachments == b.Attachments && bytes.Equal(a.Data, b.Data) && (a.Data == nil) == (b.Data == nil)
}

func packetText(p Packet) string {
	return fmt.Sprintf("%v %s id %d/%v attachments %d data %s", p.Type, p.Namespace, p.ID, p.HasID, p.Attachments, p.Data)
}

// The inputs on which the reference closes the connection, and what the error says.
func TestParseErrors(t *testing.T) {
	tests := []struct{ text, says string }{
		{``, "empty"}, {`abc`, "type"}, {`7`, "type"}, {`a`, "type"}, {"\x00", "type"},
		{`2{}`, "not an array"}, {`2[]`, "without a name"}, {`2[ ]`, "without a name"}, {`2[null]`, "neither"}, {`2[true]`, "neither"}, {`2[{}]`, "neither"},
		{`2[["a"]]`, "neither"}, {`2"a"`, "not an array"}, {`2null`, "not an array"},
		{`2abc["a"]`, "JSON"}, {`2["a"`, "JSON"}, {`2["a"]x`, "JSON"}, {`2["a",]`, "JSON"}, {`2 `, "JSON"}, {`2["a" 1]`, "JSON"}, {`2[01]`, "JSON"}, {`2["a",'b']`, "JSON"},
		{"2[\"a\x1e\"]", "control"}, {`2["\u12"]`, "JSON"}, {`2["a",-]`, "JSON"}, {`2["a",nul]`, "JSON"}, {`2-1["a"]`, "JSON"},
		{`2["connect"]`, "reserved"}, {`2["connect_error"]`, "reserved"}, {`2["disconnect"]`, "reserved"}, {`2["disconnecting"]`, "reserved"},
		{`2["newListener"]`, "reserved"}, {`2["removeListener"]`, "reserved"}, {`2[ "\u0063onn\u0065ct" ,1]`, "reserved"}, {`51-["disconnect"]`, "reserved"},
		{`3{}`, "not an array"}, {`37{}`, "not an array"}, {`3"x"`, "not an array"}, {`61-{}`, "not an array"},
		{`0[]`, "not an object"}, {`0"x"`, "not an object"}, {`0null`, "not an object"}, {`0{`, "JSON"}, {`0{}{}`, "JSON"}, {`0/admin,[]`, "not an object"},
		{`1{}`, "DISCONNECT with data"}, {`1/admin,{}`, "DISCONNECT with data"}, {`1 `, "DISCONNECT with data"},
		{`4[]`, "neither"}, {`4null`, "neither"},
		{`50-["m"]`, "no attachments"}, {`511-["m"]`, "count 11 exceeds 10"}, {`5["m"]`, "without attachment count"}, {`6["m"]`, "without attachment count"},
		{`51["m"]`, "without attachment count"}, {`51`, "without attachment count"}, {`5-["m"]`, "without attachment count"}, {`5`, "without attachment count"},
		{`5-1-["m"]`, "without attachment count"}, {`5` + strings.Repeat("9", 40) + `-["m"]`, "exceeds 10"}, {`51.0-["m"]`, "without attachment count"},
		{`29007199254740992["a"]`, "ack id exceeds 9007199254740991"}, {`2` + strings.Repeat("9", 400) + `["a"]`, "ack id exceeds"},
		{`2["a",` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `]`, "too deep"},
	}
	for _, tt := range tests {
		p, err := Parse([]byte(tt.text))
		if err == nil {
			t.Errorf("%.60s accepted: %s", tt.text, packetText(p))
		} else if !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%.60s: %q does not say %q", tt.text, err, tt.says)
		}
	}
}

func TestAppendPacket(t *testing.T) {
	for _, text := range []string{
		`0`, `0{"sid":"n9dV7AIjCdzPcfTYAAAA"}`, `0/custom,{"sid":"n9dV7AIjCdzPcfTYAAAA"}`, `1`, `1/admin,`,
		`2["auth",{}]`, `20["withack"]`, `2["room","Q87QTGM"]`, `3456[1,"2",{"3":[false]}]`, `30[]`,
		`4/mw,{"message":"nope","data":{"code":7}}`,
		`52-/admin,5["a",{"b":{"_placeholder":true,"num":0},"c":[{"_placeholder":true,"num":1}]}]`,
		`62-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`,
		`2["<&>",1e21,"\u2028"]`,
	} {
		p, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := string(AppendPacket([]byte("4"), &p)); got != "4"+text {
			t.Errorf("%s became %s", text, got)
		}
	}
	if got := string(AppendPacket(nil, &Packet{Type: Ack, HasID: true, Data: []byte("[]")})); got != "30[]" {
		t.Errorf("ack 0 in an unnamed namespace: %s", got)
	}
}

func TestTypeString(t *testing.T) {
	if s := fmt.Sprint(Connect, BinaryAck, Type(9)); s != "CONNECT BINARY_ACK Type(9)" {
		t.Error(s)
	}
}

func TestEventName(t *testing.T) {
	tests := []struct {
		first, want string
		ok          bool
	}{
		{`"hello"`, "hello", true}, {` "a\nb\u00e9\/" `, "a\nbé/", true}, {`""`, "", true}, {`"\ud800"`, "\uFFFD", true},
		{`1`, "1", true}, {`1.0`, "1", true}, {`-0`, "0", true}, {`1e21`, "1e+21", true}, {`1e400`, "Infinity", true}, {`18446744073709551615`, "18446744073709551615", true},
		{`null`, "", false}, {`true`, "", false}, {`{}`, "", false}, {`["a"]`, "", false}, {`"a`, "", false}, {``, "", false}, {`"a" "b"`, "", false},
	}
	for _, tt := range tests {
		if got, ok := EventName([]byte(tt.first)); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %q, %v; want %q, %v", tt.first, got, ok, tt.want, tt.ok)
		}
	}
	for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
		if !ReservedEvent(name) {
			t.Errorf("%s is not reserved", name)
		}
	}
	for _, name := range []string{"", "Connect", "connected", "error", "message"} {
		if ReservedEvent(name) {
			t.Errorf("%s is reserved", name)
		}
	}
}
