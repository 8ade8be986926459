package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

const apiSID = "nodeAAAAsocket000001"

// fakeFleet is all nodes: it keeps what is published, and the rooms of sockets.
type fakeFleet struct {
	mu        sync.Mutex
	published []*outgoing
	refuse    func(m *outgoing) error // at once
	outcome   func(m *outgoing) error // later
	silent    bool                    // Redis does not answer
	sockets   map[string][]string     // by the room that selects them
	rooms     map[string][]string     // of each socket
	fetches   int
	lag       int   // fetches that do not see what was told before them
	fetchErr  error // of those
	told      []string
	pending   func() // what is told and not carried out
}

func (f *fakeFleet) Publish(m *outgoing, done func(error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		if err := f.refuse(m); err != nil {
			return err
		}
	}
	f.published = append(f.published, m)
	if f.silent {
		return nil
	}
	var err error
	if f.outcome != nil {
		err = f.outcome(m)
	}
	go done(err)
	return nil
}

func (f *fakeFleet) Fetch(to string, done func([]engine.RemoteSocket, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetches++
	if f.pending != nil {
		if f.lag--; f.lag < 0 {
			f.pending()
			f.pending = nil
		}
	}
	var found []engine.RemoteSocket
	for _, id := range f.sockets[to] {
		found = append(found, engine.RemoteSocket{
			ID: id, Rooms: append([]string{id}, f.rooms[id]...), Data: json.RawMessage(`{"user":"ada"}`),
			Handshake: json.RawMessage(`{"address":"192.0.2.7","issued":1700000000000}`),
		})
	}
	go done(found, f.fetchErr)
}

func (f *fakeFleet) tell(what string, change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, what)
	f.pending = change
}

func (f *fakeFleet) Join(to string, rooms []string) {
	f.tell(fmt.Sprint("join ", to, rooms), func() {
		for _, id := range f.sockets[to] {
			f.rooms[id] = append(f.rooms[id], rooms...)
		}
	})
}

func (f *fakeFleet) Leave(to string, rooms []string) {
	f.tell(fmt.Sprint("leave ", to, rooms), func() {
		for _, id := range f.sockets[to] {
			f.rooms[id] = slices.DeleteFunc(f.rooms[id], func(r string) bool { return slices.Contains(rooms, r) })
		}
	})
}

func (f *fakeFleet) Disconnect(to string, closeConn bool) {
	f.tell(fmt.Sprintf("disconnect %s %v", to, closeConn), func() { delete(f.sockets, to) })
}

// fakeBars notes what is barred, among what the fleet is told.
type fakeBars struct {
	*fakeFleet
	err error
}

func (b fakeBars) BarUser(_ context.Context, user string) error {
	b.tell("bar user "+user, b.pending)
	return b.err
}

func (b fakeBars) BarSocket(_ context.Context, sid string) error {
	b.tell("bar socket "+sid, b.pending)
	return b.err
}

// fakeListings has rooms; its sockets are those of a real node, tested there.
type fakeListings []engine.LocalRoom

func (l fakeListings) LocalRooms(after *engine.LocalRoom, limit int) ([]engine.LocalRoom, bool) {
	rest := []engine.LocalRoom(l)
	if after != nil {
		rest = rest[slices.Index(rest, *after)+1:]
	}
	return rest[:min(limit, len(rest))], len(rest) > limit
}

func (l fakeListings) LocalSockets(string, string, int) ([]*engine.Socket, bool) { return nil, false }

// testAPI is an API on fakes.
type testAPI struct {
	*api
	fleet *fakeFleet
	http.Handler
}

func newTestAPI() *testAPI {
	f := &fakeFleet{
		sockets: map[string][]string{"user:ada": {apiSID, "nodeBBBBsocket000002"}, apiSID: {apiSID}},
		rooms:   map[string][]string{apiSID: {"r1"}},
	}
	a := newAPI(&api{
		fleet: f, bars: fakeBars{f, nil}, local: fakeListings{{Name: "big", Members: 3}, {Name: "b", Members: 1}, {Name: "ü", Members: 1}},
		presence: &presenceAPI{&fakeReader{sockets: map[string]string{"ada": apiSID}}, quiet},
		info:     func() nodeInfo { return nodeInfo{Node: "nodeAAAA"} }, node: "nodeAAAA",
		drain: newDrain(&Config{}, &readiness{state: okState}, quiet), conns: func() int { return 7 },
		log: quiet, metrics: metrics.New(prometheus.NewRegistry(), "test"),
	}, 1_000)
	return &testAPI{a, f, a.handler("")}
}

// ask makes a request and returns the status and the body, which must be JSON.
func (a *testAPI) ask(t *testing.T, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:9464/api/v1/"+path, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	if ct := w.Header().Get("Content-Type"); ct != "application/json" || !json.Valid(w.Body.Bytes()) || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s: %s, %s", method, path, ct, w.Body)
	}
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n"), w.Header()
}

// codeOf is the code of a problem, the whole answer if it is none.
func codeOf(t *testing.T, body string) string {
	t.Helper()
	var a struct{ Error *problem }
	if json.Unmarshal([]byte(body), &a) != nil || a.Error == nil {
		return body
	}
	if apiStatus[a.Error.Code] == 0 || a.Error.Message == "" {
		t.Errorf("a problem that is none: %s", body)
	}
	return string(a.Error.Code)
}
