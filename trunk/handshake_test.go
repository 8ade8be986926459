package trunk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
)

const (
	nodeA = "node-A.."
	nodeB = "node-B.."
	nodeC = "node-C.."
)

func withSecret(s string) func(*Config) {
	return func(c *Config) { c.Secret = func() []byte { return []byte(s) } }
}

// TestOpenErrors: what Open says about a node that does not become a peer.
func TestOpenErrors(t *testing.T) {
	const refusals = 6
	tests := map[string]struct {
		a, b    func(*Config)
		wanted  string
		want    error
		dial    metrics.TrunkDial
		refusal metrics.TrunkRefusal // refusals: B was not asked, or did not refuse
	}{
		"another secret":         {withSecret(secret + "x"), nil, nodeB, ErrRefused, metrics.TrunkDialRefused, metrics.TrunkRefusalSecret},
		"a shorter secret":       {withSecret(secret[1:]), nil, nodeB, ErrRefused, metrics.TrunkDialRefused, metrics.TrunkRefusalSecret},
		"no secret here":         {withSecret(""), nil, nodeB, ErrRefused, metrics.TrunkDialRefused, refusals},
		"no secret there":        {nil, withSecret(""), nodeB, ErrRefused, metrics.TrunkDialRefused, metrics.TrunkRefusalSecret},
		"no secret anywhere":     {withSecret(""), withSecret(""), nodeB, ErrRefused, metrics.TrunkDialRefused, refusals},
		"another has its place":  {nil, nil, nodeC, ErrUnknown, metrics.TrunkDialUnknown, metrics.TrunkRefusalNode},
		"no such node":           {nil, nil, "node-X..", ErrUnknown, metrics.TrunkDialUnknown, refusals},
		"nobody there":           {nil, nil, "node-N..", ErrUnreachable, metrics.TrunkDialUnreachable, refusals},
		"address cannot be read": {func(c *Config) { c.Resolve = failing }, nil, nodeB, ErrUnreachable, metrics.TrunkDialUnreachable, refusals},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fleet
				var n network
				a, b := testNode(&f, nodeA, nil, tt.a), testNode(&f, nodeB, echo, tt.b)
				servePipe(t, &f, &n, a)
				servePipe(t, &f, &n, b)
				f.set(nodeC, "of "+nodeB)
				f.set("node-N..", "nowhere")
				s, err := a.Open(t.Context(), tt.wanted, newRecorder())
				if s != nil || !errors.Is(err, tt.want) {
					t.Fatalf("Open: %v, want %v", err, tt.want)
				}
				if got := testutil.ToFloat64(a.metrics.TrunkDials[tt.dial]); got != 1 {
					t.Errorf("%v dials counted as %v", got, tt.dial)
				}
				synctest.Wait()
				for i, c := range b.metrics.TrunkRefusals {
					want := 0.0
					if metrics.TrunkRefusal(i) == tt.refusal {
						want = 1
					}
					if got := testutil.ToFloat64(c); got != want {
						t.Errorf("%v refusals counted as %v, want %v", got, metrics.TrunkRefusal(i), want)
					}
				}
			})
		})
	}
}

func failing(context.Context, string) (string, error) { return "", errors.New("redis is away") }

// recording keeps what is written to a connection.
type recording struct {
	net.Conn
	hello chan []byte // capacity 1: what is written first
}

func (r recording) Write(p []byte) (int, error) {
	select {
	case r.hello <- bytes.Clone(p):
	default:
	}
	return r.Conn.Write(p)
}

// slowStep is the time between two bytes of a slow handshake.
const slowStep = 30 * time.Millisecond

// TestStrangers: what the listener does with connections that are none of a node.
func TestStrangers(t *testing.T) {
	tests := map[string]struct {
		say  func(t *testing.T, c net.Conn, recorded []byte)
		want metrics.TrunkRefusal
	}{
		"garbage": {func(_ *testing.T, c net.Conn, _ []byte) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}, metrics.TrunkRefusalProtocol},
		"gone at once": {func(_ *testing.T, c net.Conn, _ []byte) { c.Close() }, metrics.TrunkRefusalProtocol},
		"gone in the middle": {func(_ *testing.T, c net.Conn, recorded []byte) {
			_, _ = c.Write(recorded[:40])
			c.Close()
		}, metrics.TrunkRefusalProtocol},
		"silent": {func(*testing.T, net.Conn, []byte) {}, metrics.TrunkRefusalTimeout},
		"slow": {func(_ *testing.T, c net.Conn, recorded []byte) {
			for _, b := range recorded {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(slowStep) // of the bubble's clock
			}
		}, metrics.TrunkRefusalTimeout},
		"replay": {func(t *testing.T, c net.Conn, recorded []byte) {
			_, _ = c.Write(recorded)
			verdict := make([]byte, verdictBytes)
			if _, err := io.ReadFull(c, verdict); err != nil {
				t.Error(err)
			}
			if verdict[0] != statusSecret || !bytes.Equal(verdict[1:], make([]byte, proofBytes)) {
				t.Errorf("a stranger was told %x", verdict)
			}
		}, metrics.TrunkRefusalSecret},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fleet
				var n network
				a, b := testNode(&f, nodeA, nil, nil), testNode(&f, nodeB, echo, nil)
				servePipe(t, &f, &n, a)
				servePipe(t, &f, &n, b)
				hello := make(chan []byte, 1)
				n.wrap = func(c net.Conn) net.Conn { return recording{pipeConn{c, "of " + nodeB}, hello} }
				open(t, a, nodeB, newRecorder())
				n.wrap = nil

				c, err := n.dial(t.Context(), "of "+nodeB)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				greeting := make([]byte, greetingBytes)
				if _, err := io.ReadFull(c, greeting); err != nil || string(greeting[:len(magic)]) != magic {
					t.Fatalf("greeting %q, %v", greeting, err)
				}
				began := time.Now()
				tt.say(t, c, <-hello)
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				rest, err := io.ReadAll(c)
				if err != nil && !errors.Is(err, io.ErrClosedPipe) || len(rest) > 0 {
					t.Errorf("the listener said %x, %v", rest, err)
				}
				if took := time.Since(began); took > b.times.handshake+slowStep {
					t.Errorf("closed after %v", took)
				}
				synctest.Wait()
				if got := testutil.ToFloat64(b.metrics.TrunkRefusals[tt.want]); got != 1 {
					t.Errorf("%v refusals counted as %v", got, tt.want)
				}
			})
		})
	}
}

