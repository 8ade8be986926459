package engine

import (
	"net/http/httptest"
	"slices"
	"testing"
)

// What a conn keeps of its request says the same as the request did, in the few
// bytes of the usual one and in any other.
func TestHandshakeKeeps(t *testing.T) {
	for name, c := range map[string]struct {
		remote, target, address string
		usual                   bool
	}{
		"usual":        {"192.0.2.7:4000", "/socket.io/?EIO=4&transport=websocket", "192.0.2.7", true},
		"IPv6":         {"[2001:db8::1]:4000", "/socket.io/?EIO=4&transport=websocket", "2001:db8::1", true},
		"IPv6 zone":    {"[fe80::1%eth0]:4000", "/socket.io/?EIO=4&transport=websocket", "fe80::1%eth0", true},
		"mapped":       {"[::ffff:192.0.2.7]:4000", "/socket.io/?EIO=4&transport=websocket", "::ffff:192.0.2.7", true},
		"not an IP":    {"@", "/socket.io/?EIO=4&transport=websocket", "@", false},
		"nothing":      {"", "/socket.io/?EIO=4&transport=websocket", "", true},
		"other query":  {"192.0.2.7:4000", "/socket.io/?EIO=4&transport=websocket&room=a", "192.0.2.7", false},
		"other path":   {"192.0.2.7:4000", "/socket.io/x?EIO=4&transport=websocket", "192.0.2.7", false},
		"with polling": {"192.0.2.7:4000", "/socket.io/?EIO=4&transport=polling", "192.0.2.7", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", c.target, nil)
			r.RemoteAddr = c.remote
			r.Header.Set("Origin", "http://example.com")
			h := newHandshake(r, false)
			if (h.special == nil) != c.usual {
				t.Errorf("special is %+v", h.special)
			}
			got := h.expand(nil)
			if got.Address != c.address || h.address() != c.address || got.URL != c.target || !got.XDomain || got.Secure || got.Header != nil {
				t.Errorf("it became %+v", got)
			}
			d := h.details()
			again := makeHandshake(d.header, h.address(), d.path, d.query) // on another node
			if again.address() != c.address || again.details().query != d.query || again.details().path != d.path {
				t.Errorf("on another node it became %+v", again)
			}
		})
	}
}

// The subprotocols that were offered are kept, of a conn that is not like the others
// in nothing else, too.
func TestHandshakeKeepsProtocols(t *testing.T) {
	for _, c := range []struct{ offered, want []string }{
		{nil, nil},
		{[]string{"chat"}, []string{"chat"}},
		{[]string{"chat,\ttoken.x.y.z ", "b"}, []string{"chat", "token.x.y.z", "b"}},
		{[]string{","}, nil},
	} {
		for _, target := range []string{usualPath + "?" + usualQuery, usualPath + "?" + usualQuery + "&a=b"} {
			r := httptest.NewRequest("GET", target, nil)
			r.Header["Sec-Websocket-Protocol"] = c.offered
			got := newHandshake(r, false).expand(nil)
			if !slices.Equal(got.Protocols, c.want) || got.URL != target {
				t.Errorf("offered %q for %s: kept %q, %s", c.offered, target, got.Protocols, got.URL)
			}
		}
	}
}
