package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// proxied is the address of the tests' proxy; all others of the loopback network are not trusted.
const proxied = "127.0.0.9"

// openProxied is a door behind which connections from the proxy begin with a header; requests are answered with the
// address they came from.
func openProxied(t *testing.T, limit time.Duration) *door {
	t.Helper()
	leak.Check(t)
	m := metrics.New(prometheus.NewRegistry(), "test")
	var trusted trustedProxies
	if err := trusted.UnmarshalText([]byte(proxied)); err != nil {
		t.Fatal(err)
	}
	inner, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := newEntrance(2, func() int { return 4 }, m, quiet)
	l := e.listener(newProxyListener(inner, trusted, limit, m, quiet))
	srv := newPublicServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }), e, 16<<10, limit, quiet)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving ended with %v", err)
		}
	})
	return &door{t, m, e, inner.Addr().String(), l}
}

// from connects from an address of the loopback network.
func (d *door) from(address string) net.Conn {
	d.t.Helper()
	dialer := net.Dialer{Timeout: wire.Timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := dialer.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(wire.Timeout))
	return c
}

// whom sends pieces and returns the address that the answer says, "" if the connection ends without one.
func whom(t *testing.T, c net.Conn, pieces ...string) string {
	t.Helper()
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset") {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestProxyListener(t *testing.T) {
	const v1 = "PROXY TCP4 203.0.113.7 10.0.0.1 56250 443\r\n"
	for _, tc := range []struct {
		name, from string
		pieces     []string
		want       string // the address; self: of who connected
		refused    float64
	}{
		{"v1", proxied, []string{v1 + plainRequest}, "203.0.113.7:56250", 0},
		{"v2", proxied, []string{v2(0x21, 0x11, addresses4+tlv) + plainRequest}, "203.0.113.7:56250", 0},
		{"v2, IPv6", proxied, []string{v2(0x21, 0x21, addresses6), plainRequest}, "[2001:db8::7]:56250", 0},
		{"larger than the first read", proxied, []string{v2(0x21, 0x11, addresses4+strings.Repeat("x", 1500)) + plainRequest}, "203.0.113.7:56250", 0},
		{"in pieces", proxied, append(strings.SplitAfter(v1, ""), plainRequest[:5], plainRequest[5:]), "203.0.113.7:56250", 0},
		{"a health check", proxied, []string{string(appendProxyLocal(nil)), plainRequest}, "self", 0},
		{"unknown", proxied, []string{"PROXY UNKNOWN\r\n" + plainRequest}, "self", 0},
		{"nobody's proxy", "127.0.0.1", []string{plainRequest}, "self", 0},
		{"nobody's proxy, a long request", "127.0.0.1", []string{"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 6000) + "\r\n\r\n"}, "self", 0},
		{"a header from somebody", "127.0.0.1", []string{v1 + plainRequest}, "", 1},
		{"half a header from somebody", "127.0.0.1", []string{v2(0x21, 0x11, "short") + plainRequest}, "", 1},
		{"no header", proxied, []string{plainRequest}, "", 1},
		{"a bad header", proxied, []string{"PROXY TCP4 ::1 ::1 1 2\r\n" + plainRequest}, "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := openProxied(t, wire.Timeout)
			c := d.from(tc.from)
			if tc.want == "self" {
				tc.want = c.LocalAddr().String()
			}
			if got := whom(t, c, tc.pieces...); got != tc.want {
				t.Errorf("the request came from %q, want %q", got, tc.want)
			}
			if n := testutil.ToFloat64(d.m.Refusals[metrics.RefusalProxyHeader]); n != tc.refused {
				t.Errorf("%v refusals, want %v", n, tc.refused)
			}
			if got := whom(t, d.from(proxied), v1, plainRequest); got != "203.0.113.7:56250" {
				t.Errorf("then nobody else is served: %q", got)
			}
		})
	}
}

// TestProxyListenerWaits: proxies that send no header keep nobody out, and lose their connection in time. Only one that
// began is counted: the others may have been looking whether the port is open.
func TestProxyListenerWaits(t *testing.T) {
	d := openProxied(t, 400*time.Millisecond)
	begun := d.from(proxied)
	if _, err := io.WriteString(begun, "PROXY TC"); err != nil {
		t.Fatal(err)
	}
	silent := d.from(proxied)
	for what, c := range map[string]net.Conn{"silent": silent, "begun": begun} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the %s one is not closed: %v", what, err)
		}
	}
	if n := testutil.ToFloat64(d.m.Refusals[metrics.RefusalProxyHeader]); n != 1 {
		t.Errorf("%v refusals, want 1", n)
	}
	if got := whom(t, d.from(proxied), "PROXY UNKNOWN\r\n", plainRequest); !strings.HasPrefix(got, proxied) {
		t.Errorf("then nobody else is served: %q", got)
	}
}

// TestHealthcheckByProxy: the node's own health check comes from an address that may be a proxy's.
func TestHealthcheckByProxy(t *testing.T) {
	leak.Check(t)
	m := metrics.New(prometheus.NewRegistry(), "test")
	cfg, err := LoadConfig(map[string]string{"TRUSTED_PROXIES": "loopback", "PROXY_PROTOCOL": "on"})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(ok200)}
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(newProxyListener(inner, cfg.TrustedProxies, wire.Timeout, m, quiet))
	}()
	defer func() {
		_ = srv.Close()
		<-served
	}()
	if err := healthcheck(t.Context(), inner.Addr().String(), cfg.proxied); err != nil {
		t.Error(err)
	}
	if err := healthcheck(t.Context(), inner.Addr().String(), func(net.Addr) bool { return false }); err == nil {
		t.Error("without a header it is answered as well: the test tries nothing")
	}
}

func ok200(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
