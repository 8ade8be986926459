package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/wire"
	"github.com/stellara/edge/metrics"
)

// opening sends an opening request from an address of the loopback network. The connection stays
// open until the test ends.
func (s *server) opening(from, transport string) *http.Response {
	s.t.Helper()
	dialer := net.Dialer{Timeout: wire.Timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := dialer.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(wire.Timeout))
	headers := ""
	if transport == "websocket" {
		headers = upgradeHeaders
	}
	if _, err := fmt.Fprintf(nc, "GET /socket.io/?EIO=4&transport=%s HTTP/1.1\r\nHost: x\r\n%s\r\n", transport, headers); err != nil {
		s.t.Fatal(err)
	}
	in := bufio.NewReader(nc)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode >= 400 { // refused: the connection must end
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			s.t.Fatal(err)
		}
		if _, err := in.ReadByte(); err != io.EOF {
			s.t.Errorf("after %s the connection does not end: %v", resp.Status, err)
		}
	}
	return resp
}

// expectOpening checks the answer to an opening request; a refusal is counted and says when to come back.
func (s *server) expectOpening(from, transport string, status int, why metrics.Refusal) {
	s.t.Helper()
	before := counter(s.m.Refusals[why])
	resp := s.opening(from, transport)
	if resp.StatusCode != status {
		s.t.Fatalf("%s from %s: %s, want %d", transport, from, resp.Status, status)
	}
	if status < 400 {
		return
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		s.t.Errorf("%s: Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	counts(s.t, s.m.Refusals[why], before+1)
}

// practically never: what a limit lets in again within a test.
const never = 0.001

// TestConnectRatePerSource: one source over its limit is refused, on both transports, another one is
// not, and what is open goes on.
func TestConnectRatePerSource(t *testing.T) {
	s := newServer(t, engine.Config{ConnectRatePerSource: never, ConnectBurstPerSource: 4}, echo)
	ws, _ := s.join()
	polls := s.pollJoined()
	upgrading := s.pollJoined()
	s.expectOpening("127.0.0.1", "websocket", 101, 0)
	for range 3 {
		s.expectOpening("127.0.0.1", "websocket", 429, metrics.RefusalRateSource)
		s.expectOpening("127.0.0.1", "polling", 429, metrics.RefusalRateSource)
	}
	s.expectOpening("127.0.0.2", "websocket", 101, 0)
	s.expectOpening("127.0.0.2", "polling", 200, 0)

	ws.Text(`421["echo",1]`)
	ws.Expect(`431[1]`)
	polls.post(`422["echo",2]`)
	polls.get(`432[2]`)
	over := wire.Dial(t, s.addr, query+"&sid="+upgrading.sid, nil)
	over.Text("2probe", "5", `423["echo",3]`)
	over.Expect("3probe", `433[3]`)
	if n := counter(s.m.Refusals[metrics.RefusalRate]); n != 0 {
		t.Errorf("%v refusals for all", n)
	}
}

// TestConnectRate: the limit for all is one for all, and a refused source keeps its turn.
func TestConnectRate(t *testing.T) {
	s := newServer(t, engine.Config{ConnectRate: never, ConnectBurst: 2, ConnectRatePerSource: never, ConnectBurstPerSource: 1}, echo)
	s.expectOpening("127.0.0.1", "websocket", 101, 0)
	s.expectOpening("127.0.0.1", "websocket", 429, metrics.RefusalRateSource) // does not count for the others
	s.expectOpening("127.0.0.2", "polling", 200, 0)
	s.expectOpening("127.0.0.3", "polling", 503, metrics.RefusalRate)
	s.expectOpening("127.0.0.3", "websocket", 503, metrics.RefusalRate) // not 429: it has had nothing yet
}

// TestConnectRateComesFirst: a request over the limit costs nothing that is looked up for openings.
func TestConnectRateComesFirst(t *testing.T) {
	asked := 0
	s := newServer(t, engine.Config{ConnectRate: never, ConnectBurst: 1, Allow: func(*http.Request) error { asked++; return nil }}, echo)
	s.expectOpening("127.0.0.1", "polling", 200, 0)
	s.expectOpening("127.0.0.1", "polling", 503, metrics.RefusalRate)
	if asked != 1 {
		t.Errorf("Allow was asked %d times", asked)
	}
	if s.Conns() != 1 {
		t.Errorf("%d conns", s.Conns())
	}
}
