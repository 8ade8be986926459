package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

const pollPath = "/socket.io/?EIO=4&transport=polling"

// impatience is the time that a server under abuse gives to the headers or bodies it is not to wait for.
const impatience = 250 * time.Millisecond

// abused is a server behind net/http, bounded as the command bounds it but with
// less patience, and two healthy clients whom nothing may bother.
type abused struct {
	*server
	smuggled atomic.Int64 // events that no honest request contained
	ws       *wire.Client
	polling  *poller
	checks   int
}

// newAbused starts one that waits so long for headers and for bodies. Where it is not
// their timeouts that are tried, they are long: a client may be slow by itself.
func newAbused(t *testing.T, headers, bodies time.Duration) *abused {
	t.Helper()
	leak.Check(t)
	a := &abused{}
	m := metrics.New(prometheus.NewRegistry(), "test")
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := engine.New(engine.Config{BodyTimeout: bodies, MaxPayload: 100_000, Logger: logger}, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	echo(s)
	s.Of("/").On("smuggled", func(*engine.Socket, *engine.Event) { a.smuggled.Add(1) })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{
		Handler: s, ReadHeaderTimeout: headers, IdleTimeout: 75 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	go func() { _ = front.Serve(l) }()
	t.Cleanup(func() {
		_ = front.Close()
		ctx, cancel := context.WithTimeout(context.Background(), wire.Timeout)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	a.server = &server{Server: s, t: t, addr: l.Addr().String(), m: m}
	a.ws, _ = a.join()
	a.polling = a.pollJoined()
	return a
}

// unharmed checks that both healthy clients still get their answers.
func (a *abused) unharmed(t *testing.T) {
	t.Helper()
	a.checks++
	a.ws.Text(fmt.Sprintf(`42%d["echo","ws"]`, a.checks))
	a.ws.Expect(fmt.Sprintf(`43%d["ws"]`, a.checks))
	a.polling.post(fmt.Sprintf(`42%d["echo","polling"]`, a.checks))
	a.polling.get(fmt.Sprintf(`43%d["polling"]`, a.checks))
	if n := a.smuggled.Load(); n != 0 {
		t.Fatalf("%d smuggled events were handled", n)
	}
}

// raw is a TCP connection that does not know what it carries.
type raw struct {
	t  *testing.T
	nc *net.TCPConn
	in *bufio.Reader
}

func (a *abused) raw(t *testing.T) *raw {
	t.Helper()
	nc, err := net.DialTimeout("tcp", a.addr, wire.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(wire.Timeout))
	return &raw{t: t, nc: nc.(*net.TCPConn), in: bufio.NewReader(nc)}
}

func (r *raw) send(text string) {
	r.t.Helper()
	if _, err := io.WriteString(r.nc, text); err != nil {
		r.t.Fatal(err)
	}
}

// response reads the next response and returns its status and body.
func (r *raw) response() (int, string) {
	r.t.Helper()
	resp, err := http.ReadResponse(r.in, nil)
	if err != nil {
		r.t.Fatalf("no response: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// ended waits until the server has ended the connection and returns what it
// still said.
func (r *raw) ended() string {
	r.t.Helper()
	rest, err := io.ReadAll(r.in)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		r.t.Fatalf("the server did not end the connection after %q", rest)
	}
	return string(rest) // a reset is an end, too
}

// statuses ends the client's side and returns the statuses of all responses.
func (r *raw) statuses() []int {
	r.t.Helper()
	_ = r.nc.CloseWrite()
	var out []int
	for {
		resp, err := http.ReadResponse(r.in, nil)
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				r.t.Fatalf("the server did not end the connection after %v", out)
			}
			return out
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		out = append(out, resp.StatusCode)
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return out
		}
	}
}

// TestSmuggling sends requests of which two readers could see different bodies.
// Each is answered once, or refused, and the request that hides behind it or in
// it is never carried out.
func TestSmuggling(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	const (
		chunks = "2\r\n42\r\n0\r\n\r\n"
		te     = "Transfer-Encoding: chunked\r\n"
	)
	for _, tc := range []struct {
		name, headers, body string
		hidden              bool // a request follows that a reader might take for one of its own
		want                []int
	}{
		{"Content-Length and Transfer-Encoding", "Content-Length: 12\r\n" + te, chunks, true, []int{200}},
		{"Transfer-Encoding and Content-Length", te + "Content-Length: 2\r\n", chunks, true, []int{200}},
		{"two lengths", "Content-Length: 2\r\nContent-Length: 300\r\n", "42", true, []int{400}},
		{"a list of lengths", "Content-Length: 2, 2\r\n", "42", true, []int{400}},
		{"a signed length", "Content-Length: +2\r\n", "42", true, []int{400}},
		{"a negative length", "Content-Length: -2\r\n", "42", true, []int{400}},
		{"a length in hex", "Content-Length: 0x2\r\n", "42", true, []int{400}},
		{"an unknown coding", "Transfer-Encoding: xchunked\r\n", chunks, true, []int{501}},
		{"two codings", "Transfer-Encoding: identity, chunked\r\n", chunks, true, []int{501}},
		{"two lines of codings", te + "Transfer-Encoding: identity\r\n", chunks, true, []int{501}},
		{"a space before the colon", "Transfer-Encoding : chunked\r\n", chunks, true, []int{400}},
		{"a vertical tab before the coding", "Transfer-Encoding: \x0bchunked\r\n", chunks, true, []int{400}},
		{"a line that is folded before the coding", "Transfer-Encoding:\r\n chunked\r\n", chunks, true, []int{200}},
		{"a line that is folded before the length", "Content-Length:\r\n 2\r\n", "42", false, []int{200}},
		{"a carriage return in a header", "X-A: b\rContent-Length: 2\r\n", "42", true, []int{400}},
		{"a zero byte in a header", "X-A: \x00\r\nContent-Length: 2\r\n", "42", true, []int{400}},
		{"header lines that end with LF alone", "X-A: b\nContent-Length: 2\n", "42", false, []int{200}},
		{"chunks that end with LF alone", te, "2\n42\n0\n\n", true, []int{400}},
		{"LF in a chunk extension", te, "2;a\nxx\r\n42\r\n0\r\n\r\n", true, []int{400}},
		{"a negative chunk", te, "-2\r\n42\r\n0\r\n\r\n", true, []int{400}},
		{"a chunk of more than 64 bits", te, "ffffffffffffffffff\r\n42\r\n0\r\n\r\n", true, []int{400}},
		{"two hosts", "Host: y\r\nContent-Length: 2\r\n", "42", true, []int{400}},
		{"no body announced", "", "42", true, []int{400, 400}}, // no packet, then no request
		{"a body longer than announced", "Content-Length: 1\r\n", "42", true, []int{400, 400}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := a.pollJoined()
			target := pollPath + "&sid=" + p.sid
			text := "POST " + target + " HTTP/1.1\r\nHost: x\r\n" + tc.headers + "\r\n" + tc.body
			if tc.hidden {
				text += post(target, `42["smuggled"]`)
			}
			r := a.raw(t)
			r.send(text)
			if got := r.statuses(); !slices.Equal(got, tc.want) {
				t.Errorf("answered %v, want %v", got, tc.want)
			}
			a.unharmed(t)
		})
	}
	t.Run("a WebSocket handshake with a body", func(t *testing.T) {
		for _, headers := range []string{"Content-Length: 8\r\n", te} {
			r := a.raw(t)
			r.send("GET " + query + " HTTP/1.1\r\nHost: x\r\n" + headers + upgradeHeaders + "\r\n")
			if status, body := r.response(); status != 400 || body != "Bad request" {
				t.Errorf("%q: %d %q", headers, status, body)
			}
			_ = r.nc.CloseWrite()
			r.ended()
		}
		a.unharmed(t)
	})
}

// TestPipelining: requests behind a poll on one connection wait for it and are
// answered in order.
func TestPipelining(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	p := a.pollJoined()
	target := pollPath + "&sid=" + p.sid
	get := "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"
	r := a.raw(t)
	r.send(get + post(target, `420["echo","b"]`) + get)
	p.post(`429["echo","a"]`) // from another connection: the poll is answered, and then the rest is read
	for _, want := range []string{`439["a"]`, "ok", `430["b"]`} {
		if status, body := r.response(); status != 200 || body != want {
			t.Fatalf("%d %q, want %q", status, body, want)
		}
	}
	p.post(`421["echo"]`)
	p.get(`431[]`)
	a.unharmed(t)
}

func post(target, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body)
}

func TestHeaderFloods(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	for name, request := range map[string]string{
		"one large header":    "GET " + pollPath + " HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		"many headers":        "GET " + pollPath + " HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 5<<10) + "\r\n",
		"one long target":     "GET " + pollPath + "&a=" + strings.Repeat("a", 40<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"a large handshake":   "GET " + query + " HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders + strings.Repeat("X-A: b\r\n", 5<<10) + "\r\n",
		"headers without end": "GET " + pollPath + " HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 5<<10),
	} {
		t.Run(name, func(t *testing.T) {
			r := a.raw(t)
			go func() { _, _ = io.WriteString(r.nc, request) }() // the server need not read it all
			if status, _ := r.response(); status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("answered %d", status)
			}
			r.ended()
			a.unharmed(t)
		})
	}
}

// TestSlowHeaders: a request that comes byte by byte is not waited for.
func TestSlowHeaders(t *testing.T) {
	a := newAbused(t, impatience, wire.Timeout)
	var slow []*raw
	for range 20 {
		r := a.raw(t)
		r.send("GET " + pollPath + " HTTP/1.1\r\nHost: x\r\nX-A: ")
		slow = append(slow, r)
		go drip(r.nc)
	}
	a.unharmed(t)
	for _, r := range slow {
		r.ended()
	}
	if n := a.Conns(); n != 2 {
		t.Errorf("%d conns, want the 2 healthy ones", n)
	}
	a.unharmed(t)
}

// drip writes a byte now and then until it cannot.
func drip(nc net.Conn) {
	for {
		if _, err := nc.Write([]byte("a")); err != nil {
			return
		}
		time.Sleep(impatience / 20) // a rate, not a wait
	}
}

// TestSlowBodies: a body that does not come holds neither a connection nor a
// session for longer than Config.BodyTimeout, whatever it was for.
func TestSlowBodies(t *testing.T) {
	a := newAbused(t, wire.Timeout, impatience)
	p := a.pollJoined()
	for name, head := range map[string]string{
		"of an opening request":    "GET " + pollPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"for an unknown session":   "POST " + pollPath + "&sid=AAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4",
		"for an unknown transport": "POST /socket.io/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4",
		"for another path":         "POST /elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4",
		"of a preflight":           "OPTIONS " + pollPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4",
		"that is too large":        "POST " + pollPath + "&sid=" + p.sid + " HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n4",
		"in chunks":                "POST " + pollPath + "&sid=AAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n4",
	} {
		t.Run(name, func(t *testing.T) {
			r := a.raw(t)
			r.send(head)
			go drip(r.nc)
			r.ended()
			a.unharmed(t)
		})
	}
	p.post(`421["echo","still there"]`) // after the one that was too large
	p.get(`431["still there"]`)
	t.Run("of a session", func(t *testing.T) {
		p := a.pollJoined()
		r := a.raw(t)
		r.send("POST " + pollPath + "&sid=" + p.sid + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n42[\"smuggled\"")
		go drip(r.nc)
		r.ended()
		p.unknown()
		a.unharmed(t)
	})
}

// TestSlowBodyIsNoHostage: while a body is on its way the session goes on, and
// the body counts when it is complete.
func TestSlowBodyIsNoHostage(t *testing.T) {
	a := newAbused(t, wire.Timeout, wire.Timeout)
	p := a.pollJoined()
	p.post(`42["echo","first"]`)
	r := a.raw(t)
	r.send("POST " + pollPath + "&sid=" + p.sid + " HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n420[\"ec")
	p.get(`42["echo","first"]`)
	if err := a.Of("/").Emit("news"); err != nil {
		t.Fatal(err)
	}
	p.get(`42["news"]`)
	a.ws.Expect(`42["news"]`)
	a.polling.get(`42["news"]`)
	a.unharmed(t)
	r.send(`ho","b"]`)
	if status, body := r.response(); status != 200 || body != "ok" {
		t.Fatalf("%d %q", status, body)
	}
	p.get(`430["b"]`)
}
