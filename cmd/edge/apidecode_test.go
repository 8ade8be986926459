package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestDecodePublication(t *testing.T) {
	const sid = "nodeAAAAsocket000001"
	names := func(n int) string { return `"` + strings.Repeat(`r","`, n-1) + `r"` }
	for _, test := range []struct {
		body string
		want string // rooms, except, flags and payload; or the code and the message
	}{
		{`{"to":{"rooms":["r1"]},"event":"e"}`, `[r1] [] ["e"]`},
		{` {"to":{"rooms":["r1"],"users":["ada","bob"],"sockets":["` + sid + `"]},"event":"e","args":[]} `, `[r1 user:ada user:bob ` + sid + `] [] ["e"]`},
		{`{"to":{"all":true},"except":{"rooms":["q"],"users":["u"]},"event":"a\"b","args":[1.0, {"b":1,"a":[null]},"é\ud800"],"volatile":true,"local":true}`,
			`[] [q user:u] volatile local ["a\"b",1.0,{"b":1,"a":[null]},"é\ud800"]`},
		{`{"to":{"all":false,"rooms":["r"]},"event":"e","volatile":false}`, `[r] [] ["e"]`},
		{`{"to":{"rooms":[` + names(maxTargets) + `]},"event":"e"}`, ``},

		{``, `malformed: the body is empty; it must be a JSON object`},
		{`{"to"`, `malformed: the body is not JSON: unexpected end of JSON input, at byte 5`},
		{"{\"to\":{\"all\":true},\"event\":\"e\",\"local\":true,\"args\":[\"\xe9\"]}", `malformed: the body is not UTF-8`},
		{`{"to":{}} x`, `malformed: the body is not JSON: invalid character 'x' after top-level value, at byte 11`},
		{`[]`, `invalid: the body is not an object`},
		{`null`, `invalid: the body is not an object`},
		{`{"to":{"rooms":["r"]},"evnt":"e"}`, `invalid: unknown field "evnt"`},
		{`{"to":{"rooms":["r"]},"Event":"e"}`, `invalid: unknown field "Event"`},
		{`{"to":{"room":["r"]},"event":"e"}`, `invalid: unknown field "to.room"`},
		{`{"except":{"all":true},"event":"e"}`, `invalid: unknown field "except.all"`},
		{`{"event":"e","event":"f"}`, `invalid: event is there twice`},
		{`{"to":[],"event":"e"}`, `invalid: to is not an object`},
		{`{"to":null,"event":"e"}`, `invalid: to is not an object`},
		{`{"to":{"rooms":"r"},"event":"e"}`, `invalid: to.rooms is not a list of strings`},
		{`{"to":{"rooms":null},"event":"e"}`, `invalid: to.rooms is not a list of strings`},
		{`{"to":{"rooms":["r",null]},"event":"e"}`, `invalid: to.rooms is not a list of strings`},
		{`{"to":{"rooms":["r"]},"event":7}`, `invalid: event is not a string`},
		{`{"to":{"rooms":["r"]},"event":null}`, `invalid: event is not a string`},
		{`{"to":{"all":"yes"},"event":"e"}`, `invalid: to.all is not true or false`},
		{`{"to":{"rooms":["r"]},"event":"e","args":{"a":1}}`, `invalid: args is not a list`},
		{`{"to":{"rooms":["r"]},"event":"e","volatile":1}`, `invalid: volatile is not true or false`},
		{`{"event":"e"}`, `invalid: to names no room, user or socket, and all is not true`},
		{`{"to":{"rooms":[]},"event":"e"}`, `invalid: to names no room, user or socket, and all is not true`},
		{`{"to":{"all":true,"users":["u"]},"event":"e"}`, `invalid: to.all is for everybody: there can be no rooms, users and sockets beside it`},
		{`{"to":{"rooms":["r",""]},"event":"e"}`, `invalid: to.rooms[1]: room id is empty`},
		{`{"to":{"users":["{u}"]},"event":"e"}`, `invalid: to.users[0]: user id contains a brace`},
		{`{"to":{"sockets":["short"]},"event":"e"}`, `invalid: to.sockets[0]: "short" is not the id of a socket: 20 characters of A-Z a-z 0-9 _ -`},
		{`{"to":{"sockets":["user:56789012345678901"]},"event":"e"}`, `invalid: to.sockets[0]: "user:56789012345678901" is not the id of a socket: 20 characters of A-Z a-z 0-9 _ -`},
		{`{"to":{"sockets":["user:678901234567890"]},"event":"e"}`, `invalid: to.sockets[0]: "user:678901234567890" is not the id of a socket: 20 characters of A-Z a-z 0-9 _ -`},
		{`{"to":{"all":true},"except":{"rooms":["\n"]},"event":"e"}`, `invalid: except.rooms[0]: room id contains the control character U+000A`},
		{`{"to":{"rooms":[` + names(maxTargets+1) + `]},"event":"e"}`, `invalid: to has 1001 names; there may be 1000`},
		{`{"to":{"rooms":["r"]}}`, `invalid: event has 0 bytes; it must have 1 to 255`},
		{`{"to":{"rooms":["r"]},"event":"` + strings.Repeat("e", 256) + `"}`, `invalid: event has 256 bytes; it must have 1 to 255`},
		{`{"to":{"rooms":["r"]},"event":"disconnect"}`, `invalid: event: "disconnect" is reserved by Socket.IO`},
	} {
		m, p := decodePublication([]byte(test.body))
		got := ""
		if p != nil {
			got = string(p.Code) + ": " + p.Message
		} else if len(m.rooms) < maxTargets {
			got = fmt.Sprint(m.rooms, " ", m.except, " ")
			if m.volatile {
				got += "volatile "
			}
			if m.local {
				got += "local "
			}
			got += string(m.payload.JSON)
		}
		if got != test.want {
			t.Errorf("%.80s\n got %s\nwant %s", test.body, got, test.want)
		}
	}
}

