//go:build linux

package load

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stellara/edge/websocket"
)

func TestHTTPAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, tc := range map[string]struct {
		in, body string
		size     int
		err      string
	}{
		"nothing":          {},
		"half a head":      {in: ok + "Content-Le"},
		"half a body":      {in: ok + "Content-Length: 5\r\n\r\nhell"},
		"whole":            {in: ok + "content-length:5\r\nX: y\r\n\r\nhello", body: "hello", size: 48},
		"empty":            {in: ok + "Content-Length: 0\r\n\r\n", size: 38},
		"more behind":      {in: ok + "Content-Length: 1\r\n\r\nabc", body: "a", size: 39},
		"another status":   {in: "HTTP/1.1 400 Bad Request\r\nContent-Length: 12\r\n\r\n{\"code\":1}", err: "400 Bad Request"},
		"chunked":          {in: ok + "Transfer-Encoding: chunked\r\n\r\n", err: "without Content-Length"},
		"a length of less": {in: ok + "Content-Length: -1\r\n\r\n", err: "-1"},
		"endless":          {in: ok + strings.Repeat("x", 20<<10), err: "endless"},
	} {
		body, size, err := httpAnswer([]byte(tc.in))
		if string(body) != tc.body || size != tc.size {
			t.Errorf("%s: %q, %d bytes, want %q, %d", name, body, size, tc.body, tc.size)
		}
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: error %v, want %q", name, err, tc.err)
		}
	}
}

// upgradeServer plays two nodes with one set of sessions, which begin with long-polling and are upgraded.
type upgradeServer struct {
	t        *testing.T
	pings    bool   // whether polls bring a ping first
	greeting string // the answer to CONNECT
	probe    string // the answer to a probe

	mu       sync.Mutex
	sessions map[string]*fakeSession
	upgraded int
	pongs    int
}

type fakeSession struct {
	user    string
	polled  int           // GETs after the one that opened it
	release chan struct{} // closed when the parked GET is to be answered
	ended   chan struct{} // closed when it was
}

func (s *upgradeServer) session(sid string) *fakeSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[sid]
}

// poll is the node that answers requests.
func (s *upgradeServer) poll(w http.ResponseWriter, r *http.Request) {
	sid := r.URL.Query().Get("sid")
	if sid == "" {
		s.mu.Lock()
		sid = fmt.Sprintf("session-%d", len(s.sessions))
		s.sessions[sid] = &fakeSession{release: make(chan struct{}), ended: make(chan struct{})}
		s.mu.Unlock()
		fmt.Fprintf(w, `0{"sid":%q,"upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`, sid)
		return
	}
	session := s.session(sid)
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		if user, ok := strings.CutPrefix(string(body), `40{"userId":"`); ok {
			session.user = strings.TrimSuffix(user, `"}`)
		}
		io.WriteString(w, "ok")
		return
	}
	session.polled++
	switch {
	case session.polled == 1 && s.pings:
		io.WriteString(w, "2")
	case session.polled <= 2 && s.pings, session.polled == 1:
		fmt.Fprintf(w, s.greeting+"\x1e42[\"hi\"]", session.user)
	default:
		select {
		case <-session.release:
		case <-r.Context().Done():
			return
		}
		close(session.ended) // before the client can know
		io.WriteString(w, "6")
	}
}

// upgrade is the node that has the WebSockets.
func (s *upgradeServer) upgrade(w http.ResponseWriter, r *http.Request) {
	session := s.session(r.URL.Query().Get("sid"))
	up, err := websocket.CheckUpgrade(r)
	if err != nil || session == nil {
		s.t.Errorf("upgrade of %s: %v", r.URL, err)
		return
	}
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	_, _ = c.Write(websocket.AppendSwitchingProtocols(nil, up, nil))
	send := func(text string) { _, _ = c.Write(websocket.AppendFrame(nil, websocket.Text, []byte(text))) }
	eachText(rw.Reader, func(text string) {
		switch {
		case text == "2probe":
			send(s.probe)
			close(session.release)
		case text == "5":
			select {
			case <-session.ended:
			default:
				s.t.Error("the client upgraded while a poll was under way")
			}
			s.mu.Lock()
			s.upgraded++
			s.mu.Unlock()
		case text == "3":
			s.mu.Lock()
			s.pongs++
			s.mu.Unlock()
		case strings.HasPrefix(text, `420["leave",`):
			send(`430[{"ok":false,"code":"room_unknown"}]`)
		default:
			s.t.Errorf("the client sent %q", text)
		}
	})
}

// eachText reads WebSocket messages until the end.
func eachText(in *bufio.Reader, do func(string)) {
	var reader websocket.Reader
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		for data := buf[:n]; ; {
			m, rest, ok, err := reader.Next(data, &websocket.Limits{Server: true})
			if err != nil || m.Op == websocket.Close {
				return
			}
			if !ok {
				break
			}
			do(string(m.Data))
			data = rest
		}
	}
}

// connect runs both nodes and connects the plan's connections.
func (s *upgradeServer) connect(t *testing.T) *Connected {
	t.Helper()
	s.t, s.sessions = t, map[string]*fakeSession{}
	poll, upgrade := httptest.NewServer(http.HandlerFunc(s.poll)), httptest.NewServer(http.HandlerFunc(s.upgrade))
	t.Cleanup(upgrade.Close)
	t.Cleanup(poll.Close)
	plan := testPlan(strings.TrimPrefix(upgrade.URL, "http://"))
	plan.Rooms, plan.Poll, plan.Ask = 0, strings.TrimPrefix(poll.URL, "http://"), true
	f := startFleet(t, plan, 2)
	c, err := f.Connect(patience)
	if err != nil {
		t.Fatal(err)
	}
	if closed, err := f.Close(patience); err != nil || closed.Left != 0 {
		t.Errorf("closing: %v, %+v", err, closed)
	}
	return c
}

const goodGreeting = `40{"sid":"socket-of-%s"}`

func TestFleetUpgrades(t *testing.T) {
	t.Parallel()
	for _, pings := range []bool{false, true} {
		s := &upgradeServer{pings: pings, greeting: goodGreeting, probe: "3probe"}
		c := s.connect(t)
		s.mu.Lock()
		upgraded, pongs := s.upgraded, s.pongs
		s.mu.Unlock()
		const all = 24
		if c.Failed != 0 || c.Times.Count() != all || c.Answers.Count() != all || upgraded != all {
			t.Errorf("%d failed, %d online, %d answered, %d upgraded: %v", c.Failed, c.Times.Count(), c.Answers.Count(), upgraded, c.Failures)
		}
		for i, sid := range c.SIDs {
			if want := fmt.Sprintf("socket-of-u%d", i); sid != want {
				t.Errorf("connection %d has socket id %q, want %q", i, sid, want)
			}
		}
		if want := map[bool]int{true: all}[pings]; pongs != want {
			t.Errorf("%d pongs, want %d", pongs, want)
		}
	}
}

func TestFleetSeesABadUpgrade(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]*upgradeServer{
		"no id in":          {greeting: `40{"no":"%s"}`, probe: "3probe"},
		"unexpected packet": {greeting: goodGreeting, probe: "3"},
		"44{":               {greeting: `44{"message":"no %s"}`, probe: "3probe"},
	} {
		c := s.connect(t)
		if c.Failed != 24 || len(c.Failures) == 0 {
			t.Errorf("%s: %d failed: %v", want, c.Failed, c.Failures)
		}
		for reason := range c.Failures {
			if !strings.Contains(reason, want) && reason != "others" {
				t.Errorf("failure %q does not say %q", reason, want)
			}
		}
	}
}
