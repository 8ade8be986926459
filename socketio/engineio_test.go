package socketio

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestOpen(t *testing.T) {
	open := Open{SID: "VJSXhbUxyS_6jw3iAAAA", Upgrades: []string{"websocket"}, PingInterval: 25 * time.Second, PingTimeout: 20 * time.Second, MaxPayload: 1000000}
	want := `{"sid":"VJSXhbUxyS_6jw3iAAAA","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`
	text := AppendOpen([]byte("0"), open)
	if string(text) != "0"+want {
		t.Errorf("%s", text)
	}
	if got, err := ParseOpen(text[1:]); err != nil || !reflect.DeepEqual(got, open) {
		t.Errorf("%+v, %v", got, err)
	}
	if got := string(AppendOpen(nil, Open{SID: "x"})); got != `{"sid":"x","upgrades":[],"pingInterval":0,"pingTimeout":0,"maxPayload":0}` {
		t.Errorf("without upgrades: %s", got)
	}
	for _, text := range []string{``, `{`, `[]`, `{}`, `{"sid":1}`} {
		if o, err := ParseOpen([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, o)
		}
	}
}

func TestEngineError(t *testing.T) {
	tests := []struct {
		err  EngineError
		json string
		code int
	}{
		{ErrTransportUnknown, `{"code":0,"message":"Transport unknown"}`, 400},
		{ErrSessionIDUnknown, `{"code":1,"message":"Session ID unknown"}`, 400},
		{ErrBadHandshakeMethod, `{"code":2,"message":"Bad handshake method"}`, 400},
		{ErrBadRequest, `{"code":3,"message":"Bad request"}`, 400},
		{ErrForbidden, `{"code":4,"message":"Forbidden"}`, 403},
		{ErrUnsupportedProtocol, `{"code":5,"message":"Unsupported protocol version"}`, 400},
		{EngineError{Code: 4, Message: "not \"you\"", Status: 403}, `{"code":4,"message":"not \"you\""}`, 403},
	}
	for _, tt := range tests {
		if got := string(tt.err.AppendJSON(nil)); got != tt.json || tt.err.Status != tt.code {
			t.Errorf("%s %d, want %s %d", got, tt.err.Status, tt.json, tt.code)
		}
		if tt.err.Error() != "socketio: "+tt.err.Message {
			t.Error(tt.err.Error())
		}
	}
}

func TestParseEngine(t *testing.T) {
	tests := []struct {
		text string
		want EnginePacket
	}{
		{`0{"sid":1}`, EnginePacket{Type: EngineOpen, Data: []byte(`{"sid":1}`)}},
		{`1`, EnginePacket{Type: EngineClose, Data: []byte{}}},
		{`2probe`, EnginePacket{Type: EnginePing, Data: []byte("probe")}},
		{`3`, EnginePacket{Type: EnginePong, Data: []byte{}}},
		{`4hello`, EnginePacket{Type: EngineMessage, Data: []byte("hello")}},
		{`5`, EnginePacket{Type: EngineUpgrade, Data: []byte{}}},
		{`6`, EnginePacket{Type: EngineNoop, Data: []byte{}}},
		{`bAQIDBA==`, EnginePacket{Type: EngineMessage, Binary: true, Data: []byte{1, 2, 3, 4}}},
		{`bAQIDBA`, EnginePacket{Type: EngineMessage, Binary: true, Data: []byte{1, 2, 3, 4}}},
		{`b-_8=`, EnginePacket{Type: EngineMessage, Binary: true, Data: []byte{0xfb, 0xff}}},
		{`b+/8`, EnginePacket{Type: EngineMessage, Binary: true, Data: []byte{0xfb, 0xff}}},
		{`b`, EnginePacket{Type: EngineMessage, Binary: true, Data: []byte{}}},
	}
	for _, tt := range tests {
		if got, err := ParseEngine([]byte(tt.text)); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.text, got, err)
		}
	}
	for _, text := range []string{``, `7`, `a`, `{`, "\x1e", `b*`, `bA`} {
		if got, err := ParseEngine([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestPayload(t *testing.T) {
	packets := [][]byte{
		AppendEngine(nil, EngineMessage, []byte(`0{"sid":"jWc7"}`)),
		AppendEngine(nil, EngineMessage, []byte(`51-["bin",{"_placeholder":true,"num":0}]`)),
		AppendEngineBinary(nil, []byte{1, 2, 3, 4}),
		AppendEngine(nil, EngineMessage, []byte(`2["txt","é€😀"]`)),
	}
	payload := AppendPayload(nil, packets...)
	want := "40{\"sid\":\"jWc7\"}\x1e451-[\"bin\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==\x1e42[\"txt\",\"é€😀\"]"
	if string(payload) != want {
		t.Fatalf("%q", payload)
	}
	rest, more := payload, true
	for i := 0; more; i++ {
		var packet []byte
		packet, rest, more = CutPayload(rest)
		if !bytes.Equal(packet, packets[i]) {
			t.Errorf("packet %d is %q", i, packet)
		}
	}
	if got := AppendPayload(nil, []byte("6"), []byte("1")); string(got) != "6\x1e1" {
		t.Errorf("%q", got)
	}
	if got := AppendPayload([]byte("x")); string(got) != "x" {
		t.Errorf("no packets: %q", got)
	}
	if packet, _, more := CutPayload(nil); len(packet) != 0 || more {
		t.Errorf("empty payload: %q, %v", packet, more)
	}
	if packet, rest, more := CutPayload([]byte("2\x1e")); string(packet) != "2" || len(rest) != 0 || !more {
		t.Errorf("%q, %q, %v", packet, rest, more)
	}
}
