package state

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// broadcastRequest is a request with acknowledgement as Node.js sent it.
var broadcastRequest = unhex("85a3756964a6614263446546a9726571756573744964a6483048334175a47479706507a67061636b657483a47479706502a464" +
	"61746192a561636b6d65a171a36e7370a12fa46f70747383a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677381a774696d656f7574cd03e8")

// end is the answer to the request that ends each test.
func end(reply []byte) string {
	if reply == nil {
		reply = []byte("null")
	}
	return `{"type":6,"requestId":"end","data":` + string(reply) + `}`
}

func TestRequests(t *testing.T) {
	socket := socketio.RemoteSocket{ID: "sock1", Handshake: json.RawMessage(`{"url":"/"}`), Rooms: []string{"sock1", "room1"}, Data: json.RawMessage(`{"a":1}`)}
	tests := []struct {
		name, request string
		set           func(r *recorder)
		calls         []string
		answers       []string
	}{
		{
			"sockets", `{"uid":"aBcDeF","requestId":"R0","type":0,"rooms":["room1"]}`,
			func(r *recorder) { r.sockets = []socketio.RemoteSocket{socket} },
			[]string{"sockets / [room1] []"}, []string{`{"requestId":"R0","sockets":["sock1"]}`},
		},
		{
			"sockets, none", `{"uid":"aBcDeF","requestId":"R0","type":0,"rooms":[]}`, nil,
			[]string{"sockets / [] []"}, []string{`{"requestId":"R0","sockets":[]}`},
		},
		{
			"all rooms", `{"uid":"aBcDeF","requestId":"1aQ4Jt","type":1}`,
			func(r *recorder) { r.rooms = []string{"room1", "sock1"} },
			[]string{"rooms /"}, []string{`{"requestId":"1aQ4Jt","rooms":["room1","sock1"]}`},
		},
		{
			"all rooms, none", `{"uid":"aBcDeF","requestId":"1aQ4Jt","type":1}`, nil,
			[]string{"rooms /"}, []string{`{"requestId":"1aQ4Jt","rooms":[]}`},
		},
		{
			"join", `{"uid":"aBcDeF","type":2,"opts":{"rooms":["room1"],"except":["x"]},"rooms":["room2","room3"]}`, nil,
			[]string{"join / [room1] [x] [room2 room3]"}, nil,
		},
		{
			"join from the emitter", `{"type":2,"opts":{"rooms":["room1"],"except":[]},"rooms":["room2"]}`, nil,
			[]string{"join / [room1] [] [room2]"}, nil,
		},
		{
			"own join", `{"uid":"deAAAA","type":2,"opts":{"rooms":["room1"],"except":[]},"rooms":["room2"]}`, nil,
			[]string{"join / [room1] [] [room2]"}, nil,
		},
		{
			"legacy join, owner", `{"uid":"aBcDeF","requestId":"R2","type":2,"sid":"sock1","room":"room7"}`,
			func(r *recorder) { r.sockets = []socketio.RemoteSocket{socket} },
			[]string{"sockets / [sock1] []", "join / [sock1] [] [room7]"}, []string{`{"requestId":"R2"}`},
		},
		{
			"legacy join, elsewhere", `{"uid":"aBcDeF","requestId":"R2","type":2,"sid":"sock9","room":"room7"}`, nil,
			[]string{"sockets / [sock9] []", "join / [sock9] [] [room7]"}, nil,
		},
		{
			"leave", `{"uid":"aBcDeF","type":3,"opts":{"rooms":[],"except":[]},"rooms":["room2"]}`, nil,
			[]string{"leave / [] [] [room2]"}, nil,
		},
		{
			"disconnect", `{"uid":"aBcDeF","type":4,"opts":{"rooms":["room1"],"except":[]},"close":true}`, nil,
			[]string{"disconnect / [room1] [] true"}, nil,
		},
		{
			"legacy disconnect", `{"uid":"aBcDeF","requestId":"R4","type":4,"sid":"sock1","close":false}`,
			func(r *recorder) { r.sockets = []socketio.RemoteSocket{socket} },
			[]string{"sockets / [sock1] []", "disconnect / [sock1] [] false"}, []string{`{"requestId":"R4"}`},
		},
		{
			"fetch", `{"uid":"aBcDeF","requestId":"7N_gBr","type":5,"opts":{"rooms":["room1"],"except":[]}}`,
			func(r *recorder) { r.sockets = []socketio.RemoteSocket{socket} },
			[]string{"sockets / [room1] []"},
			[]string{`{"requestId":"7N_gBr","sockets":[{"id":"sock1","handshake":{"url":"/"},"rooms":["sock1","room1"],"data":{"a":1}}]}`},
		},
		{
			"fetch, none", `{"uid":"aBcDeF","requestId":"7N_gBr","type":5,"opts":{"rooms":["room1"],"except":[]}}`, nil,
			[]string{"sockets / [room1] []"}, []string{`{"requestId":"7N_gBr","sockets":[]}`},
		},
		{
			"own fetch", `{"uid":"deAAAA","requestId":"7N_gBr","type":5,"opts":{"rooms":["room1"],"except":[]}}`, nil, nil, nil,
		},
		{
			"server-side emit", `{"uid":"emitter","type":6,"data":["hello",1]}`, nil,
			[]string{`emit / ["hello",1] false`}, nil,
		},
		{
			"server-side emit with answer", `{"uid":"aBcDeF","type":6,"data":["hey"],"requestId":"R6"}`,
			func(r *recorder) { r.reply = []byte(`{"n":[1]}`) },
			[]string{`emit / ["hey"] true`}, []string{`{"type":6,"requestId":"R6","data":{"n":[1]}}`},
		},
		{
			"own server-side emit", `{"uid":"deAAAA","type":6,"data":["hey"],"requestId":"R6"}`, nil, nil, nil,
		},
		{
			"broadcast with acknowledgements", broadcastRequest,
			func(r *recorder) { r.acks = [][]byte{{0xa3, 'y', 'e', 's'}, nil} },
			[]string{"broadcast / [room1] [] 92a561636b6d65a171"},
			[]string{
				`{"type":8,"requestId":"H0H3Au","clientCount":2}`,
				unhex("83a47479706509a9726571756573744964a6483048334175a67061636b6574a3796573"),
				unhex("82a47479706509a9726571756573744964a6483048334175"),
			},
		},
		{
			"broadcast with acknowledgements, nobody", broadcastRequest, nil,
			[]string{"broadcast / [room1] [] 92a561636b6d65a171"}, []string{`{"type":8,"requestId":"H0H3Au","clientCount":0}`},
		},
		{"unknown type", `{"uid":"aBcDeF","requestId":"R","type":77}`, nil, nil, nil},
		{"malformed", `{"uid":`, nil, nil, nil},
		{"not ours", "\x93\x01\x02\x03", nil, nil, nil},
	}
	backends(t, func(t *testing.T, b *backend) {
		n := b.start(t, "nodeAAAA", nil)
		answers := b.answers(t)
		for _, test := range tests {
			r := &recorder{}
			if test.set != nil {
				test.set(r)
			}
			n.recorder.mu.Lock() // the responder is n.recorder: give it this test's answers
			n.recorder.calls, n.recorder.sockets, n.recorder.rooms, n.recorder.acks, n.recorder.reply = nil, r.sockets, r.rooms, r.acks, r.reply
			n.recorder.mu.Unlock()
			b.do(t, "PUBLISH", "socket.io-request#/#", test.request)
			// A request with a known answer, to know when all are there.
			b.do(t, "PUBLISH", "socket.io-request#/#", `{"uid":"aBcDeF","type":6,"data":["end"],"requestId":"end"}`)
			want := append(slices.Clone(test.answers), end(r.reply))
			var got []string
			for range want {
				got = append(got, await(t, test.name, answers))
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: answers %q, want %q", test.name, got, want)
			}
			n.recorder.mu.Lock()
			calls := slices.Clone(n.recorder.calls)
			n.recorder.mu.Unlock()
			if want := append(slices.Clone(test.calls), `emit / ["end"] true`); !slices.Equal(calls, want) {
				t.Errorf("%s: calls %q, want %q", test.name, calls, want)
			}
		}
		if got := testutil.ToFloat64(n.metrics.Drops[metrics.DropMalformed]); got != 3 {
			t.Errorf("%v malformed requests counted, want 3", got)
		}
	})
}

