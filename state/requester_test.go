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

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

func TestFetchSocketsAndAllRooms(t *testing.T) {
	for _, specific := range []bool{false, true} {
		t.Run(fmt.Sprintf("specific=%v", specific), func(t *testing.T) {
			fleet(t, func(c *Config) { c.SpecificResponses = specific }, func(t *testing.T, b *backend, nodes []*node) {
				heard := b.overhear(t, "socket.io-re*")
				var ids, rooms []string
				for i, n := range nodes {
					id := fmt.Sprintf("s%d", i)
					n.sockets = []socketio.RemoteSocket{{ID: id, Handshake: json.RawMessage(`{"url":"/"}`), Rooms: []string{id, "room1"}, Data: json.RawMessage(`{"n":1}`)}}
					n.rooms = []string{"room1", id}
					ids, rooms = append(ids, id), append(rooms, id)
				}
				rooms = append([]string{"room1"}, rooms...)
				for _, n := range nodes { // any of them may ask
					done, c := results[[]socketio.RemoteSocket]()
					n.Bus().FetchSockets("/", socketio.BroadcastOptions{Rooms: []string{"room1"}, Except: []string{"x"}}, done)
					got := once(t, "fetch", c)
					if got.err != nil || !slices.Equal(socketIDs(got.value), ids) {
						t.Fatalf("got %q, %v, want %q", socketIDs(got.value), got.err, ids)
					}
					for _, s := range got.value {
						if string(s.Handshake) != `{"url":"/"}` || !slices.Equal(s.Rooms, []string{s.ID, "room1"}) || string(s.Data) != `{"n":1}` {
							t.Errorf("got %+v", s)
						}
					}
					allDone, all := results[[]string]()
					n.Bus().AllRooms("/", allDone)
					if got := once(t, "rooms", all); got.err != nil || !slices.Equal(got.value, rooms) {
						t.Fatalf("got %q, %v, want %q", got.value, got.err, rooms)
					}
				}
				var calls []string
				for range nodes {
					calls = append(calls, "sockets / [room1] [x]", "rooms /")
				}
				for _, n := range nodes {
					n.called(t, calls...)
				}
				// Each request once and one answer of every other node.
				want := 2 * len(nodes) * len(nodes)
				if len(nodes) == 1 {
					want = 0
				}
				b.do(t, "PUBLISH", "socket.io-response#/end#", "")
				for i := 0; ; i++ {
					line := await(t, "what was published", heard)
					if strings.HasPrefix(line, "socket.io-response#/end#") {
						if i != want {
							t.Errorf("%d messages, want %d", i, want)
						}
						break
					}
					if answer := strings.HasPrefix(line, "socket.io-response"); answer && specific == strings.HasPrefix(line, "socket.io-response#/# ") {
						t.Errorf("answered with %s", line)
					}
				}
			})
		})
	}
}

