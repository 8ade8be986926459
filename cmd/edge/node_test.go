package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

// testNode is a whole node on loopback listeners, with the in-process Redis.
type testNode struct {
	*node
	t    *testing.T
	log  *logBuffer
	stop func() error // ends the node and returns what run returned
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startNode(t *testing.T, more ...string) *testNode {
	t.Helper()
	leak.Check(t)
	environ := map[string]string{"LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "PEER_ADDR": "127.0.0.1:0", "PRESENCE_WINDOW": "20ms"}
	for i := 0; i < len(more); i += 2 {
		environ[more[i]] = more[i+1]
	}
	cfg, err := LoadConfig(environ)
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	n, err := newNode(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	tn := &testNode{node: n, t: t, log: log, stop: stop}
	tn.eventually("ready", func() bool {
		return tn.status(n.publicListener.Addr().String(), "/readyz") == 200 && strings.Contains(log.String(), "msg=ready")
	})
	return tn
}

func (n *testNode) eventually(what string, ok func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(wire.Timeout)
	for !ok() {
		if time.Now().After(deadline) {
			n.t.Fatalf("not %s after %v; log:\n%s", what, wire.Timeout, n.log)
		}
		time.Sleep(5 * time.Millisecond) // polling, bounded by the deadline
	}
}

func (n *testNode) fetch(addr, path string) (int, string) {
	transport := &http.Transport{DisableKeepAlives: true}
	req, _ := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func (n *testNode) status(addr, path string) int {
	status, _ := n.fetch(addr, path)
	return status
}

// testClient is a Socket.IO client that keeps the messages it was not asked for.
type testClient struct {
	*wire.Client
	t    *testing.T
	kept []string
}

// connect opens a socket with the given auth object and returns the server's answer to CONNECT.
func (n *testNode) connect(auth string) (*testClient, string) {
	n.t.Helper()
	c := &testClient{Client: wire.Dial(n.t, n.publicListener.Addr().String(), "/socket.io/?EIO=4&transport=websocket", nil), t: n.t}
	c.Pong = true
	c.Receive() // the open packet
	c.Text("40" + auth)
	return c, c.Receive()
}

// expect returns the first message, kept or new, that begins with prefix.
func (c *testClient) expect(prefix string) string {
	c.t.Helper()
	for i, m := range c.kept {
		if strings.HasPrefix(m, prefix) {
			c.kept = append(c.kept[:i], c.kept[i+1:]...)
			return m
		}
	}
	for {
		m := withoutOffset.ReplaceAllString(c.Receive(), "]")
		if strings.HasPrefix(m, prefix) {
			return m
		}
		c.kept = append(c.kept, m)
	}
}

// withoutOffset is what recovery adds to events.
var withoutOffset = regexp.MustCompile(`,"[\w-]{8}\.\d+-\d+"\]$`)

func (c *testClient) expectExactly(want string) {
	c.t.Helper()
	prefix := want[:strings.IndexByte(want, '[')]
	if got := c.expect(prefix); got != want {
		c.t.Fatalf("got %s, want %s", got, want)
	}
}

func TestNode(t *testing.T) {
	n := startNode(t)
	alice, hello := n.connect(`{"userId":"alice"}`)
	if !strings.HasPrefix(hello, `40{"sid":"`) {
		t.Fatalf("CONNECT answered with %s", hello)
	}
	alice.Text(`420["join","r1"]`)
	alice.expectSnapshot("430", "alice")

	bob, _ := n.connect(`{"userId":"bob"}`)
	bob.Text(`421["message","r1","early"]`)
	if got := bob.expect("431"); !strings.Contains(got, `"room_unknown"`) {
		t.Errorf("a message from outside the room: %s", got)
	}
	// The message right behind the join finds the membership.
	bob.Text(`422["join","r1"]`, `423["message","r1","first",{"b":1,"a":[true]}]`)
	bob.expectSnapshot("432", "alice", "bob")
	bob.expectExactly(`433[{"ok":true}]`)
	for _, c := range []*testClient{alice, bob} {
		got := c.expect(`42["message"`)
		if !strings.HasPrefix(got, `42["message","r1",{"from":"bob","ts":1`) || !strings.HasSuffix(got, `},"first",{"b":1,"a":[true]}]`) {
			t.Errorf("message: %s", got)
		}
	}
	alice.expectUpdate("bob", nil, 2)

	alice.Text(`451-["message","r1",{"_placeholder":true,"num":0}]`)
	alice.Binary([]byte("\x00bytes"))
	if got := bob.expect(`451-["message","r1",{"from":"alice",`); !strings.HasSuffix(got, `},{"_placeholder":true,"num":0}]`) {
		t.Errorf("binary message: %s", got)
	}
	if got := bob.expect("op 2"); got != `op 2 "\x00bytes"` {
		t.Errorf("attachment: %s", got)
	}

	bob.Text(`424["presence","r1"]`, `425["presence",["nobody","alice"]]`)
	bob.expectSnapshot("434", "alice", "bob")
	bob.expectExactly(`435[{"ok":true,"online":["alice"]}]`)
	bob.Text(`426["leave","r1"]`, `427["presence","r1"]`)
	bob.expectExactly(`436[{"ok":true}]`)
	if got := bob.expect("437"); !strings.Contains(got, `"room_unknown"`) {
		t.Errorf("presence of a room after leaving it: %s", got)
	}
	alice.expectUpdate("", []string{"bob"}, 1)
}

// expectSnapshot waits for the acknowledgement that lists the users of r1.
func (c *testClient) expectSnapshot(prefix string, users ...string) {
	c.t.Helper()
	got := c.expect(prefix)
	list, _ := json.Marshal(users)
	want := fmt.Sprintf(`^%s\[{"ok":true,"room":"r1","count":%d,"users":%s,"seq":[1-9][0-9]*,"epoch":"[^"]+"}\]$`, prefix, len(users), regexp.QuoteMeta(string(list)))
	if ok, err := regexp.MatchString(want, got); err != nil || !ok {
		c.t.Fatalf("got %s, want %s (%v)", got, want, err)
	}
}

// expectUpdate waits for the presence update in which joined came or left went.
func (c *testClient) expectUpdate(joined string, left []string, count int) {
	c.t.Helper()
	for {
		m := c.expect(`42["presence",`)
		var u []json.RawMessage
		var update struct {
			Room         string
			Joined, Left []string
			Count        int
			Prev, Seq    *uint64
			Epoch        string
		}
		if json.Unmarshal([]byte(m[2:]), &u) != nil || len(u) != 2 || json.Unmarshal(u[1], &update) != nil || update.Room != "r1" ||
			update.Seq == nil || update.Prev == nil || *update.Prev >= *update.Seq || update.Epoch == "" {
			c.t.Fatalf("presence update: %s", m)
		}
		if strings.Contains(fmt.Sprint(update.Joined), joined) && fmt.Sprint(update.Left) == fmt.Sprint(append([]string{}, left...)) && update.Count == count {
			return
		}
	}
}

func TestNodeRefusesBadTokens(t *testing.T) {
	n := startNode(t, "AUTH", "jwt", "AUTH_JWT_SECRET", testSecret)
	for auth, want := range map[string]string{
		`{}`:                   `44{"message":"token is missing","data":{"code":"token_missing"}}`,
		`{"token":"a.b.c"}`:    `44{"message":"token is invalid","data":{"code":"token_invalid"}}`,
		`{"userId":"someone"}`: `44{"message":"token is missing","data":{"code":"token_missing"}}`,
	} {
		if _, got := n.connect(auth); got != want {
			t.Errorf("CONNECT with %s: %s, want %s", auth, got, want)
		}
	}
	// Who wants a session back is refused, and counted, once as well.
	before := testutil.ToFloat64(n.metrics.Auths[metrics.AuthTokenInvalid])
	if _, got := n.connect(`{"token":"a.b.c","pid":"AAAAAAAAbbbbbbbbCCCC"}`); !strings.Contains(got, "token_invalid") {
		t.Errorf("CONNECT with a session: %s", got)
	}
	if refused := testutil.ToFloat64(n.metrics.Auths[metrics.AuthTokenInvalid]) - before; refused != 1 {
		t.Errorf("counted %v times", refused)
	}
}

// Shutdown closes clients so that they come back by themselves: a close frame, no DISCONNECT packet.
func TestNodeShutdown(t *testing.T) {
	n := startNode(t)
	c, _ := n.connect(`{"userId":"alice"}`)
	c.Text(`420["join","r1"]`)
	c.expect("430")
	addr := n.publicListener.Addr().String()
	stopped := make(chan error, 1)
	go func() { stopped <- n.stop() }()
	for {
		f, err := c.Next()
		if err != nil || f.Op == websocket.Close {
			if err != nil || f.Code != websocket.CodeGoingAway {
				t.Errorf("the connection ended with %v, %v; want close %d", f, err, websocket.CodeGoingAway)
			}
			break
		}
		if strings.HasPrefix(f.Data, "41") {
			t.Error("a DISCONNECT packet keeps the client from coming back")
		}
	}
	_ = c.Conn.Close()
	if err := <-stopped; err != nil {
		t.Errorf("run: %v", err)
	}
	if n.status(addr, "/healthz") != 0 {
		t.Error("the listener is still open")
	}
	for _, line := range []string{"msg=starting", "peers=" + n.peerListener.Addr().String(), "msg=ready", "msg=stopped"} {
		if got := strings.Count(n.log.String(), line); got != 1 {
			t.Errorf("%q logged %d times:\n%s", line, got, n.log)
		}
	}
}

func TestNodeWithoutPeers(t *testing.T) {
	n := startNode(t, "PEER_ADDR", "off", "PEER_SECRET", peerSecret)
	if n.peers != nil || n.peerListener != nil {
		t.Error("it has peers")
	}
	for _, part := range []string{" peers=off ", "PEER_SECRET are not used"} {
		if !strings.Contains(n.log.String(), part) {
			t.Errorf("the log has no %q:\n%s", part, n.log)
		}
	}
}

func TestNodeListenersFail(t *testing.T) {
	n := startNode(t)
	for name, environ := range map[string]map[string]string{
		"LISTEN_ADDR": {"LISTEN_ADDR": n.publicListener.Addr().String(), "ADMIN_ADDR": "127.0.0.1:0"},
		"ADMIN_ADDR":  {"LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": n.adminListener.Addr().String()},
		"PEER_ADDR":   {"LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "PEER_ADDR": n.peerListener.Addr().String()},
	} {
		cfg, err := LoadConfig(environ)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newNode(cfg, quiet); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s in use: %v", name, err)
		}
	}
}
