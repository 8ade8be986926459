//go:build linux

package load

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// fakeServer speaks as much of the protocol as the loader needs, and can be told to deliver badly.
type fakeServer struct {
	listener net.Listener
	// spoil gets the n-th message a member is about to receive, and returns what it receives instead.
	spoil func(member string, n int, frame []byte) [][]byte
	// refuse makes the acks of messages negative.
	refuse bool

	mu    sync.Mutex
	rooms map[string][]*fakeConn
	wg    sync.WaitGroup
}

type fakeConn struct {
	net.Conn
	user     string
	received int
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{listener: l, rooms: map[string][]*fakeConn{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(&fakeConn{Conn: c}) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.wg.Wait()
	})
	return s
}

func (s *fakeServer) addr() string { return s.listener.Addr().String() }

func (s *fakeServer) serve(c *fakeConn) {
	defer c.Close()
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	up, err := websocket.CheckUpgrade(req)
	if err != nil {
		return
	}
	out := websocket.AppendSwitchingProtocols(nil, up, nil)
	out = websocket.AppendFrame(out, websocket.Text, []byte(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`))
	out = websocket.AppendFrame(out, websocket.Text, []byte{byte(socketio.EnginePing)})
	if _, err := c.Write(out); err != nil {
		return
	}
	var reader websocket.Reader
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		data := buf[:n]
		for {
			m, rest, ok, err := reader.Next(data, &websocket.Limits{Server: true})
			if err != nil || m.Op == websocket.Close {
				return
			}
			if !ok {
				break
			}
			s.packet(c, m.Data)
			data = rest
		}
	}
}

func (s *fakeServer) packet(c *fakeConn, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if user, ok := bytes.CutPrefix(text, []byte(`40{"userId":"`)); ok {
		c.user = strings.TrimSuffix(string(user), `"}`)
		s.text(c, fmt.Sprintf(`40{"sid":"socket-of-%s"}`, c.user))
		return
	}
	p, err := socketio.Parse(bytes.TrimPrefix(text, []byte("4")))
	if err != nil {
		return
	}
	args, err := socketio.SplitArray(p.Data, nil)
	if err != nil || len(args) < 2 {
		return
	}
	room := string(args[1])
	switch string(args[0]) {
	case `"join"`:
		s.rooms[room] = append(s.rooms[room], c)
		s.text(c, fmt.Sprintf(`43%d[{"ok":true}]`, p.ID))
		s.text(c, `42["presence",{"room":`+room+`}]`)
	case `"message"`:
		if s.refuse {
			s.text(c, fmt.Sprintf(`43%d[{"ok":false,"code":"busy"}]`, p.ID))
			return
		}
		s.text(c, fmt.Sprintf(`43%d[{"ok":true}]`, p.ID))
		frame := websocket.AppendFrame(nil, websocket.Text, fmt.Appendf(nil, `42["message",{"from":%q,"ts":1},%s]`, c.user, args[2]))
		for _, member := range s.rooms[room] {
			frames := [][]byte{frame}
			if s.spoil != nil {
				frames = s.spoil(member.user, member.received, frame)
			}
			member.received++
			for _, f := range frames {
				_, _ = member.Write(f) // a client that is gone shows elsewhere
			}
		}
	}
}

func (s *fakeServer) text(c *fakeConn, text string) {
	_, _ = c.Write(websocket.AppendFrame(nil, websocket.Text, []byte(text)))
}
