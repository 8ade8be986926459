package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGuardBrowsers(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		name, method, host string // a profile is asked for where the name says so, else /drain
		header             map[string]string
		token              secret
		code               int
	}{
		{"a program", "POST", "127.0.0.1:9464", nil, "", 200},
		{"a program that says no name", "POST", "", nil, "", 200},
		{"the listener's own page", "POST", "127.0.0.1:9464", map[string]string{"Origin": "http://127.0.0.1:9464", "Sec-Fetch-Site": "same-origin"}, "", 200},
		{"an old browser with the own page", "POST", "localhost:9464", map[string]string{"Origin": "http://localhost:9464"}, "", 200},
		{"IPv6", "GET", "[::1]:9464", nil, "", 200},
		{"another site that posts", "POST", "127.0.0.1:9464", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, "", 403},
		{"another site in an old browser", "POST", "127.0.0.1:9464", map[string]string{"Origin": "https://evil.example"}, "", 403},
		{"another site, with a token", "POST", "edge.internal:9464", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, "t", 403},
		{"a name that was made to point here", "GET", "evil.example:9464", nil, "", 403},
		{"a name that only begins well", "GET", "127.0.0.1.evil.example", nil, "", 403},
		{"a name, with a token", "GET", "edge.internal:9464", nil, "t", 200},
		{"another site that reads: the browser keeps the answer from it", "GET", "127.0.0.1:9464", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, "", 200},
		{"a profile for a program", "GET", "127.0.0.1:9464", nil, "", 200},
		{"a profile in an operator's browser", "GET", "127.0.0.1:9464", map[string]string{"Sec-Fetch-Site": "none"}, "", 200},
		{"a profile as an image of another site", "GET", "127.0.0.1:9464", map[string]string{"Sec-Fetch-Site": "cross-site"}, "", 403},
	} {
		path := "/drain"
		if strings.Contains(c.name, "profile") {
			path = "/debug/pprof/profile"
		}
		r := httptest.NewRequest(c.method, path, nil)
		r.Host = c.host
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		guardBrowsers(c.token, ok).ServeHTTP(w, r)
		if w.Code != c.code {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
}
