package trunk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/stellara/edge/metrics"
)

// peer is what is known of a node that is dialled: one of its fields is set.
// Guarded by Trunks.mu.
type peer struct {
	trunk *trunk
	dial  *dialling
	err   error     // of the last dial
	until time.Time // for which err stands
}

// dialling is a dial under way. All who want the node wait for it.
type dialling struct {
	done  chan struct{} // closed when trunk or err is set
	trunk *trunk
	err   error
}

// Open opens a stream to a node; the node learns of it with the first message.
// It dials if there is no trunk, and waits for that until ctx ends. The error is
// ErrUnknown, ErrUnreachable or ErrRefused; ErrClosed after Close.
func (t *Trunks) Open(ctx context.Context, node string, r Receiver) (*Stream, error) {
	if len(node) != nameBytes {
		return nil, ErrUnknown
	}
	for {
		trunk, dial, err := t.find(node)
		if err != nil {
			return nil, err
		}
		if trunk == nil {
			select {
			case <-dial.done:
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
			}
			if dial.err != nil {
				return nil, dial.err
			}
			trunk = dial.trunk
		}
		if s := trunk.open(r); s != nil {
			return s, nil
		}
		if dial != nil {
			return nil, fmt.Errorf("%w: the trunk broke", ErrUnreachable)
		}
		t.leave(node, trunk)
	}
}

// find returns the trunk to a node, or the dial that may become one.
func (t *Trunks) find(node string) (*trunk, *dialling, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, ErrClosed
	}
	p := t.peers[node]
	switch {
	case p == nil:
	case p.trunk != nil:
		return p.trunk, nil, nil
	case p.dial != nil:
		return nil, p.dial, nil
	case time.Now().Before(p.until):
		return nil, nil, p.err
	}
	d := &dialling{done: make(chan struct{})}
	t.peers[node] = &peer{dial: d}
	t.running.Go(func() { t.connect(node, d) })
	return nil, d, nil
}

// leave takes a trunk that is ending from its node, so that the next Open dials.
func (t *Trunks) leave(node string, trunk *trunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[node]; p != nil && p.trunk == trunk {
		delete(t.peers, node)
	}
}

// connect dials a node, tells who waits, and becomes the trunk's reader.
func (t *Trunks) connect(node string, d *dialling) {
	conn, known, err := t.reach(node)
	if err == nil {
		if trunk := newTrunk(t, conn, node, true); t.add(trunk) {
			d.trunk = trunk
		} else {
			_ = conn.Close()
			err = ErrClosed
		}
	}
	d.err = err
	t.metrics.TrunkDials[dialResult(err)].Inc()

	t.mu.Lock()
	switch {
	case err == nil:
		t.peers[node] = &peer{trunk: d.trunk}
	case known:
		t.prune()
		t.peers[node] = &peer{err: err, until: time.Now().Add(t.times.failure)}
	default:
		delete(t.peers, node)
	}
	t.mu.Unlock()
	close(d.done)
	if d.trunk != nil {
		d.trunk.read()
		return
	}
	if errors.Is(err, ErrRefused) && t.warned.due(node, time.Now()) {
		t.cfg.Log.Warn("refused by another node: it has another PEER_SECRET, or one of the two has none yet", "peer", node, "error", err)
		return
	}
	t.cfg.Log.Debug("no trunk", "peer", node, "error", err)
}

// prune drops failures that are over, so that nodes that are gone for good are
// not kept. Called with t.mu held.
func (t *Trunks) prune() {
	now := time.Now()
	for node, p := range t.peers {
		if p.err != nil && now.After(p.until) {
			delete(t.peers, node)
		}
	}
}

// reach connects to a node and does the handshake. known reports whether the
// node is, or may be, one that exists.
func (t *Trunks) reach(node string) (conn net.Conn, known bool, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.times.handshake)
	defer cancel()
	secret := t.cfg.Secret()
	if len(secret) == 0 {
		return nil, true, fmt.Errorf("%w: %w", ErrRefused, errNoSecret)
	}
	addr, err := t.cfg.Resolve(ctx, node)
	if errors.Is(err, ErrUnknown) {
		return nil, false, err
	}
	if err != nil {
		return nil, true, fmt.Errorf("%w: its address: %w", ErrUnreachable, err)
	}
	if conn, err = t.dial(ctx, addr); err != nil {
		return nil, true, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = introduce(conn, t.cfg.Node, node, secret)
	if !stop() && err == nil {
		err = fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	}
	if err != nil {
		_ = conn.Close()
		return nil, true, err
	}
	return conn, true, nil
}

// dialResult is the label of an error of a dial.
func dialResult(err error) metrics.TrunkDial {
	switch {
	case err == nil:
		return metrics.TrunkDialOK
	case errors.Is(err, ErrUnknown):
		return metrics.TrunkDialUnknown
	case errors.Is(err, ErrRefused):
		return metrics.TrunkDialRefused
	}
	return metrics.TrunkDialUnreachable
}