// TestImpostors: what the dialer says of listeners that are not the node.
func TestImpostors(t *testing.T) {
	greeting := append([]byte(magic), make([]byte, nonceBytes)...)
	tests := map[string]struct {
		play func(c net.Conn)
		want error
		took time.Duration
	}{
		"another program": {func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n") }, ErrRefused, 0},
		"closes":          {func(c net.Conn) { c.Close() }, ErrUnreachable, 0},
		"silent":          {func(net.Conn) {}, ErrUnreachable, usual.handshake},
		"silent after the greeting": {func(c net.Conn) {
			_, _ = c.Write(greeting)
			_, _ = io.ReadFull(c, make([]byte, helloBytes))
		}, ErrUnreachable, usual.handshake},
		"does not know the secret": {func(c net.Conn) {
			_, _ = c.Write(greeting)
			_, _ = io.ReadFull(c, make([]byte, helloBytes))
			_, _ = c.Write(append([]byte{statusOK}, make([]byte, proofBytes)...))
		}, ErrRefused, 0},
		"sends the proof back": {func(c net.Conn) {
			_, _ = c.Write(greeting)
			hello := make([]byte, helloBytes)
			_, _ = io.ReadFull(c, hello)
			_, _ = c.Write(append([]byte{statusOK}, hello[helloBytes-proofBytes:]...))
		}, ErrRefused, 0},
		"says without proof that it is another node": {func(c net.Conn) {
			_, _ = c.Write(greeting)
			_, _ = io.ReadFull(c, make([]byte, helloBytes))
			_, _ = c.Write(append([]byte{statusNode}, make([]byte, proofBytes)...))
		}, ErrRefused, 0},
		"is shutting down": {func(c net.Conn) {
			_, _ = greet(c, nodeB, []byte(secret), func() bool { return true })
		}, ErrUnreachable, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fleet
				var n network
				a := testNode(&f, nodeA, nil, nil)
				servePipe(t, &f, &n, a)
				l := n.listen("impostor")
				f.set(nodeB, "impostor")
				go func() {
					c, err := l.Accept()
					if err != nil {
						t.Error(err)
						return
					}
					tt.play(c)
				}()
				began := time.Now()
				_, err := a.Open(t.Context(), nodeB, newRecorder())
				if !errors.Is(err, tt.want) {
					t.Errorf("Open: %v, want %v", err, tt.want)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("after %v, want %v", took, tt.took)
				}
			})
		})
	}
}

// TestCrowd: handshakes beyond the bound are closed at once, and the bound is
// free again when they are over.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a, b := testNode(&f, nodeA, nil, nil), testNode(&f, nodeB, echo, nil)
		servePipe(t, &f, &n, a)
		servePipe(t, &f, &n, b)
		for range maxHandshakes {
			c, err := n.dial(t.Context(), "of "+nodeB)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		if _, err := a.Open(t.Context(), nodeB, newRecorder()); !errors.Is(err, ErrUnreachable) {
			t.Errorf("Open in a crowd: %v", err)
		}
		if got := testutil.ToFloat64(b.metrics.TrunkRefusals[metrics.TrunkRefusalCrowd]); got != 1 {
			t.Errorf("%v refused as a crowd", got)
		}
		time.Sleep(b.times.handshake + time.Millisecond)
		open(t, a, nodeB, newRecorder())
	})
}

// TestCloseInHandshake: Close does not wait for strangers.
func TestCloseInHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		b := testNode(&f, nodeB, echo, nil)
		servePipe(t, &f, &n, b)
		c, err := n.dial(t.Context(), "of "+nodeB)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, greetingBytes)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if got := testutil.ToFloat64(b.metrics.TrunkRefusals[metrics.TrunkRefusalShutdown]); got != 1 {
			t.Errorf("%v refused because of the shutdown", got)
		}
	})
}

func TestWarningsAreRare(t *testing.T) {
	var w warnings
	at := time.Now()
	if !w.due("a", at) || w.due("a", at.Add(warnEvery-1)) || !w.due("b", at) || !w.due("a", at.Add(warnEvery)) {
		t.Error("not once per host and interval")
	}
	for i := range 2 * warnHosts {
		w.due(string(rune(1000+i)), at)
	}
	if len(w.last) > warnHosts {
		t.Errorf("%d hosts are remembered", len(w.last))
	}
	if !w.due("c", at.Add(2*warnEvery)) {
		t.Error("no warning after the hosts should have been forgotten")
	}
}
