package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// fuzzed is a server that outlives the inputs of a fuzz target. It listens on a Unix
// socket, of which there are always enough.
type fuzzed struct {
	*engine.Server
	m    *metrics.Metrics
	path string
}

func newFuzzed(f *testing.F, cfg engine.Config) *fuzzed {
	f.Helper()
	m := metrics.New(prometheus.NewRegistry(), "test")
	cfg.Logger, cfg.Pollers = slog.New(slog.DiscardHandler), 1
	s, err := engine.New(cfg, nil, m)
	if err != nil {
		f.Fatal(err)
	}
	echo(s)
	if err := s.Start(); err != nil {
		f.Fatal(err)
	}
	z := &fuzzed{Server: s, m: m, path: filepath.Join(f.TempDir(), "s")}
	l, err := net.Listen("unix", z.path)
	if err != nil {
		f.Fatal(err)
	}
	front := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() { _ = front.Serve(l) }()
	f.Cleanup(func() {
		_ = front.Close()
		ctx, cancel := context.WithTimeout(context.Background(), wire.Timeout)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			f.Errorf("shutdown: %v", err)
		}
	})
	z.pollersRun(f)
	return z
}

// pollersRun waits until the event loop has handled something: nbio's Engine.Stop waits for
// ever for a poller whose goroutine begins after it, which happens where no input needs one.
func (z *fuzzed) pollersRun(f *testing.F) {
	f.Helper()
	nc, err := net.Dial("unix", z.path)
	if err != nil {
		f.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(wire.Timeout))
	in := bufio.NewReader(nc)
	if _, err := io.WriteString(nc, "GET "+query+" HTTP/1.1\r\nHost: x\r\n"+upgradeHeaders+"\r\n"); err != nil {
		f.Fatal(err)
	}
	for line := ""; line != "\r\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			f.Fatal(err)
		}
	}
	if _, err := nc.Write(websocket.AppendMaskedFrame(nil, websocket.Close, nil, [4]byte{1, 2, 3, 4})); err != nil {
		f.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		f.Fatal(err)
	}
}

