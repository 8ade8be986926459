package state

import (
	"bytes"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// action is what a gate does with bytes.
type action uint8

const (
	pass action = iota
	drop        // as if the network had lost them for good
	cut         // end the connection instead
)

// gate is a proxy before Redis that decides about every piece of bytes.
type gate struct {
	l      net.Listener
	target string
	decide atomic.Pointer[func(c *gated, toRedis bool, chunk []byte) action]
	keep   atomic.Pointer[func(c *gated, value []byte) bool]

	mu    sync.Mutex
	conns map[*gated]struct{}
	wg    sync.WaitGroup
}

// gated is one connection through a gate.
type gated struct{ near, far net.Conn }

func newGate(t testing.TB, b *backend) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{l: l, target: "127.0.0.1:" + b.redis.port, conns: make(map[*gated]struct{})}
	g.wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			g.wg.Go(func() { g.serve(near) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.mu.Lock()
		for c := range g.conns {
			c.end()
		}
		g.mu.Unlock()
		g.wg.Wait()
	})
	return g
}

// set has f decide from now on; nil passes everything.
func (g *gate) set(f func(c *gated, toRedis bool, chunk []byte) action) {
	if f == nil {
		g.decide.Store(nil)
		return
	}
	g.decide.Store(&f)
}

// filter has f decide about every value that Redis sends, whole and by itself, from now
// on; f is called for one value of a connection at a time.
func (g *gate) filter(f func(c *gated, value []byte) bool) { g.keep.Store(&f) }

// valueEnd is where the first value of RESP in b ends, 0 if it is not all there.
func valueEnd(b []byte) int {
	line := bytes.Index(b, []byte("\r\n"))
	if line < 0 {
		return 0
	}
	end := line + 2
	n, _ := strconv.Atoi(string(b[1:line]))
	switch b[0] {
	case '$', '=':
		if n >= 0 {
			end += n + 2
		}
	case '%':
		n *= 2
		fallthrough
	case '*', '>', '~':
		for range max(n, 0) {
			next := valueEnd(b[min(end, len(b)):])
			if next == 0 {
				return 0
			}
			end += next
		}
	}
	if end > len(b) {
		return 0
	}
	return end
}

// filtered returns what is kept of the values in b, and the beginning of one that is not all there.
func filtered(c *gated, b []byte, keep func(*gated, []byte) bool) (kept, rest []byte) {
	for {
		end := valueEnd(b)
		if end == 0 {
			return kept, b
		}
		if keep(c, b[:end]) {
			kept = append(kept, b[:end]...)
		}
		b = b[end:]
	}
}

func (c *gated) end() { c.near.Close(); c.far.Close() }

func (g *gate) serve(near net.Conn) {
	far, err := net.Dial("tcp", g.target)
	if err != nil {
		near.Close()
		return
	}
	c := &gated{near, far}
	g.mu.Lock()
	g.conns[c] = struct{}{}
	g.mu.Unlock()
	g.wg.Go(func() { g.copy(c, far, near, true) })
	g.copy(c, near, far, false)
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
}

func (g *gate) copy(c *gated, to, from net.Conn, toRedis bool) {
	defer c.end()
	buf := make([]byte, 64<<10)
	var begun []byte // of a value, with a filter
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		out := buf[:n]
		if keep := g.keep.Load(); keep != nil && !toRedis {
			out, begun = filtered(c, append(begun, out...), *keep)
		}
		if f := g.decide.Load(); f != nil {
			switch (*f)(c, toRedis, buf[:n]) {
			case drop:
				continue
			case cut:
				return
			}
		}
		if _, err := to.Write(out); err != nil {
			return
		}
	}
}

// startBehind starts a node that reaches Redis through the gate.
func (b *backend) startBehind(t testing.TB, g *gate, id string, change func(*Config)) *node {
	t.Helper()
	return b.startBehindWith(t, g, id, change, func(*node) {})
}

// startBehindWith prepares the node before it runs.
func (b *backend) startBehindWith(t testing.TB, g *gate, id string, change func(*Config), prepare func(*node)) *node {
	t.Helper()
	direct := b.options
	defer func() { b.options = direct }()
	var err error
	if b.options, err = parseURL("redis://" + g.l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	n := b.open(t, id, change)
	prepare(n)
	n.Bus().Open("/")
	n.run(t)
	eventually(t, "node is ready", n.Ready)
	return n
}
