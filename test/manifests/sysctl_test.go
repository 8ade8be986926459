package manifests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestSysctls gives the file to sysctl in a network namespace of its own, and looks whether a node there listens with it.
func TestSysctls(t *testing.T) {
	needsNamespaces(t)
	const name = "deploy/sysctl.d/60-edge.conf"
	file, err := filepath.Abs(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	bin, err := edge()
	if err != nil {
		t.Fatal(err)
	}
	const script = `ip link set lo up && sysctl -q -p "$0" && exec "$1"`
	n := startNode(t, func(ctx context.Context, env []string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "unshare", "--net", "sh", "-c", script, file, bin)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
		return cmd
	})
	inside := func(command ...string) string {
		args := append([]string{"--net", "--target", strconv.Itoa(n.process.Process.Pid)}, command...)
		out, err := exec.CommandContext(t.Context(), "nsenter", args...).Output()
		if err != nil {
			t.Fatalf("%q: %v", command, err)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	settings := regexp.MustCompile(`(?m)^(\S+) = (.+)$`).FindAllStringSubmatch(read(t, name), -1)
	if len(settings) == 0 {
		t.Fatalf("%s sets nothing", name)
	}
	for _, s := range settings {
		if got := inside("sysctl", "-n", s[1]); got != s[2] {
			t.Errorf("%s is %s instead of %s", s[1], got, s[2])
		}
	}
	_, port, _ := strings.Cut(n.clients, ":")
	listener := strings.Fields(inside("ss", "-Hltn", "sport", "=", ":"+port))
	if queue := inside("sysctl", "-n", "net.core.somaxconn"); len(listener) < 3 || listener[2] != queue {
		t.Errorf("the accept queue of %q is not %s long", listener, queue) // Send-Q
	}
}