// answers subscribes to the response channel of "/", as a Node.js server does.
func (b *backend) answers(t *testing.T) <-chan string {
	t.Helper()
	ps, err := pubsubClient(b.options, "listener")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ps.end)
	answers := make(chan string, 1000)
	go func() {
		_ = ps.Receive(context.Background(), ps.B().Subscribe().Channel("socket.io-response#/#").Build(),
			func(m rueidis.PubSubMessage) { answers <- m.Message })
	}()
	eventually(t, "somebody listens for answers", func() error {
		if got := subscribers(t, b, "socket.io-response#/#"); got != 2 {
			return fmt.Errorf("%d subscriptions", got)
		}
		return nil
	})
	return answers
}

// order is a Deliverer and Responder that remembers the order of both.
type order struct {
	*recorder
	seen chan string
}

func (o order) Deliver(_, _ string, payload []byte) { o.seen <- "message " + string(payload) }

func (o order) LocalJoin(_ string, _ socketio.BroadcastOptions, rooms []string) {
	o.seen <- "join " + rooms[0]
}

// In pattern mode a join by request and the message after it keep their order,
// as Node.js servers expect that move sockets and emit in the same breath.
func TestRequestsKeepTheirPlaceAmongMessages(t *testing.T) {
	b := realRedis(t)
	n := b.open(t, "nodeAAAA", func(c *Config) { c.Pattern = true })
	n.Bus().Open("/")
	o := order{n.recorder, make(chan string, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { defer close(n.done); _ = n.Run(ctx, o, o, nil) }()
	t.Cleanup(func() { n.stop(t) })
	eventually(t, "ready", n.Ready)
	for i := range 200 {
		b.do(t, "PUBLISH", "socket.io-request#/#", fmt.Sprintf(`{"type":2,"opts":{"rooms":["r"],"except":[]},"rooms":["%d"]}`, i))
		b.do(t, "PUBLISH", "socket.io#/#r#", fmt.Sprint(i))
	}
	for i := range 200 {
		for _, want := range []string{fmt.Sprintf("join %d", i), fmt.Sprintf("message %d", i)} {
			if got := await(t, want, o.seen); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
}
