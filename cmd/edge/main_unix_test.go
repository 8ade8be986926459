//go:build unix

package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellara/edge/internal/wire"
)

// asCommand makes the test binary be the command.
const asCommand = "EDGE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
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
	if err := healthcheck(p.t.Context(), addr); err != nil {
		p.t.Fatal(err)
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

// A second signal ends the process at once, whatever the shutdown waits for.
func TestSecondSignal(t *testing.T) {
	p := startProcess(t, "SHUTDOWN_GRACE=1h")
	p.hang()
	p.signal(syscall.SIGTERM)
	p.logged("shutting down")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != exitFailed || !strings.Contains(p.log.String(), "exiting at once") || strings.Contains(p.log.String(), "msg=stopped") {
		t.Errorf("exit %d\n%s", code, p.log)
	}
}
