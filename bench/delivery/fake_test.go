package delivery

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/websocket"
)

// fake is a Socket.IO server that a test plays. Each connection gets an open packet; what the client sends
// then comes out of texts.
type fake struct {
	t     *testing.T
	addr  string
	conns chan *fakeConn
}

type fakeConn struct {
	t     *testing.T
	c     net.Conn
	texts chan string // closed when the client has closed the connection
}

func newFake(t *testing.T) *fake {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, addr: l.Addr().String(), conns: make(chan *fakeConn, 16)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f
}

func (f *fake) serve(c net.Conn) {
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
	out = websocket.AppendFrame(out, websocket.Text, []byte(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}`))
	if _, err := c.Write(out); err != nil {
		return
	}
	k := &fakeConn{f.t, c, make(chan string, 64)}
	defer close(k.texts)
	f.conns <- k
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
			data = rest
			k.texts <- string(m.Data)
		}
	}
}

// patience bounds every wait of these tests; nothing is measured.
const patience = 20 * time.Second

func (f *fake) next() *fakeConn {
	f.t.Helper()
	select {
	case k := <-f.conns:
		return k
	case <-time.After(patience):
		f.t.Fatal("nobody connects")
		return nil
	}
}

func (k *fakeConn) expect(want string) {
	k.t.Helper()
	select {
	case got, ok := <-k.texts:
		if !ok || !strings.Contains(got, want) {
			k.t.Fatalf("the client sent %q (%v), want %q", got, ok, want)
		}
	case <-time.After(patience):
		k.t.Fatalf("the client does not send %q", want)
	}
}

func (k *fakeConn) send(texts ...string) {
	var out []byte
	for _, text := range texts {
		out = websocket.AppendFrame(out, websocket.Text, []byte(text))
	}
	_, _ = k.c.Write(out) // the client may be gone, which is the test's subject
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