// do serves a request.
func (z *fuzzed) do(method, rawQuery, body string, header http.Header) *httptest.ResponseRecorder {
	r := &http.Request{
		Method: method, URL: &url.URL{Path: "/socket.io/", RawQuery: rawQuery}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Host: "h", RemoteAddr: "192.0.2.1:1", Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
	w := httptest.NewRecorder()
	z.ServeHTTP(w, r)
	return w
}

// open opens a session that polls.
func (z *fuzzed) open(t *testing.T) (rawQuery string) {
	t.Helper()
	w := z.do("GET", "EIO=4&transport=polling", "", http.Header{})
	open, err := socketio.ParseOpen(w.Body.Bytes()[1:])
	if err != nil {
		t.Fatal(err)
	}
	return "EIO=4&transport=polling&sid=" + open.SID
}

// unharmed fails the test after a panic, and waits for the conns to be gone.
func (z *fuzzed) unharmed(t *testing.T) {
	t.Helper()
	if n := counter(z.m.Closes[metrics.ClosePanic]); n != 0 {
		t.Fatalf("%v conns were closed after a panic", n)
	}
	eventually(t, "all conns to be gone", func() bool { return z.Conns() == 0 })
}

// FuzzQuery: a session is opened by a request that asks for it by the last of each
// parameter, and by no other; what is refused is counted.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{
		"EIO=4&transport=polling", "EIO=3&transport=polling", "EIO=4&EIO=3&transport=polling", "transport=polling&transport=websocket&EIO=4",
		"EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", "EIO=4&transport=polling&sid=__proto__", "EIO=4;transport=polling", "EIO=4&transport=polling&sid=",
		"EIO=%34&transport=%70olling", "EIO=4&transport=polling&%zz", "EIO=4&transport=constructor", "__proto__[EIO]=4&transport=polling", "",
	} {
		f.Add("GET", q, "", "")
		f.Add("POST", q, "websocket", "Upgrade")
	}
	z := newFuzzed(f, engine.Config{})
	f.Fuzz(func(t *testing.T, method, rawQuery, upgrade, connection string) {
		header := http.Header{}
		if upgrade != "" {
			header["Upgrade"], header["Connection"] = []string{upgrade}, []string{connection}
		}
		refused := func() (n float64) {
			for _, c := range z.m.Refusals {
				n += counter(c)
			}
			return n
		}
		before := refused()
		w := z.do(method, rawQuery, "", header)
		q, _ := url.ParseQuery(rawQuery)
		last := func(name string) string { return append([]string{""}, q[name]...)[len(q[name])] }
		legal := method == http.MethodGet && last("transport") == "polling" && last("EIO") == "4" && last("sid") == "" && !strings.EqualFold(upgrade, "websocket")
		body, opened := strings.CutPrefix(w.Body.String(), "0")
		if opened != legal || opened && w.Code != 200 {
			t.Fatalf("%s %q with %q is answered %d %q", method, rawQuery, upgrade, w.Code, w.Body)
		}
		if !opened {
			if w.Code < 400 || refused() != before+1 {
				t.Errorf("%s %q is answered %d, and %v refusals are counted", method, rawQuery, w.Code, refused()-before)
			}
			return
		}
		open, err := socketio.ParseOpen([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		z.do("POST", "EIO=4&transport=polling&sid="+open.SID, "1", http.Header{})
		z.unharmed(t)
	})
}

// FuzzPost: whatever a client posts, it is answered, what it is sent is what
// Socket.IO may send, and nothing is left of it.
func FuzzPost(f *testing.F) {
	for _, body := range []string{
		"", "3", "420[\"echo\",1]\x1e421[\"echo\",{\"__proto__\":1}]", "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1ebAQID", "b", "b!", "\x1e\x1e", "41", "1", "2probe",
		"4510-", "450-[\"a\"]", "451-[\"echo\",{\"_placeholder\":true,\"num\":1e9}]", "40/admin,", "42[\"connect\"]", "4", "4\xff", "44{}", "430[]",
	} {
		f.Add(body, true)
		f.Add(body, false)
	}
	z := newFuzzed(f, engine.Config{MaxPayload: 4096})
	f.Fuzz(func(t *testing.T, body string, join bool) {
		session := z.open(t)
		if join {
			z.do("POST", session, "40", http.Header{})
		}
		posted := z.do("POST", session, body, http.Header{})
		switch {
		case posted.Code == 200 && posted.Body.String() == "ok":
		case posted.Code == 400, posted.Code == 413 && len(body) > 4096:
		default:
			t.Fatalf("POST of %q is answered %d %q", body, posted.Code, posted.Body)
		}
		if posted.Code != 400 {
			z.do("POST", session, "1", http.Header{}) // the next GET is answered at once, if the session is still known
		}
		if w := z.do("GET", session, "", http.Header{}); w.Code == 200 {
			checkServerPayload(t, w.Body.Bytes())
		}
		z.unharmed(t)
	})
}

// checkServerPayload checks that a server may send these packets.
func checkServerPayload(t *testing.T, payload []byte) {
	t.Helper()
	for more := true; more; {
		var packet []byte
		packet, payload, more = socketio.CutPayload(payload)
		e, err := socketio.ParseEngine(packet)
		if err != nil {
			t.Fatalf("sent %q: %v", packet, err)
		}
		if e.Type == socketio.EngineMessage && !e.Binary {
			if _, err := socketio.Parse(e.Data); err != nil {
				t.Fatalf("sent %q: %v", packet, err)
			}
		}
	}
}

// FuzzFrames: whatever a client sends on a WebSocket, the server sends frames and
// closes it at the latest when the client does.
func FuzzFrames(f *testing.F) {
	masked := func(op websocket.Opcode, text string) []byte {
		return websocket.AppendMaskedFrame(nil, op, []byte(text), [4]byte{1, 2, 3, 4})
	}
	for _, in := range [][]byte{
		masked(websocket.Text, "40"), append(masked(websocket.Text, "40"), masked(websocket.Text, `420["echo",1]`)...),
		append(append(masked(websocket.Text, "40"), masked(websocket.Text, `451-["echo",{"_placeholder":true,"num":0}]`)...), masked(websocket.Binary, "x")...),
		masked(websocket.Ping, "p"), masked(websocket.Close, "\x03\xe8"), masked(websocket.Text, "\xff"), {0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		{0xc1, 0x83, 0, 0, 0, 0, 0x4a, 0x04, 0x00}, {0x01, 0x80, 0, 0, 0, 0, 0x00, 0x80, 0, 0, 0, 0}, {0x81, 0x00}, {0xf1, 0x80},
	} {
		f.Add(in)
	}
	z := newFuzzed(f, engine.Config{MaxPayload: 4096, Deflate: &engine.Deflate{}})
	f.Fuzz(func(t *testing.T, in []byte) {
		nc, err := net.Dial("unix", z.path)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(wire.Timeout))
		request := "GET " + query + " HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n" + upgradeHeaders + "\r\n"
		if _, err := nc.Write(append([]byte(request), in...)); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("write: %v", err) // the server may have hung up before all was read
		}
		_ = nc.(*net.UnixConn).CloseWrite()
		out, err := io.ReadAll(nc)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Fatalf("%x: the connection stays", in)
		}
		head, rest, _ := bytes.Cut(out, []byte("\r\n\r\n"))
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
			t.Fatalf("answered %q", out)
		}
		var r websocket.Reader
		r.AcceptDeflate()
		limits := websocket.Limits{MaxMessage: 1 << 20, Inflater: new(websocket.Inflater)}
		for {
			m, more, ok, err := r.Next(rest, &limits)
			if err != nil {
				t.Fatalf("%x: the server sent %q: %v", in, out, err)
			}
			if !ok {
				break
			}
			rest = more
			if m.Op == websocket.Text {
				checkServerPayload(t, m.Data)
			}
		}
		z.unharmed(t)
	})
}

