package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzConfig gives each variable a value: what is refused is refused by its name, no
// secret is repeated, and what is accepted is so again.
func FuzzConfig(f *testing.F) {
	var names []string
	secrets := map[string]bool{"REDIS_URL": true} // which may hold a password
	for field := range reflect.TypeFor[Config]().Fields() {
		name := field.Tag.Get("env")
		names = append(names, name)
		secrets[name] = secrets[name] || field.Type == reflect.TypeFor[secret]()
	}
	for i := range names {
		f.Add(uint8(i), "-1")
	}
	for i, v := range []string{"", "1e400", "10s", "on,a=off,=x", "redis://u:p@h:6379/0", "https://a.example,same", "127.0.0.1,private"} {
		f.Add(uint8(i), v)
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		name := names[int(which)%len(names)]
		environ := production(name, value)
		cfg, err := LoadConfig(environ)
		if err == nil {
			again, err := LoadConfig(environ)
			if err != nil || !reflect.DeepEqual(cfg, again) {
				t.Fatalf("%s=%q: %+v, then %+v, %v", name, value, cfg, again, err)
			}
			return
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			variable, _, ok := strings.Cut(line, ": ")
			if !ok || !isVariable(names, variable) && !strings.Contains(value, "\n") { // a value that is quoted has no lines
				t.Errorf("%s=%q is refused with %q", name, value, line)
			}
		}
		if slices.Contains(secretNames(), name) && len(value) > 12 && strings.Contains(err.Error(), value) {
			t.Errorf("%s=%q is repeated: %v", name, value, err)
		}
	})
}

func isVariable(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// FuzzPresenceAPI asks for anything: the answer is JSON, and it is Redis that is to
// blame only where it failed.
func FuzzPresenceAPI(f *testing.F) {
	for _, target := range []string{
		"/presence/users/ann", "/presence/users?id=ann&id=bob", "/presence/rooms/r?limit=1&cursor=0", "/presence/online?cursor=18446744073709551616", "/presence/counts?room=r",
		"/presence/users/%2e%2e", "/presence/rooms/__proto__", "/presence/users/a%00", "/presence/users?id=%ff", "/presence//users/x", "/presence/rooms/r?limit=-1;cursor=2", "/presence/online?%zz", "*", "/",
	} {
		f.Add("GET", target)
		f.Add("POST", target)
	}
	h := presenceHandler(&fakeReader{sockets: map[string]string{"ann": testSocket}, rooms: map[string][]string{"r": {"ann", "bob"}}, online: []string{"ann", "bob"}}, quiet)
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method == http.MethodConnect || u.Path == "*" { // net/http answers by itself
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: method, URL: u, RequestURI: target, Host: "h", Header: http.Header{}})
		switch w.Code {
		case http.StatusTemporaryRedirect, http.StatusMovedPermanently: // a path that is not clean
			return
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
		default:
			t.Errorf("%s %q is answered %d %q", method, target, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %q is answered with %q, %q", method, target, w.Header().Get("Content-Type"), w.Body)
		}
	})
}

// FuzzEvents sends events with any arguments: each is acknowledged in order or waits
// for Redis, and what is published is JSON for the room that was named, which the
// sender is in.
func FuzzEvents(f *testing.F) {
	for _, args := range []string{`["r","x"]`, `[{"room":"r","id":"1"},{"__proto__":1}]`, `[["r"]]`, `["__proto__"]`, `[null,null]`, `[{"room":"user:x","constructor":{}}]`, `[]`, `["r",{"_placeholder":true,"num":0}]`, `[["ann","ann"]]`} {
		for i := range 4 {
			f.Add(uint8(i), args)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		var raw []json.RawMessage
		if json.Unmarshal([]byte(text), &raw) != nil || raw == nil {
			return
		}
		e := &fakeEvent{acks: make(chan string, 4), released: make(chan struct{})}
		for _, r := range raw {
			e.args = append(e.args, string(r))
		}
		a := newTestApp()
		s := a.socket("u1", "r", "constructor")
		s.now = true
		for i, handle := range []func(socket, event){a.join, a.leave, a.message, a.askPresence} {
			if i == int(which%4) {
				handle(s, e)
			}
		}
		for _, room := range s.rooms {
			if isReserved(room) || strings.ContainsAny(room, "{}\x00") {
				t.Errorf("%q made the socket a member of %q", text, room)
			}
		}
		for _, p := range a.published {
			checkPublished(t, text, p)
		}
		switch int(which % 4) {
		case 2:
			if n := len(e.acks) + len(a.published); n != 1 {
				t.Errorf("%q is acknowledged or published %d times", text, n)
			}
		case 3:
			e.ack(t)
		}
	})
}

func checkPublished(t *testing.T, text string, p published) {
	t.Helper()
	var event []json.RawMessage
	var room string
	if json.Unmarshal(p.p.JSON, &event) != nil || len(event) < 4 || json.Unmarshal(event[1], &room) != nil || room != p.room {
		t.Errorf("%q is published to %q as %q", text, p.room, p.p.JSON)
	}
	if p.room != "r" && p.room != "constructor" {
		t.Errorf("%q is published to %q", text, p.room)
	}
}
