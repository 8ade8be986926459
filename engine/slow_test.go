//go:build unix

package engine_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// listenTight listens with a kernel that keeps little for each connection, so that a client that does not read
// is noticed after few messages.
func listenTight(t *testing.T, sendBuffer int) net.Listener {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var refused error
		if err := c.Control(func(fd uintptr) {
			refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
		}); err != nil {
			return err
		}
		return refused
	}}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSlowReadersHurtNobody: of 200 clients 20 stop reading. They are closed as slow readers as soon as
// more waits for them than the bound allows, not before, and the others get every message in order.
func TestSlowReadersHurtNobody(t *testing.T) {
	leak.Check(t)
	const (
		clients, slow = 200, 20
		outbox, size  = 256 << 10, 10_000
		sendBuffer    = 32 << 10
		receiveBuffer = 8 << 10
		// What the kernels hold of a connection at most: both buffers, which Linux doubles, and as much again in the
		// client's first window.
		inKernel = 2*sendBuffer + 2*receiveBuffer + 128<<10
		// One write that the kernel took a part of waits in the event loop.
		mostBytes = outbox + 64<<10 + inKernel
	)
	m := metrics.New(prometheus.NewRegistry(), "test")
	srv, err := engine.New(engine.Config{OutboxBytes: outbox, MaxPayload: size, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	srv.Of("/")
	s := startOn(t, srv, m, listenTight(t, sendBuffer))
	readers := make([]*wire.Client, 0, clients-slow)
	for i := range clients {
		c, _ := s.join()
		if i%(clients/slow) == 0 {
			if err := c.Conn.(*net.TCPConn).SetReadBuffer(receiveBuffer); err != nil {
				t.Fatal(err)
			}
			continue // and never reads again
		}
		c.Pong = true
		readers = append(readers, c)
	}
	// Everybody that reads says so of each message, so that nobody of them lags.
	got := make(chan error, len(readers))
	for _, c := range readers {
		go func() {
			for n := 0; ; n++ {
				f, err := c.Next()
				switch {
				case err != nil:
					err = fmt.Errorf("instead of message %d: %w", n, err)
				case f.Data == `42["end"]`:
					got <- nil
					return
				case !strings.HasPrefix(f.Data, fmt.Sprintf(`42["news",%d,"`, n)):
					err = fmt.Errorf("instead of message %d: %.40q", n, f.Data)
				}
				got <- err
				if err != nil {
					return
				}
			}
		}()
	}
	say := func(event string, args ...any) {
		t.Helper()
		if err := s.Of("/").Emit(event, args...); err != nil {
			t.Fatal(err)
		}
		for range readers {
			if err := <-got; err != nil {
				t.Fatal(err)
			}
		}
	}
	closed := func() float64 { return counter(m.Closes[metrics.CloseSlowReader]) }
	padding := strings.Repeat("x", size-100)
	n := 0
	for ; closed() < slow; n++ {
		if sent := n * size; sent > mostBytes+size {
			t.Fatalf("%v of %d slow readers closed after %d bytes", closed(), slow, sent)
		}
		if sent := n * size; sent < outbox && closed() > 0 {
			t.Fatalf("%v closed after %d bytes, before their outboxes can be full", closed(), sent)
		}
		say("news", n, padding)
	}
	say("end")
	eventually(t, "the slow readers to be gone", func() bool { return s.Conns() == clients-slow })
	for reason, c := range m.Closes {
		if v := counter(c); v != 0 && metrics.Close(reason) != metrics.CloseSlowReader {
			t.Errorf("%v closed for reason %v", v, metrics.Close(reason))
		}
	}
}
