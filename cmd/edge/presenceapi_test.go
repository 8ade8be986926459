package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/state"
)

// fakeReader answers from what it is given, in pages of the limit asked for; the cursor is the next user's index.
type fakeReader struct {
	sockets  map[string]string
	rooms    map[string][]string
	online   []string
	err      error
	hangs    bool      // until the request's time is over
	deadline time.Time // of the last request
}

// wait fails as Redis does.
func (f *fakeReader) wait(ctx context.Context) error {
	f.deadline, _ = ctx.Deadline()
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func (f *fakeReader) Sockets(ctx context.Context, users []string) ([]string, error) {
	sockets := make([]string, len(users))
	for i, u := range users {
		sockets[i] = f.sockets[u]
	}
	return sockets, f.wait(ctx)
}

func (f *fakeReader) Room(ctx context.Context, room string) (state.Snapshot, error) {
	if err := f.wait(ctx); err != nil {
		return state.Snapshot{}, err
	}
	users := f.rooms[room]
	snap := state.Snapshot{Room: room, Users: users, Count: len(users)}
	if len(users) > 0 {
		snap.Seq, snap.Epoch = uint64(len(users)), "E"
	}
	if len(users) > 2*maxAsked {
		snap.Users = nil
	}
	return snap, nil
}

func (f *fakeReader) RoomPage(ctx context.Context, room string, cursor uint64, limit int) (state.Page, error) {
	return f.page(ctx, f.rooms[room], cursor, limit)
}

func (f *fakeReader) OnlinePage(ctx context.Context, cursor uint64, limit int) (state.Page, error) {
	return f.page(ctx, f.online, cursor, limit)
}

func (f *fakeReader) page(ctx context.Context, users []string, cursor uint64, limit int) (state.Page, error) {
	if err := f.wait(ctx); err != nil {
		return state.Page{}, err
	}
	rest := users[min(cursor, uint64(len(users))):]
	page := state.Page{Users: rest[:min(limit, len(rest))], Count: len(users)}
	if len(rest) > limit {
		page.Next = cursor + uint64(limit)
	}
	return page, nil
}

func (f *fakeReader) Counts(ctx context.Context, rooms []string) (int, []int, error) {
	counts := make([]int, len(rooms))
	for i, room := range rooms {
		counts[i] = len(f.rooms[room])
	}
	return len(f.online), counts, f.wait(ctx)
}

// names returns n user ids.
func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("u%04d", i)
	}
	return list
}

// repeated is n times the same parameter.
func repeated(parameter string, n int) string {
	return strings.TrimSuffix(strings.Repeat(parameter+"&", n), "&")
}

