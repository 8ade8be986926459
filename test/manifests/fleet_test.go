package manifests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"golang.org/x/sys/unix"
)

// needsNamespaces skips a test where namespaces cannot be made: without root, and in most containers.
func needsNamespaces(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Skipf("no namespaces: %v %s", err, out)
	}
}

// network is a network namespace with a loopback device that has addresses.
type network struct{ pid int }

// newNetwork makes one, which ends with the test.
func newNetwork(t *testing.T, addresses ...string) *network {
	t.Helper()
	script := "ip link set lo up"
	for _, a := range addresses {
		script += " && ip address add " + a + "/32 dev lo"
	}
	holder := exec.CommandContext(context.WithoutCancel(t.Context()), "unshare", "--net", "sh", "-c", script+" && echo up && exec cat")
	stdin, err := holder.StdinPipe() // which is open for as long as the test runs
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = holder.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "up\n" {
		t.Fatalf("no network namespace: %q, %v", line, err)
	}
	return &network{holder.Process.Pid}
}

// command runs a program in the network.
func (n *network) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net", "--target", strconv.Itoa(n.pid)}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	return cmd
}

// dial connects within the network: a socket belongs to the one that its thread was in when it was made.
func (n *network) dial(ctx context.Context, kind, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and nobody else gets it
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err != nil {
			done <- result{nil, err}
			return
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, kind, addr)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// TestComposeFleet starts what deploy/compose.yaml describes, without containers: the same addresses, commands and
// settings in a network of their own. Sessions are polled in turn at three nodes that pass them on to each other.
func TestComposeFleet(t *testing.T) {
	needsNamespaces(t)
	project := compose(t)
	nginx := project.Services["nginx"]
	front := nginx.Networks["fleet"].Ipv4Address
	addresses := []string{front}
	for _, s := range nodes(t, project) {
		addresses = append(addresses, s.Networks["fleet"].Ipv4Address)
	}
	fleet := newNetwork(t, addresses...)
	fleet.startServices(t, project)

	base := fmt.Sprintf("http://%s:%d/socket.io/?EIO=4&transport=polling", front, nginx.Ports[0].Target)
	client := &http.Client{Transport: &http.Transport{DialContext: fleet.dial}, Timeout: 20 * time.Second}
	until := time.Now().Add(20 * time.Second)
	for {
		response, err := client.Get(base + "&sid=none")
		if err == nil {
			_ = response.Body.Close()
			break
		}
		if time.Now().After(until) {
			t.Fatalf("nginx does not listen: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // until the next look
	}
	for range 3 { // one session on each node
		_, open := ask(t, client, http.MethodGet, base, "")
		_, rest, _ := strings.Cut(open, `"sid":"`)
		sid, _, _ := strings.Cut(rest, `"`)
		for _, step := range []struct{ method, body, want string }{
			{http.MethodPost, "40{}", "ok"}, {http.MethodGet, "", `44{"message":"`}, {http.MethodPost, "3", "ok"}, {http.MethodPost, "3", "ok"},
		} {
			if status, body := ask(t, client, step.method, base+"&sid="+sid, step.body); status != http.StatusOK || !strings.HasPrefix(body, step.want) {
				t.Fatalf("%s %q of session %q is answered %d %s", step.method, step.body, sid, status, body)
			}
		}
	}
	if _, err := exec.LookPath("wget"); err != nil {
		return // only the image is known to have it
	}
	check := fleet.command(t.Context(), nil, "sh", "-c", strings.ReplaceAll(nginx.HealthCheck.Test[1], "127.0.0.1", front))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("the health check of nginx: %v\n%s", err, out)
	}
}

// startServices starts Redis, the nodes and nginx in the network, each until the test ends.
func (n *network) startServices(t *testing.T, project *types.Project) {
	t.Helper()
	nginx := program(t, "nginx")
	program(t, "redis-server")
	bin, err := edge()
	if err != nil {
		t.Fatal(err)
	}
	conf, err := filepath.Abs(filepath.Join(root, "deploy/nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	redis := n.command(t.Context(), nil, "sh", "-euc", script(t, project, "redis", nil))
	for name, value := range project.Services["redis"].Environment {
		redis.Env = append(redis.Env, name+"="+*value)
	}
	redis.Dir = t.TempDir()
	start(t, redis)
	for _, s := range nodes(t, project) {
		address := s.Networks["fleet"].Ipv4Address
		var env []string
		for name, value := range s.Environment {
			env = append(env, name+"="+strings.Replace(*value, "@redis:", "@127.0.0.1:", 1))
		}
		// Where each container has a network of its own each node has an address here, and does not listen on all.
		startNodeAt(t, address+":3000", address+*s.Environment["ADMIN_ADDR"], func(ctx context.Context, listen []string) *exec.Cmd {
			return n.command(ctx, append(append(env, listen...), "PEER_ADDR="+address+":9465"), bin)
		})
	}
	dir := t.TempDir()
	start(t, n.command(t.Context(), nil, "sh", "-euc", script(t, project, "nginx", map[string]string{
		"/etc/edge/nginx.conf": conf, "/tmp/": dir + "/", "exec nginx": "exec " + nginx + " -p " + dir,
	})))
}

// start runs a process until the test ends.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // whose own processes end with it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
}

// ask sends one request and returns the answer.
func ask(t *testing.T, client *http.Client, method, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
