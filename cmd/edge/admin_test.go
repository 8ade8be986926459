package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

var quiet = slog.New(slog.DiscardHandler)

// get asks h and returns status, content type and body.
func get(h http.Handler, path string, header ...string) (int, string, string) {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Header().Get("Content-Type"), w.Body.String()
}

func okState() error { return nil }

func TestAdminRoutes(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics.New(reg, "test")
	h := adminHandler("", reg, &readiness{state: okState}, presenceHandler(&fakeReader{}, quiet))
	for path, want := range map[string]struct {
		status   int
		contains string
	}{
		"/":                     {200, `href="/metrics"`},
		"/metrics":              {200, "edge_ready 0"},
		"/healthz":              {200, "ok\n"},
		"/readyz":               {200, `{"ready":true}`},
		"/presence/online":      {200, `"users":[]`},
		"/presence/other":       {404, "/presence/rooms/"},
		"/presence/":            {404, "/presence/rooms/"},
		"/debug/pprof/":         {200, "goroutine"},
		"/debug/pprof/cmdline":  {200, ""},
		"/debug/pprof/heap":     {200, ""},
		"/debug/pprof/nonsense": {404, ""},
		"/other":                {404, ""},
	} {
		if status, _, body := get(h, path); status != want.status || !strings.Contains(body, want.contains) {
			t.Errorf("GET %s: %d %.80q, want %d with %q", path, status, body, want.status, want.contains)
		}
	}
	_, _, index := get(h, "/")
	for _, page := range []string{"/metrics", "/readyz", "/drain", "/api/v1/openapi.yaml"} {
		if !strings.Contains(index, page) {
			t.Errorf("the index does not list %s: %s", page, index)
		}
	}
	if _, ct, body := get(h, "/metrics", "Accept", "application/openmetrics-text; version=1.0.0"); !strings.Contains(ct, "openmetrics") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("OpenMetrics asked for, got %s", ct)
	}
	// Native histograms travel in the protobuf format only.
	if _, ct, _ := get(h, "/metrics", "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"); !strings.Contains(ct, "protobuf") {
		t.Errorf("protobuf asked for, got %s", ct)
	}
}

func TestAdminToken(t *testing.T) {
	h := adminHandler("the-token", prometheus.NewRegistry(), &readiness{state: okState}, presenceHandler(&fakeReader{}, quiet))
	for _, tt := range []struct {
		path, authorization string
		status              int
	}{
		{"/metrics", "", 200},
		{"/healthz", "", 200},
		{"/readyz", "", 200},
		{"/", "", 200},
		{"/presence/online", "", 401},
		{"/presence/nonsense", "", 401},
		{"/presence/users/ada", "Bearer wrong", 401},
		{"/presence/users/ada", "Bearer the-token", 200},
		{"/debug/pprof/", "", 401},
		{"/debug/pprof/heap", "", 401},
		{"/debug/pprof/cmdline", "Bearer wrong", 401},
		{"/debug/pprof/cmdline", "Bearer", 401},
		{"/debug/pprof/cmdline", "Basic the-token", 401},
		{"/debug/pprof/cmdline", "Bearer the-token2", 401},
		{"/debug/pprof/cmdline", "Bearer the-token", 200},
		{"/debug/pprof/cmdline", "bearer the-token", 200},
	} {
		if status, _, _ := get(h, tt.path, "Authorization", tt.authorization); status != tt.status {
			t.Errorf("GET %s with %q: %d, want %d", tt.path, tt.authorization, status, tt.status)
		}
	}
}

func TestReadiness(t *testing.T) {
	var missing atomic.Pointer[error]
	lost := errors.New("state: redis does not answer")
	r := &readiness{state: func() error {
		if e := missing.Load(); e != nil {
			return *e
		}
		return nil
	}}
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "ready"})
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	h := publicHandler(http.NotFoundHandler(), r)

	steps := []struct {
		do     func()
		status int
		body   string
		gauge  float64
		log    string // a part of what is logged; empty: nothing is
	}{
		{func() {}, 200, `{"ready":true}`, 1, "ready"},
		{func() {}, 200, `{"ready":true}`, 1, ""},
		{func() { missing.Store(&lost) }, 503, `{"ready":false,"missing":"redis does not answer"}`, 0, "redis does not answer"},
		{func() {}, 503, `{"ready":false,"missing":"redis does not answer"}`, 0, ""},
		{func() { missing.Store(nil) }, 200, `{"ready":true}`, 1, "ready"},
		{func() { r.draining.Store(true) }, 503, `{"ready":false,"missing":"the node is being drained"}`, 0, ""},
	}
	was := false
	for i, s := range steps {
		s.do()
		out.Reset()
		was = r.look(was, gauge, log)
		status, ct, body := get(h, "/readyz")
		if status != s.status || strings.TrimSpace(body) != s.body || ct != "application/json" {
			t.Errorf("step %d: %d %s %q", i, status, ct, body)
		}
		if g := testutil.ToFloat64(gauge); g != s.gauge {
			t.Errorf("step %d: gauge %v", i, g)
		}
		if (s.log == "") != (out.Len() == 0) || !strings.Contains(out.String(), s.log) {
			t.Errorf("step %d: logged %q, want %q", i, out.String(), s.log)
		}
	}
}

func TestPublicRoutes(t *testing.T) {
	clients := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "engine") })
	h := publicHandler(clients, &readiness{state: okState})
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/socket.io/?EIO=4":     {200, "engine"},
		"/socket.io/more":       {200, "engine"},
		"/socket.io//?EIO=4":    {200, "engine"}, // no redirect to a clean path
		"/socket.io":            {404, "not found"},
		"/":                     {404, "not found"},
		"/metrics":              {404, "not found"},
		"/debug/pprof/":         {404, "not found"},
		"/debug/pprof/heap":     {404, "not found"},
		"/debug/pprof/profile":  {404, "not found"},
		"/presence/online":      {404, "not found"},
		"/healthz":              {200, "ok\n"},
		"/readyz":               {200, `{"ready":true}`},
		"/healthz/../socket.io": {404, "not found"},
	} {
		if status, _, body := get(h, path); status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("GET %s: %d %q, want %d with %q", path, status, body, want.status, want.body)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	ln, err := listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newPublicServer(publicHandler(http.NotFoundHandler(), &readiness{state: func() error { return errDraining }}), newEntrance(512, nil, metrics.New(prometheus.NewRegistry(), "test"), quiet), 16<<10, 10*time.Second, quiet)
	go func() { _ = srv.Serve(ln) }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	environ := map[string]string{"LISTEN_ADDR": "0.0.0.0:" + port, "AUTH_NONE_PUBLIC": "true"}
	var out bytes.Buffer
	if code := run([]string{"-healthcheck"}, environ, &out, &out); code != exitOK {
		t.Errorf("with a server: exit %d, %s", code, out.String())
	}
	_ = srv.Close()
	if code := run([]string{"-healthcheck"}, environ, &out, &out); code != exitFailed {
		t.Errorf("without a server: exit %d", code)
	}
}

func TestDialAddr(t *testing.T) {
	for addr, want := range map[string]string{
		":3000": "127.0.0.1:3000", "0.0.0.0:3000": "127.0.0.1:3000", "[::]:3000": "[::1]:3000",
		"10.1.2.3:3000": "10.1.2.3:3000", "localhost:80": "localhost:80",
	} {
		if got := dialAddr(addr); got != want {
			t.Errorf("dialAddr(%q) = %q, want %q", addr, got, want)
		}
	}
}
