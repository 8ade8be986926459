package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/state"
)

const toRoom = `{"to":{"rooms":["r"]},"event":"e","args":[1]}`

func TestAPIPublish(t *testing.T) {
	for name, test := range map[string]struct {
		set    func(f *fakeFleet)
		status int
		want   string
	}{
		"accepted":   {func(*fakeFleet) {}, 200, `{"ok":true}`},
		"queue full": {func(f *fakeFleet) { f.refuse = func(*outgoing) error { return state.ErrQueueFull } }, 503, "queue_full"},
		"closed":     {func(f *fakeFleet) { f.refuse = func(*outgoing) error { return state.ErrClosed } }, 503, "unavailable"},
		"too large": {func(f *fakeFleet) {
			f.refuse = func(*outgoing) error { return fmt.Errorf("%w: 7", engine.ErrTooLarge) }
		}, 413, "too_large"},
		"cannot be encoded":    {func(f *fakeFleet) { f.refuse = func(*outgoing) error { return errors.New("nested") } }, 400, "invalid"},
		"redis is away":        {func(f *fakeFleet) { f.outcome = func(*outgoing) error { return state.ErrUnavailable } }, 503, "unavailable"},
		"redis refuses":        {func(f *fakeFleet) { f.outcome = func(*outgoing) error { return errRedis } }, 503, "unavailable"},
		"redis says nothing":   {func(f *fakeFleet) { f.outcome = func(*outgoing) error { return state.ErrUnknown } }, 504, "unknown"},
		"another with the key": {func(f *fakeFleet) { f.outcome = func(*outgoing) error { return socketio.ErrOnceConflict } }, 422, "key_reused"},
	} {
		a := newTestAPI()
		test.set(a.fleet)
		status, body, header := a.ask(t, "POST", "publish", toRoom)
		if got := codeOf(t, body); status != test.status || got != test.want {
			t.Errorf("%s: %d %s, want %d %s", name, status, body, test.status, test.want)
		}
		if (status == 503) != (header.Get("Retry-After") == "1") {
			t.Errorf("%s: Retry-After %q", name, header.Get("Retry-After"))
		}
		if strings.Contains(body, "READONLY") {
			t.Errorf("%s: redis's own words: %s", name, body)
		}
	}
}

// A request ends with the asker, whatever Redis does.
func TestAPIAskerGoesAway(t *testing.T) {
	a := newTestAPI()
	a.fleet.silent = true
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "http://127.0.0.1/api/v1/publish", strings.NewReader(toRoom))
	done := make(chan struct{})
	go func() {
		a.ServeHTTP(httptest.NewRecorder(), r)
		close(done)
	}()
	waitFor(t, "it is published", func() bool {
		a.fleet.mu.Lock()
		defer a.fleet.mu.Unlock()
		return len(a.fleet.published) == 1
	})
	cancel()
	<-done
	if n := len(a.running); n != 0 {
		t.Errorf("%d requests are under way", n)
	}
}

// The same key and body name the same message; nothing else does.
func TestAPIIdempotency(t *testing.T) {
	const other = `{"to":{"rooms":["r"]},"event":"e","args":[2]}`
	names := func(path, body, key string) (once, digest string) {
		t.Helper()
		a := newTestAPI()
		if status, answer, _ := a.ask(t, "POST", path, body, "Idempotency-Key", key); status != 200 {
			t.Fatalf("%d %s", status, answer)
		}
		last := a.fleet.published[len(a.fleet.published)-1]
		return last.once, last.digest
	}
	once, digest := names("publish", toRoom, "k1")
	if once != "{api}#k1#0" || len(digest) != 24 {
		t.Errorf("named %q, digest %q", once, digest)
	}
	for _, test := range []struct {
		path, body, key      string
		sameOnce, sameDigest bool
	}{
		{"publish", toRoom, "k1", true, true},
		{"publish", toRoom, `"k1"`, true, true},
		{"publish", toRoom, "k2", false, true},
		{"publish", other, "k1", true, false},
		{"publish/batch", `{"messages":[` + toRoom + `]}`, "k1", true, false},
		{"publish/batch", `{"messages":[` + toRoom + `,` + toRoom + `]}`, "k1", false, false}, // the last of two
	} {
		if o, d := names(test.path, test.body, test.key); (o == once) != test.sameOnce || (d == digest) != test.sameDigest {
			t.Errorf("%s %s with %s: named %q, digest %q", test.path, test.body, test.key, o, d)
		}
	}
	a := newTestAPI()
	if a.ask(t, "POST", "publish", toRoom); a.fleet.published[0].once != "" {
		t.Error("a message without a key has a name")
	}
	local := `{"to":{"all":true},"event":"e","local":true}`
	if status, body, _ := a.ask(t, "POST", "publish", local, "Idempotency-Key", "k"); status != 400 || codeOf(t, body) != "invalid" {
		t.Errorf("local with a key: %d %s", status, body)
	}
}

