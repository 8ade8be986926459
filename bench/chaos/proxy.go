package chaos

import (
	"net"
	"sync"
	"time"
)

// passage is what a Proxy does with bytes.
type passage uint8

const (
	passing  passage = iota
	refusing         // new connections end at once, and there are no old ones
	holding          // bytes stay where they are, in both directions, until passing again
)

// Proxy passes TCP connections on to a target that can change, and can be cut. Safe for concurrent use.
type Proxy struct {
	listener net.Listener

	mu      sync.Mutex
	changed sync.Cond // of mode
	target  string
	mode    passage
	conns   map[net.Conn]struct{}
	ended   bool
	running sync.WaitGroup
}

// NewProxy listens on a free port of 127.0.0.1. Close it.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	p.changed.L = &p.mu
	p.running.Go(p.accept)
	return p, nil
}

// Addr returns host:port to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Retarget makes new connections go elsewhere; those that exist stay.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Pass lets everything through again, first of all what was held.
func (p *Proxy) Pass() { p.set(passing) }

// Hold is a network that swallows packets: connections stay, nothing moves, nothing is lost.
func (p *Proxy) Hold() { p.set(holding) }

// Refuse drops all connections with what is under way on them, and every new one at once.
func (p *Proxy) Refuse() {
	p.set(refusing)
	p.Drop()
}

func (p *Proxy) set(m passage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	p.changed.Broadcast()
}

// Drop resets all connections; bytes that were held are lost.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		abort(c)
		delete(p.conns, c) // what pump still holds for it must not wait
	}
	p.changed.Broadcast()
}

// abort closes with a reset.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// Close ends the proxy and all connections through it.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.listener.Close()
	p.Drop()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// serve passes one connection on until either side ends it.
func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	target, refused := p.target, p.mode == refusing
	p.mu.Unlock()
	if refused || !p.add(client) {
		abort(client)
		return
	}
	defer p.remove(client)
	// While bytes are held, so is the connection itself: nobody answers, but the peer's kernel cannot know.
	if !p.moves(client) {
		return
	}
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return
	}
	if !p.add(server) {
		abort(server)
		return
	}
	defer p.remove(server)
	var other sync.WaitGroup
	other.Go(func() { p.pump(client, server) })
	p.pump(server, client)
	other.Wait()
}

// pump copies from one side to the other; the end of either ends both.
func (p *Proxy) pump(dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.moves(dst) {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			p.moves(dst) // the end of a connection is held like its bytes
			return
		}
	}
}

// moves waits while bytes are held; false means that the connection was dropped meanwhile.
func (p *Proxy) moves(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if _, ok := p.conns[c]; !ok {
			return false
		}
		if p.mode != holding {
			return true
		}
		p.changed.Wait()
	}
}

// add registers a connection, unless there are to be none.
func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.mode == refusing {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) remove(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
