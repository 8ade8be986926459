package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/socketio"
)

// tableTime is ms milliseconds after the start of a test.
func tableTime(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }

// newTableRequest starts at ms 0: to be counted by 500, answered by 1000.
func newTableRequest(id string, kind socketio.RequestType) *request {
	return &request{id: id, ns: "/", kind: kind, position: -1, patience: tableTime(500), deadline: tableTime(1000)}
}

// parsed is an answer as it comes over the wire.
func parsed(t testing.TB, payload string) *socketio.Response {
	t.Helper()
	a, err := socketio.ParseResponse([]byte(payload))
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return &a
}

// told writes events as text: "ack a1", "end R", "end R: error".
func told(events []event) []string {
	var out []string
	for _, e := range events {
		switch {
		case e.ack:
			out = append(out, fmt.Sprintf("ack %x", e.packet))
		case e.err != nil:
			out = append(out, "end "+e.request.id+": "+e.err.Error())
		default:
			out = append(out, "end "+e.request.id)
		}
	}
	return out
}

// collected writes what a request has.
func collected(r *request) string {
	switch r.kind {
	case socketio.RequestRemoteFetch:
		var ids []string
		for _, s := range r.sockets {
			ids = append(ids, s.ID)
		}
		return strings.Join(ids, " ")
	case socketio.RequestAllRooms:
		var rooms []string
		for room := range r.seen {
			rooms = append(rooms, room)
		}
		slices.Sort(rooms)
		return strings.Join(rooms, " ")
	case socketio.RequestServerSideEmit:
		return string(slices.Concat(r.responses...))
	default:
		return fmt.Sprintf("%d clients, %d acks", r.clients, r.acks)
	}
}

const (
	fetch     = socketio.RequestRemoteFetch
	allRooms  = socketio.RequestAllRooms
	emit      = socketio.RequestServerSideEmit
	broadcast = socketio.RequestBroadcast
)