func TestDecodeBatch(t *testing.T) {
	const one = `{"to":{"rooms":["r"]},"event":"e"}`
	many := func(n int) string { return `{"messages":[` + strings.Repeat(one+",", n-1) + one + `]}` }
	for body, want := range map[string]string{
		many(2):                    "",
		many(maxBatch):             "",
		many(maxBatch + 1):         "there are 1001 messages; there must be 1 to 1000",
		`{"messages":[]}`:          "there are 0 messages; there must be 1 to 1000",
		`{}`:                       "there are 0 messages; there must be 1 to 1000",
		`{"messages":[7]}`:         "messages[0] is not an object",
		`{"messages":` + one + `}`: "messages is not a list",
		`{"messages":[` + one + `,{"to":{"rom":[]}}]}`:                 `unknown field "messages[1].to.rom"`,
		`{"messages":[` + one + `,{"to":{"users":[""]},"event":"e"}]}`: "messages[1].to.users[0]: user id is empty",
		`{"messages":[` + one + `,{"to":{"users":["u"]}}]}`:            "messages[1].event has 0 bytes; it must have 1 to 255",
	} {
		batch, p := decodeBatch([]byte(body))
		switch {
		case want == "" && (p != nil || len(batch) < 2):
			t.Errorf("%.60s: %v", body, p)
		case want != "" && (p == nil || p.Message != want):
			t.Errorf("%.60s: %v, want %s", body, p, want)
		}
	}
}