// asJSON is v as the API writes it.
func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestPresenceAPI(t *testing.T) {
	h := presenceHandler(&fakeReader{
		sockets: map[string]string{"ada": "s1", "bob": "s2", "a/b c?": "s3", `"<é>"`: "s4"},
		rooms:   map[string][]string{"r1": {"ada", "bob"}, "a/b": {"ada"}, "full": names(maxAsked), "big": names(maxAsked + 1), "huge": names(2*maxAsked + 1)},
		online:  []string{"ada", "bob", "eve"},
	}, quiet)
	for _, tt := range []struct{ path, want string }{
		{"/presence/users/ada", `{"user":"ada","online":true,"socket":"s1"}`},
		{"/presence/users/eve", `{"user":"eve","online":false}`},
		{"/presence/users/a%2Fb%20c%3F", `{"user":"a/b c?","online":true,"socket":"s3"}`},
		{"/presence/users/%22%3C%C3%A9%3E%22", `{"user":"\"<é>\"","online":true,"socket":"s4"}`},
		{"/presence/users/%2e%2E", `{"user":"..","online":false}`},

		{"/presence/users?id=bob&id=eve&id=ada&id=bob", `{"users":[{"user":"bob","online":true,"socket":"s2"},{"user":"eve","online":false},` +
			`{"user":"ada","online":true,"socket":"s1"},{"user":"bob","online":true,"socket":"s2"}]}`},
		{"/presence/users?id=a%2Fb+c%3F", `{"users":[{"user":"a/b c?","online":true,"socket":"s3"}]}`},
		{"/presence/users?" + repeated("id=eve", maxAsked), `{"users":[` + strings.TrimSuffix(strings.Repeat(`{"user":"eve","online":false},`, maxAsked), ",") + `]}`},

		{"/presence/rooms/r1", `{"room":"r1","count":2,"users":["ada","bob"],"seq":2,"epoch":"E"}`},
		{"/presence/rooms/a%2Fb", `{"room":"a/b","count":1,"users":["ada"],"seq":1,"epoch":"E"}`},
		{"/presence/rooms/nobody", `{"room":"nobody","count":0,"users":[],"seq":0,"epoch":""}`},
		{"/presence/rooms/full", `{"room":"full","count":1000,"users":` + asJSON(names(maxAsked)) + `,"seq":1000,"epoch":"E"}`},
		{"/presence/rooms/big", `{"room":"big","count":1001,"users":` + asJSON(names(maxAsked)) + `,"next":"1000"}`},
		{"/presence/rooms/big?cursor=1000", `{"room":"big","count":1001,"users":["u1000"]}`},
		{"/presence/rooms/huge?cursor=2000", `{"room":"huge","count":2001,"users":["u2000"]}`},
		{"/presence/rooms/r1?cursor=0", `{"room":"r1","count":2,"users":["ada","bob"]}`},
		{"/presence/rooms/r1?cursor=0&limit=1", `{"room":"r1","count":2,"users":["ada"],"next":"1"}`},
		{"/presence/rooms/r1?limit=1", `{"room":"r1","count":2,"users":["ada"],"next":"1"}`},
		{"/presence/rooms/r1?cursor=18446744073709551615", `{"room":"r1","count":2,"users":[]}`},

		{"/presence/online", `{"count":3,"users":["ada","bob","eve"]}`},
		{"/presence/online?limit=2", `{"count":3,"users":["ada","bob"],"next":"2"}`},
		{"/presence/online?limit=1000&cursor=2", `{"count":3,"users":["eve"]}`},

		{"/presence/counts", `{"online":3,"rooms":{}}`},
		{"/presence/counts?room=r1&room=nobody&room=a%2Fb", `{"online":3,"rooms":{"a/b":1,"nobody":0,"r1":2}}`},
		{"/presence/counts?" + repeated("room=r1", maxAsked), `{"online":3,"rooms":{"r1":2}}`},
	} {
		status, contentType, body := get(h, tt.path)
		if status != 200 || contentType != "application/json" || body != tt.want+"\n" {
			t.Errorf("GET %.80s: %d %s %.300s, want %.300s", tt.path, status, contentType, body, tt.want)
		}
	}
}

