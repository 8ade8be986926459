// Package port gives the tests and benchmarks TCP ports for servers that must be told
// theirs: redis-server, balancers, nodes that come back where they were.
package port

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports lie below the range that Linux gives to outgoing connections
// (net.ipv4.ip_local_port_range), so that no client takes one before the server that
// was given it. Each process has a block of them to itself while it runs: whoever
// listens on the first port of a block owns the block. test/lib/process.mjs does the
// same for the end-to-end tests.
const (
	lowest  = 11_000
	highest = 32_000
	size    = 300 // of a block
)

// block is a range of ports that one process owns while owner listens.
type block struct {
	first int
	owner net.Listener

	mu     sync.Mutex
	handed int // ports so far
}

// ours is this process's block, owned from the first call on until the process ends.
var ours = sync.OnceValues(own)

// Free returns a port of 127.0.0.1 that nothing listens on and that nobody else is
// given. It may be called at any time from any goroutine.
func Free() (int, error) {
	b, err := ours()
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for range size - 1 {
		port := b.first + 1 + b.handed%(size-1)
		b.handed++
		if l, err := listen(port); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("all ports from %d to %d are taken", b.first, b.first+size-1)
}

// own finds a block.
func own() (*block, error) {
	const blocks = (highest - lowest) / size
	start := rand.IntN(blocks)
	var last error
	for i := range blocks {
		b := &block{first: lowest + (start+i)%blocks*size}
		if b.owner, last = listen(b.first); last == nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("no free block of ports between %d and %d, the last: %w", lowest, highest, last)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}
