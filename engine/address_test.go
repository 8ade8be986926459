package engine

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// TestClientAddress: who a request is from.
func TestClientAddress(t *testing.T) {
	trusted := prefixes("10.0.0.0/8", "fd00::/8", "203.0.113.0/24")
	for _, tc := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"nobody in between", "192.0.2.1", nil, "192.0.2.1"},
		{"a client that says it is another", "192.0.2.1", []string{"198.51.100.1"}, "192.0.2.1"},
		{"a client that says it is a proxy", "192.0.2.1", []string{"198.51.100.1, 10.0.0.1"}, "192.0.2.1"},
		{"a proxy that says nothing", "10.0.0.1", nil, "10.0.0.1"},
		{"a proxy that says nothing, in many words", "10.0.0.1", []string{"", " , ,"}, "10.0.0.1"},
		{"one proxy", "10.0.0.1", []string{"192.0.2.1"}, "192.0.2.1"},
		{"one proxy, and what the client wrote", "10.0.0.1", []string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1"},
		{"on lines of its own", "10.0.0.1", []string{"198.51.100.1", "192.0.2.1"}, "192.0.2.1"},
		{"two proxies", "10.0.0.1", []string{"198.51.100.1,192.0.2.1,10.0.0.2"}, "192.0.2.1"},
		{"two proxies, on two lines", "10.0.0.1", []string{"198.51.100.1,192.0.2.1", "203.0.113.9"}, "192.0.2.1"},
		{"empty elements", "10.0.0.1", []string{"192.0.2.1, ,", ","}, "192.0.2.1"},
		{"proxies only", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no address", "10.0.0.1", []string{"192.0.2.1, unknown"}, "10.0.0.1"},
		{"no address, behind a proxy", "10.0.0.1", []string{"192.0.2.1, _secret, 10.0.0.2"}, "10.0.0.2"},
		{"no address, written by the client", "10.0.0.1", []string{"' OR 1=1, 192.0.2.1"}, "192.0.2.1"},
		{"a name", "10.0.0.1", []string{"localhost"}, "10.0.0.1"},
		{"with a port", "10.0.0.1", []string{"192.0.2.1:5000"}, "192.0.2.1"},
		{"IPv6", "fd00::1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", "fd00::1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv6 with a port", "fd00::1", []string{"[2001:db8::1]:5000"}, "2001:db8::1"},
		{"IPv4 in IPv6", "::ffff:10.0.0.1", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"IPv4 in IPv6 is a proxy, too", "10.0.0.1", []string{"192.0.2.1, ::ffff:10.0.0.2"}, "192.0.2.1"},
		{"a zone", "fd00::1%eth0", []string{"fe80::1%eth1"}, "fe80::1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := clientAddress(netip.MustParseAddr(tc.remote), tc.forwarded, trusted); got != netip.MustParseAddr(tc.want) {
				t.Errorf("%v, want %s", got, tc.want)
			}
		})
	}
	if got := clientAddress(netip.MustParseAddr("10.0.0.1"), []string{"192.0.2.1"}, nil); got.String() != "10.0.0.1" {
		t.Errorf("without trusted proxies %v", got)
	}
}

// FuzzClientAddress: whatever a client writes before what a proxy appends, the proxy's word counts.
func FuzzClientAddress(f *testing.F) {
	for _, seed := range []string{"", "198.51.100.1", "10.0.0.1, 10.0.0.2", ",,,", "[::1]:80", "unknown", "10.0.0.9,"} {
		f.Add(seed, seed)
	}
	trusted := prefixes("10.0.0.0/8")
	client, proxy := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, line, sameLine string) {
		if got := clientAddress(proxy, []string{line, sameLine + ", 192.0.2.1"}, trusted); got != client {
			t.Fatalf("%q made the client %v", sameLine, got)
		}
		if got := clientAddress(proxy, []string{line, sameLine + ", 192.0.2.1, 10.0.0.2"}, trusted); got != client {
			t.Fatalf("%q made the client of two proxies %v", sameLine, got)
		}
		if got := clientAddress(client, []string{line, sameLine}, trusted); got != client {
			t.Fatalf("the client made itself %v", got)
		}
		if got := clientAddress(proxy, []string{line}, trusted); !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%q is %v", line, got)
		}
	})
}