func TestRequestTable(t *testing.T) {
	ack := func(id string, packet ...byte) string { return string(socketio.AppendBroadcastAck(nil, id, packet)) }
	const (
		fetchLate = "end R: timeout reached while waiting for fetchSockets response"
		roomsLate = "end R: timeout reached while waiting for allRooms response"
	)
	tests := []struct {
		name    string
		kind    socketio.RequestType
		nodes   int // 0: never counted
		answers []string
		at      int // then the time is
		events  []string
		has     string
	}{
		{"fetch: all answered", fetch, 3, []string{
			`{"requestId":"R","sockets":[{"id":"a","handshake":{},"rooms":["a"],"data":{}}]}`, `{"requestId":"R","sockets":[]}`,
			`{"requestId":"R","sockets":[{"id":"b"},{"id":"c"}]}`,
		}, 0, []string{"end R"}, "a b c"},
		{"fetch: alone", fetch, 1, []string{`{"requestId":"R","sockets":[{"id":"a"}]}`}, 0, []string{"end R"}, "a"},
		{"fetch: one more node than counted", fetch, 2, []string{
			`{"requestId":"R","sockets":[{"id":"a"}]}`, `{"requestId":"R","sockets":[{"id":"b"}]}`, `{"requestId":"R","sockets":[{"id":"c"}]}`,
		}, 2000, []string{"end R"}, "a b"},
		{"fetch: a socket named twice", fetch, 2, []string{
			`{"requestId":"R","sockets":[{"id":"a"},{"id":"a"}]}`, `{"requestId":"R","sockets":[{"id":"a"}]}`,
		}, 0, []string{"end R"}, "a"},
		{"fetch: not yet late", fetch, 2, []string{`{"requestId":"R","sockets":[{"id":"a"}]}`}, 999, nil, "a"},
		{"fetch: late", fetch, 2, []string{`{"requestId":"R","sockets":[{"id":"a"}]}`}, 1000, []string{fetchLate}, "a"},
		{"fetch: no list is an empty one", fetch, 3, []string{
			`{"requestId":"R","sockets":null}`, `{"requestId":"R"}`, `{"requestId":"R","sockets":[{"id":"a"}]}`,
		}, 0, []string{"end R"}, "a"},
		{"fetch: answers to something else", fetch, 2, []string{
			`{"requestId":"R","rooms":["a"]}`, `{"requestId":"R","type":6,"data":1}`, `{"type":8,"requestId":"R","clientCount":1}`, ack("R", 1),
			`{"requestId":"X","sockets":[{"id":"x"}]}`, `{"requestId":"","sockets":[{"id":"x"}],"requestId":"Y"}`,
		}, 1000, []string{fetchLate}, ""},
		{"fetch: ids instead of descriptions", fetch, 1, []string{`{"requestId":"R","sockets":["a","b"]}`}, 0, []string{"end R"}, ""},
		{"fetch: nobody could be counted", fetch, 0, []string{`{"requestId":"R","sockets":[]}`}, 500, []string{"end R: " + ErrUnavailable.Error()}, ""},
		{"fetch: still to be counted", fetch, 0, nil, 499, nil, ""},
		{"rooms: each once", allRooms, 2, []string{`{"requestId":"R","rooms":["b","a"]}`, `{"requestId":"R","rooms":["c","b"]}`}, 0, []string{"end R"}, "a b c"},
		{"rooms: late", allRooms, 3, []string{`{"requestId":"R","rooms":["b"]}`, `{"requestId":"R","rooms":null}`, `{"requestId":"R","sockets":[]}`}, 1000, []string{roomsLate}, "b"},
		{"emit: alone", emit, 1, nil, 0, []string{"end R"}, ""},
		{"emit: unheard even here", emit, -1, nil, 0, []string{"end R"}, ""},
		{"emit: all answered", emit, 3, []string{`{"type":6,"requestId":"R","data":{"a":1}}`, `{"type":6,"requestId":"R"}`}, 0, []string{"end R"}, `{"a":1}null`},
		{
			"emit: late", emit, 4, []string{`{"type":6,"requestId":"R","data":1}`, `{"requestId":"R","data":2}`, `{"type":8,"requestId":"R","clientCount":0}`},
			1000, []string{"end R: timeout reached: only 1 responses received out of 3"}, "1",
		},
		{"broadcast: nobody there", broadcast, 2, []string{`{"type":8,"requestId":"R","clientCount":0}`, `{"type":8,"requestId":"R","clientCount":0}`}, 0, []string{"end R"}, "0 clients, 0 acks"},
		{
			"broadcast: in order", broadcast, 2, []string{
				`{"type":8,"requestId":"R","clientCount":1}`, ack("R", 1), `{"type":8,"requestId":"R","clientCount":2}`, ack("R", 2), ack("R"),
			}, 0, []string{"ack 01", "ack 02", "ack ", "end R"}, "3 clients, 3 acks",
		},
		{
			"broadcast: acknowledged before counted", broadcast, 2,
			[]string{ack("R", 1), `{"type":8,"requestId":"R","clientCount":0}`, `{"type":8,"requestId":"R","clientCount":1}`, ack("R", 2)},
			0, []string{"ack 01", "end R"}, "1 clients, 1 acks",
		},
		{
			"broadcast: more acknowledgements than clients", broadcast, 2,
			[]string{ack("R", 1), ack("R", 2), ack("R", 3), `{"type":8,"requestId":"R","clientCount":1}`, ack("R", 4), `{"type":8,"requestId":"R","clientCount":1}`},
			0, []string{"ack 01", "ack 02", "ack 03", "ack 04", "end R"}, "2 clients, 4 acks",
		},
		{
			"broadcast: a node dies between count and acknowledgement", broadcast, 2,
			[]string{`{"type":8,"requestId":"R","clientCount":1}`, ack("R", 1), `{"type":8,"requestId":"R","clientCount":2}`, ack("R", 2)},
			1000, []string{"ack 01", "ack 02", "end R: timeout reached: only 2 acknowledgements received out of 3, from 2 servers out of 2"}, "3 clients, 2 acks",
		},
		{
			"broadcast: a node does not count", broadcast, 3, []string{`{"type":8,"requestId":"R","clientCount":0}`, `{"requestId":"R"}`, `{"requestId":"R","sockets":[]}`},
			1000, []string{"end R: timeout reached: only 0 acknowledgements received out of 0, from 1 servers out of 3"}, "0 clients, 0 acks",
		},
		{
			"broadcast: a node nobody counted", broadcast, 1,
			[]string{`{"type":8,"requestId":"R","clientCount":2}`, ack("R", 1), `{"type":8,"requestId":"R","clientCount":1}`, ack("R", 2), ack("R", 3)},
			0, []string{"ack 01", "ack 02", "ack 03", "end R"}, "3 clients, 3 acks",
		},
		{
			"broadcast: an impossible number of clients", broadcast, 1, []string{`{"type":8,"requestId":"R","clientCount":9007199254740993}`},
			1000, []string{"end R: timeout reached: only 0 acknowledgements received out of 0, from 0 servers out of 1"}, "0 clients, 0 acks",
		},
		{"broadcast: late answers change nothing", broadcast, 1, []string{`{"type":8,"requestId":"R","clientCount":0}`, ack("R", 1), `{"type":8,"requestId":"R","clientCount":5}`}, 1000, []string{"end R"}, "0 clients, 0 acks"},
	}
	for _, test := range tests {
		table := newRequestTable(1 << 20)
		r := newTableRequest("R", test.kind)
		table.start(r)
		for _, r := range table.uncounted(func(string) bool { return test.nodes != 0 }) {
			begin, publish := table.count(r, test.nodes)
			if alone := test.nodes <= 1; publish == alone || begin == (alone && test.kind == emit) {
				t.Errorf("%s: begin %v, publish %v", test.name, begin, publish)
			}
		}
		for _, payload := range test.answers {
			table.answer(parsed(t, payload), len(payload))
		}
		table.due(tableTime(test.at))
		if got := told(table.take()); !slices.Equal(got, test.events) {
			t.Errorf("%s: told %q, want %q", test.name, got, test.events)
		}
		if got := collected(r); got != test.has {
			t.Errorf("%s: collected %q, want %q", test.name, got, test.has)
		}
		ended := len(test.events) > 0 && strings.HasPrefix(test.events[len(test.events)-1], "end")
		if _, open := table.next(); open == ended || len(table.byID) != len(table.order) || ended && table.size != 0 {
			t.Errorf("%s: open %v with %d requests, %d bytes", test.name, open, len(table.byID), table.size)
		}
	}
}

