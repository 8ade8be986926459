package chaos

import (
	"io"
	"net"
	"testing"
	"time"
)

// patience bounds every wait of these tests; nothing is measured.
const patience = 10 * time.Second

// echo is a server that sends back its name and then what it gets.
func echo(t *testing.T, name byte) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte{name})
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func newProxy(t *testing.T, target string) *Proxy {
	p, err := NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func through(t *testing.T, p *Proxy) net.Conn {
	c, err := net.Dial("tcp4", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d bytes, %v, want the end", n, err)
	} else if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		t.Fatal("the connection has not ended")
	}
}

func TestProxyPassesAndRetargets(t *testing.T) {
	p := newProxy(t, echo(t, 'a'))
	old := through(t, p)
	expect(t, old, "a")
	p.Retarget(echo(t, 'b'))
	expect(t, through(t, p), "b")
	_, _ = old.Write([]byte("still"))
	expect(t, old, "still")
}

func TestProxyRefuses(t *testing.T) {
	p := newProxy(t, echo(t, 'a'))
	old := through(t, p)
	expect(t, old, "a")
	p.Refuse()
	expectEnd(t, old)
	if c, err := net.Dial("tcp4", p.Addr()); err == nil { // else it was reset before Dial returned
		_ = c.SetDeadline(time.Now().Add(patience))
		expectEnd(t, c)
		c.Close()
	}
	p.Pass()
	expect(t, through(t, p), "a")
}

func TestProxyHoldsAndLosesNothing(t *testing.T) {
	p := newProxy(t, echo(t, 'a'))
	old := through(t, p)
	expect(t, old, "a")
	p.Hold()
	_, _ = old.Write([]byte("later"))
	fresh := through(t, p)
	_ = old.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := old.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d bytes, %v, while everything is held", n, err)
	}
	_ = old.SetReadDeadline(time.Now().Add(patience))
	p.Pass()
	expect(t, old, "later")
	expect(t, fresh, "a")
}

func TestProxyDropsWhatIsHeld(t *testing.T) {
	p := newProxy(t, echo(t, 'a'))
	old := through(t, p)
	expect(t, old, "a")
	p.Hold()
	_, _ = old.Write([]byte("never"))
	p.Drop()
	expectEnd(t, old)
	p.Pass()
	expect(t, through(t, p), "a")
}
