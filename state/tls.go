package state

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
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
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
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
		c.Certificates = []tls.Certificate{pair}
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
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w: %w", errTLS, err)
	}
	return c, nil
}