func TestDecodeRooms(t *testing.T) {
	for body, want := range map[string]string{
		`{"rooms":["a","b"]}`:                "",
		`{"rooms":[]}`:                       "there are 0 rooms; there must be 1 to 100",
		`{"rooms":["a",""]}`:                 "rooms[1]: room id is empty",
		`{"rooms":["user:ada"]}`:             "rooms[0]: rooms named like a socket id or beginning with user: belong to the server",
		`{"rooms":["nodeAAAAsocket000001"]}`: "rooms[0]: rooms named like a socket id or beginning with user: belong to the server",
		`{"room":"a"}`:                       `unknown field "room"`,
		`{"rooms":["` + strings.Repeat(`a","`, 100) + `a"]}`: "there are 101 rooms; there must be 1 to 100",
	} {
		_, p := decodeRooms([]byte(body))
		if (p == nil) != (want == "") || p != nil && p.Message != want {
			t.Errorf("%.60s: %v, want %q", body, p, want)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	for _, test := range []struct {
		values []string
		want   string
		bad    bool
	}{
		{nil, "", false},
		{[]string{"8e03978e-40d5-43dd-bc93-6894a57f9324"}, "8e03978e-40d5-43dd-bc93-6894a57f9324", false},
		{[]string{`"8e03978e"`}, "8e03978e", false},
		{[]string{" k "}, "k", false},
		{[]string{strings.Repeat("k", 128)}, strings.Repeat("k", 128), false},
		{[]string{""}, "", true},
		{[]string{`""`}, "", true},
		{[]string{`"k`}, "", true},
		{[]string{"a b"}, "", true},
		{[]string{"é"}, "", true},
		{[]string{strings.Repeat("k", 129)}, "", true},
		{[]string{"a", "b"}, "", true},
	} {
		got, p := idempotencyKey(test.values)
		if got != test.want || (p != nil) != test.bad {
			t.Errorf("%q: %q, %v", test.values, got, p)
		}
	}
}

func TestJSONType(t *testing.T) {
	for header, want := range map[string]apiCode{
		"": "", "application/json": "", "application/json; charset=utf-8": "", `APPLICATION/JSON;charset="UTF-8"`: "",
		"text/plain": apiMediaType, "application/x-www-form-urlencoded": apiMediaType, "application/json; charset=latin1": apiMediaType,
		"application/jsonp": apiMediaType, ";": apiMediaType,
	} {
		if p := checkJSONType(header); (p == nil) != (want == "") || p != nil && p.Code != want {
			t.Errorf("%q: %v", header, p)
		}
	}
}

// FuzzDecodePublication: what is taken is what clients can be sent, and what the
// body says; the same body again is the same message.
func FuzzDecodePublication(f *testing.F) {
	f.Add([]byte(`{"to":{"rooms":["r1"],"users":["ada"],"sockets":["nodeAAAAsocket000001"]},"except":{"rooms":["q"]},"event":"e","args":[1,{"a":null}],"volatile":true}`))
	f.Add([]byte(`{"to":{"all":true},"event":"e","local":true}`))
	f.Add([]byte(`{"messages":[{"to":{"all":true},"event":"e"}]}`))
	f.Add([]byte(`{"event":"e","event":"f"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if batch, p := decodeBatch(body); p == nil && (len(batch) == 0 || len(batch) > maxBatch) {
			t.Errorf("a batch of %d", len(batch))
		}
		_, _ = decodeRooms(body)
		m, p := decodePublication(body)
		if p != nil {
			if apiStatus[p.Code] == 0 || p.Message == "" || len(p.Message) > 600 {
				t.Fatalf("a problem of %q: %q", p.Code, p.Message)
			}
			return
		}
		var event []json.RawMessage
		if err := json.Unmarshal(m.payload.JSON, &event); err != nil || len(event) == 0 || event[0][0] != '"' {
			t.Fatalf("%s is no event: %v", m.payload.JSON, err)
		}
		var loose struct {
			Event    string
			Args     []json.RawMessage
			Volatile bool
		}
		if err := json.Unmarshal(body, &loose); err != nil {
			t.Fatalf("taken, but not JSON: %v", err)
		}
		var name string
		if err := json.Unmarshal(event[0], &name); err != nil || name != loose.Event || len(event)-1 != len(loose.Args) || m.volatile != loose.Volatile {
			t.Errorf("%s became %s", body, m.payload.JSON)
		}
		for i, arg := range loose.Args {
			if string(arg) != string(event[i+1]) {
				t.Errorf("argument %s became %s", arg, event[i+1])
			}
		}
		again, p := decodePublication(body)
		if p != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("again: %+v, %v", again, p)
		}
	})
}
