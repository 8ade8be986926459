package test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/port"
	"github.com/stellara/edge/trunk"
)

// peering connects the nodes of a test by trunks.
type peering struct {
	mu    sync.Mutex // guards nodes; taken alone
	nodes map[string]*peered
}

// peered is one node: engine.Peers on trunks.
type peered struct {
	all    *peering
	name   string
	addr   string
	trunks *trunk.Trunks
}

func newPeering() *peering { return &peering{nodes: make(map[string]*peered)} }

func (p *peering) of(node string) *peered {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes[node] = &peered{all: p, name: node}
	return p.nodes[node]
}

// serve lets the other nodes reach a node.
func (p *peering) serve(t *testing.T, node string, n *recoveryNode) {
	t.Helper()
	free, err := port.Free() // which stays free while the node does not listen
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", free))
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	own := p.nodes[node]
	own.addr = listener.Addr().String()
	p.mu.Unlock()
	open := func() *trunk.Trunks {
		return trunk.New(trunk.Config{
			Node: node, Secret: func() []byte { return []byte("the secret of all nodes of a test") }, Resolve: p.resolve,
			Accept: func(s *trunk.Stream, kind byte, payload []byte) trunk.Receiver { return n.Accept(s, kind, payload) },
			Log:    slog.New(slog.DiscardHandler),
		}, n.m)
	}
	var mu sync.Mutex // guards own.trunks and listener
	var running sync.WaitGroup
	start := func() {
		own.trunks = open()
		trunks, l := own.trunks, listener
		running.Go(func() { _ = trunks.Serve(l) })
	}
	start()
	n.breakTrunks = func() {
		mu.Lock()
		defer mu.Unlock()
		own.trunks.Close()
		if listener, err = net.Listen("tcp", own.addr); err != nil {
			t.Error(err)
			return
		}
		start()
	}
	t.Cleanup(func() {
		own.trunks.Close()
		running.Wait()
	})
}

func (p *peering) resolve(_ context.Context, node string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[node]
	if n == nil || n.addr == "" {
		return "", trunk.ErrUnknown
	}
	return n.addr, nil
}

// Open implements engine.Peers.
func (n *peered) Open(ctx context.Context, node string, r engine.Receiver) (engine.Stream, error) {
	s, err := n.trunks.Open(ctx, node, r)
	if err != nil {
		return nil, err
	}
	return s, nil
}
