package guest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/websocket"
)

// server is the other end of one connection, played by a test.
type server struct {
	t       *testing.T
	c       net.Conn
	buffer  *bufio.Reader
	reader  websocket.Reader
	pending []byte
}

// play plays a server to the first connection and returns its address.
func play(t *testing.T, script func(*server)) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	played := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-played })
	go func() {
		defer close(played)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		s := &server{t: t, c: c, buffer: bufio.NewReader(c)}
		r, err := http.ReadRequest(s.buffer)
		if err != nil {
			t.Error(err)
			return
		}
		answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
			websocket.AcceptKey(r.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n"
		// The first frame comes with the answer, as the edge sends it.
		open := websocket.AppendFrame([]byte(answer), websocket.Text, []byte(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000}`))
		_, _ = c.Write(open)
		script(s)
	}()
	return l.Addr().String()
}

func (s *server) send(text string) {
	if _, err := s.c.Write(websocket.AppendFrame(nil, websocket.Text, []byte(text))); err != nil {
		s.t.Error(err)
	}
}

// read returns the next message; "" is a close frame or the end.
func (s *server) read() string {
	limits := websocket.Limits{Server: true}
	for {
		m, rest, ok, err := s.reader.Next(s.pending, &limits)
		if err != nil {
			s.t.Error(err)
			return ""
		}
		if ok {
			s.pending = rest
			if m.Op == websocket.Close {
				return ""
			}
			return string(m.Data)
		}
		buf := make([]byte, 512)
		n, err := s.buffer.Read(buf)
		if err != nil {
			return ""
		}
		s.pending = buf[:n]
	}
}

func (s *server) expect(want string) {
	if got := s.read(); got != want {
		s.t.Errorf("the client sent %q, want %q", got, want)
	}
}

func TestConn(t *testing.T) {
	addr := play(t, func(s *server) {
		s.expect(`40{"userId":"ada"}`)
		s.send(`40{"sid":"socket-id"}`)
		s.expect(`420["join","kitchen"]`)
		s.send("2")
		s.expect("3")
		s.send(`42["presence",{"room":"kitchen","joined":["ada"],"left":[],"count":1,"seq":1}]`)
		s.send(`430[{"ok":true,"room":"kitchen","count":1,"users":["ada"]}]`)
		s.expect(`421["leave","attic"]`)
		s.send(`431[{"ok":false,"code":"room_unknown","error":"the socket is not in the room"}]`)
		s.expect("41")
		s.expect("")
		_, _ = s.c.Write(websocket.AppendFrame(nil, websocket.Close, nil))
	})
	c, err := Connect(context.Background(), addr, Hello{User: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if c.SID() != "socket-id" || c.silence != 45*time.Second {
		t.Errorf("sid %q, silence %v", c.SID(), c.silence)
	}
	var order []string // written on run's goroutine, read after it
	go func() {
		_ = c.Run(func(event []byte) { order = append(order, string(event)) })
	}()
	a, err := c.Ask(context.Background(), "join", "kitchen", func(Ack) { order = append(order, "acknowledged") })
	if err != nil || !a.OK || !strings.Contains(string(a.Raw), `"users":["ada"]`) {
		t.Errorf("join: %+v, %v", a, err)
	}
	a, err = c.Ask(context.Background(), "leave", "attic", nil)
	if err != nil || a.OK || a.Code != "room_unknown" {
		t.Errorf("leave: %+v, %v", a, err)
	}
	c.Leave()
	want := `["presence",{"room":"kitchen","joined":["ada"],"left":[],"count":1,"seq":1}] acknowledged`
	if got := strings.Join(order, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConnThatIsRefused(t *testing.T) {
	addr := play(t, func(s *server) {
		s.read()
		s.send(`44{"message":"token has expired"}`)
	})
	if _, err := Connect(context.Background(), addr, Hello{User: "ada"}); err == nil || !strings.Contains(err.Error(), "token has expired") {
		t.Errorf("%v", err)
	}
}

func TestAskEndsWithTheConnection(t *testing.T) {
	addr := play(t, func(s *server) {
		s.read()
		s.send(`40{"sid":"socket-id"}`)
		s.read()
	})
	c, err := Connect(context.Background(), addr, Hello{User: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Run(nil) }()
	if _, err := c.Ask(context.Background(), "join", "kitchen", nil); err == nil {
		t.Error("a join that was never acknowledged went well")
	}
}

// TestConnThatComesBack asks for a session, gets what it missed before the answer, falls silent, and is
// held open until the server has enough.
func TestConnThatComesBack(t *testing.T) {
	silent := make(chan struct{})
	addr := play(t, func(s *server) {
		s.expect(`40{"pid":"session","offset":"e.1-0","userId":"ada"}`)
		s.send(`42["message","kitchen",{"from":"bob"},1,"e.2-0"]`)
		s.send("2")
		s.expect("3")
		s.send(`40{"sid":"socket-id","pid":"session"}`)
		s.send(`42["message","kitchen",{"from":"bob"},2,"e.3-0"]`)
		<-silent
		s.send("2")
		_ = s.c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := s.buffer.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an abandoned connection ends or answers: %v", err)
		}
	})
	var missed []string
	c, err := Connect(context.Background(), addr, Hello{User: "ada", PID: "session", Offset: "e.1-0", Early: func(event []byte) {
		missed = append(missed, string(event))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `["message","kitchen",{"from":"bob"},1,"e.2-0"]`; len(missed) != 1 || missed[0] != want || c.PID() != "session" {
		t.Errorf("missed %q, pid %q", missed, c.PID())
	}
	live := make(chan string, 1)
	go func() { _ = c.Run(func(event []byte) { live <- string(event) }) }()
	if got := <-live; !strings.Contains(got, `2,"e.3-0"`) {
		t.Errorf("live event %s", got)
	}
	c.Abandon()
	close(silent)
	c.Linger(context.Background())
}

func TestLingerEndsWithItsContext(t *testing.T) {
	gone := make(chan struct{})
	addr := play(t, func(s *server) {
		s.read()
		s.send(`40{"sid":"socket-id"}`)
		s.read() // its end
		close(gone)
	})
	c, err := Connect(context.Background(), addr, Hello{User: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Run(nil) }()
	c.Abandon()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.Linger(ctx)
	<-gone
}