// Requests are on the wire what Node.js sends.
func TestRequestsOnTheWire(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		n := b.fleet(t, 2, nil)[0]
		heard := b.overhear(t, "socket.io-request#*")
		var id string
		n.bus.requester.newID = func() string { return id }
		tests := []struct{ name, id, want string }{
			{"broadcast", "H0H3Au", broadcastRequest},
			{"fetch", "7N_gBr", `{"uid":"aBcDeF","requestId":"7N_gBr","type":5,"opts":{"rooms":["room1"],"except":[]}}`},
			{"rooms", "1aQ4Jt", `{"uid":"aBcDeF","requestId":"1aQ4Jt","type":1}`},
			{"join", "", `{"uid":"aBcDeF","type":2,"opts":{"rooms":["room1"],"except":[]},"rooms":["room2","room3"]}`},
			{"leave", "", `{"uid":"aBcDeF","type":3,"opts":{"rooms":["room1"],"except":[]},"rooms":["room2"]}`},
			{"disconnect", "", `{"uid":"aBcDeF","type":4,"opts":{"rooms":["room1"],"except":[]},"close":true}`},
			{"disconnect everybody", "", `{"uid":"aBcDeF","type":4,"opts":{"rooms":[],"except":[]},"close":false}`},
			{"emit", "", `{"uid":"aBcDeF","type":6,"data":["hey",1,"two",{"three":3}]}`},
			{"emit with answer", "R6", `{"uid":"aBcDeF","requestId":"R6","type":6,"data":["hey"]}`},
		}
		for _, test := range tests {
			id = test.id
			ended := make(chan struct{}, 1)
			end := func(error) { ended <- struct{}{} }
			switch bus := n.Bus(); test.name {
			case "broadcast":
				data := []byte(unhex("92a561636b6d65a171"))
				bus.BroadcastWithAck("/", room1, socketio.Flags{}, data, time.Second, func([]byte) {}, func(int, error) { end(nil) })
				clear(data) // the caller's again
			case "fetch":
				bus.FetchSockets("/", room1, func([]socketio.RemoteSocket, error) { end(nil) })
			case "rooms":
				bus.AllRooms("/", func([]string, error) { end(nil) })
			case "join":
				bus.SocketsJoin("/", room1, []string{"room2", "room3"}, end)
			case "leave":
				bus.SocketsLeave("/", room1, []string{"room2"}, end)
			case "disconnect":
				bus.DisconnectSockets("/", room1, true, end)
			case "disconnect everybody":
				bus.DisconnectSockets("/", socketio.BroadcastOptions{}, false, end)
			case "emit":
				bus.ServerSideEmit("/", []byte(`["hey",1,"two",{"three":3}]`), nil)
				end(nil)
			default:
				bus.ServerSideEmit("/", []byte(`["hey"]`), func([]json.RawMessage, error) { end(nil) })
			}
			if got := await(t, test.name, heard); got != "socket.io-request#/# "+test.want {
				t.Errorf("%s:\n got %q\nwant %q", test.name, got, "socket.io-request#/# "+test.want)
			}
			await(t, test.name+" ends", ended)
		}
	})
}

// Every node carries commands out once, the one that gave them, too.
func TestCommands(t *testing.T) {
	fleet(t, nil, func(t *testing.T, _ *backend, nodes []*node) {
		bus := nodes[len(nodes)-1].Bus()
		o := socketio.BroadcastOptions{Rooms: []string{"a", "b"}, Except: []string{"c"}}
		done, c := outcome()
		bus.SocketsJoin("/", o, []string{"r1", "r2"}, done)
		bus.SocketsLeave("/", o, []string{"r1"}, done)
		bus.DisconnectSockets("/", o, true, done)
		for range 3 {
			if err := await(t, "done", c); err != nil {
				t.Error(err)
			}
		}
		bus.SocketsJoin("/", socketio.BroadcastOptions{}, []string{"r3"}, nil)
		for _, n := range nodes {
			n.called(t, "join / [a b] [c] [r1 r2]", "leave / [a b] [c] [r1]", "disconnect / [a b] [c] true", "join / [] [] [r3]")
		}
	})
}

