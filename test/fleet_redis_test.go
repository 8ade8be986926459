package test

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// startRedis starts a redis-server that ends with the test and returns its URL.
func startRedis(t *testing.T) string {
	t.Helper()
	for range 20 {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
		ownGroup(cmd)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			told := false
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				if !told && bytes.Contains(lines.Bytes(), []byte("Ready to accept connections")) {
					told = true
					close(ready)
				}
			}
			_ = cmd.Wait()
		}()
		end := func() { _ = endGroup(cmd); <-ended }
		select {
		case <-ready:
			t.Cleanup(end)
			return "redis://127.0.0.1:" + port
		case <-ended: // somebody else took the port
		case <-time.After(patience):
			end()
		}
	}
	t.Fatal(errors.New("redis-server does not start"))
	return ""
}

// freePort returns a TCP port that nothing listens on, below the range that the
// kernel gives to outgoing connections.
func freePort() (string, error) {
	for {
		port := strconv.Itoa(11_000 + rand.IntN(21_000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			return port, l.Close()
		}
	}
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
