package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
	"github.com/stellara/edge/trunk"
)

// directory is where nodes find each other: *state.Peers.
type directory interface {
	Announce(addr string)
	Withdraw(ctx context.Context) error
	Lookup(ctx context.Context, node string) (addr string, err error)
	Secret() []byte
}

// peers is engine.Peers: the trunks to other nodes, which are found in a
// directory. Its methods may be called from any goroutine.
type peers struct {
	trunks    *trunk.Trunks
	directory directory
	log       *slog.Logger
}

// newPeers returns the peers of a node. own is the secret they prove to each
// other, that of the directory if it is empty; accept takes the streams they
// open.
func newPeers(node string, own secret, d directory, accept func(engine.Stream, byte, []byte) engine.Receiver, log *slog.Logger, m *metrics.Metrics) *peers {
	p := &peers{directory: d, log: log}
	secret := d.Secret
	if own != "" {
		configured := []byte(own)
		secret = func() []byte { return configured }
	}
	p.trunks = trunk.New(trunk.Config{
		Node: node, Secret: secret, Resolve: p.resolve, Log: log,
		Accept: func(s *trunk.Stream, kind byte, payload []byte) trunk.Receiver { return accept(s, kind, payload) },
	}, m)
	return p
}

// Open implements engine.Peers.
func (p *peers) Open(ctx context.Context, node string, r engine.Receiver) (engine.Stream, error) {
	s, err := p.trunks.Open(ctx, node, r)
	if errors.Is(err, trunk.ErrUnknown) {
		return nil, fmt.Errorf("%w: %w", engine.ErrNoPeer, err)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p *peers) resolve(ctx context.Context, node string) (string, error) {
	addr, err := p.directory.Lookup(ctx, node)
	if errors.Is(err, state.ErrNoPeer) {
		return "", fmt.Errorf("%w: %w", trunk.ErrUnknown, err)
	}
	return addr, err
}

// announceAgain is the time between attempts to find out this node's address.
const announceAgain = time.Second

// announce puts the node's address into the directory. find is asked until it
// knows it, or ctx ends: the name of Redis may not be known yet.
func (p *peers) announce(ctx context.Context, find func(context.Context) (string, error)) {
	for {
		select {
		case <-time.After(announceAgain):
		case <-ctx.Done():
			return
		}
		if addr, err := find(ctx); err == nil {
			p.directory.Announce(addr)
			p.log.Info("other nodes reach this one", "address", addr)
			return
		}
	}
}

// close ends the trunks, within ctx. p may be nil.
func (p *peers) close(ctx context.Context) error {
	if p == nil {
		return nil
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.trunks.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// findTimeout bounds one attempt to find out this node's address, which asks a name server at most.
const findTimeout = time.Second

// advertised returns the address under which others reach a listener: what
// PEER_ADVERTISE says, else the listener's own if it is one address, else the
// address from which this node reaches Redis, which other nodes do, too: the first
// of its servers, or its sentinels, that has an address. Nothing is sent there.
func advertised(ctx context.Context, advertise string, listener net.Addr, servers []string) (string, error) {
	bound, err := netip.ParseAddrPort(listener.String())
	if err != nil {
		return "", fmt.Errorf("PEER_ADDR: %w", err)
	}
	port := strconv.Itoa(int(bound.Port()))
	if advertise != "" {
		host, ownPort, err := splitAdvertise(advertise)
		if err != nil {
			return "", fmt.Errorf("PEER_ADVERTISE: %w", err)
		}
		if ownPort != "" {
			port = ownPort
		}
		return net.JoinHostPort(host, port), nil
	}
	if !bound.Addr().IsUnspecified() {
		return net.JoinHostPort(bound.Addr().Unmap().String(), port), nil
	}
	if len(servers) == 0 {
		return net.JoinHostPort("127.0.0.1", port), nil // the in-process Redis has no other nodes
	}
	network := "udp"
	if bound.Addr().Is4() {
		network = "udp4" // 0.0.0.0 takes nothing else
	}
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	var d net.Dialer
	for _, server := range servers {
		var conn net.Conn
		if conn, err = d.DialContext(ctx, network, server); err != nil {
			continue
		}
		host, _, err := net.SplitHostPort(conn.LocalAddr().String())
		_ = conn.Close() // nothing was sent
		if err != nil {
			return "", err
		}
		return net.JoinHostPort(host, port), nil
	}
	return "", err
}

// splitAdvertise parses PEER_ADVERTISE: host, or host:port with a port other
// than 0. An IPv6 address may stand without brackets where there is no port.
func splitAdvertise(s string) (host, port string, err error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		host = ip.String()
	} else if !strings.Contains(s, ":") {
		host = s
	} else if host, port, err = net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			host = ""
		}
	}
	if ip, err := netip.ParseAddr(host); host == "" || strings.ContainsAny(host, " /[]") || err == nil && ip.IsUnspecified() {
		return "", "", fmt.Errorf("%q is not a host or host:port that others can connect to", s)
	}
	return host, port, nil
}