// TestLocate: RemoteAddr is what everything goes by.
func TestLocate(t *testing.T) {
	s := &Server{cfg: Config{TrustedProxies: prefixes("10.0.0.0/8")}}
	for _, tc := range []struct{ remote, forwarded, want, address string }{
		{"10.0.0.1:5000", "192.0.2.1", "192.0.2.1:0", "192.0.2.1"},
		{"10.0.0.1:5000", "2001:db8::1", "[2001:db8::1]:0", "2001:db8::1"},
		{"10.0.0.1:5000", "", "10.0.0.1:5000", "10.0.0.1"},
		{"10.0.0.1:5000", "unknown", "10.0.0.1:5000", "10.0.0.1"},
		{"192.0.2.9:5000", "192.0.2.1", "192.0.2.9:5000", "192.0.2.9"},
		{"@", "192.0.2.1", "@", "@"},
	} {
		r := &http.Request{RemoteAddr: tc.remote, Header: http.Header{}, URL: &url.URL{}}
		if tc.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tc.forwarded)
		}
		s.locate(r)
		if r.RemoteAddr != tc.want {
			t.Errorf("%s, forwarded for %q: %s, want %s", tc.remote, tc.forwarded, r.RemoteAddr, tc.want)
		}
		if h := newHandshake(r, false); h.address() != tc.address {
			t.Errorf("the handshake has %q of %s", h.address(), tc.want)
		}
	}
}

// TestSourceCounts: what is counted, and that it is forgotten.
func TestSourceCounts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cfg    Config
		addr   string
		takes  int // of 3
		others string
	}{
		{"IPv4", Config{MaxConnsPerSource: 2}, "192.0.2.1", 2, "192.0.2.2"},
		{"one /64", Config{MaxConnsPerSource: 2}, "2001:db8::1", 2, "2001:db8:0:1::1"},
		{"loopback", Config{MaxConnsPerSource: 2}, "127.0.0.1", 2, "127.0.0.2"},
		{"public", Config{MaxConnsPerSource: 2, PublicSourcesOnly: true}, "192.0.2.1", 2, "192.0.2.2"},
		{"public IPv6", Config{MaxConnsPerSource: 2, PublicSourcesOnly: true}, "2001:db8::1", 2, "2001:db8:0:1::1"},
		{"loopback is not public", Config{MaxConnsPerSource: 2, PublicSourcesOnly: true}, "::1", 3, ""},
		{"private is not public", Config{MaxConnsPerSource: 2, PublicSourcesOnly: true}, "::ffff:10.0.0.1", 3, ""},
		{"a carrier's is not public", Config{MaxConnsPerSource: 2, PublicSourcesOnly: true}, "100.127.0.1", 3, ""},
		{"nor of a link", Config{MaxConnsPerSource: 2, PublicSourcesOnly: true}, "fe80::1%eth0", 3, ""},
		{"a proxy", Config{MaxConnsPerSource: 2, TrustedProxies: prefixes("192.0.2.0/24")}, "192.0.2.1", 3, ""},
		{"no limit", Config{}, "192.0.2.1", 3, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			counts := newSourceCounts(&tc.cfg)
			addr := netip.MustParseAddr(tc.addr)
			taken := 0
			for range 3 {
				if counts.take(addr) {
					taken++
				}
			}
			if taken != tc.takes {
				t.Fatalf("%d of 3 were let in, want %d", taken, tc.takes)
			}
			if tc.others == "" {
				return
			}
			other := netip.MustParseAddr(tc.others)
			if !counts.take(other) {
				t.Error("another source pays for it")
			}
			counts.move(other, addr) // which is over its limit now, and nobody is sent away
			counts.release(addr)
			if counts.take(addr) {
				t.Error("one that moved here was not counted")
			}
			for range 2 {
				counts.release(addr)
			}
			for i := range counts.stripes {
				if n := len(counts.stripes[i].conns); n != 0 {
					t.Errorf("%d sources without conns are remembered", n)
				}
			}
		})
	}
	if counts := newSourceCounts(&Config{MaxConnsPerSource: 1}); !counts.take(netip.Addr{}) || !counts.take(netip.Addr{}) {
		t.Error("what has no address is limited")
	}
}
