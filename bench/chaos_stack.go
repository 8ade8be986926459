//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/stellara/edge/bench/chaos"
)

// chaosStack is a Redis and nodes, each of which reaches Redis through a proxy of its own. All that
// it starts ends with close.
type chaosStack struct {
	dir       string
	system    string
	argv      []string // of a node
	redis     *process
	redisAddr string
	replica   *process // while it follows redis
	link      *chaos.Proxy
	lives     int // of Redis, for the names of logs
	nodes     []*chaosNode
}

// chaosNode is a server that can be killed and started again in the same place.
type chaosNode struct {
	name    string
	listen  string
	admin   string
	proxy   *chaos.Proxy
	env     []string
	process *process
	lives   int
	down    bool // on purpose
}

func startChaosStack(ctx context.Context, cfg config, system string) (s *chaosStack, err error) {
	s = &chaosStack{system: system}
	defer func() {
		if err != nil {
			s.close()
			s = nil
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return s, err
	}
	if s.argv, err = command(ctx, cfg, system); err != nil {
		return s, err
	}
	ports, err := freePorts(1 + 2*cfg.nodes)
	if err != nil {
		return s, err
	}
	s.redisAddr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	if s.redis, err = s.startRedis(ctx, s.redisAddr); err != nil {
		return s, err
	}
	for i := range cfg.nodes {
		n := &chaosNode{
			name:   fmt.Sprintf("%s-%d", system, i+1),
			listen: fmt.Sprintf("127.0.0.1:%d", ports[1+2*i]),
			admin:  fmt.Sprintf("127.0.0.1:%d", ports[2+2*i]),
		}
		if n.proxy, err = chaos.NewProxy(s.redisAddr); err != nil {
			return s, err
		}
		s.nodes = append(s.nodes, n)
		n.env = append([]string{
			"LISTEN_ADDR=" + n.listen, "ADMIN_ADDR=" + n.admin, "PEER_ADDR=127.0.0.1:0", "REDIS_URL=redis://" + n.proxy.Addr(),
			"AUTH=none", "LOG_LEVEL=warn", "NODE_ENV=production", "DRAIN_DELAY=0s", "DRAIN_WINDOW=0s",
		}, cfg.env...)
		if err := s.launch(n); err != nil {
			return s, err
		}
	}
	for _, n := range s.nodes {
		if err := n.awaitReady(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// launch starts a node, in its place of before if it had one. Must be called on the main goroutine.
func (s *chaosStack) launch(n *chaosNode) error {
	n.lives++
	p, err := start(fmt.Sprintf("%s.%d", n.name, n.lives), s.dir, n.env, s.argv...)
	if err != nil {
		return err
	}
	n.process, n.down = p, false
	return nil
}

func (n *chaosNode) awaitReady(ctx context.Context) error {
	return n.process.await(ctx, func() bool { return answers("http://" + n.listen + "/readyz") })
}

// kill ends a node with -9.
func (n *chaosNode) kill() {
	n.down = true
	n.process.kill()
}

// terminate asks a node to end, and returns when it has.
func (n *chaosNode) terminate(grace time.Duration) {
	n.down = true
	n.process.stop(grace)
}

// kill ends the process with -9 and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
}

// died names a process that ended by itself.
func (s *chaosStack) died() error {
	running := []*process{s.redis}
	for _, n := range s.nodes {
		if !n.down {
			running = append(running, n.process)
		}
	}
	for _, p := range running {
		select {
		case <-p.done:
			return p.failure("ended by itself")
		default:
		}
	}
	return nil
}

// close kills everything: who is left has nobody to say goodbye to.
func (s *chaosStack) close() {
	for _, n := range s.nodes {
		if n.process != nil {
			n.process.kill()
		}
		n.proxy.Close()
	}
	if s.link != nil {
		s.link.Close()
	}
	for _, p := range []*process{s.replica, s.redis} {
		if p != nil {
			p.kill()
		}
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}