func TestPresenceAPIRefuses(t *testing.T) {
	h := presenceHandler(&fakeReader{}, quiet)
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"/presence/users/a%7Bb", 400, "user id contains a brace"},
		{"/presence/users/a%00", 400, "user id contains the control character U+0000"},
		{"/presence/users/%FF", 400, "user id is not valid UTF-8"},
		{"/presence/users/" + long, 400, "user id is 256 bytes long, more than 255"},
		{"/presence/rooms/a%7Db", 400, "room id contains a brace"},
		{"/presence/rooms/" + long + "?cursor=0", 400, "room id is 256 bytes long, more than 255"},
		{"/presence/users", 400, "no user id is asked for: /presence/users?id=<user>&id=<user>"},
		{"/presence/users?user=ada", 400, "no user id is asked for: /presence/users?id=<user>&id=<user>"},
		{"/presence/users?id=", 400, "user number 1: user id is empty"},
		{"/presence/users?id=ada&id=b%0A", 400, "user number 2: user id contains the control character U+000A"},
		{"/presence/users?" + repeated("id=u", maxAsked+1), 400, "1001 users are asked for, at most 1000 are answered"},
		{"/presence/users?id=%zz", 400, `the query is malformed: invalid URL escape "%zz"`},
		{"/presence/counts?room=r1&room=%7B", 400, "room number 2: room id contains a brace"},
		{"/presence/counts?" + repeated("room=r", maxAsked+1), 400, "1001 rooms are asked for, at most 1000 are answered"},
		{"/presence/rooms/r1?limit=0", 400, `limit "0" is not a number from 1 to 1000`},
		{"/presence/rooms/r1?limit=1001", 400, `limit "1001" is not a number from 1 to 1000`},
		{"/presence/rooms/r1?cursor=-1", 400, `cursor "-1" is not 0 and not the next of a page`},
		{"/presence/online?limit=", 400, `limit "" is not a number from 1 to 1000`},
		{"/presence/online?cursor=ada", 400, `cursor "ada" is not 0 and not the next of a page`},
		{"/presence/online?cursor=18446744073709551616", 400, `cursor "18446744073709551616" is not 0 and not the next of a page`},
		{"/presence/users/a/b", 404, "there is /presence/users/<user>, /presence/users, /presence/rooms/<room>, /presence/online and /presence/counts"},
	} {
		status, contentType, body := get(h, tt.path)
		want, _ := json.Marshal(apiError{tt.want})
		if status != tt.status || contentType != "application/json" || !sameJSON(body, string(want)) {
			t.Errorf("GET %.80s: %d %s %.200s, want %d %s", tt.path, status, contentType, body, tt.status, want)
		}
	}
}

// sameJSON compares objects of strings, however they are escaped.
func sameJSON(a, b string) bool {
	var va, vb map[string]string
	return json.Unmarshal([]byte(a), &va) == nil && json.Unmarshal([]byte(b), &vb) == nil && fmt.Sprint(va) == fmt.Sprint(vb)
}

// presencePaths are one request of each kind.
var presencePaths = []string{
	"/presence/users/ada", "/presence/users?id=ada", "/presence/rooms/r1", "/presence/rooms/r1?cursor=0", "/presence/online", "/presence/counts",
}

func TestPresenceAPIWithoutRedis(t *testing.T) {
	for name, tt := range map[string]struct {
		reader *fakeReader
		want   string
	}{
		"away":   {&fakeReader{err: state.ErrUnavailable}, `{"error":"redis is not reachable"}`},
		"failed": {&fakeReader{err: errRedis}, `{"error":"presence could not be read from redis"}`},
	} {
		for _, path := range presencePaths {
			if status, ct, body := get(presenceHandler(tt.reader, quiet), path); status != 503 || ct != "application/json" || body != tt.want+"\n" {
				t.Errorf("%s, GET %s: %d %s %s, want 503 %s", name, path, status, ct, body, tt.want)
			}
		}
	}
}

// A request's time is bounded, also when Redis hangs and nobody has found out.
func TestPresenceAPITimeout(t *testing.T) {
	for _, path := range presencePaths {
		reader := &fakeReader{}
		before := time.Now()
		get(presenceHandler(reader, quiet), path)
		if after := time.Now(); reader.deadline.Before(before.Add(readTimeout)) || reader.deadline.After(after.Add(readTimeout)) {
			t.Errorf("GET %s: Redis has until %v, asked at %v", path, reader.deadline, before)
		}
	}
	h := presenceHandler(&fakeReader{hangs: true}, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/presence/online", nil))
	if w.Code != 503 {
		t.Errorf("time is over: %d %s, want 503", w.Code, w.Body)
	}
}

func TestPresenceAPIMethodsAndCaching(t *testing.T) {
	h := presenceHandler(&fakeReader{}, quiet)
	for _, path := range presencePaths {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			if got := w.Header().Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s %s: Cache-Control %q", method, path, got)
			}
			if method == http.MethodGet {
				continue
			}
			want := `{"error":"` + method + ` is not supported, only GET"}` + "\n"
			if w.Code != 405 || w.Header().Get("Allow") != "GET" || w.Body.String() != want {
				t.Errorf("%s %s: %d, Allow %q, %s", method, path, w.Code, w.Header().Get("Allow"), w.Body)
			}
		}
	}
}