// script is messages between nodes as a fuzz target makes them up: the kind, the
// length of the payload, the payload.
type script []byte

// next takes one message; S at the beginning of its payload stands for an id.
func (s *script) next(id string) (kind byte, payload []byte, ok bool) {
	b := *s
	if len(b) < 2 {
		return 0, nil, false
	}
	n := min(int(b[1]), len(b)-2)
	kind, payload, *s = b[0], bytes.Clone(b[2:2+n]), b[2+n:]
	if rest, found := bytes.CutPrefix(payload, []byte("S")); found {
		payload = append([]byte(id), rest...)
	}
	return kind, payload, true
}

func scriptOf(messages ...string) (s script) {
	for _, m := range messages {
		kind, payload, _ := strings.Cut(m, " ")
		n, _ := strconv.Atoi(kind)
		s = append(append(s, byte(n), byte(len(payload))), payload...)
	}
	return s
}

// silentStream takes what is sent and keeps nothing.
type silentStream struct{}

func (silentStream) Send(byte, []byte) error { return nil }
func (silentStream) Close()                  {}

// FuzzPeer: whatever the node sends that a client of this one's has gone to, nothing
// panics, and the session ends with the stream or goes on polling.
func FuzzPeer(f *testing.F) {
	for _, s := range []script{
		scriptOf("1 S", "3 S"), scriptOf("2 S40\x1e420[\"echo\",1]"), scriptOf("2 S4\xff"), scriptOf("12 S"), scriptOf("13 S"), scriptOf("13 x"), scriptOf("3 S", "4", "5"),
		scriptOf("3 S", "4", "5 \x01", "7 \x01", "8", "9", "9 \x01", "6 \x81\x80\x00\x00\x00\x00", "10", "11 \x00"), scriptOf("3 S", "5", "6 \x81\x82\x00\x00\x00\x0040", "7 \xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		scriptOf("99 S"), scriptOf("1"),
	} {
		f.Add([]byte(s))
	}
	z := newFuzzed(f, engine.Config{Node: "owner___", Peers: newMesh(), Recovery: &engine.Recovery{}})
	f.Fuzz(func(t *testing.T, in []byte) {
		session := z.open(t)
		id := session[strings.LastIndexByte(session, '=')+1:]
		s := script(in)
		if kind, payload, ok := s.next(id); ok {
			if r := z.Accept(silentStream{}, kind, payload); r != nil {
				for {
					kind, payload, ok := s.next(id)
					if !ok {
						break
					}
					r.Receive(kind, payload)
				}
				r.Broken(errors.New("over"))
			}
		}
		z.do("POST", session, "1", http.Header{})
		z.unharmed(t)
	})
}

// ownerScript is engine.Peers with one other node, which says what a script says once
// it was told that the client ended its polls.
type ownerScript struct {
	rest script
	sid  string
	over chan struct{} // closed when it has said all
}

type ownerStream struct {
	*ownerScript
	to engine.Receiver
}

func (o *ownerScript) Open(_ context.Context, _ string, r engine.Receiver) (engine.Stream, error) {
	return &ownerStream{o, r}, nil
}

func (o *ownerStream) Send(kind byte, _ []byte) error {
	switch kind {
	case engine.MsgUpgrade:
		go o.to.Receive(engine.MsgAnswer, append([]byte{0, 200, 0xff}, "deflate"...))
	case engine.MsgTake:
		go func() {
			defer close(o.over)
			for {
				kind, payload, ok := o.rest.next(o.sid)
				if !ok {
					break
				}
				o.to.Receive(kind, payload)
			}
			o.to.Broken(errors.New("over"))
		}()
	}
	return nil
}

func (o *ownerStream) Close() {}

// peersOf lets the other node be another one for each input.
type peersOf struct{ now engine.Peers }

func (p *peersOf) Open(ctx context.Context, node string, r engine.Receiver) (engine.Stream, error) {
	return p.now.Open(ctx, node, r)
}

// FuzzOwner: whatever the owner of a session sends to the node that holds its
// WebSocket, an offer of the conn included, nothing panics, and the WebSocket ends
// with the stream.
func FuzzOwner(f *testing.F) {
	offer := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return "24 " + string(b)
	}
	type m = map[string]any
	for _, s := range []script{
		scriptOf("21", "22 \x81\x0240", "23", "25 {}", "26 "+strings.Repeat("a", 21)),
		scriptOf(offer(m{}), "25 {}"), scriptOf(offer(m{"sockets": []m{{"nsp": "/", "sid": "AAAAAAAAAAAAAAAAAAAA", "pid": "p", "generation": 1, "rooms": []string{"cg=="}}}}), `25 {"ops":[{"socket":-1,"op":"join"},{"socket":9,"op":"data"}]}`, "26 \x01AAAAAAAAAAAAAAAAAAAA"),
		scriptOf(offer(m{"sockets": []m{{"nsp": "/", "sid": "__proto__", "pid": "p", "generation": 18446744073709551615.0}}})), scriptOf(offer(m{"handshake": m{"address": "x", "query": "%zz"}})),
		scriptOf("20 \x00\xc8\xff", "20"), scriptOf("24 {", "24 null", "23", "21"),
	} {
		f.Add([]byte(s))
	}
	peers := &peersOf{}
	z := newFuzzed(f, engine.Config{Node: "other___", Peers: peers, Recovery: &engine.Recovery{}})
	f.Fuzz(func(t *testing.T, in []byte) {
		o := &ownerScript{rest: in, sid: "owner___AAAAAAAAAAAA", over: make(chan struct{})}
		peers.now = o
		nc, err := net.Dial("unix", z.path)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(wire.Timeout))
		request := []byte("GET " + query + "&sid=" + o.sid + " HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders + "\r\n")
		for _, text := range []string{"2probe", "5"} {
			request = websocket.AppendMaskedFrame(request, websocket.Text, []byte(text), [4]byte{1, 2, 3, 4})
		}
		if _, err := nc.Write(request); err != nil {
			t.Fatal(err)
		}
		receive(t, "the end of what the owner says", o.over)
		if _, err := io.Copy(io.Discard, nc); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Fatal("the WebSocket stays")
			}
		}
		z.unharmed(t)
	})
}
