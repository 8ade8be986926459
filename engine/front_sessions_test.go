package engine_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

var sidShape = regexp.MustCompile(`^[A-Za-z0-9_-]{20}$`)

// refused checks that nothing can be done in the name of a session id.
func (a *abused) refused(t *testing.T, sid string) {
	t.Helper()
	p := &poller{t: t, s: a.server, sid: url.QueryEscape(sid), http: a.polling.http}
	for method, packet := range map[string]string{"GET": "", "POST": `42["smuggled"]`, "PUT": ""} {
		if status, body := p.do(method, packet, nil); status != 400 || !strings.HasPrefix(body, `{"code":`) {
			t.Fatalf("%s with session %q: %d %q", method, sid, status, body)
		}
	}
	resp, body := exchange(t, a.addr, "GET", query+"&sid="+p.sid, upgradeHeaders)
	if resp.StatusCode != 400 || body == "" {
		t.Fatalf("WebSocket with session %q: %d %q", sid, resp.StatusCode, body)
	}
}

// TestSessionGuessing: only who opened a session by polling can use its id.
func TestSessionGuessing(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	victim := a.pollJoined()
	ws := wire.Dial(t, a.addr, query, nil)
	born := ws.Receive()[len(`0{"sid":"`):][:20]
	socket, public := a.join()
	closed := a.pollJoined()
	closed.post("1")
	upgraded := a.pollJoined()
	over := wire.Dial(t, a.addr, query+"&sid="+upgraded.sid, nil)
	over.Text("2probe", "5", `421["echo"]`)
	over.Expect("3probe", `431[]`)

	guesses := map[string]string{
		"shorter":                 victim.sid[:19],
		"longer":                  victim.sid + "A",
		"in lower case":           strings.ToLower(victim.sid),
		"with a zero byte":        victim.sid[:19] + "\x00",
		"followed by a zero byte": victim.sid + "\x00",
		"followed by a line end":  victim.sid + "\n",
		"twice":                   victim.sid + victim.sid,
		"a path":                  "../" + victim.sid[:17],
		"one character":           "A",
		"very long":               strings.Repeat("A", 4000),
		"not ASCII":               "éééééééééé",
		"of a closed session":     closed.sid,
		"of a WebSocket":          born,
		"of an upgraded session":  upgraded.sid,
		"of a socket":             public,
	}
	for range 50 {
		b := make([]byte, 15)
		_, _ = rand.Read(b)
		sid := base64.RawURLEncoding.EncodeToString(b)
		guesses["random "+sid] = sid
	}
	for name, sid := range guesses {
		if name == "in lower case" && sid == victim.sid {
			continue
		}
		a.refused(t, sid)
	}
	// Of a session id that is given twice the last one counts, as for every parameter.
	p := &poller{t: t, s: a.server, sid: victim.sid + "&sid=AAAAAAAAAAAAAAAAAAAA", http: victim.http}
	p.unknown()

	// A session's id is no room, and its own client still has it.
	if err := a.Of("/").To(victim.sid).Emit("stolen"); err != nil {
		t.Fatal(err)
	}
	victim.post(`421["echo","still mine"]`)
	victim.get(`431["still mine"]`)
	socket.Text(`421["echo"]`)
	socket.Expect(`431[]`)
	over.Text(`422["echo"]`)
	over.Expect(`432[]`)
	ws.Text("40")
	if reply := ws.Receive(); !strings.HasPrefix(reply, `40{"sid":"`) {
		t.Errorf("the WebSocket whose id was guessed: %q", reply)
	}
	a.unharmed(t)
}

