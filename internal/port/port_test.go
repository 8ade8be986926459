package port

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestFree asks for more ports than a block has, from this process and from others at the same time: no two
// processes are given the same, and this one is given one again only after many others.
func TestFree(t *testing.T) {
	if os.Getenv("PORT_TEST_OTHER") != "" {
		port, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("given " + strconv.Itoa(port) + "\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // the block is its own until it may end
		return
	}
	blocks := map[int]bool{}
	for range 4 {
		other := exec.Command(os.Args[0], "-test.run=^TestFree$")
		other.Env = append(os.Environ(), "PORT_TEST_OTHER=1")
		hold, err := other.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := other.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = other.Wait() })
		defer hold.Close() // all are let go before the first is waited for
		line := make([]byte, len("given 12345\n"))
		n, err := out.Read(line)
		port, bad := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "given ")))
		if err != nil || bad != nil {
			t.Fatalf("another process says %q, %v", line[:n], err)
		}
		blocks[(port-lowest)/size] = true
	}
	given := map[int]int{}
	for i := range 2 * size {
		port, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		if last, again := given[port]; again && i-last < size/2 { // some may be taken by others
			t.Errorf("%d is given again after only %d others", port, i-last-1)
		}
		given[port] = i
		blocks[(port-lowest)/size] = true
	}
	if len(blocks) != 5 {
		t.Errorf("%d blocks for 5 processes", len(blocks))
	}
}

func TestFreeIsFree(t *testing.T) {
	port, err := Free()
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(port + 1) // somebody who does not ask
	if err != nil {
		t.Skipf("the port after %d is taken: %v", port, err)
	}
	defer l.Close()
	next, err := Free()
	if err != nil || next == port+1 || next == port {
		t.Errorf("Free: %d, %v after %d, with %d taken", next, err, port, port+1)
	}
}