// The API on a whole node, asked while clients are there and after they left.
func TestPresenceAPIOnANode(t *testing.T) {
	n := startNode(t)
	admin := n.adminListener.Addr().String()
	ask := func(path string) string {
		t.Helper()
		status, body := n.fetch(admin, path)
		if status != 200 {
			t.Fatalf("GET %s: %d %s", path, status, body)
		}
		return strings.TrimSuffix(body, "\n")
	}
	const room = "a/b c"
	path := "/presence/rooms/" + url.PathEscape(room)
	var clients []*testClient
	for i, user := range []string{"bob", "ada/1"} {
		c, hello := n.connect(fmt.Sprintf(`{"userId":%q}`, user))
		c.Text(fmt.Sprintf(`42%d["join",%q]`, i, room))
		c.expect(fmt.Sprint("43", i))
		clients = append(clients, c)
		var open struct{ Sid string }
		if err := json.Unmarshal([]byte(hello[2:]), &open); err != nil || open.Sid == "" {
			t.Fatalf("CONNECT answered with %s", hello)
		}
		want := fmt.Sprintf(`{"user":%q,"online":true,"socket":%q}`, user, open.Sid)
		if got := ask("/presence/users/" + url.PathEscape(user)); got != want {
			t.Errorf("user: %s, want %s", got, want)
		}
	}
	var whole apiRoom
	if err := json.Unmarshal([]byte(ask(path)), &whole); err != nil || whole.Room != room || whole.Count != 2 || !slices.Equal(whole.Users, []string{"ada/1", "bob"}) || whole.Seq != 2 || whole.Epoch == "" {
		t.Errorf("room: %+v, %v", whole, err)
	}
	for _, p := range []string{path + "?limit=1", "/presence/online?limit=1"} {
		if users := n.pages(ask, p); !slices.Equal(users, []string{"ada/1", "bob"}) {
			t.Errorf("pages of %s: %q", p, users)
		}
	}
	if got, want := ask("/presence/counts?room=nobody&room="+url.QueryEscape(room)), `{"online":2,"rooms":{"a/b c":2,"nobody":0}}`; got != want {
		t.Errorf("counts: %s, want %s", got, want)
	}
	if got, want := ask("/presence/users?id=nobody&id=bob"), `{"users":[{"user":"nobody","online":false},{"user":"bob","online":true,"socket":"`; !strings.HasPrefix(got, want) {
		t.Errorf("users: %s, want %s…", got, want)
	}
	_ = clients[0].Conn.Close()
	n.eventually("bob offline", func() bool { return ask("/presence/users/bob") == `{"user":"bob","online":false}` })
	n.eventually("bob out of the room", func() bool {
		return strings.HasPrefix(ask(path), `{"room":"a/b c","count":1,"users":["ada/1"],"seq":3,`)
	})

	// More than a request line may have: the answer says so before any of ours could.
	if status := n.status(admin, "/presence/users?"+repeated("id="+strings.Repeat("x", 60), 500)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a request line of 32 KB: %d", status)
	}
}

// pages asks page after page and returns all users, sorted, each once.
func (n *testNode) pages(ask func(string) string, path string) []string {
	n.t.Helper()
	users := map[string]bool{}
	cursor := ""
	for range 10 {
		var page apiPage
		if err := json.Unmarshal([]byte(ask(path+cursor)), &page); err != nil {
			n.t.Fatal(err)
		}
		for _, u := range page.Users {
			users[u] = true
		}
		if page.Next == "" {
			var all []string
			for u := range users {
				all = append(all, u)
			}
			slices.Sort(all)
			return all
		}
		if _, err := strconv.ParseUint(page.Next, 10, 64); err != nil {
			n.t.Fatalf("cursor %q", page.Next)
		}
		cursor = "&cursor=" + page.Next
	}
	n.t.Fatalf("%s has no last page", path)
	return nil
}
