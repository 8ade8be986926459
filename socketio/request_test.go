package socketio

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// broadcastRequest is a type-7 request captured from @socket.io/redis-adapter 8.3.0.
const broadcastRequest = "85a3756964a6614263446546a9726571756573744964a6483048334175a47479706507a67061636b657483a47479706502a46461746192a561636b6d65a171a36e7370a12fa46f70747383a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677381a774696d656f7574cd03e8"

func TestAppendRequest(t *testing.T) {
	room1 := BroadcastOptions{Rooms: []string{"room1"}}
	tests := []struct {
		request Request
		want    string
	}{
		{Request{UID: "aBcDeF", RequestID: "R", Type: RequestSockets}, `{"uid":"aBcDeF","requestId":"R","type":0,"rooms":[]}`},
		{Request{UID: "aBcDeF", RequestID: "R", Type: RequestSockets, Rooms: []string{"a", "<b>"}}, `{"uid":"aBcDeF","requestId":"R","type":0,"rooms":["a","<b>"]}`},
		{Request{UID: "aBcDeF", RequestID: "1aQ4Jt", Type: RequestAllRooms}, `{"uid":"aBcDeF","requestId":"1aQ4Jt","type":1}`},
		{Request{UID: "aBcDeF", Type: RequestRemoteJoin, HasOpts: true, Opts: room1, Rooms: []string{"room2", "room3"}},
			`{"uid":"aBcDeF","type":2,"opts":{"rooms":["room1"],"except":[]},"rooms":["room2","room3"]}`},
		{Request{Type: RequestRemoteJoin, HasOpts: true, Opts: room1, Rooms: []string{"room2"}},
			`{"type":2,"opts":{"rooms":["room1"],"except":[]},"rooms":["room2"]}`},
		{Request{UID: "u", RequestID: "R", Type: RequestRemoteJoin, SID: "s", Room: "room7"}, `{"uid":"u","requestId":"R","type":2,"sid":"s","room":"room7"}`},
		{Request{UID: "u", Type: RequestRemoteLeave, HasOpts: true}, `{"uid":"u","type":3,"opts":{"rooms":[],"except":[]},"rooms":[]}`},
		{Request{UID: "u", RequestID: "R", Type: RequestRemoteLeave, SID: "s", Room: "r"}, `{"uid":"u","requestId":"R","type":3,"sid":"s","room":"r"}`},
		{Request{Type: RequestRemoteDisconnect, HasOpts: true, Opts: room1, Close: true}, `{"type":4,"opts":{"rooms":["room1"],"except":[]},"close":true}`},
		{Request{UID: "u", Type: RequestRemoteDisconnect, HasOpts: true}, `{"uid":"u","type":4,"opts":{"rooms":[],"except":[]},"close":false}`},
		{Request{UID: "u", RequestID: "R", Type: RequestRemoteDisconnect, SID: "s"}, `{"uid":"u","requestId":"R","type":4,"sid":"s","close":false}`},
		{Request{UID: "aBcDeF", RequestID: "7N_gBr", Type: RequestRemoteFetch, HasOpts: true, Opts: room1},
			`{"uid":"aBcDeF","requestId":"7N_gBr","type":5,"opts":{"rooms":["room1"],"except":[]}}`},
		{Request{UID: "aBcDeF", Type: RequestServerSideEmit, Data: json.RawMessage(`["hey",1,"two",{"three":3}]`)},
			`{"uid":"aBcDeF","type":6,"data":["hey",1,"two",{"three":3}]}`},
		{Request{UID: "emitter", Type: RequestServerSideEmit, Data: json.RawMessage(`["hello",1]`)}, `{"uid":"emitter","type":6,"data":["hello",1]}`},
		{Request{UID: "u", RequestID: "R6", Type: RequestServerSideEmit, Data: json.RawMessage(`["a"]`)}, `{"uid":"u","requestId":"R6","type":6,"data":["a"]}`},
	}
	for _, tt := range tests {
		got := AppendRequest([]byte("x"), &tt.request)
		if string(got) != "x"+tt.want {
			t.Errorf("%s\nwant %s", got, tt.want)
		}
		back, err := ParseRequest(got[1:])
		if err != nil {
			t.Errorf("%s: %v", tt.want, err)
		}
		if again := AppendRequest(nil, &back); string(again) != tt.want {
			t.Errorf("%s came back as %s", tt.want, again)
		}
	}
}

