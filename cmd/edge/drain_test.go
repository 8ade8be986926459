package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/websocket"
)

// asked sends a request to the operators' listener.
func (n *testNode) asked(method, path string) (int, drainState) {
	n.t.Helper()
	req, err := http.NewRequest(method, "http://"+n.adminListener.Addr().String()+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	var s drainState
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		n.t.Fatalf("%s %s: %s: %v", method, path, res.Status, err)
	}
	return res.StatusCode, s
}

// TestDrainDelay: until balancers have noticed, a node that is drained serves everybody, and is not ready.
func TestDrainDelay(t *testing.T) {
	n := startNode(t, "DRAIN_DELAY", "1h", "DRAIN_WINDOW", "30m", "SHUTDOWN_GRACE", "20s")
	c, _ := n.connect(`{"userId":"alice"}`)
	if status, s := n.asked("GET", "/drain"); status != 200 || s.Phase != phaseServing || s.Began != nil || s.Exit || s.Conns != 1 {
		t.Errorf("before: %d %+v", status, s)
	}
	status, s := n.asked("POST", "/api/v1/drain")
	if status != 202 || s.Phase != phaseDelaying || !s.Exit || s.Began == nil || s.Delay != 3600 || s.Window != 1800 || s.Grace != 20 {
		t.Errorf("begun: %d %+v", status, s)
	}
	if status, again := n.asked("POST", "/drain"); status != 202 || !again.Began.Equal(*s.Began) {
		t.Errorf("begun again: %d %+v", status, again)
	}
	for _, addr := range []string{n.publicListener.Addr().String(), n.adminListener.Addr().String()} {
		for _, path := range []string{"/readyz", "/readyz/sessions"} {
			if status, body := n.fetch(addr, path); status != 503 || !strings.Contains(body, "is being drained") {
				t.Errorf("%s on %s: %d %s", path, addr, status, body)
			}
		}
		if status := n.status(addr, "/healthz"); status != 200 {
			t.Errorf("health on %s: %d", addr, status)
		}
	}
	late, hello := n.connect(`{"userId":"bob"}`)
	if !strings.HasPrefix(hello, "40{") {
		t.Errorf("a client that was sent here meanwhile: %s", hello)
	}
	for _, c := range []*testClient{c, late} {
		c.Text(`420["join","r1"]`)
		c.expect("430")
	}
	n.drain.hurry("test")
	for _, c := range []*testClient{c, late} {
		for {
			f, err := c.Next()
			if err != nil || f.Op == websocket.Close {
				if err != nil || f.Code != websocket.CodeGoingAway {
					t.Errorf("the connection ended with %v, %v", f, err)
				}
				break
			}
			if strings.HasPrefix(f.Data, "41") {
				t.Error("a DISCONNECT packet keeps the client from coming back")
			}
		}
		_ = c.Conn.Close()
	}
	n.eventually("stopped", func() bool { return strings.Contains(n.log.String(), "msg=stopped") })
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

// TestDrainWithoutExit: who is there is served until its turn comes, nobody is let in, and the node stays when all are gone.
func TestDrainWithoutExit(t *testing.T) {
	n := startNode(t, "DRAIN_WINDOW", "1h") // one conn's turn is somewhere in it
	c, _ := n.connect(`{"userId":"alice"}`)
	if status, s := n.asked("POST", "/drain?exit=false"); status != 202 || s.Exit {
		t.Errorf("begun: %d %+v", status, s)
	}
	n.eventually("closing", func() bool {
		_, s := n.asked("GET", "/drain")
		return s.Phase == phaseClosing
	})
	clients := n.publicListener.Addr().String()
	n.eventually("refusing", func() bool {
		status, open := n.fetch(clients, "/socket.io/?EIO=4&transport=polling")
		if status == 200 { // in the last moment: it goes again, or the drain waits for it
			_, sid, _ := strings.Cut(open, `"sid":"`)
			resp, err := http.Post("http://"+clients+"/socket.io/?EIO=4&transport=polling&sid="+sid[:20], "text/plain", strings.NewReader("1"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		return status == 503
	})
	c.Text(`420["join","r1"]`)
	c.expect("430")
	_ = c.Conn.Close()
	n.eventually("drained", func() bool {
		_, s := n.asked("GET", "/drain")
		return s.Phase == phaseDrained && s.Conns == 0
	})
	if n.status(clients, "/healthz") != 200 || strings.Contains(n.log.String(), "msg=stopped") {
		t.Errorf("the node does not stay:\n%s", n.log)
	}
	if _, s := n.asked("POST", "/drain"); !s.Exit { // on second thoughts
		t.Errorf("%+v", s)
	}
	n.eventually("stopped", func() bool { return strings.Contains(n.log.String(), "msg=stopped") })
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

// TestReadyForSessions: requests of sessions are wanted whatever else is missing; in a drain only where no other node can pass them on.
func TestReadyForSessions(t *testing.T) {
	for _, tt := range []struct{ peers, draining, want bool }{
		{true, false, true}, {false, false, true}, {true, true, false}, {false, true, true},
	} {
		r := &readiness{state: func() error { return errDraining }, peers: tt.peers}
		r.draining.Store(tt.draining)
		if got := r.sessionsErr() == nil; got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestDrainHandler: who may ask, and for what.
func TestDrainHandler(t *testing.T) {
	tests := []struct {
		method, path, authorization, origin string
		status                              int
		phase                               drainPhase
	}{
		{"GET", "/drain", "", "", 401, phaseServing},
		{"POST", "/drain", "", "", 401, phaseServing},
		{"POST", "/drain", "Bearer wrong", "", 401, phaseServing},
		{"GET", "/drain", "Bearer the-token", "", 200, phaseServing},
		{"DELETE", "/drain", "Bearer the-token", "", 405, phaseServing},
		{"POST", "/drain?exit=perhaps", "Bearer the-token", "", 400, phaseServing},
		{"POST", "/drain", "Bearer the-token", "https://elsewhere.example", 403, phaseServing},
		{"POST", "/drain?exit=false", "Bearer the-token", "", 202, phaseDelaying},
		{"POST", "/drain", "Bearer the-token", "http://example.com", 202, phaseDelaying},
	}
	for _, tt := range tests {
		d := newDrain(&Config{}, &readiness{state: okState}, quiet)
		h := guardBrowsers("the-token", requireToken("the-token", d.handler(func() int { return 7 })))
		r := httptest.NewRequest(tt.method, tt.path, nil)
		r.Header.Set("Authorization", tt.authorization)
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		s := d.state(7)
		if w.Code != tt.status || s.Phase != tt.phase || s.Exit != (tt.status == 202 && !strings.Contains(tt.path, "false")) {
			t.Errorf("%s %s: %d %s, %+v", tt.method, tt.path, w.Code, w.Body, s)
		}
		if d.ready.draining.Load() != (tt.phase == phaseDelaying) {
			t.Errorf("%s %s: the readiness does not follow", tt.method, tt.path)
		}
	}
}

// TestDrainDefaults: a fleet has time to notice, a node alone has nobody to wait for; what is set counts in both.
func TestDrainDefaults(t *testing.T) {
	for _, tt := range []struct {
		environ       map[string]string
		delay, window time.Duration
	}{
		{map[string]string{}, 0, 0},
		{map[string]string{"DRAIN_DELAY": "2s", "DRAIN_WINDOW": "3s"}, 2 * time.Second, 3 * time.Second},
		{production("DRAIN_DELAY", ""), usualDrainDelay, usualDrainWindow},
		{production("DRAIN_DELAY", "0s", "DRAIN_WINDOW", "1m"), 0, time.Minute},
		{production("DRAIN_WINDOW", "0s"), usualDrainDelay, 0},
	} {
		cfg, err := LoadConfig(tt.environ)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.DrainDelay != tt.delay || cfg.DrainWindow != tt.window {
			t.Errorf("%v: %v and %v, want %v and %v", tt.environ, cfg.DrainDelay, cfg.DrainWindow, tt.delay, tt.window)
		}
	}
}

func TestIsFull(t *testing.T) {
	for _, tt := range []struct {
		was     bool
		n, most int
		want    bool
	}{
		{false, 0, 1, false},
		{false, 1, 1, true},
		{true, 1, 1, true},
		{true, 0, 1, false},
		{false, 999, 1000, false},
		{false, 1000, 1000, true},
		{true, 999, 1000, true},
		{true, 951, 1000, true},
		{true, 950, 1000, false},
		{false, 951, 1000, false},
	} {
		if got := isFull(tt.was, tt.n, tt.most); got != tt.want {
			t.Errorf("full was %v, %d of %d: %v", tt.was, tt.n, tt.most, got)
		}
	}
}

// TestFullNode: a node with as many conns as it takes is not ready, and ready again when there is room.
func TestFullNode(t *testing.T) {
	n := startNode(t, "MAX_CONNS", "2")
	addr := n.publicListener.Addr().String()
	first, _ := n.connect(`{}`)
	if status := n.status(addr, "/readyz"); status != 200 {
		t.Errorf("with one of two: %d", status)
	}
	_, _ = n.connect(`{}`)
	if status, body := n.fetch(addr, "/readyz"); status != 503 || !strings.Contains(body, "MAX_CONNS is 2") {
		t.Errorf("with two of two: %d %s", status, body)
	}
	_ = first.Conn.Close()
	n.eventually("ready again", func() bool { return n.status(addr, "/readyz") == 200 })
}
