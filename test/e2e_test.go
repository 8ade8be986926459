// Package test holds the end-to-end tests: unmodified Socket.IO clients, a
// Node.js server with @socket.io/redis-adapter and an emitter against real
// edge processes and a real redis-server. The cases are Node scripts in cases/;
// this file builds the edge, runs them, and makes each case a Go subtest.
//
// They need node, redis-server and the packages of package-lock.json (npm ci);
// `make test` installs what is missing. Without them the tests are skipped,
// unless EDGE_E2E=required. EDGE_BIN names an edge that was built before, or a
// Node script to be tried in its place; CONFORMANCE_BIN likewise names the
// conformance servers.
package test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cleanupTime is kept back from go test's own deadline, so that processes are ended before it kills this one.
const cleanupTime = 20 * time.Second

// inBothModes are the scripts that are run once for each value of SUBSCRIPTIONS.
const inBothModes = "foreign follow messaging peers presence recovery redis"

// alone begins the names of the scripts that are run before all others and one
// at a time: their servers drop clients after half a second of silence.
const alone = "conformance-"

// runs names the runs of a script and the variables that each adds to the environment.
func runs(script string) map[string][]string {
	name := strings.TrimSuffix(script, ".test.mjs")
	if !slices.Contains(strings.Fields(inBothModes), name) {
		return map[string][]string{name: nil}
	}
	return map[string][]string{
		name + "-exact":   {"SUBSCRIPTIONS=exact"},
		name + "-pattern": {"SUBSCRIPTIONS=pattern"},
	}
}

func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("end-to-end tests take a minute; -short skips them")
	}
	requirements(t)
	bins := []string{
		"EDGE_BIN=" + build(t, "EDGE_BIN", "github.com/stellara/edge/cmd/edge"),
		"CONFORMANCE_BIN=" + build(t, "CONFORMANCE_BIN", "github.com/stellara/edge/test/conformance"),
	}
	ctx := untilCleanup(t)

	scripts, err := filepath.Glob("cases/*.test.mjs")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in cases/: %v", err)
	}
	for _, script := range scripts {
		for name, env := range runs(filepath.Base(script)) {
			t.Run(name, func(t *testing.T) {
				if !strings.HasPrefix(name, alone) {
					t.Parallel() // goes on when all that are run alone have ended
				}
				runScript(ctx, t, script, append(env, bins...))
			})
		}
	}
}

// TestSystem runs the scripts in system/, one at a time: those that take long, load
// the machine or need a browser or a Prometheus (`make test-system`).
func TestSystem(t *testing.T) {
	if os.Getenv("EDGE_SYSTEM") != "required" {
		t.Skip("`make test-system` runs the system tests")
	}
	requirements(t)
	env := []string{"EDGE_BIN=" + build(t, "EDGE_BIN", "github.com/stellara/edge/cmd/edge")}
	ctx := untilCleanup(t)
	scripts, err := filepath.Glob("system/*.test.mjs")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in system/: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".test.mjs"), func(t *testing.T) {
			runScript(ctx, t, script, env)
		})
	}
}

// requirements skips or fails the test when something is not installed, saying how to get it.
func requirements(t *testing.T) {
	t.Helper()
	var missing []string
	if _, err := exec.LookPath("node"); err != nil {
		missing = append(missing, "node (version 20 or newer; https://nodejs.org, Debian: apt-get install nodejs npm)")
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		missing = append(missing, "redis-server (Debian: apt-get install redis-server)")
	}
	if _, err := os.Stat("node_modules"); errors.Is(err, fs.ErrNotExist) {
		missing = append(missing, "the npm packages (cd test && npm ci)")
	}
	if len(missing) == 0 {
		return
	}
	text := "the end-to-end tests need " + strings.Join(missing, ", ") + "; `make test` installs what it can"
	if os.Getenv("EDGE_E2E") == "required" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// build returns the absolute path of a program to test: the one that variable
// names, or else one built of the package.
func build(t *testing.T, variable, pkg string) string {
	t.Helper()
	if bin := os.Getenv(variable); bin != "" {
		path, err := filepath.Abs(bin)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	bin := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if runtime.GOOS == "windows" {
		bin += ".exe"
	}
	out, err := exec.Command("go", "build", "-o", bin, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return bin
}

// untilCleanup ends when the test does, a little before go test's deadline, or
// when the test is interrupted: in each case there is time to end what was started.
func untilCleanup(t *testing.T) context.Context {
	t.Helper()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	if deadline, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline.Add(-cleanupTime),
			fmt.Errorf("go test's -timeout is near"))
		t.Cleanup(cancel)
	}
	return ctx
}
