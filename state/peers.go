package state

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ErrNoPeer says that no node of that name lives, or that it has no peers.
var ErrNoPeer = errors.New("state: no such peer")

const (
	peerRenewals  = 3  // of an address within the lease
	peerSecretLen = 32 // characters that a secret has at least
)

// Peers is where the nodes that share a Redis find each other, and what they know
// each other by. Methods may be called from any goroutine.
//
//	<key>-peer#<node>   String  the node's address, for Config.Lease from its last renewal
//	<key>-peer-secret   String  the secret of all nodes
type Peers struct {
	link  *link
	log   *slog.Logger
	key   string        // Config.Key
	node  string        // Config.Node
	lease time.Duration // Config.Lease

	wake  chan struct{} // capacity 1: there is an address to announce
	asked chan struct{} // capacity 1: there are questions
	busy  chan struct{} // capacity 1: held by whoever writes, before mu

	// Owned by announceLoop.
	gen     uint64    // of the clients that the address was last announced with
	due     time.Time // when it is to be announced again
	refused bool      // Redis refuses, which was logged

	mu        sync.Mutex // guards the rest; taken alone, never held across I/O
	addr      string     // "" while none is announced
	withdrawn bool
	secret    []byte // the one Redis had last, nil before
	candidate string // what is the secret if Redis has none
	known     recent[string]
	queue     []*question          // not asked yet, oldest first
	questions map[string]*question // the same, by node
	waiting   int                  // callers of Lookup
	ended     bool
}

func newPeers(cfg Config, l *link) *Peers {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	return &Peers{
		link: l, log: cfg.Log, key: cfg.Key, node: cfg.Node, lease: cfg.Lease,
		wake: make(chan struct{}, 1), asked: make(chan struct{}, 1), busy: make(chan struct{}, 1),
		candidate: base64.RawURLEncoding.EncodeToString(secret[:]),
		known:     newRecent[string](peerCacheTime), questions: make(map[string]*question),
	}
}

func (p *Peers) addrKey(node string) string { return p.key + "-peer#" + node }
func (p *Peers) secretKey() string          { return p.key + "-peer-secret" }

// Announce tells other nodes the address under which they reach this one, for as
// long as State.Run runs, until Withdraw.
func (p *Peers) Announce(addr string) {
	p.mu.Lock()
	p.addr = addr
	p.mu.Unlock()
	notify(p.wake)
}

// Withdraw takes the address away, for good: from now on Lookup does not find it,
// save where it was asked within the last second. Where Redis cannot be reached
// it is found for Config.Lease. It does nothing if none was announced.
func (p *Peers) Withdraw(ctx context.Context) error {
	p.mu.Lock()
	announced := p.addr != ""
	p.withdrawn = true
	p.mu.Unlock()
	if !announced {
		return nil
	}
	select {
	case p.busy <- struct{}{}: // a renewal under way would bring it back
		defer func() { <-p.busy }()
	case <-ctx.Done():
		return fmt.Errorf("state: the node's address is not withdrawn: %w", ctx.Err())
	}
	select {
	case <-p.link.refused:
		return nil
	default:
	}
	c, _ := p.link.get()
	if c == nil {
		return fmt.Errorf("%w: the node's address is not withdrawn", ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := c.cmd.Do(ctx, c.cmd.B().Del().Key(p.addrKey(p.node)).Build()).Error()
	if lostConnection(err) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("state: the node's address is not withdrawn: %w", err)
	}
	return nil
}

// Secret is what all nodes that announced an address share through Redis, nil
// while it is not known. It changes when Redis has lost it, and must not be
// written to.
func (p *Peers) Secret() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.secret
}

// announceLoop keeps the address and the secret in Redis until ctx ends.
func (p *Peers) announceLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var wait backoff
	for {
		c, changed := p.link.get()
		if c != nil && (c.gen != p.gen || !time.Now().Before(p.due)) {
			err := p.renew(ctx, c)
			p.failed(err)
			if p.gen = c.gen; err == nil {
				p.due, wait = time.Now().Add(p.lease/peerRenewals), backoff{}
			} else {
				p.due = time.Now().Add(wait.next())
			}
		}
		if timer.Stop(); c != nil {
			timer.Reset(max(0, time.Until(p.due)))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		case <-p.wake:
			p.due = time.Time{}
		}
	}
}

// renew writes the address and the secret, if there is an address, and reads the
// secret that counts.
func (p *Peers) renew(ctx context.Context, c *clients) error {
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	addr, secret := p.addr, p.candidate
	if p.withdrawn {
		addr = ""
	}
	p.mu.Unlock()
	if addr == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b := c.cmd.B()
	results := c.cmd.DoMulti(ctx,
		b.Set().Key(p.addrKey(p.node)).Value(addr).PxMilliseconds(p.lease.Milliseconds()).Build(),
		b.Set().Key(p.secretKey()).Value(secret).Nx().Build(),
		b.Get().Key(p.secretKey()).Build())
	if err := results[0].Error(); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	secret, err := results[2].ToString()
	if err != nil {
		return fmt.Errorf("secret of the peers: %w", err)
	}
	if len(secret) < peerSecretLen {
		return fmt.Errorf("%w: %s has %d characters, fewer than %d", errAnswer, p.secretKey(), len(secret), peerSecretLen)
	}
	p.mu.Lock()
	if string(p.secret) != secret {
		p.secret, p.candidate = []byte(secret), secret
	}
	p.mu.Unlock()
	return nil
}

// failed logs that Redis refuses, and that it does so no more; the link tells of
// a lost connection.
func (p *Peers) failed(err error) {
	if lostConnection(err) {
		p.link.suspect()
		return
	}
	switch was := p.refused; {
	case err != nil && !was:
		p.log.Warn("peers: redis refuses; other nodes may not reach this one", "error", err)
	case err == nil && was:
		p.log.Info("peers: it works again")
	}
	p.refused = err != nil
}