// TestSessionIDs: ids are 20 characters of base64url that never repeat: 8 that name
// the node, and 12 of which no part does not vary.
func TestSessionIDs(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	const n = 400
	seen := make(map[string]bool, 2*n)
	var chars [20]map[byte]int
	for i := range chars {
		chars[i] = make(map[byte]int)
	}
	note := func(sid string) {
		if !sidShape.MatchString(sid) || seen[sid] {
			t.Fatalf("session id %q, after %d others", sid, len(seen))
		}
		seen[sid] = true
		for i := range chars {
			chars[i][sid[i]]++
		}
	}
	for range n {
		note((&poller{t: t, s: a.server, http: a.polling.http}).open())
	}
	for range n / 10 {
		ws := wire.Dial(t, a.addr, query, nil)
		note(ws.Receive()[len(`0{"sid":"`):][:20])
	}
	for i, count := range chars {
		if i < 8 {
			if len(count) != 1 {
				t.Errorf("character %d of the ids of one node is one of %d", i, len(count))
			}
			continue
		}
		for c, times := range count {
			// Each of 64 characters is expected 7 times; 30 times happens once in 10^10 tests.
			if times > 30 {
				t.Errorf("character %d of %d ids is %q %d times", i, len(seen), c, times)
			}
		}
		if len(count) < 48 {
			t.Errorf("character %d of %d ids is one of only %d", i, len(seen), len(count))
		}
	}
	a.unharmed(t)
}

// open opens a session and returns its id.
func (p *poller) open() string {
	p.t.Helper()
	status, body := p.do("GET", "", nil)
	if status != 200 || !strings.HasPrefix(body, `0{"sid":"`) {
		p.t.Fatalf("opening poll: %d %q", status, body)
	}
	return body[len(`0{"sid":"`):][:20]
}

// TestAbortedPost: a POST that is given up ends its session, and only that.
func TestAbortedPost(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	for name, abort := range map[string]func(*raw){
		"closed":      func(r *raw) { _ = r.nc.Close() },
		"half closed": func(r *raw) { _ = r.nc.CloseWrite() },
		"reset":       func(r *raw) { _ = r.nc.SetLinger(0); _ = r.nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			p := a.pollJoined()
			before := counter(a.m.Closes[metrics.CloseTransportError])
			r := a.raw(t)
			r.send("POST " + pollPath + "&sid=" + p.sid + " HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n42[\"smug")
			abort(r)
			eventually(t, "session closed", func() bool { return counter(a.m.Closes[metrics.CloseTransportError]) == before+1 })
			p.unknown()
			a.unharmed(t)
		})
	}
}

// TestOverlappingPosts: a second POST beside one that is being read ends the
// session; neither is carried out.
func TestOverlappingPosts(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	p := a.pollJoined()
	first := a.raw(t)
	first.send("POST " + pollPath + "&sid=" + p.sid + " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n")
	if line, err := first.in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") { // it is being read
		t.Fatalf("%q, %v", line, err)
	}
	if line, err := first.in.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	first.send(`42["smug`)
	if status, body := p.do("POST", `42["smuggled"]`, nil); status != 400 || body != "" {
		t.Errorf("the second POST: %d %q", status, body)
	}
	p.unknown()
	first.send(`gled"]`)
	// Answered, or cut off.
	if resp, err := http.ReadResponse(first.in, nil); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("the first POST: %d", resp.StatusCode)
		}
	}
	a.unharmed(t)
}

// TestManyAbusers: all of it at once, and the healthy clients notice nothing.
func TestManyAbusers(t *testing.T) {
	a := newAbused(t, impatience, impatience)
	ends := make(chan error)
	waiting := 0
	for i := range 60 {
		p := a.pollJoined()
		target := pollPath + "&sid=" + p.sid
		r := a.raw(t)
		switch i % 4 {
		case 0:
			r.send("POST " + target + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4")
		case 1:
			r.send("GET " + target + " HTTP/1.1\r\nHost: x\r\nX-")
		case 2:
			r.send(strings.Repeat("GET "+target+" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", 3))
		case 3:
			r.send("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
			_ = r.nc.SetLinger(0)
			_ = r.nc.Close()
		}
		if i%4 < 2 { // the server loses patience with these
			waiting++
			go func() {
				_, err := io.Copy(io.Discard, r.in)
				ends <- err
			}()
		}
	}
	for waiting > 0 {
		a.unharmed(t)
		select {
		case err := <-ends:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the server waits for an abuser")
			}
			waiting--
		default:
		}
	}
	a.unharmed(t)
}