func TestBroadcastRequest(t *testing.T) {
	payload := unhex(t, broadcastRequest)
	if len(payload) != 114 {
		t.Fatal(len(payload))
	}
	got, err := ParseRequest(payload)
	if err != nil {
		t.Fatal(err)
	}
	want := Request{UID: "aBcDeF", RequestID: "H0H3Au", Type: RequestBroadcast, HasOpts: true, Opts: BroadcastOptions{Rooms: []string{"room1"}},
		Flags: Flags{Timeout: time.Second}, Namespace: "/", Packet: packed(t, `["ackme","q"]`)}
	if len(got.Opts.Except) == 0 {
		got.Opts.Except = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if again := AppendRequest(nil, &want); !bytes.Equal(again, payload) {
		t.Errorf("%x", again)
	}
	// The same as JSON.
	back, _ := jsonOf(t, payload)
	if fromJSON, err := ParseRequest([]byte(back)); err != nil || !bytes.Equal(AppendRequest(nil, &fromJSON), payload) {
		t.Errorf("%s: %+v, %v", back, fromJSON, err)
	}
}

func TestParseRequestQuirks(t *testing.T) {
	tests := []struct {
		json string
		want Request
	}{
		{`{"type":2,"requestId":"R","uid":"u","opts":null,"sid":"s","room":7}`, Request{UID: "u", RequestID: "R", Type: RequestRemoteJoin, SID: "s", Room: "7"}},
		{` {"type":5,"requestId":7,"opts":{}} `[1:], Request{RequestID: "7", Type: RequestRemoteFetch, HasOpts: true}},
		{`{"type":4,"opts":{"rooms":[1,"a",1.5],"except":null,"flags":{"local":true,"compress":false,"timeout":5,"volatile":0,"broadcast":{},"expectSingleResponse":""}},"close":1}`,
			Request{Type: RequestRemoteDisconnect, HasOpts: true, Close: true, Opts: BroadcastOptions{Rooms: []string{"1", "a", "1.5"}},
				Flags: Flags{Local: true, NoCompress: true, Timeout: 5 * time.Millisecond, Broadcast: true}}},
		{`{"type":0,"requestId":"R","rooms":null,"unknown":[{"a":1}]}`, Request{RequestID: "R", Type: RequestSockets}},
		{`{"\u0074ype":1,"requestId":"\u0052"}`, Request{RequestID: "R", Type: RequestAllRooms}},
		{`{"type":1,"type":0,"requestId":"R"}`, Request{RequestID: "R", Type: RequestSockets}},
		{`{"type":7,"requestId":"R","packet":{"data":["e",1]},"opts":{}}`, Request{RequestID: "R", Type: RequestBroadcast, HasOpts: true, Namespace: "/", Packet: packed(t, `["e",1]`)}},
	}
	for _, tt := range tests {
		got, err := ParseRequest([]byte(tt.json))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", tt.json, got, err, tt.want)
		}
	}
	// MessagePack serves for every type.
	for _, text := range []string{
		`{"uid":"u","requestId":"R","type":2,"sid":"s","room":"r"}`, `{"uid":"u","type":4,"opts":{"rooms":[],"except":["x"]},"close":true}`,
		`{"uid":"u","requestId":"R","type":6,"data":["a",{"b":[1.5,null]}]}`, `{"uid":"u","requestId":"R","type":0,"rooms":["a"]}`,
	} {
		got, err := ParseRequest(packed(t, text))
		if err != nil || string(AppendRequest(nil, &got)) != text {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	if got, err := ParseRequest(packed(t, `{"type":0,"uid":null,"requestId":"R","rooms":null,"opts":null,"packet":null,"x":null}`)); err != nil || got.HasOpts || got.UID != "" {
		t.Errorf("nil members: %+v, %v", got, err)
	}
}

func TestParseRequestErrors(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{}`, `[]`, `null`, `{"type":1}`, `{"type":8,"requestId":"R"}`, `{"type":9,"requestId":"R"}`, `{"type":10,"requestId":"R"}`, `{"type":"1","requestId":"R"}`,
		`{"type":-1}`, `{"type":null}`, `{"type":1.5}`, `{"type":1,"requestId":"R"}x`, `{"type":1,"requestId":{}}`, `{"type":1,"requestId":"R",}`,
		`{"type":0}`, `{"type":0,"requestId":"R","rooms":"a"}`, `{"type":0,"requestId":"R","rooms":[[]]}`, `{"type":2}`, `{"type":2,"opts":[]}`, `{"type":2,"opts":{"rooms":{}}}`,
		`{"type":2,"opts":{"except":[null,{}]}}`, `{"type":2,"opts":{"flags":[]}}`, `{"type":3,"room":"r"}`, `{"type":4}`, `{"type":5,"requestId":"R"}`, `{"type":5,"opts":{}}`,
		`{"type":6}`, `{"type":6,"data":null}`, `{"type":6,"data":{}}`, `{"type":7,"requestId":"R","opts":{}}`, `{"type":7,"requestId":"R","packet":{},"opts":{}}`,
		`{"type":7,"requestId":"R","packet":{"data":{}},"opts":{}}`, `{"type":7,"requestId":"R","packet":null,"opts":{}}`, `{"type":7,"requestId":"R","packet":{"type":2,"data":["e"]}}`,
		`{"type":7,"opts":{},"packet":{"type":2,"data":["e"]}}`,
	} {
		if got, err := ParseRequest([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
		if s := newScanner([]byte(text)); func() bool { _, ok := s.document(); return ok }() {
			if got, err := ParseRequest(packed(t, text)); err == nil {
				t.Errorf("MessagePack of %s: %+v", text, got)
			}
		}
	}
	payload := unhex(t, broadcastRequest)
	for n := range payload {
		if got, err := ParseRequest(payload[:n]); err == nil {
			t.Errorf("%d bytes: %+v", n, got)
		}
	}
	if _, err := ParseRequest(append(bytes.Clone(payload), 0)); err == nil {
		t.Error("trailing byte accepted")
	}
	binary := packed(t, `{"type":6,"data":["e",{"_placeholder":true,"num":0}]}`, []byte{1})
	if _, err := ParseRequest(binary); err == nil || !strings.Contains(err.Error(), "binary") {
		t.Errorf("binary in a server-side emit: %v", err)
	}
}
