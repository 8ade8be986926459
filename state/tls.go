package state

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// TLSFiles are the PEM files for TLS to Redis. They are read for each
// connection, so that renewed certificates need no restart.
type TLSFiles struct {
	CA        string // who signs Redis's certificate; "": the CAs of the system
	Cert, Key string // what the node shows to Redis; "": nothing
}

// Check reads the files; the error says which of them cannot be used, and why.
func (f TLSFiles) Check() error {
	_, err := f.config("")
	return err
}

// config is for one connection to host, whose certificate must be valid for it.
func (f TLSFiles) config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, Certificates: make([]tls.Certificate, 1)}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("state: CA of redis: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("state: CA of redis: %s has no certificate in PEM form", f.CA)
		}
	}
	if f.Cert != "" || f.Key != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("state: certificate for redis: %w", err)
		}
		c.Certificates[0] = pair
	}
	return c, nil
}

// errTLS marks what failed after the server was reached, and before it was Redis.
var errTLS = errors.New("state: no TLS with redis")

// dialServer connects to one server, with TLS if the address says so.
func (a Address) dialServer(ctx context.Context, d *net.Dialer, files TLSFiles, server string) (net.Conn, error) {
	if !a.secure {
		return d.DialContext(ctx, "tcp", server)
	}
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	config, err := files.config(host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTLS, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	asked := false // for a certificate; before the handshake is over
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &config.Certificates[0], nil
	}
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer to the handshake, as of a port without TLS: %w", err)
		}
		return nil, fmt.Errorf("%w: %w", errTLS, err)
	}
	if asked {
		return &judgedConn{Conn: c}, nil
	}
	return c, nil
}

// judgedConn is a connection whose server has yet to judge the node's
// certificate: in TLS 1.3 it does so when the handshake is over for the client,
// and hangs up where it wants another one. What goes wrong before anything came is told as that.
type judgedConn struct {
	net.Conn
	heard atomic.Bool
}

func (c *judgedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.heard.Load() {
		c.heard.Store(true)
	}
	return n, c.judge(err)
}

func (c *judgedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.judge(err)
}

func (c *judgedConn) judge(err error) error {
	var timeout net.Error
	if err == nil || c.heard.Load() || errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return fmt.Errorf("%w: redis asked for a client certificate, and ended the connection: %w", errTLS, err)
}
