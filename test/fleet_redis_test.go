package test

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stellara/edge/internal/port"
)

// startRedis starts a redis-server that ends with the test and returns its URL.
func startRedis(t *testing.T) string {
	t.Helper()
	free, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", "--port", strconv.Itoa(free), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	ownGroup(cmd)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	var said bytes.Buffer // read once it has ended
	go func() {
		defer close(ended)
		told := false
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if !told && bytes.Contains(lines.Bytes(), []byte("Ready to accept connections")) {
				told = true
				close(ready)
			}
			if !told {
				said.Write(append(lines.Bytes(), '\n'))
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { _ = endGroup(cmd); <-ended })
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("redis-server ended:\n%s", said.Bytes())
	case <-time.After(patience):
		t.Fatalf("redis-server is not ready after %v", patience)
	}
	return fmt.Sprintf("redis://127.0.0.1:%d", free)
}

// until polls until probe returns nil.
func until(t *testing.T, what string, probe func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		err := probe()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %v in vain for %s: %v", patience, what, err)
		}
	}
}