func TestAPIBatch(t *testing.T) {
	message := func(n int) string { return fmt.Sprintf(`{"to":{"rooms":["r%d"]},"event":"e"}`, n) }
	batch := `{"messages":[` + message(0) + "," + message(1) + "," + message(2) + `]}`
	a := newTestAPI()
	if status, body, _ := a.ask(t, "POST", "publish/batch", batch); status != 200 || body != `{"ok":true,"results":[{"ok":true},{"ok":true},{"ok":true}]}` {
		t.Errorf("%d %s", status, body)
	}
	for i, m := range a.fleet.published {
		if m.rooms[0] != fmt.Sprintf("r%d", i) {
			t.Errorf("message %d is for %q", i, m.rooms)
		}
	}
	a = newTestAPI()
	a.fleet.refuse = func(m *outgoing) error {
		if m.rooms[0] == "r1" {
			return state.ErrQueueFull
		}
		return nil
	}
	status, body, _ := a.ask(t, "POST", "publish/batch", batch)
	if want := `{"ok":false,"results":[{"ok":true},{"ok":false,"error":{"code":"queue_full","message":"too many messages wait for redis, try again later"}},{"ok":true}]}`; status != 207 || body != want {
		t.Errorf("in part: %d %s", status, body)
	}
	// With a key nothing but the first is tried, unless that one has the key.
	for err, want := range map[error]string{state.ErrConflict: "422 key_reused", state.ErrUnavailable: "503 unavailable", state.ErrUnknown: "504 unknown"} {
		a = newTestAPI()
		a.fleet.outcome = func(*outgoing) error { return err }
		status, body, _ := a.ask(t, "POST", "publish/batch", batch, "Idempotency-Key", "k")
		if got := fmt.Sprint(status, " ", codeOf(t, body)); got != want || len(a.fleet.published) != 1 {
			t.Errorf("%v: %s, %d published", err, body, len(a.fleet.published))
		}
	}
}

