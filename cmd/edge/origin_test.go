package main

import (
	"net/http"
	"strings"
	"testing"
)

func TestOriginsAllow(t *testing.T) {
	for _, tt := range []struct{ origins, origin, host, want string }{
		{"https://a.example", "https://a.example", "", "yes"},
		{"https://a.example", "https://A.Example", "", "yes"},
		{"https://a.example:443", "https://a.example", "", "yes"},
		{"https://a.example", "https://a.example:443", "", "yes"},
		{"https://a.example", "http://a.example", "", "no"},
		{"https://a.example", "https://a.example:8443", "", "no"},
		{"https://a.example", "https://b.example", "", "no"},
		{"https://a.example", "https://a.example.evil.test", "", "no"},
		{"https://a.example", "https://evil.test/https://a.example", "", "no"},
		{"https://a.example", "https://a.example@evil.test", "", "no"},
		{"https://a.example", "null", "", "no"},
		{"https://a.example", "", "", "no"},
		{"https://a.example", "https://a.example, https://b.example", "", "no"},
		{"https://a.example, https://b.example:8443", "https://b.example:8443", "", "yes"},
		{"http://localhost:5173", "http://localhost:5173", "", "yes"},
		{"https://*.example.com", "https://a.example.com", "", "yes"},
		{"https://*.example.com", "https://a.b.example.com", "", "yes"},
		{"https://*.example.com", "https://example.com", "", "no"},
		{"https://*.example.com", "https://evilexample.com", "", "no"},
		{"https://*.example.com", "https://a.example.com.evil.test", "", "no"},
		{"https://*.example.com", "http://a.example.com", "", "no"},
		{"https://*.example.com:8443", "https://a.example.com:8443", "", "yes"},
		{"https://*.example.com:8443", "https://a.example.com", "", "no"},
		{"https://[::1]:3000", "https://[::1]:3000", "", "yes"},
		{"capacitor://localhost", "capacitor://localhost", "", "yes"},
		{"same", "https://edge.example", "edge.example", "yes"},
		{"same", "https://edge.example", "edge.example:443", "yes"},
		{"same", "http://edge.example:3000", "edge.example:3000", "yes"},
		{"same", "http://edge.example", "edge.example:3000", "no"},
		{"same", "https://evil.test", "edge.example", "no"},
		{"same", "null", "edge.example", "no"},
		{"same,https://a.example", "https://a.example", "edge.example", "yes"},
		{"*", "https://whoever.test", "", "yes"},
		{"*", "null", "", "yes"},
	} {
		var o origins
		if err := o.UnmarshalText([]byte(tt.origins)); err != nil {
			t.Errorf("%s: %v", tt.origins, err)
			continue
		}
		r := &http.Request{Host: tt.host, Header: http.Header{"Origin": {tt.origin}}}
		if got := o.check()(r); got != (tt.want == "yes") {
			t.Errorf("ORIGINS=%s lets %q to host %q connect: %v", tt.origins, tt.origin, tt.host, got)
		}
		if cors := o.cors(); cors != nil && cors.Allowed != nil && !o.same && cors.Allowed(tt.origin) != (tt.want == "yes") {
			t.Errorf("ORIGINS=%s: CORS for %q is not what is allowed", tt.origins, tt.origin)
		}
	}
	two := &http.Request{Header: http.Header{"Origin": {"https://a.example", "https://b.example"}}}
	o := origins{rules: []originRule{{scheme: "https", host: "a.example"}}}
	if o.allow(two) {
		t.Error("a request with two Origin headers is allowed")
	}
	if none := (&origins{}); none.check() != nil || none.cors() != nil {
		t.Error("without ORIGINS something is checked")
	}
}

func TestOriginsRefuses(t *testing.T) {
	for _, bad := range []string{
		"a.example", "https://", "https://a.example/", "https://a.example/x", "https://u@a.example", "https://a.example?x", "null", "https://*",
		"https://*.com", "https://a.*.example", "https://*a.example", "https://a.example:99999", "*,https://a.example", "*,same", ",", "https://a.example,", "https://*.*.example.com",
	} {
		if _, err := LoadConfig(map[string]string{"ORIGINS": bad}); err == nil || !strings.HasPrefix(err.Error(), "ORIGINS: ") {
			t.Errorf("ORIGINS=%q: %v", bad, err)
		}
	}
}
