package engine_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// poller is a client that polls.
type poller struct {
	t    *testing.T
	s    *server
	sid  string
	http *http.Client
}

func (s *server) poll() *poller {
	s.t.Helper()
	p := &poller{t: s.t, s: s, http: &http.Client{Timeout: wire.Timeout, Transport: &http.Transport{}}}
	s.t.Cleanup(p.http.CloseIdleConnections)
	status, body := p.do("GET", "", nil)
	var open struct {
		SID      string
		Upgrades []string
	}
	if status != 200 || body[0] != '0' || json.Unmarshal([]byte(body[1:]), &open) != nil || len(open.Upgrades) != 1 {
		s.t.Fatalf("opening poll: %d %q", status, body)
	}
	p.sid = open.SID
	return p
}

func (p *poller) url() string {
	u := "http://" + p.s.addr + "/socket.io/?EIO=4&transport=polling"
	if p.sid != "" {
		u += "&sid=" + p.sid
	}
	return u
}

// do makes one request and returns status 0 when it failed.
func (p *poller) do(method, body string, header http.Header) (int, string) {
	r, err := http.NewRequestWithContext(context.Background(), method, p.url(), strings.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return 0, ""
	}
	if method == "GET" {
		r.Body = nil
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func (p *poller) get(want string) {
	p.t.Helper()
	if status, body := p.do("GET", "", nil); status != 200 || body != want {
		p.t.Fatalf("GET: %d %q, want %q", status, body, want)
	}
}

func (p *poller) post(body string) {
	p.t.Helper()
	if status, got := p.do("POST", body, nil); status != 200 || got != "ok" {
		p.t.Fatalf("POST: %d %q", status, got)
	}
}

// giveUp polls, and breaks off when the GET waits for what the socket is sent.
func (p *poller) giveUp(s *engine.Socket) {
	p.t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	left := make(chan error, 1)
	go func() {
		r, _ := http.NewRequestWithContext(ctx, "GET", p.url(), nil)
		resp, err := p.http.Do(r)
		if err == nil {
			resp.Body.Close()
		}
		left <- err
	}()
	eventually(p.t, "the GET to wait", func() bool { return polls(s) })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		p.t.Errorf("a GET without anything to get: %v", err)
	}
}

// unknown checks that the session is gone.
func (p *poller) unknown() {
	p.t.Helper()
	status, body := p.do("GET", "", nil)
	if status == 200 && body == "1" { // it was parked before the session was told
		status, body = p.do("GET", "", nil)
	}
	if status != 400 || body != `{"code":1,"message":"Session ID unknown"}` {
		p.t.Fatalf("GET of a closed session: %d %q", status, body)
	}
}

// joined polls and joins the main namespace.
func (s *server) pollJoined() *poller {
	s.t.Helper()
	p := s.poll()
	p.post("40")
	if status, body := p.do("GET", "", nil); status != 200 || !strings.HasPrefix(body, `40{"sid":"`) {
		s.t.Fatalf("CONNECT reply: %d %q", status, body)
	}
	return p
}

// parked starts a GET and waits until the server has it.
func (p *poller) park() chan string {
	out := make(chan string, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		status, body := p.do("GET", "", nil)
		out <- fmt.Sprintf("%d %s", status, body)
	}()
	<-started
	return out
}

func TestPolling(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	p := s.pollJoined()
	p.post(`420["echo","a"]`)
	p.get(`430["a"]`)
	p.post("42[\"echo\",1]\x1e42[\"echo\",2]")
	got := ""
	for strings.Count(got, "echo") < 2 {
		_, body := p.do("GET", "", nil)
		got += body + "\x1e"
	}
	if got != "42[\"echo\",1]\x1e42[\"echo\",2]\x1e" {
		t.Errorf("two packets came as %q", got)
	}
	p.post("451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==")
	p.get("451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==")
	counts(t, s.m.ConnsPolling, 1)
	p.post("1")
	p.unknown()
	eventually(t, "conn gone", func() bool { return s.Conns() == 0 && counter(s.m.ConnsPolling) == 0 })
}

func TestPollingCloses(t *testing.T) {
	var last atomic.Pointer[engine.Socket]
	s := newServer(t, engine.Config{MaxPayload: 1000}, func(srv *engine.Server) {
		echo(srv)
		srv.Of("/").OnConnection(func(s *engine.Socket) { last.Store(s) })
		srv.Of("/").On("bye", func(s *engine.Socket, _ *engine.Event) { s.Disconnect(true) })
	})
	t.Run("client closes, poll parked", func(t *testing.T) {
		p := s.pollJoined()
		parked := p.park()
		p.post(`421["echo"]`) // its answer proves that the poll was there
		if r := <-parked; r != "200 431[]" {
			t.Fatal(r)
		}
		parked = p.park()
		eventually(t, "poll parked", func() bool { return polls(last.Load()) })
		p.post("1")
		if r := <-parked; r != "200 6" {
			t.Errorf("parked poll got %q", r)
		}
		p.unknown()
	})
	t.Run("server closes, nobody parked", func(t *testing.T) {
		p := s.pollJoined()
		p.post(`42["bye"]`)
		got := ""
		for range 3 {
			status, body := p.do("GET", "", nil)
			if status != 200 {
				break
			}
			got += body + " "
		}
		if !strings.HasPrefix(got, "41") || !strings.HasSuffix(got, "1 ") {
			t.Errorf("after disconnect(true): %q", got)
		}
		p.unknown()
	})
	t.Run("parse error", func(t *testing.T) {
		p := s.pollJoined()
		if status, _ := p.do("POST", "abc", nil); status != 400 {
			t.Errorf("POST answered %d", status)
		}
		p.unknown()
	})
	t.Run("invalid UTF-8", func(t *testing.T) {
		p := s.pollJoined()
		if status, _ := p.do("POST", "42[\"echo\",\"\xff\"]", nil); status != 400 {
			t.Errorf("POST answered %d", status)
		}
		p.unknown()
	})
	t.Run("octet-stream", func(t *testing.T) {
		p := s.pollJoined()
		if status, body := p.do("POST", "4x", http.Header{"Content-Type": {"application/octet-stream"}}); status != 400 || body != "" {
			t.Errorf("POST answered %d %q", status, body)
		}
		p.unknown()
	})
	t.Run("too large survives", func(t *testing.T) {
		p := s.pollJoined()
		if status, body := p.do("POST", strings.Repeat("x", 1001), nil); status != 413 || body != "" {
			t.Errorf("POST answered %d %q", status, body)
		}
		p.post(`421["echo",1]`)
		p.get(`431[1]`)
	})
	t.Run("overlapping polls", func(t *testing.T) {
		p := s.pollJoined()
		parked := p.park()
		eventually(t, "poll parked", func() bool { return polls(last.Load()) })
		if status, body := p.do("GET", "", nil); status != 400 || body != "" {
			t.Errorf("second poll: %d %q", status, body)
		}
		if r := <-parked; r != "200 1" {
			t.Errorf("first poll: %q", r)
		}
		p.unknown()
	})
	t.Run("other method", func(t *testing.T) {
		p := s.pollJoined()
		if status, body := p.do("PUT", "", nil); status != 500 || body != "" {
			t.Errorf("PUT answered %d %q", status, body)
		}
	})
	t.Run("aborted poll", func(t *testing.T) {
		p := s.pollJoined()
		p.giveUp(last.Load())
		eventually(t, "session closed", func() bool { return !last.Load().Connected() })
		p.unknown()
	})
}

// polls reports whether the socket's client has a poll open: a volatile event
// would reach it.
func polls(s *engine.Socket) bool { return engine.Writable(s) }

func TestPollingHeartbeat(t *testing.T) {
	patient := newServer(t, engine.Config{PingInterval: 60 * time.Millisecond, PingTimeout: 2 * time.Second}, echo)
	p := patient.poll() // a ping may come with what else is to be sent
	p.get("2")
	p.post("3")
	p.get("2")
	s := newServer(t, engine.Config{PingInterval: 60 * time.Millisecond, PingTimeout: 50 * time.Millisecond}, echo)
	p = s.poll()
	// The GET may come when the session is closed already.
	if status, body := p.do("GET", "", nil); status == 200 && body != "2" || status != 200 && status != 400 {
		t.Errorf("GET: %d %q, want a ping", status, body)
	}
	eventually(t, "timeout", func() bool { return counter(s.m.Closes[metrics.ClosePingTimeout]) == 1 })
	p.unknown()
}

func TestUpgrade(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	p := s.pollJoined()
	ws := wire.Dial(t, s.addr, query+"&sid="+p.sid, nil)
	parked := p.park()
	ws.Text("2probe")
	ws.Expect("3probe")
	if r := <-parked; r != "200 6" {
		t.Errorf("the poll got %q", r)
	}
	p.post(`421["echo",1]`) // still handled; its answer waits
	ws.Text("5")
	ws.Expect(`431[1]`)
	ws.Text(`422["echo",2]`)
	ws.Expect(`432[2]`)
	if status, body := p.do("GET", "", nil); status != 400 || body != `{"code":3,"message":"Bad request"}` {
		t.Errorf("poll after the upgrade: %d %q", status, body)
	}
	if _, err := wire.TryDial(t, s.addr, query+"&sid="+p.sid, nil); err == nil {
		t.Error("a second WebSocket was accepted")
	}
	counts(t, s.m.ConnsPolling, 0)
	counts(t, s.m.ConnsWebSocket, 1)
	ws.Text("2")
	ws.ExpectClosed()
	eventually(t, "conn gone", func() bool { return s.Conns() == 0 && counter(s.m.ConnsWebSocket) == 0 })
	p.unknown()
}

// TestFailedUpgrade: a WebSocket that does not probe properly is closed, and the
// session goes on polling.
func TestFailedUpgrade(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	p := s.pollJoined()
	for _, in := range []string{"hello", "4x", "3probe", "2"} {
		ws := wire.Dial(t, s.addr, query+"&sid="+p.sid, nil)
		ws.Text(in)
		ws.ExpectClosed()
		p.post(`421["echo",1]`)
		p.get(`431[1]`)
	}
	twice := wire.Dial(t, s.addr, query+"&sid="+p.sid, nil)
	twice.Text("2probe", "2probe")
	twice.Expect("3probe")
	twice.ExpectClosed()
	p.post(`421["echo",1]`)
	p.get(`431[1]`)
	ws := wire.Dial(t, s.addr, query+"&sid="+p.sid, nil)
	if _, err := wire.TryDial(t, s.addr, query+"&sid="+p.sid, nil); err == nil {
		t.Error("two candidates at once")
	}
	ws.Text("2probe")
	ws.Expect("3probe")
	p.post("1") // the session ends meanwhile
	ws.ExpectClosed()
	p.unknown()
}

// TestUpgradeInFlight: many clients upgrade while messages flow both ways;
// nothing is lost, doubled or reordered.
func TestUpgradeInFlight(t *testing.T) {
	s := newServer(t, engine.Config{}, echo)
	const clients, messages = 20, 60
	errs := make(chan error, clients)
	for range clients {
		p := s.pollJoined()
		go func() { errs <- upgradeWhileTalking(s, p, messages) }()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func upgradeWhileTalking(s *server, p *poller, messages int) error {
	var received []string
	polled := make(chan error, 1)
	stop := make(chan struct{})
	go func() { // what a client does: poll until told to stop
		for {
			select {
			case <-stop:
				polled <- nil
				return
			default:
			}
			status, body := p.do("GET", "", nil)
			if status != 200 {
				polled <- fmt.Errorf("poll: %d %s", status, body)
				return
			}
			for _, packet := range strings.Split(body, "\x1e") {
				if packet != "6" {
					received = append(received, packet)
				}
			}
		}
	}()
	ws, err := wire.TryDial(s.t, s.addr, query+"&sid="+p.sid, nil)
	if err != nil {
		return err
	}
	ws.Text("2probe")
	for i := range messages / 2 {
		if status, body := p.do("POST", fmt.Sprintf(`42["echo",%d]`, i), nil); status != 200 {
			return fmt.Errorf("POST: %d %s", status, body)
		}
	}
	if f, err := ws.Next(); err != nil || f.Data != "3probe" {
		return fmt.Errorf("probe: %v, %v", f, err)
	}
	close(stop) // the noop ends the last poll
	if err := <-polled; err != nil {
		return err
	}
	ws.Text("5")
	for i := messages / 2; i < messages; i++ {
		ws.Text(fmt.Sprintf(`42["echo",%d]`, i))
	}
	for len(received) < messages {
		f, err := ws.Next()
		if err != nil {
			return fmt.Errorf("after %d messages: %w", len(received), err)
		}
		if f.Data != "6" && f.Data != "2" {
			received = append(received, f.Data)
		}
	}
	for i, m := range received {
		if want := fmt.Sprintf(`42["echo",%d]`, i); m != want {
			return fmt.Errorf("message %d is %s", i, m)
		}
	}
	return nil
}

func TestCORS(t *testing.T) {
	listed := newServer(t, engine.Config{CORS: &engine.CORS{Origins: []string{"https://a.example"}, Credentials: true}, Cookie: &http.Cookie{Name: "io", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}}, echo)
	resp, body := exchange(t, listed.addr, "OPTIONS", "/socket.io/?EIO=4&transport=polling", "Origin: https://a.example\r\nAccess-Control-Request-Headers: x-a,x-b\r\n")
	if resp.StatusCode != 204 || body != "" || resp.Header.Get("Access-Control-Allow-Origin") != "https://a.example" ||
		resp.Header.Get("Access-Control-Allow-Headers") != "x-a,x-b" || resp.Header.Get("Access-Control-Allow-Methods") != "GET,HEAD,PUT,PATCH,POST,DELETE" ||
		resp.Header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("preflight: %d %v", resp.StatusCode, resp.Header)
	}
	resp, _ = exchange(t, listed.addr, "GET", "/socket.io/?EIO=4&transport=polling", "Origin: https://b.example\r\n")
	if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("Vary") != "Origin" {
		t.Errorf("foreign origin: %d %v", resp.StatusCode, resp.Header)
	}
	if c := resp.Header.Get("Set-Cookie"); !strings.HasPrefix(c, "io=") || !strings.HasSuffix(c, "; Path=/; HttpOnly; SameSite=Lax") {
		t.Errorf("cookie %q", c)
	}
	resp, _ = exchange(t, listed.addr, "GET", query, upgradeHeaders+"Origin: https://a.example\r\n")
	if resp.StatusCode != 101 || resp.Header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("upgrade: %d %v", resp.StatusCode, resp.Header)
	}
	resp, _ = exchange(t, listed.addr, "GET", "/socket.io/?EIO=4", "Origin: https://a.example\r\n")
	if resp.StatusCode != 400 || resp.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("error reply: %d %v", resp.StatusCode, resp.Header)
	}
	star := newServer(t, engine.Config{CORS: &engine.CORS{Origins: []string{"*"}}, Allow: func(r *http.Request) error {
		if r.URL.Query().Has("deny") {
			return errors.New("not you")
		}
		return nil
	}}, echo)
	resp, _ = exchange(t, star.addr, "GET", "/socket.io/?EIO=4&transport=polling", "Origin: https://b.example\r\n")
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Vary") != "" {
		t.Errorf("any origin: %v", resp.Header)
	}
	resp, body = exchange(t, star.addr, "GET", "/socket.io/?EIO=4&transport=polling&deny=1", "")
	if resp.StatusCode != 403 || body != `{"code":4,"message":"not you"}` {
		t.Errorf("refused: %d %q", resp.StatusCode, body)
	}
	reflected := newServer(t, engine.Config{CORS: &engine.CORS{Allowed: func(o string) bool { return strings.HasSuffix(o, ".example") }}}, echo)
	for origin, want := range map[string]string{"https://c.example": "https://c.example", "https://c.test": ""} {
		resp, _ = exchange(t, reflected.addr, "GET", "/socket.io/?EIO=4&transport=polling", "Origin: "+origin+"\r\n")
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != want || resp.Header.Get("Vary") != "Origin" {
			t.Errorf("origin %s: allowed %q, vary %q", origin, got, resp.Header.Get("Vary"))
		}
	}
	none := newServer(t, engine.Config{}, echo)
	resp, body = exchange(t, none.addr, "OPTIONS", "/socket.io/?EIO=4&transport=polling", "")
	if resp.StatusCode != 400 || body != `{"code":2,"message":"Bad handshake method"}` {
		t.Errorf("OPTIONS without CORS: %d %q", resp.StatusCode, body)
	}
}

func TestGzip(t *testing.T) {
	s := newServer(t, engine.Config{GzipFrom: 1024}, echo)
	for _, tc := range []struct {
		accept string
		size   int
		packed bool
	}{{"gzip", 2000, true}, {"deflate, gzip;q=0.5", 2000, true}, {"gzip;q=0", 2000, false}, {"br", 2000, false}, {"", 2000, false}, {"gzip", 10, false}} {
		p := s.pollJoined()
		text := strings.Repeat("x", tc.size)
		p.post(`42["echo","` + text + `"]`)
		resp, body := exchange(t, s.addr, "GET", strings.TrimPrefix(p.url(), "http://"+s.addr), "Accept-Encoding: "+tc.accept+"\r\n")
		packed := resp.Header.Get("Content-Encoding") == "gzip"
		if packed {
			r, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			body = string(plain)
		}
		if packed != tc.packed || body != `42["echo","`+text+`"]` {
			t.Errorf("accept %q, %d bytes: packed %v, %.40q", tc.accept, tc.size, packed, body)
		}
	}
}
