package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
)

// proxyListener is a listener whose connections from trusted proxies begin with a header of the PROXY protocol, and
// whose others must not. Accept waits for no header: the first who asks a connection for its client, or reads it, does.
type proxyListener struct {
	net.Listener
	trusted trustedProxies
	limit   time.Duration // for the header to come
	m       *metrics.Metrics
	log     *slog.Logger
}

func newProxyListener(l net.Listener, trusted trustedProxies, limit time.Duration, m *metrics.Metrics, log *slog.Logger) *proxyListener {
	return &proxyListener{Listener: l, trusted: trusted, limit: limit, m: m, log: log}
}

// Accept returns the next connection.
func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok { // no address that could be trusted
		return c, nil
	}
	return &proxiedConn{TCPConn: tcp, l: l}, nil
}

// proxiedConn is a connection that may begin with a PROXY header. What net/http uses of it is overridden where the
// header matters; RemoteAddr, which it asks for first, on the connection's own goroutine, waits for the header.
type proxiedConn struct {
	*net.TCPConn
	l    *proxyListener
	once sync.Once

	// Set within once, then read by whoever called it.
	client net.Addr // nil: who connected
	err    error    // the connection is refused

	early []byte // read with the header and not part of it. Owned by who reads
}

// RemoteAddr is the client's address.
func (c *proxiedConn) RemoteAddr() net.Addr {
	c.once.Do(c.begin)
	if c.client != nil {
		return c.client
	}
	return c.TCPConn.RemoteAddr()
}

// Read reads what follows the header.
func (c *proxiedConn) Read(p []byte) (int, error) {
	c.once.Do(c.begin)
	if c.err != nil {
		return 0, c.err
	}
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.TCPConn.Read(p)
}

// NetConn is the connection below, for who takes it from net/http. By then nothing is left to be read here: net/http's
// first read has room for all that came with a header.
func (c *proxiedConn) NetConn() net.Conn { return c.TCPConn }

// firstRead is room for a header as senders are to make it, and for the beginning of most requests; less than
// net/http's buffer of 4 KiB.
const firstRead = 1024

// begin reads the header.
func (c *proxiedConn) begin() {
	trusted := c.l.trusted.has(c.TCPConn.RemoteAddr())
	_ = c.SetReadDeadline(time.Now().Add(c.l.limit))
	b, h, size, err := readProxyHeader(c.TCPConn, make([]byte, 0, firstRead))
	_ = c.SetReadDeadline(time.Time{})
	switch {
	case trusted && err == nil:
		if h.client.IsValid() {
			c.client = net.TCPAddrFromAddrPort(h.client)
		}
		c.early = b[size:]
	case !trusted && err == errNoProxyHeader:
		c.early = b
	case !trusted && err == nil:
		c.refuse("header from an address that is not trusted", err)
	case err == errNoProxyHeader || len(b) > 0:
		c.refuse("no header that can be read", err)
	default: // who sent nothing: a port scan, or a check that only connects
		c.err = io.EOF
	}
}

// readProxyHeader reads until there is a header in b, or certainly none.
func readProxyHeader(r io.Reader, b []byte) (_ []byte, h proxyHeader, size int, err error) {
	for {
		h, size, err = parseProxyHeader(b)
		if err != errProxyHeaderMore {
			return b, h, size, err
		}
		if size > cap(b) { // no more than that: what follows is for who reads next
			b = append(make([]byte, 0, size), b...)
		}
		n, failed := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if n == 0 && failed != nil {
			return b, h, 0, failed
		}
	}
}

// refuse gives the connection up: net/http closes it at io.EOF without another word.
func (c *proxiedConn) refuse(why string, err error) {
	c.err = io.EOF
	c.l.m.Refusals[metrics.RefusalProxyHeader].Inc()
	// Aloud: where a balancer and this node do not agree, nobody can connect at all.
	c.l.log.Warn("connection refused by PROXY_PROTOCOL", "reason", why, "address", c.TCPConn.RemoteAddr().String(), "error", err)
}

// dialProxied dials as the server expects it of whom it takes for a proxy, as which this machine's own health check may
// come: with a header that names nobody.
func dialProxied(proxied func(net.Addr) bool) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil || !proxied(c.LocalAddr()) {
			return c, err
		}
		if _, err := c.Write(appendProxyLocal(nil)); err != nil {
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}