func TestTimeoutIsADeadline(t *testing.T) {
	table := newRequestTable(0)
	table.start(newTableRequest("R", emit))
	table.count(table.byID["R"], 2)
	table.due(tableTime(1000))
	err := table.take()[0].err
	var timeout interface{ Timeout() bool }
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() || errors.Is(err, ErrUnavailable) {
		t.Errorf("got %#v", err)
	}
}

// What all requests collect together is bounded; the one that exceeds it ends.
func TestRequestTableBounds(t *testing.T) {
	table := newRequestTable(2000)
	for _, id := range []string{"A", "B"} {
		table.start(newTableRequest(id, allRooms))
		table.count(table.byID[id], 100)
	}
	room := strings.Repeat("r", 900)
	answer := func(id string) {
		payload := `{"requestId":"` + id + `","rooms":["` + room + `"]}`
		table.answer(parsed(t, payload), len(payload))
	}
	answer("A")
	if got := table.take(); len(got) != 0 {
		t.Fatalf("told %q below the bound", told(got))
	}
	answer("B")
	if got := told(table.take()); !slices.Equal(got, []string{"end B: " + ErrAnswersTooLarge.Error()}) {
		t.Fatalf("told %q", got)
	}
	a := table.byID["A"]
	if table.size != a.size || table.size < 900 {
		t.Errorf("%d bytes are held, %d by what is open", table.size, a.size)
	}
	// Small elements count for what they take, not for their text.
	payload := `{"requestId":"A","rooms":["` + strings.Repeat(`","`, 50) + `"]}`
	table.answer(parsed(t, payload), len(payload))
	if got := told(table.take()); !slices.Equal(got, []string{"end A: " + ErrAnswersTooLarge.Error()}) || table.size != 0 {
		t.Errorf("told %q, %d bytes held", got, table.size)
	}
}

