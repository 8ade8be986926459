package engine_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// TestAllowOrigin: an origin is checked wherever a browser's page could reach a session.
func TestAllowOrigin(t *testing.T) {
	const good, bad = "Origin: https://a.example\r\n", "Origin: https://b.example\r\n"
	allowed := func(o string) bool { return o == "https://a.example" }
	s := newServer(t, engine.Config{
		AllowOrigin: func(r *http.Request) bool { return allowed(r.Header.Get("Origin")) },
		CORS:        &engine.CORS{Allowed: allowed},
	}, echo)
	const polling = "/socket.io/?EIO=4&transport=polling"
	p := s.pollJoined()
	session := strings.TrimPrefix(p.url(), "http://"+s.addr)
	upgrade := strings.Replace(session, "polling", "websocket", 1)
	refused := 0
	for _, tt := range []struct {
		name, method, path, more string
		status                   int
	}{
		{"open by polling", "GET", polling, "", 200},
		{"open by polling", "GET", polling, good, 200},
		{"open by polling", "GET", polling, bad, 403},
		{"preflight", "OPTIONS", polling, good, 204},
		{"preflight", "OPTIONS", polling, bad, 403},
		{"open by WebSocket", "GET", query, upgradeHeaders, 101},
		{"open by WebSocket", "GET", query, upgradeHeaders + good, 101},
		{"open by WebSocket", "GET", query, upgradeHeaders + bad, 403},
		{"poll", "GET", session, bad, 403},
		{"post", "POST", session, bad + "Content-Length: 0\r\n", 403},
		{"upgrade", "GET", upgrade, upgradeHeaders + bad, 403},
		{"upgrade", "GET", upgrade, upgradeHeaders + good, 101},
		{"another path", "GET", "/elsewhere/", bad, 404},
	} {
		resp, body := exchange(t, s.addr, tt.method, tt.path, tt.more)
		if resp.StatusCode != tt.status {
			t.Errorf("%s with %q: %d %q, want %d", tt.name, tt.more, resp.StatusCode, body, tt.status)
		}
		if tt.status != 403 {
			continue
		}
		refused++
		if resp.Header.Get("Access-Control-Allow-Origin") != "" || !resp.Close {
			t.Errorf("%s is refused with %v", tt.name, resp.Header)
		}
	}
	if got := testutil.ToFloat64(s.m.Refusals[metrics.RefusalOrigin]); got != float64(refused) {
		t.Errorf("%v refusals counted, %d seen", got, refused)
	}
}
