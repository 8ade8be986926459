package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// TestRequestHeads: what net/http refuses by itself is counted, and nothing else is.
func TestRequestHeads(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry(), "test")
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	serve := func(patience time.Duration) (addr string) {
		srv := newPublicServer(ok, newEntrance(16, nil, m, quiet), 4<<10, patience, quiet)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
		return l.Addr().String()
	}
	patient, impatient := serve(wire.Timeout), serve(400*time.Millisecond)
	const good = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		text    string
		answers []int
		counted float64
	}{
		"good":         {good, []int{200}, 0},
		"two":          {good + good, []int{200, 200}, 0},
		"the last one": {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", []int{200}, 0},
		"OPTIONS *":    {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", []int{200}, 0},
		"nothing":      {"", nil, 0},
		"junk":         {"junk\r\n\r\n", []int{400}, 1},
		"no host":      {"GET / HTTP/1.1\r\n\r\n", []int{400}, 1},
		"too large":    {"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 16<<10) + "\r\n\r\n", []int{431}, 1},
		"too slow":     {"GET / HTTP/1.1\r\n", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := testutil.ToFloat64(m.Refusals[metrics.RefusalRequestHead])
			addr := patient // a busy client may be slow by itself
			if name == "too slow" {
				addr = impatient
			}
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
			go func() { _, _ = io.WriteString(nc, c.text) }() // it need not be read to its end
			in := bufio.NewReader(nc)
			for _, want := range c.answers {
				resp, err := http.ReadResponse(in, nil)
				if err != nil || resp.StatusCode != want {
					t.Fatalf("answered %v, %v, want %d", resp, err, want)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			if c.counted == 0 {
				_ = nc.Close()
			} else if _, err := io.Copy(io.Discard, in); isTimeoutError(err) {
				t.Fatal("the connection stays")
			}
			waitFor(t, "the refusal", func() bool { return testutil.ToFloat64(m.Refusals[metrics.RefusalRequestHead]) == before+c.counted })
		})
	}
}

func isTimeoutError(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}
