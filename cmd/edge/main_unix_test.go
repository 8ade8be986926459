//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellara/edge/internal/wire"
)

// asCommand makes the test binary be the command.
const asCommand = "EDGE_TEST_AS_COMMAND"

// withFiles is the open-file limit of such a command.
const withFiles = "EDGE_TEST_FILES"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		if n, err := strconv.ParseUint(os.Getenv(withFiles), 10, 64); err == nil {
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
				panic(err)
			}
		}
		main()
	}
	os.Exit(m.Run())
}

// process is the command in a process of its own.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   *logBuffer
	ended chan error
}

// startProcess runs the command with the in-process Redis on free ports.
func startProcess(t *testing.T, environ ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(exe), log: &logBuffer{}, ended: make(chan error, 1)}
	p.cmd.Env = append(environ, asCommand+"=1", "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "PEER_ADDR=127.0.0.1:0", "AUTH=none")
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() { p.ended <- p.cmd.Wait() }()
	return p
}

// logged waits for a part of the log.
func (p *process) logged(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(wire.Timeout)
	for {
		if m := re.FindStringSubmatch(p.log.String()); m != nil {
			return m[len(m)-1]
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the log has no %q:\n%s", pattern, p.log)
		}
		time.Sleep(5 * time.Millisecond) // polling, bounded by the deadline
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case err := <-p.ended:
		var ee *exec.ExitError
		if err != nil && !errors.As(err, &ee) {
			p.t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(wire.Timeout):
		p.t.Fatalf("the process does not end:\n%s", p.log)
		return -1
	}
}

func TestSignals(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startProcess(t)
		p.logged("msg=ready")
		p.signal(s)
		if code := p.exit(); code != exitOK || !strings.Contains(p.log.String(), "msg=stopped") {
			t.Errorf("%v: exit %d\n%s", s, code, p.log)
		}
	}
}

// hang opens a connection that never finishes its request, which a shutdown waits for.
func (p *process) hang() {
	p.t.Helper()
	addr := p.logged(`msg=starting .* listen=(\S+)`)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\n")); err != nil {
		p.t.Fatal(err)
	}
	// Connections are accepted in order: with an answer on a later one, this one is the server's.
	p.answers(addr)
}

// answers waits until the process answers.
func (p *process) answers(addr string) {
	p.t.Helper()
	for end := time.Now().Add(2 * wire.Timeout); ; { // each try goes on for 3 s
		err := healthcheck(p.t.Context(), addr, direct)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("a request is not answered: %v", err)
		}
		time.Sleep(5 * time.Millisecond) // polling, bounded by the deadline
	}
}

// A shutdown that cannot finish ends with SHUTDOWN_GRACE and says what was not done.
func TestShutdownGrace(t *testing.T) {
	p := startProcess(t, "SHUTDOWN_GRACE=200ms")
	p.hang()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != exitFailed || !strings.Contains(p.log.String(), "shutdown: end HTTP requests") {
		t.Errorf("exit %d\n%s", code, p.log)
	}
}

// silent opens connections that send nothing. The kernel takes all of them, whatever the process does.
func (p *process) silent(n int) (close func()) {
	p.t.Helper()
	addr := p.logged(`msg=starting .* listen=(\S+)`)
	var held []net.Conn
	close = func() {
		for _, c := range held {
			_ = c.Close()
		}
	}
	p.t.Cleanup(close)
	for range n {
		c, err := net.DialTimeout("tcp", addr, wire.Timeout)
		if err != nil {
			p.t.Fatal(err)
		}
		held = append(held, c)
	}
	return close
}

// counter asks the admin listener for a metric.
func (p *process) counter(name string) float64 {
	p.t.Helper()
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+p.logged(`msg=starting .* admin=(\S+)`)+"/metrics", nil))
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(text)
	if m == nil {
		p.t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// TestWithoutDescriptors: a node that has none left neither ends nor spins, and accepts again when there are some.
func TestWithoutDescriptors(t *testing.T) {
	p := startProcess(t, "MAX_CONNS=1000", "MAX_PENDING=1000", withFiles+"=64")
	p.logged("msg=ready")
	began := time.Now()
	end := p.silent(100)
	p.logged(`msg="clients cannot be accepted" .*too many open files`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	addr := p.logged(`msg=starting .* listen=(\S+)`)
	if err := healthcheck(ctx, addr, direct); err == nil {
		t.Error("answered without a descriptor")
	}
	end()
	p.answers(addr) // with descriptors again
	// The pauses grow from 5 ms to 1 s: 8 of them, then one a second.
	if tries := p.counter("edge_accept_errors_total"); tries > 9+time.Since(began).Seconds() {
		t.Errorf("accepting was tried %v times within %v", tries, time.Since(began))
	}
	if n := strings.Count(p.log.String(), "clients cannot be accepted"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// TestPendingKeepsDescriptors: with MAX_PENDING, connections that send nothing use up no descriptors, and
// whoever sends a request is answered.
func TestPendingKeepsDescriptors(t *testing.T) {
	p := startProcess(t, "MAX_CONNS=8", "MAX_PENDING=20", withFiles+"=64")
	p.logged("msg=ready")
	p.silent(55)
	addr := p.logged(`msg=starting .* listen=(\S+)`)
	p.answers(addr)
	if n := p.counter("edge_accept_errors_total"); n != 0 {
		t.Errorf("%v times no descriptor was left", n)
	}
	if n := p.counter("edge_refusals_total{reason=\"no_request\"}"); n < 16 { // 20 have a place, 20 wait, and the request is the 56th
		t.Errorf("%v connections made room for others", n)
	}
}

// direct says that no connection is a proxy's.
func direct(net.Addr) bool { return false }
