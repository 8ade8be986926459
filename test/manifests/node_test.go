package manifests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// isReady is the line that a node logs when it is ready, in both forms of the log.
var isReady = regexp.MustCompile(`msg=ready$|"msg":"ready"`)

// node is one running edge.
type node struct {
	clients, admin string // addresses
	process        *exec.Cmd
	exited         chan error
	mu             sync.Mutex
	log            []string
}

// The ports of these tests lie below those of the other tests, see internal/port, and below the range that the kernel gives
// to outgoing connections: no client takes one before the server that was given it.
const lowest, ports = 10_100, 900

var (
	firstPort = rand.IntN(ports)
	handed    atomic.Int64
)

// free is an address that nothing listens on.
func free(t *testing.T) string {
	t.Helper()
	for range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+(firstPort+int(handed.Add(1)))%ports))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// startNode runs an edge on free ports with a command that is given its environment, and returns when it is ready. It ends
// with the test.
func startNode(t *testing.T, command func(ctx context.Context, env []string) *exec.Cmd) *node {
	t.Helper()
	return startNodeAt(t, free(t), free(t), command)
}

// startNodeAt is startNode with the addresses of its listeners.
func startNodeAt(t *testing.T, clients, admin string, command func(ctx context.Context, env []string) *exec.Cmd) *node {
	t.Helper()
	n := &node{clients: clients, admin: admin, exited: make(chan error, 1)}
	n.process = command(context.WithoutCancel(t.Context()), []string{"LISTEN_ADDR=" + n.clients, "ADMIN_ADDR=" + n.admin})
	stderr, err := n.process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	var told sync.Once
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			n.mu.Lock()
			n.log = append(n.log, lines.Text())
			n.mu.Unlock()
			if isReady.MatchString(lines.Text()) {
				told.Do(func() { close(ready) }) // after a pause it may say so again
			}
		}
		n.exited <- n.process.Wait()
	}()
	t.Cleanup(func() {
		_ = n.process.Process.Kill()
		<-ended
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("the edge ended\n%s", n.text())
	case <-time.After(30 * time.Second):
		t.Fatalf("the edge is not ready\n%s", n.text())
	}
	return n
}

// text is what it has logged.
func (n *node) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.log, "\n")
}

// get asks one of its listeners.
func get(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	res, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// stop sends SIGTERM and returns how the process ended.
func (n *node) stop(t *testing.T) error {
	t.Helper()
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-n.exited:
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("the edge does not end\n%s", n.text())
		return nil
	}
}

// plain runs the edge as it is.
func plain(t *testing.T) func(context.Context, []string) *exec.Cmd {
	t.Helper()
	bin, err := edge()
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, env []string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, bin)
		cmd.Env = env
		return cmd
	}
}

// TestRunsInAnEmptyRoot runs the program as the image does with a read-only root: nothing else in its file system, which
// cannot be written to and has no /tmp, /proc or /dev, no capability, and the image's user.
func TestRunsInAnEmptyRoot(t *testing.T) {
	needsNamespaces(t)
	bin, err := edge()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/edge", text, 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec setpriv --no-new-privs chroot --userspec=65532:65532 . /edge "$@"`
	inside := func(args ...string) func(context.Context, []string) *exec.Cmd {
		return func(ctx context.Context, env []string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "sh", "-c", script, dir}, args...)...)
			cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
			return cmd
		}
	}
	n := startNode(t, inside())
	own := "/proc/" + strconv.Itoa(n.process.Process.Pid)
	if err := os.WriteFile(own+"/root/written", nil, 0o600); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Fatalf("its root is not read-only: %v", err)
	}
	if entries, err := os.ReadDir(own + "/root"); err != nil || len(entries) != 1 {
		t.Fatalf("its root has %v, %v", entries, err)
	}
	status, err := os.ReadFile(own + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65532\t65532", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the process lacks %q:\n%s", want, status)
		}
	}
	if code, body := get(t, n.clients, "/socket.io/?EIO=4&transport=polling"); code != http.StatusOK || !strings.HasPrefix(body, `0{"sid"`) {
		t.Errorf("a client is answered %d %s", code, body)
	}
	healthcheck := func() error {
		return inside("-healthcheck")(t.Context(), []string{"LISTEN_ADDR=" + n.clients}).Run()
	}
	if err := healthcheck(); err != nil {
		t.Errorf("edge -healthcheck: %v", err)
	}
	if err := n.stop(t); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, n.text())
	}
	if err := healthcheck(); err == nil {
		t.Error("edge -healthcheck finds a node that has ended")
	}
}