// A command has its place among the messages of its node.
func TestCommandsKeepTheirPlaceAmongMessages(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	heard := b.overhear(t, "socket.io*#/#*") // not the node's probes
	for i := range 100 {
		n.Bus().SocketsJoin("/", socketio.BroadcastOptions{}, []string{fmt.Sprint(i)}, nil)
		if err := n.Bus().Publish(socketio.Publication{Namespace: "/", Room: "r", Payload: []byte(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		for _, want := range []string{
			fmt.Sprintf(`socket.io-request#/# {"uid":"deAAAA","type":2,"opts":{"rooms":[],"except":[]},"rooms":["%d"]}`, i),
			fmt.Sprintf("socket.io#/#r# %d", i),
		} {
			if got := await(t, want, heard); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
}

// A node that is counted and does not answer: the others' answers come with the error.
func TestRequestsTimeOut(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		nodes := b.fleet(t, 2, nil)
		n := nodes[0]
		n.bus.requester.timeout = time.Hour
		nodes[0].sockets, nodes[1].sockets = []socketio.RemoteSocket{{ID: "a"}}, []socketio.RemoteSocket{{ID: "b"}}
		nodes[1].rooms, nodes[1].reply = []string{"r"}, []byte("1")
		b.deaf(t)
		fetched, fetchDone := results[[]socketio.RemoteSocket]()
		n.Bus().FetchSockets("/", room1, fetched)
		named, namedDone := results[[]string]()
		n.Bus().AllRooms("/", named)
		emitted, emittedDone := results[[]json.RawMessage]()
		n.Bus().ServerSideEmit("/", []byte(`["x"]`), emitted)
		n.lapse(t, fetch, 2, 0)
		n.lapse(t, allRooms, 2, 0)
		n.lapse(t, emit, 1, 0)
		if got := once(t, "fetch", fetchDone); !slices.Equal(socketIDs(got.value), []string{"a", "b"}) || !errors.Is(got.err, context.DeadlineExceeded) ||
			got.err.Error() != "timeout reached while waiting for fetchSockets response" {
			t.Errorf("got %+v", got)
		}
		if got := once(t, "rooms", namedDone); !slices.Equal(got.value, []string{"r"}) || got.err == nil || got.err.Error() != "timeout reached while waiting for allRooms response" {
			t.Errorf("got %+v", got)
		}
		if got := once(t, "emit", emittedDone); len(got.value) != 1 || got.err == nil || got.err.Error() != "timeout reached: only 1 responses received out of 2" {
			t.Errorf("got %+v", got)
		}
		eventually(t, "nothing is under way", func() error {
			n.bus.requester.mu.Lock()
			defer n.bus.requester.mu.Unlock()
			if len(n.bus.requester.open) != 0 || n.bus.requester.size != 0 {
				return fmt.Errorf("%d requests, %d bytes", len(n.bus.requester.open), n.bus.requester.size)
			}
			return nil
		})
	})
}

// Anything may be on the response channels, also while requests wait.
func TestForeignAnswers(t *testing.T) {
	backends(t, func(t *testing.T, b *backend) {
		nodes := b.fleet(t, 2, nil)
		n := nodes[0]
		n.bus.requester.newID = func() string { return "OURS" }
		n.bus.requester.timeout = patience
		b.deaf(t)
		done, c := results[[]socketio.RemoteSocket]()
		n.Bus().FetchSockets("/", room1, done)
		nodes[1].called(t, "sockets / [room1] []") // it is under way
		for _, payload := range []string{
			"", "{", "nonsense", `{"requestId":"OURS"`, `{"requestId":"OURS","sockets":[[]]}`, "\xff\xff", `{"requestId":"THEIRS","sockets":[{"id":"x"}]}`,
			`{"sockets":[{"id":"x"}],"requestId":"THEIRS"}`, `{"requestId":"OURS","rooms":["x"]}`, `{"type":6,"requestId":"OURS","data":1}`,
			string(socketio.AppendBroadcastAck(nil, "OURS", []byte{1})), `{"type":8,"requestId":"OURS","clientCount":-1}`,
		} {
			b.do(t, "PUBLISH", "socket.io-response#/#", payload)
			b.do(t, "PUBLISH", "socket.io-response#/#aBcDeF#", payload)
		}
		select {
		case r := <-c:
			t.Fatalf("ended with %+v", r)
		default:
		}
		// The missing answer, with its members in an order of its own.
		b.do(t, "PUBLISH", "socket.io-response#/#aBcDeF#", `{"sockets":[{"id":"late"}],"requestId":"OURS"}`)
		if got := once(t, "fetch", c); got.err != nil || !slices.Equal(socketIDs(got.value), []string{"late"}) {
			t.Errorf("got %+v", got)
		}
		b.do(t, "PUBLISH", "socket.io-response#/#", `{"requestId":"OURS","sockets":[{"id":"later"}]}`)
		// Malformed and not certainly another's: counted. The last is malformed for a request that is open.
		if got := testutil.ToFloat64(n.metrics.Drops[metrics.DropMalformed]); got != 14 {
			t.Errorf("%v malformed answers counted, want 14", got)
		}
	})
}

func TestRefusedRequests(t *testing.T) {
	b := inProcess(t)
	n := b.start(t, "nodeAAAA", nil)
	errs, c := outcome()
	refused := func(what, problem string) {
		t.Helper()
		if err := await(t, what, c); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v, want %q", what, err, problem)
		}
	}
	bus := n.Bus()
	bus.FetchSockets("/x", room1, func(s []socketio.RemoteSocket, err error) {
		if s == nil {
			t.Error("no list")
		}
		errs(err)
	})
	refused("fetch", `namespace "/x" is not open`)
	bus.SocketsJoin("/x", room1, []string{"r"}, errs)
	refused("join", `namespace "/x" is not open`)
	bus.SocketsJoin("/x", room1, []string{"r"}, nil)
	bus.ServerSideEmit("/", []byte(`{"not":"an array"}`), func(_ []json.RawMessage, err error) { errs(err) })
	refused("emit", "without a data array")
	bus.ServerSideEmit("/", []byte(`["cut`), func(_ []json.RawMessage, err error) { errs(err) })
	refused("emit", "state: request")
	bus.ServerSideEmit("/", []byte(`["cut`), nil)
	for _, data := range []string{"", "\x01", "\x92\x01", "\x91\x01\x01"} {
		bus.BroadcastWithAck("/", room1, socketio.Flags{}, []byte(data), time.Second, nil, func(_ int, err error) { errs(err) })
		refused(fmt.Sprintf("broadcast of %x", data), "state: request")
	}
	n.called(t)
}

func TestTooManyRequests(t *testing.T) {
	b := inProcess(t)
	n := b.open(t, "nodeAAAA", nil)
	n.Bus().Open("/")
	c := make(chan error, maxRequests+1)
	for range maxRequests + 1 { // before Run: they wait for it
		n.Bus().AllRooms("/", func(_ []string, err error) { c <- err })
	}
	n.run(t)
	refused := 0
	for range maxRequests + 1 {
		if err := await(t, "done", c); errors.Is(err, ErrTooManyRequests) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused != 1 {
		t.Errorf("%d requests refused, want 1", refused)
	}
	n.Bus().AllRooms("/", func(_ []string, err error) { c <- err })
	if err := await(t, "done", c); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// What cannot be held ends the request it is for, and only that.
func TestAnswersTooLarge(t *testing.T) {
	b := inProcess(t)
	nodes := b.fleet(t, 2, nil)
	n := nodes[0]
	n.bus.requester.maxSize = 1000
	b.deaf(t)
	ids := []string{"BIG", "SMALL"}
	next := 0
	n.bus.requester.newID = func() string { next++; return ids[next-1] }
	big, bigDone := results[[]string]()
	small, smallDone := results[[]string]()
	n.Bus().AllRooms("/", big)
	n.Bus().AllRooms("/", small)
	nodes[1].called(t, "rooms /", "rooms /")
	b.do(t, "PUBLISH", "socket.io-response#/#", `{"requestId":"BIG","rooms":["`+strings.Repeat("x", 1000)+`"]}`)
	if got := once(t, "big", bigDone); !errors.Is(got.err, ErrAnswersTooLarge) {
		t.Errorf("got %v", got.err)
	}
	b.do(t, "PUBLISH", "socket.io-response#/#", `{"requestId":"SMALL","rooms":["x"]}`)
	if got := once(t, "small", smallDone); got.err != nil || !slices.Equal(got.value, []string{"x"}) {
		t.Errorf("got %+v", got)
	}
}

// A callback may ask again.
func TestRequestFromItsCallback(t *testing.T) {
	b := inProcess(t)
	n := b.fleet(t, 2, nil)[0]
	end := make(chan error, 1)
	rounds := 0
	var ask func([]string, error)
	ask = func(_ []string, err error) {
		if rounds++; rounds == 10 || err != nil {
			end <- err
			return
		}
		n.Bus().AllRooms("/", ask)
	}
	n.Bus().AllRooms("/", ask)
	if err := await(t, "ten rounds", end); err != nil {
		t.Error(err)
	}
}
