package manifests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// root is the repository as seen from this package.
const root = "../.."

// read returns a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// scratch is a directory for all tests, which TestMain removes.
var scratch = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "edge-manifests-")
	if err != nil {
		panic(err)
	}
	return dir
})

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(scratch())
	os.Exit(code)
}

// edge builds the program that all tests ask, once, and returns its path.
var edge = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(scratch(), "edge")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "./cmd/edge")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return bin, nil
})

// help is the output of `edge -help`.
var help = sync.OnceValues(func() (string, error) {
	bin, err := edge()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(bin, "-help").Output()
	return string(out), err
})

// variable is a row of the table of -help: the name, and the first line of the default.
var variable = regexp.MustCompile(`(?m)^([A-Z][A-Z0-9_]*) {2,}(\S+(?: \S+)*)`)

// defaults are the variables that the edge reads, with their defaults.
func defaults(t *testing.T) map[string]string {
	t.Helper()
	text, err := help()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, row := range variable.FindAllStringSubmatch(text, -1) {
		all[row[1]] = row[2]
	}
	for _, name := range []string{"LISTEN_ADDR", "REDIS_URL", "SHUTDOWN_GRACE"} {
		if all[name] == "" {
			t.Fatalf("edge -help does not list %s: has its form changed?\n%s", name, text)
		}
	}
	delete(all, "VARIABLE")
	return all
}

// ofRuntime are variables that the Go runtime reads.
var ofRuntime = []string{"GOMAXPROCS", "GOMEMLIMIT", "GOGC"}

// checkSettings gives an environment to the edge's own check of its configuration, which says all that is wrong, and
// refuses names that the edge does not read: it would pass over a variable that is misspelt.
func checkSettings(t *testing.T, where string, env map[string]string) {
	t.Helper()
	bin, err := edge()
	if err != nil {
		t.Fatal(err)
	}
	known := defaults(t)
	for _, name := range ofRuntime {
		known[name] = ""
	}
	environ := []string{}
	for name, value := range env {
		base := strings.TrimSuffix(name, "_FILE")
		if _, ok := known[name]; !ok {
			if _, ok := known[base]; !ok || base == name {
				t.Errorf("%s sets %s, which the edge does not read", where, name)
			}
		}
		environ = append(environ, name+"="+value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// The configuration is checked before the server is asked, of which there is none.
	check := exec.CommandContext(ctx, bin, "-healthcheck")
	check.Env = environ
	var stderr bytes.Buffer
	check.Stderr = &stderr
	if err := check.Run(); err == nil || !strings.HasPrefix(stderr.String(), "edge: healthcheck:") {
		t.Errorf("%s: the edge refuses these settings: %v\n%s", where, err, &stderr)
	}
}

// drain is the longest time from SIGTERM to the end of a node with these settings: all steps of its shutdown, each by
// its default where env says nothing.
func drain(t *testing.T, env map[string]string) time.Duration {
	t.Helper()
	known := defaults(t)
	var sum time.Duration
	for _, name := range []string{"DRAIN_DELAY", "DRAIN_WINDOW", "SHUTDOWN_GRACE"} {
		value, ok := env[name]
		if !ok {
			value, _, _ = strings.Cut(known[name], ",") // of a node with a Redis
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum += d
	}
	return sum
}

// checkGrace tests that whoever stops a node waits for longer than the node takes, with a reserve of 5 s for the
// signal's way and the end of the process, and not without end.
func checkGrace(t *testing.T, where string, grace time.Duration, env map[string]string) {
	t.Helper()
	if takes := drain(t, env); grace < takes+5*time.Second {
		t.Errorf("%s kills a node after %v, which may take %v to end in order", where, grace, takes)
	} else if grace > takes+2*time.Minute {
		t.Errorf("%s waits %v for a node that takes at most %v", where, grace, takes)
	}
}