func TestRequestTableWaitsForReadiness(t *testing.T) {
	table := newRequestTable(1 << 20)
	chat, failed, alone := newTableRequest("chat", fetch), newTableRequest("failed", fetch), newTableRequest("alone", broadcast)
	chat.ns, alone.alone = "/chat", true
	root := newTableRequest("root", fetch)
	for _, r := range []*request{chat, failed, alone, root} {
		table.start(r)
	}
	table.fail(failed, ErrClosed)
	table.fail(failed, ErrClosed) // once only
	ids := func(requests []*request) (out []string) {
		for _, r := range requests {
			out = append(out, r.id)
		}
		return out
	}
	batch := table.uncounted(func(ns string) bool { return ns == "/" })
	if got := ids(batch); !slices.Equal(got, []string{"alone", "root"}) {
		t.Errorf("took %q", got)
	}
	table.recount(batch[1:])
	if got := ids(table.uncounted(func(string) bool { return true })); !slices.Equal(got, []string{"chat", "root"}) {
		t.Errorf("took %q", got)
	}
	if got := told(table.take()); !slices.Equal(got, []string{"end failed: " + ErrClosed.Error()}) {
		t.Errorf("told %q", got)
	}
	if begin, publish := table.count(failed, 3); begin || publish {
		t.Error("a request that has ended begins")
	}
	if begin, _ := table.count(root, 3); !begin {
		t.Error("does not begin")
	}
	if begin, publish := table.count(root, 4); begin || publish || root.nodes != 3 {
		t.Error("counted twice")
	}
	table.failAll(ErrClosed)
	if got := table.take(); len(got) != 3 || len(table.byID) != 0 {
		t.Errorf("told %q", told(got))
	}
}

func TestAnswerID(t *testing.T) {
	long := strings.Repeat("x", 70)
	tests := []struct {
		payload, id string
		plain       bool
	}{
		{`{"requestId":"7N_gBr","sockets":[]}`, "7N_gBr", true},
		{`{"type":8,"requestId":"R7","clientCount":1}`, "R7", true},
		{string(socketio.AppendServerSideEmitResponse(nil, "R6", json.RawMessage(`1`))), "R6", true},
		{string(socketio.AppendBroadcastAck(nil, "R7", []byte{1})), "R7", true},
		{string(socketio.AppendBroadcastAck(nil, "R7", nil)), "R7", true},
		{string(socketio.AppendBroadcastAck(nil, long, nil)), "", false},
		{`{"requestId":"a\u0062"}`, "", false},
		{`{"requestId":"` + long + `"}`, "", false},
		{`{"requestId":"R`, "", false},
		{`{"data":{"requestId":"x"},"requestId":"R"}`, "", false},
		{`{ "requestId":"R"}`, "", false},
		{`{"type":88,"requestId":"R"}`, "", false},
		{`{"type":8`, "", false}, {`{`, "", false}, {"", "", false}, {"\x82", "", false},
		{"\x82\xa4type\x09\xa9requestId", "", false}, {"\x82\xa4type\x09\xa9requestId\xa5ab", "", false}, {"\x82\xa4type\x09\xa9requestId\x01a", "", false},
	}
	for _, test := range tests {
		if id, plain := answerID([]byte(test.payload)); string(id) != test.id || plain != test.plain {
			t.Errorf("%q: got %q, %v", test.payload, id, plain)
		}
	}
}
