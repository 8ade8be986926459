package main

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
)

// TestLimitsReachTheEngine: what the environment says, and what it means where it says nothing.
func TestLimitsReachTheEngine(t *testing.T) {
	for _, tc := range []struct {
		name    string
		environ map[string]string
		want    engine.Config
	}{
		{"defaults", nil, engine.Config{
			MaxConnsPerSource: 1000, PublicSourcesOnly: true, PacketRate: 500, PacketBurst: 2000, ByteRate: 4e6, ByteBurst: 16_000_000,
			MaxAttachments: 10, AttachmentTimeout: 30 * time.Second,
		}},
		{"set", map[string]string{
			"MAX_CONNS_PER_IP": "3", "PACKET_RATE": "0.5", "BYTE_RATE": "2000000", "BYTE_BURST": "3000000", "MAX_ATTACHMENTS": "2",
			"ATTACHMENT_TIMEOUT": "1s",
		}, engine.Config{
			MaxConnsPerSource: 3, PacketRate: 0.5, PacketBurst: 2, ByteRate: 2e6, ByteBurst: 3_000_000, MaxAttachments: 2,
			AttachmentTimeout: time.Second,
		}},
		{"off", map[string]string{"MAX_CONNS_PER_IP": "0", "PACKET_RATE": "0", "BYTE_RATE": "0", "MAX_ATTACHMENTS": "0"}, engine.Config{
			PacketBurst: 1, ByteBurst: 2_000_000, MaxAttachments: -1, AttachmentTimeout: 30 * time.Second,
		}},
		{"large messages", map[string]string{"MAX_PAYLOAD": "20000000", "MAX_CONNS_PER_IP": ""}, engine.Config{
			MaxConnsPerSource: 1000, PublicSourcesOnly: true, PacketRate: 500, PacketBurst: 2000, ByteRate: 4e6, ByteBurst: 40_000_000,
			MaxAttachments: 10, AttachmentTimeout: 30 * time.Second,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := LoadConfig(tc.environ)
			if err != nil {
				t.Fatal(err)
			}
			var got engine.Config
			cfg.limit(&got)
			if got.MaxConnsPerSource != tc.want.MaxConnsPerSource || got.PublicSourcesOnly != tc.want.PublicSourcesOnly ||
				got.PacketRate != tc.want.PacketRate || got.PacketBurst != tc.want.PacketBurst || got.ByteRate != tc.want.ByteRate ||
				got.ByteBurst != tc.want.ByteBurst || got.MaxAttachments != tc.want.MaxAttachments || got.AttachmentTimeout != tc.want.AttachmentTimeout {
				t.Errorf("got %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

// TestConnectRateOfAnAddress: a default spares what may be a proxy, a number holds for all.
func TestConnectRateOfAnAddress(t *testing.T) {
	for _, tc := range []struct {
		rate, burst string
		perSecond   float64
		atOnce      int
		publicOnly  bool
	}{
		{"", "", 100, 1000, true},
		{"", "50", 100, 50, true},
		{"5", "", 5, 0, false}, // the engine's default: a second's worth
		{"5", "50", 5, 50, false},
		{"0", "", 0, 0, false},
	} {
		cfg, err := LoadConfig(map[string]string{"CONNECT_RATE_PER_IP": tc.rate, "CONNECT_BURST_PER_IP": tc.burst})
		if err != nil {
			t.Fatal(err)
		}
		var got engine.Config
		cfg.limit(&got)
		if got.ConnectRatePerSource != tc.perSecond || got.ConnectBurstPerSource != tc.atOnce || got.ConnectRatePublicOnly != tc.publicOnly {
			t.Errorf("%q, %q: %v, %d, %v", tc.rate, tc.burst, got.ConnectRatePerSource, got.ConnectBurstPerSource, got.ConnectRatePublicOnly)
		}
	}
}

// TestUnusedLimits: a burst without its rate is told of.
func TestUnusedLimits(t *testing.T) {
	cfg, err := LoadConfig(map[string]string{"PACKET_RATE": "0", "PACKET_BURST": "5", "BYTE_BURST": "2000000", "CONNECT_RATE_PER_IP": "0", "CONNECT_BURST_PER_IP": "2"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.unused(), []string{"CONNECT_BURST_PER_IP", "PACKET_BURST"}; !slices.Equal(got, want) {
		t.Errorf("unused: %q, want %q", got, want)
	}
}

// TestTrustedProxies: what is among them.
func TestTrustedProxies(t *testing.T) {
	cfg, err := LoadConfig(map[string]string{"TRUSTED_PROXIES": "loopback, 203.0.113.7,198.51.100.0/24 ,2001:db8:1::/48,::ffff:192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "203.0.113.7": true, "203.0.113.8": false, "198.51.100.200": true,
		"::ffff:198.51.100.1": true, "2001:db8:1:ffff::1": true, "2001:db8:2::1": false, "192.0.2.1": true, "10.0.0.1": false, "fe80::1%eth0": false,
	} {
		if got := cfg.TrustedProxies.contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is trusted: %v, want %v", addr, got, want)
		}
	}
	var words trustedProxies
	if err := words.UnmarshalText([]byte("private,linklocal")); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "172.31.0.1": true, "172.32.0.1": false, "192.168.1.1": true, "fd00::1": true, "169.254.169.254": true,
		"fe80::1%eth0": true, "8.8.8.8": false, "127.0.0.1": false,
	} {
		if got := words.contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is private or of the link: %v, want %v", addr, got, want)
		}
	}
	if cfg.proxied(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}) {
		t.Error("connections count as a proxy's with PROXY_PROTOCOL=off")
	}
}

// TestConnsPerUser: one user's last place is given once, whoever comes in the same moment.
func TestConnsPerUser(t *testing.T) {
	a := newTestApp()
	a.limits.perUser, a.limits.crowded = 2, prometheus.NewCounter(prometheus.CounterOpts{Name: "crowded"})
	connect := func(user, id string) *fakeSocket {
		s := &fakeSocket{id: id, data: &identity{User: user}}
		a.connected(s)
		return s
	}
	if a.crowded("u1") {
		t.Fatal("a user without sockets is refused")
	}
	first, second := connect("u1", "s1"), connect("u1", "s2")
	if !a.crowded("u1") || a.crowded("u2") {
		t.Error("a full user is not refused, or another one is")
	}
	if third := connect("u1", "s3"); !third.ended || first.ended || second.ended { // was asked for before the second was there
		t.Errorf("ended: %v, %v, %v; want the third only", first.ended, second.ended, third.ended)
	} else {
		a.disconnected(third, engine.ReasonServerNamespaceDisconnect)
	}
	a.disconnected(first, engine.ReasonTransportClose)
	if a.crowded("u1") {
		t.Error("a place that became free is not given")
	}
	if n := testutil.ToFloat64(a.limits.crowded); n != 2 {
		t.Errorf("%v refusals were counted, want 2", n)
	}
	a.limits.perUser = 0
	for _, id := range []string{"s4", "s5", "s6"} {
		if s := connect("u1", id); a.crowded("u1") || s.ended {
			t.Error("limited without a limit")
		}
	}
}

// TestConnsPerUserThatComeBack: who lost its connections, took its places again, and comes back to what it had, or moves it
// here from another node, has no more places than others.
func TestConnsPerUserThatComeBack(t *testing.T) {
	a := newTestApp()
	a.recovery = true
	a.limits.perUser, a.limits.crowded = 1, prometheus.NewCounter(prometheus.CounterOpts{Name: "crowded"})
	const id = "nodeAAAAsocket000001"
	back := func() *fakeSocket {
		s, settled := &fakeSocket{id: id, data: &identity{User: "u1"}}, false
		a.recovered(s, 1, func() { settled = true })
		if !settled {
			t.Fatal("the node that had the socket waits for ever")
		}
		return s
	}
	first := &fakeSocket{id: id, data: &identity{User: "u1"}}
	a.connected(first)
	a.disconnected(first, engine.ReasonTransportClose)
	if s := back(); s.ended {
		t.Error("a socket that comes back to its own place is ended")
	} else {
		a.disconnected(s, engine.ReasonTransportClose)
	}
	other := &fakeSocket{id: "nodeAAAAsocket000002", data: &identity{User: "u1"}}
	a.connected(other)
	if s := back(); !s.ended || other.ended {
		t.Errorf("ended: %v, the other one %v; want that which came back", s.ended, other.ended)
	}
	if n := testutil.ToFloat64(a.limits.crowded); n != 1 {
		t.Errorf("%v refusals were counted, want 1", n)
	}
}

// TestConnsPerUserAtOnce: of two that come in the same moment one gets the last place, not neither.
func TestConnsPerUserAtOnce(t *testing.T) {
	for range 500 {
		a := newTestApp()
		a.limits.perUser, a.limits.crowded = 1, prometheus.NewCounter(prometheus.CounterOpts{Name: "crowded"})
		pair := []*fakeSocket{{id: "nodeAAAAsocket000001", data: &identity{User: "u1"}}, {id: "nodeAAAAsocket000002", data: &identity{User: "u1"}}}
		start := make(chan struct{})
		var both sync.WaitGroup
		for _, s := range pair {
			both.Go(func() {
				<-start
				a.connected(s)
			})
		}
		close(start)
		both.Wait()
		if pair[0].ended == pair[1].ended {
			t.Fatalf("ended: %v, %v; want one of them", pair[0].ended, pair[1].ended)
		}
	}
}
