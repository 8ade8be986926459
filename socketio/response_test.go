package socketio

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestAppendResponses(t *testing.T) {
	tests := []struct {
		got  []byte
		want string
	}{
		{AppendSocketsResponse(nil, "R", nil), `{"requestId":"R","sockets":[]}`},
		{AppendSocketsResponse(nil, "R", []string{"a", "b"}), `{"requestId":"R","sockets":["a","b"]}`},
		{AppendRoomsResponse(nil, "R", nil), `{"requestId":"R","rooms":[]}`},
		{AppendRoomsResponse(nil, "R", []string{"<r>"}), `{"requestId":"R","rooms":["<r>"]}`},
		{AppendFetchResponse(nil, "7N_gBr", nil), `{"requestId":"7N_gBr","sockets":[]}`},
		{AppendFetchResponse(nil, "R", []RemoteSocket{{ID: "a"}, {ID: "b", Handshake: json.RawMessage(`{"issued":1e3}`), Rooms: []string{"b", "r"}, Data: json.RawMessage(`{"u":1.0}`)}}),
			`{"requestId":"R","sockets":[{"id":"a","handshake":{},"rooms":[],"data":{}},{"id":"b","handshake":{"issued":1e3},"rooms":["b","r"],"data":{"u":1.0}}]}`},
		{AppendClientCount(nil, "R7", 1), `{"type":8,"requestId":"R7","clientCount":1}`},
		{AppendClientCount(nil, "R7", 0), `{"type":8,"requestId":"R7","clientCount":0}`},
		{AppendServerSideEmitResponse(nil, "R6", json.RawMessage(`{"a":[1]}`)), `{"type":6,"requestId":"R6","data":{"a":[1]}}`},
		{AppendServerSideEmitResponse(nil, "R6", nil), `{"type":6,"requestId":"R6","data":null}`},
		{AppendLegacyResponse(nil, "R"), `{"requestId":"R"}`},
	}
	for _, tt := range tests {
		if string(tt.got) != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
		if !json.Valid(tt.got) {
			t.Errorf("%s is not JSON", tt.got)
		}
	}
	if got, want := AppendBroadcastAck(nil, "R7", packed(t, `"yes"`)), unhex(t, "83a47479706509a9726571756573744964a25237a67061636b6574a3796573"); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got, want := AppendBroadcastAck(nil, "R7", nil), packed(t, `{"type":9,"requestId":"R7"}`); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestParseResponse(t *testing.T) {
	tests := []struct {
		payload []byte
		want    Response
	}{
		{[]byte(`{"requestId":"R","sockets":[]}`), Response{RequestID: "R", HasSockets: true}},
		{[]byte(`{"requestId":"R","sockets":["a",7]}`), Response{RequestID: "R", HasSockets: true, SocketIDs: []string{"a", "7"}}},
		{[]byte(`{"requestId":"R","sockets":null}`), Response{RequestID: "R"}},
		{[]byte(`{"requestId":"R","sockets":[{"id":"a","handshake":{"h":1},"rooms":["a",5],"data":{"u":"x"}}]}`), Response{RequestID: "R", HasSockets: true,
			Sockets: []RemoteSocket{{ID: "a", Handshake: json.RawMessage(`{"h":1}`), Rooms: []string{"a", "5"}, Data: json.RawMessage(`{"u":"x"}`)}}}},
		{[]byte(`{"rooms":["a"],"requestId":"R"}`), Response{RequestID: "R", HasRooms: true, Rooms: []string{"a"}}},
		{[]byte(`{"rooms":null,"requestId":"R"}`), Response{RequestID: "R"}},
		{[]byte(`{"requestId":"R"}`), Response{RequestID: "R"}},
		{[]byte(`{"type":6,"requestId":"R6","data":null}`), Response{RequestID: "R6", Type: RequestServerSideEmit, HasType: true, Data: json.RawMessage(`null`)}},
		{[]byte(`{"type":6,"requestId":"R6"}`), Response{RequestID: "R6", Type: RequestServerSideEmit, HasType: true}},
		{[]byte(`{"type":8,"requestId":"R7","clientCount":1}`), Response{RequestID: "R7", Type: RequestBroadcastClientCount, HasType: true, ClientCount: 1}},
		{AppendBroadcastAck(nil, "R7", packed(t, `["yes"]`)), Response{RequestID: "R7", Type: RequestBroadcastAck, HasType: true, Packet: packed(t, `["yes"]`)}},
		{AppendBroadcastAck(nil, "R7", nil), Response{RequestID: "R7", Type: RequestBroadcastAck, HasType: true}},
		{[]byte(`{"type":9,"requestId":"R7","packet":1}`), Response{RequestID: "R7", Type: RequestBroadcastAck, HasType: true, Packet: []byte{1}}},
		{packed(t, `{"type":8,"requestId":"R7","clientCount":3}`), Response{RequestID: "R7", Type: RequestBroadcastClientCount, HasType: true, ClientCount: 3}},
		{packed(t, `{"requestId":"R","sockets":["a"],"rooms":["b"],"data":{"x":1},"y":[]}`), Response{RequestID: "R", HasSockets: true, SocketIDs: []string{"a"},
			HasRooms: true, Rooms: []string{"b"}, Data: json.RawMessage(`{"x":1}`)}},
	}
	for _, tt := range tests {
		got, err := ParseResponse(tt.payload)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q\n got %+v, %v\nwant %+v", tt.payload, got, err, tt.want)
		}
	}
	for _, text := range []string{``, `{`, `{}`, `[]`, `null`, `{"requestId":""}`, `{"requestId":null}`, `{"requestId":"R"}}`, `{"requestId":"R","type":11}`, `{"requestId":"R","rooms":{}}`,
		`{"requestId":"R","clientCount":-1}`, `{"requestId":"R","clientCount":"1"}`, `{"requestId":"R","sockets":[[]]}`, `{"requestId":"R","sockets":[{"id":[]}]}`, `{"requestId":"R","sockets":[{"rooms":1}]}`} {
		if got, err := ParseResponse([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
	ack := AppendBroadcastAck(nil, "R7", packed(t, `"yes"`))
	for n := range ack {
		if got, err := ParseResponse(ack[:n]); err == nil {
			t.Errorf("%d bytes: %+v", n, got)
		}
	}
	if _, err := ParseResponse(append(ack, 1)); err == nil {
		t.Error("trailing byte accepted")
	}
}