func TestAPISocketsOfAUser(t *testing.T) {
	a := newTestAPI()
	want := `{"user":"ada","sockets":[{"socket":"nodeAAAAsocket000001","user":"ada","rooms":["r1"],"address":"192.0.2.7","connected":"2023-11-14T22:13:20Z"},` +
		`{"socket":"nodeBBBBsocket000002","user":"ada","rooms":[],"address":"192.0.2.7","connected":"2023-11-14T22:13:20Z"}]}`
	if status, body, _ := a.ask(t, "GET", "users/ada/sockets", ""); status != 200 || body != want {
		t.Errorf("%d %s", status, body)
	}
	if status, body, _ := a.ask(t, "GET", "users/eve/sockets", ""); status != 200 || body != `{"user":"eve","sockets":[]}` {
		t.Errorf("%d %s", status, body)
	}
	if status, body, _ := a.ask(t, "GET", "sockets/"+apiSID, ""); status != 200 || !strings.HasPrefix(body, `{"socket":"`+apiSID) {
		t.Errorf("%d %s", status, body)
	}
	if status, body, _ := a.ask(t, "GET", "sockets/nodeAAAAsocket000009", ""); status != 404 || codeOf(t, body) != "not_found" {
		t.Errorf("%d %s", status, body)
	}
	for path, code := range map[string]string{"users/%7B/sockets": "invalid", "sockets/x": "invalid"} {
		if status, body, _ := a.ask(t, "GET", path, ""); status != 400 || codeOf(t, body) != code {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for err, want := range map[error]string{
		state.ErrAnswersTooLarge: "too_many", context.DeadlineExceeded: "incomplete", state.ErrUnavailable: "unavailable", state.ErrTooManyRequests: "busy",
	} {
		a.fleet.fetchErr = err
		if _, body, _ := a.ask(t, "GET", "users/ada/sockets", ""); codeOf(t, body) != want {
			t.Errorf("%v: %s, want %s", err, body, want)
		}
	}
}

// Sessions are barred before sockets are disconnected, and the answer comes when
// they are gone everywhere.
func TestAPIDisconnect(t *testing.T) {
	for path, test := range map[string]struct {
		body string
		told []string
		want string
	}{
		"users/ada/disconnect":              {"", []string{"bar user ada", "disconnect user:ada true"}, `{"sockets":["nodeAAAAsocket000001","nodeBBBBsocket000002"]}`},
		"users/eve/disconnect":              {"{}", []string{"bar user eve", "disconnect user:eve true"}, `{"sockets":[]}`},
		"sockets/" + apiSID + "/disconnect": {`{"close":false}`, []string{"bar socket " + apiSID, "disconnect " + apiSID + " false"}, `{"sockets":["nodeAAAAsocket000001"]}`},
	} {
		a := newTestAPI()
		a.fleet.lag = 2
		status, body, _ := a.ask(t, "POST", path, test.body)
		if status != 200 || body != test.want || !slices.Equal(a.fleet.told, test.told) {
			t.Errorf("%s: %d %s, told %q", path, status, body, a.fleet.told)
		}
		if test.want != `{"sockets":[]}` && a.fleet.fetches != 4 { // before, and until it is carried out
			t.Errorf("%s: asked %d times", path, a.fleet.fetches)
		}
	}
	a := newTestAPI()
	a.bars = nil // without recovery nobody comes back
	if status, _, _ := a.ask(t, "POST", "users/ada/disconnect", ""); status != 200 || len(a.fleet.told) != 1 {
		t.Errorf("without recovery: %d, told %q", status, a.fleet.told)
	}
	a = newTestAPI()
	a.bars = fakeBars{a.fleet, state.ErrUnavailable}
	if status, body, _ := a.ask(t, "POST", "users/ada/disconnect", ""); status != 503 || codeOf(t, body) != "unavailable" || len(a.fleet.told) != 1 {
		t.Errorf("not barred: %d %s, told %q", status, body, a.fleet.told)
	}
	// A node that does not answer keeps the others from nothing, and is told of.
	a = newTestAPI()
	a.fleet.fetchErr = context.DeadlineExceeded
	if status, body, _ := a.ask(t, "POST", "users/ada/disconnect", ""); status != 504 || codeOf(t, body) != "incomplete" || len(a.fleet.told) != 2 {
		t.Errorf("a node is silent: %d %s, told %q", status, body, a.fleet.told)
	}
	if status, body, _ := a.ask(t, "POST", "users/ada/disconnect", `{"closed":true}`); status != 400 || !strings.Contains(body, `unknown field \"closed\"`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestAPIJoinAndLeave(t *testing.T) {
	a := newTestAPI()
	a.fleet.lag = 1
	for _, step := range []struct{ path, body, want string }{
		{"users/ada/join", `{"rooms":["r2","r3"]}`, `{"sockets":["nodeAAAAsocket000001","nodeBBBBsocket000002"]}`},
		{"sockets/" + apiSID + "/leave", `{"rooms":["r1","r2"]}`, `{"sockets":["nodeAAAAsocket000001"]}`},
		{"sockets/" + apiSID + "/join", `{"rooms":["r4"]}`, `{"sockets":["nodeAAAAsocket000001"]}`},
		{"users/ada/leave", `{"rooms":["r4"]}`, `{"sockets":["nodeAAAAsocket000001","nodeBBBBsocket000002"]}`},
	} {
		if status, body, _ := a.ask(t, "POST", step.path, step.body); status != 200 || body != step.want {
			t.Errorf("%s: %d %s", step.path, status, body)
		}
	}
	if got := a.fleet.rooms[apiSID]; !slices.Equal(got, []string{"r3"}) {
		t.Errorf("in %q at the end", got)
	}
	if got := a.fleet.rooms["nodeBBBBsocket000002"]; !slices.Equal(got, []string{"r2", "r3"}) {
		t.Errorf("the other is in %q at the end", got)
	}
	for _, path := range []string{"users/eve/join", "users/eve/leave", "sockets/nodeAAAAsocket000009/join"} {
		if status, body, _ := a.ask(t, "POST", path, `{"rooms":["r"]}`); status != 404 || codeOf(t, body) != "not_found" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	a.fleet.fetchErr = errors.New("some node is broken")
	if status, body, _ := a.ask(t, "POST", "users/ada/join", `{"rooms":["r"]}`); status != 503 || codeOf(t, body) != "unavailable" {
		t.Errorf("%d %s", status, body)
	}
}

func TestAPIRoomPages(t *testing.T) {
	a := newTestAPI()
	var got []string
	path := "rooms?limit=1"
	for range 4 {
		_, body, _ := a.ask(t, "GET", path, "")
		var page struct {
			Node, Next string
			Rooms      []apiRoomMembers
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || page.Node != "nodeAAAA" || len(page.Rooms) != 1 {
			t.Fatalf("%s: %v", body, err)
		}
		got = append(got, fmt.Sprint(page.Rooms[0]))
		if page.Next == "" {
			break
		}
		path = "rooms?limit=1&cursor=" + page.Next
	}
	if want := []string{"{big 3}", "{b 1}", "{ü 1}"}; !slices.Equal(got, want) {
		t.Errorf("pages of %q, want %q", got, want)
	}
	for _, path := range []string{"rooms?limit=0", "rooms?limit=1001", "rooms?cursor=!", "rooms?cursor=gICAgICAgICAgA", "rooms?x=1",
		"sockets?limit=501", "sockets?cursor=x", "sockets?room=", "sockets?room=%7B", "sockets?limit=x"} {
		if status, body, _ := a.ask(t, "GET", path, ""); status != 400 || codeOf(t, body) != "invalid" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body, _ := a.ask(t, "GET", "rooms?limit=%zz", ""); status != 400 || codeOf(t, body) != "malformed" {
		t.Errorf("%d %s", status, body)
	}
}

// What is wrong with a request itself.
func TestAPIRequests(t *testing.T) {
	a := newTestAPI()
	for _, test := range []struct {
		method, path, body string
		header             []string
		status             int
		code               string
	}{
		{"GET", "publish", "", nil, 405, "method_not_allowed"},
		{"DELETE", "users/ada/sockets", "", nil, 405, "method_not_allowed"},
		{"POST", "presence/online", "", nil, 405, "method_not_allowed"},
		{"GET", "nowhere", "", nil, 404, "not_found"},
		{"GET", "", "", nil, 404, "not_found"},
		{"GET", "users/a/b/sockets", "", nil, 404, "not_found"},
		{"POST", "publish", toRoom, []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type"},
		{"POST", "publish", `{`, []string{"Content-Type", "application/json"}, 400, "malformed"},
		{"POST", "publish", strings.Repeat(" ", int(a.message)+1), nil, 413, "too_large"},
		{"POST", "users/ada/join", strings.Repeat(" ", apiSmallBody+1), nil, 413, "too_large"},
		{"POST", "publish", toRoom, []string{"Idempotency-Key", "a b"}, 400, "invalid"},
		{"GET", "presence/users/ada", "", nil, 200, `{"user":"ada","online":true,"socket":"` + apiSID + `"}`},
		{"GET", "drain", "", nil, 200, `{"phase":"serving","exit":false,"conns":7,"delay_seconds":0,"window_seconds":0,"grace_seconds":0}`},
		{"POST", "drain?exit=perhaps", "", nil, 400, "invalid"},
		{"DELETE", "drain", "", nil, 405, "method_not_allowed"},
		{"GET", "presence/users/%0A", "", nil, 400, "invalid"},
	} {
		status, body, header := a.ask(t, test.method, test.path, test.body, test.header...)
		if got := codeOf(t, body); status != test.status || got != test.code {
			t.Errorf("%s %s %.20q: %d %.200s, want %d %s", test.method, test.path, test.body, status, body, test.status, test.code)
		}
		if allow := header.Get("Allow"); (status == 405) != (allow == "GET" || allow == "POST" || allow == "GET, POST") {
			t.Errorf("%s %s: Allow %q", test.method, test.path, allow)
		}
	}
	// A body whose length is not said.
	r := httptest.NewRequest("POST", "http://[::1]/api/v1/users/ada/join", strings.NewReader(strings.Repeat(" ", apiSmallBody+1)))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	if a.ServeHTTP(w, r); w.Code != 413 {
		t.Errorf("a long body of unknown length: %d %s", w.Code, w.Body)
	}
	if n := a.held.Load(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
	if got := testutil.ToFloat64(a.metrics.API[metrics.APIPublish][metrics.APIRefused]); got != 4 {
		t.Errorf("%v publishes were refused", got)
	}
}

func TestAPIToken(t *testing.T) {
	a := newTestAPI()
	h := a.handler("the-token")
	ask := func(host string, header ...string) (int, http.Header) {
		r := httptest.NewRequest("GET", "http://"+host+"/api/v1/node", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Header()
	}
	if status, header := ask("127.0.0.1"); status != 401 || header.Get("WWW-Authenticate") == "" {
		t.Errorf("without: %d", status)
	}
	if status, _ := ask("127.0.0.1", "Authorization", "Bearer wrong"); status != 401 {
		t.Errorf("wrong: %d", status)
	}
	if status, _ := ask("edge.example.com", "Authorization", "Bearer the-token"); status != 200 {
		t.Errorf("right: %d", status)
	}
}

// Over its bounds the API refuses, and says that it is worth trying again.
func TestAPIBounds(t *testing.T) {
	a := newTestAPI()
	busy := func(what, method, path, body string) {
		t.Helper()
		status, answer, header := a.ask(t, method, path, body)
		if status != 503 || codeOf(t, answer) != "busy" || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", what, status, answer)
		}
	}
	fill := func(g gate) (empty func()) {
		for g.try() {
		}
		return func() {
			for range cap(g) {
				g.leave()
			}
		}
	}
	empty := fill(a.running)
	busy("running", "POST", "publish", toRoom)
	empty()
	empty = fill(a.queries)
	busy("queries", "GET", "users/ada/sockets", "")
	if status, _, _ := a.ask(t, "POST", "publish", toRoom); status != 200 {
		t.Errorf("publishing while all queries are taken: %d", status)
	}
	empty()
	empty = fill(a.scans)
	busy("scans", "GET", "rooms", "")
	empty()
	a.held.Store(apiBodies)
	busy("bodies", "POST", "publish", toRoom)
	if got := a.held.Load(); got != apiBodies {
		t.Errorf("%d bytes are held, want %d", got, apiBodies)
	}
	a.held.Store(0)
	if status, _, _ := a.ask(t, "POST", "publish", toRoom); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
	if n := len(a.running) + len(a.queries) + len(a.scans) + len(a.working); n != 0 {
		t.Errorf("%d places are taken for ever", n)
	}
}
