package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

func TestAdvertised(t *testing.T) {
	for name, tt := range map[string]struct {
		advertise, listener, redis string // comma between servers
		want                       string // "" is an error
	}{
		"one address":                        {"", "127.0.0.1:9465", "redis.invalid:6379", "127.0.0.1:9465"},
		"one IPv6 address":                   {"", "[::1]:9465", "redis.invalid:6379", "[::1]:9465"},
		"an IPv4 address in an IPv6 one":     {"", "[::ffff:10.0.0.7]:9465", "redis.invalid:6379", "10.0.0.7:9465"},
		"all addresses":                      {"", "[::]:9465", "127.0.0.1:6379", "127.0.0.1:9465"},
		"all IPv4 addresses":                 {"", "0.0.0.0:9465", "127.0.0.1:6379", "127.0.0.1:9465"},
		"all, with the in-process Redis":     {"", "[::]:9465", "", "127.0.0.1:9465"},
		"all, and Redis's name is not known": {"", "[::]:9465", "redis.invalid:6379", ""},
		"all, and a sentinel has an address": {"", "[::]:9465", "sentinel.invalid:26379,127.0.0.1:26379", "127.0.0.1:9465"},
		"IPv4 alone, and Redis is not":       {"", "0.0.0.0:9465", "[::1]:6379", ""},
		"a host":                             {"edge-1", "[::]:9465", "redis.invalid:6379", "edge-1:9465"},
		"a host and a port":                  {"edge-1:4000", "127.0.0.1:9465", "redis.invalid:6379", "edge-1:4000"},
		"an IPv6 host":                       {"2001:db8::7", "[::]:9465", "redis.invalid:6379", "[2001:db8::7]:9465"},
		"an IPv6 host in brackets":           {"[2001:db8::7]", "[::]:9465", "redis.invalid:6379", "[2001:db8::7]:9465"},
		"an IPv6 host and a port":            {"[2001:db8::7]:4000", "[::]:9465", "redis.invalid:6379", "[2001:db8::7]:4000"},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tt.listener)
		if err != nil {
			t.Fatal(err)
		}
		var servers []string
		if tt.redis != "" {
			servers = strings.Split(tt.redis, ",")
		}
		got, err := advertised(t.Context(), tt.advertise, addr, servers)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tt.want)
		}
	}
}

// fakeDirectory is a directory without Redis.
type fakeDirectory struct {
	mu        sync.Mutex
	addrs     map[string]string
	announced chan string
	err       error // of Lookup
}

func (d *fakeDirectory) Announce(addr string)           { d.announced <- addr }
func (d *fakeDirectory) Withdraw(context.Context) error { return nil }
func (d *fakeDirectory) Secret() []byte                 { return []byte(testSecret) }

func (d *fakeDirectory) Lookup(_ context.Context, node string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if addr := d.addrs[node]; addr != "" || d.err != nil {
		return addr, d.err
	}
	return "", state.ErrNoPeer
}

// fakeStream is what a fake engine does with streams: it sends everything back.
type fakeStream struct{ engine.Stream }

func (s fakeStream) Receive(kind byte, payload []byte) { _ = s.Send(kind, payload) }
func (s fakeStream) Broken(error)                      {}

// hearing is an engine.Receiver.
type hearing struct {
	messages chan string
	broken   chan error
}

func newHearing() *hearing { return &hearing{make(chan string, 10), make(chan error, 1)} }

func (h *hearing) Receive(_ byte, payload []byte) { h.messages <- string(payload) }
func (h *hearing) Broken(err error)               { h.broken <- err }

func TestPeers(t *testing.T) {
	leak.Check(t)
	d := &fakeDirectory{addrs: map[string]string{}}
	start := func(name string, own secret) *peers {
		p := newPeers(name, own, d, func(s engine.Stream, kind byte, payload []byte) engine.Receiver {
			if kind == 9 {
				return nil
			}
			r := fakeStream{s}
			r.Receive(kind, payload)
			return r
		}, quiet, metrics.New(prometheus.NewRegistry(), "test"))
		l, err := listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d.addrs[name] = l.Addr().String()
		served := make(chan error, 1)
		go func() { served <- p.trunks.Serve(l) }()
		t.Cleanup(func() {
			if err := errors.Join(p.close(context.Background()), <-served); err != nil {
				t.Error(err)
			}
		})
		return p
	}
	// The secret that is configured is the directory's for the first two, and another one for the third.
	a, _, _ := start("node-A..", ""), start("node-B..", testSecret), start("node-C..", peerSecret)

	heard := newHearing()
	s, err := a.Open(t.Context(), "node-B..", heard)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(1, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if m := <-heard.messages; m != "hello" {
		t.Errorf("got %q", m)
	}
	refused := newHearing()
	if s, err = a.Open(t.Context(), "node-B..", refused); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(9, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-refused.broken; err == nil {
		t.Error("a stream that the engine does not want goes on")
	}

	if s, err := a.Open(t.Context(), "node-C..", newHearing()); s != nil || err == nil || errors.Is(err, engine.ErrNoPeer) {
		t.Errorf("a node with another secret: %v", err)
	}
	if s, err := a.Open(t.Context(), "node-X..", newHearing()); s != nil || !errors.Is(err, engine.ErrNoPeer) {
		t.Errorf("a node that does not exist: %v", err)
	}
	d.mu.Lock()
	d.err = state.ErrUnavailable
	d.mu.Unlock()
	if _, err := a.Open(t.Context(), "node-Y..", newHearing()); !errors.Is(err, state.ErrUnavailable) || errors.Is(err, engine.ErrNoPeer) {
		t.Errorf("a node that cannot be looked up: %v", err)
	}
}

// TestAnnounce: an address that is not known at first is announced when it is.
func TestAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDirectory{announced: make(chan string, 1)}
		p := &peers{directory: d, log: quiet}
		asked := 0
		p.announce(t.Context(), func(context.Context) (string, error) {
			if asked++; asked < 3 {
				return "", errors.New("no such host")
			}
			return "10.0.0.7:9465", nil
		})
		if got := <-d.announced; got != "10.0.0.7:9465" || asked != 3 {
			t.Errorf("announced %q after %d attempts", got, asked)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		p.announce(ctx, func(context.Context) (string, error) { return "", errors.New("no such host") })
		if len(d.announced) != 0 {
			t.Error("announced what is not known")
		}
	})
}
