//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/bench/chaos"
)

// chaosStack is a Redis and edge nodes, each of which reaches Redis through a proxy of its own. All that
// it starts ends with close.
type chaosStack struct {
	dir       string
	argv      []string // of a node
	redis     *process
	redisAddr string
	replica   *process // while it follows redis
	link      *chaos.Proxy
	lives     int // of Redis, for the names of logs
	nodes     []*chaosNode
}

// chaosNode is an edge that can be killed and started again in the same place.
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

func startChaosStack(ctx context.Context, cfg config) (s *chaosStack, err error) {
	s = &chaosStack{}
	defer func() {
		if err != nil {
			s.close()
			s = nil
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return s, err
	}
	if s.argv, err = command(ctx, cfg, systemEdge); err != nil {
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
			name:   fmt.Sprintf("edge-%d", i+1),
			listen: fmt.Sprintf("127.0.0.1:%d", ports[1+2*i]),
			admin:  fmt.Sprintf("127.0.0.1:%d", ports[2+2*i]),
		}
		if n.proxy, err = chaos.NewProxy(s.redisAddr); err != nil {
			return s, err
		}
		s.nodes = append(s.nodes, n)
		n.env = append([]string{
			"LISTEN_ADDR=" + n.listen, "ADMIN_ADDR=" + n.admin, "REDIS_URL=redis://" + n.proxy.Addr(),
			"AUTH=none", "LOG_LEVEL=warn",
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

// startRedis starts a Redis that keeps nothing on disk and waits until it answers.
func (s *chaosStack) startRedis(ctx context.Context, addr string, args ...string) (*process, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server is needed: %w", err)
	}
	_, port, _ := strings.Cut(addr, ":")
	s.lives++
	p, err := start("redis-"+strconv.Itoa(s.lives), s.dir, nil, append([]string{
		path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir,
		"--dbfilename", fmt.Sprintf("redis-%d.rdb", s.lives), "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
		"--daemonize", "no",
	}, args...)...)
	if err != nil {
		return nil, err
	}
	err = p.await(ctx, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// startReplica starts a Redis that follows the one in use over a link that can be cut, and waits until
// it has caught up.
func (s *chaosStack) startReplica(ctx context.Context) (addr string, err error) {
	ports, err := freePorts(1)
	if err != nil {
		return "", err
	}
	addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	if s.link, err = chaos.NewProxy(s.redisAddr); err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(s.link.Addr())
	if err != nil {
		return "", err
	}
	if s.replica, err = s.startRedis(ctx, addr, "--replicaof", host+" "+port); err != nil {
		return "", err
	}
	reader, err := chaos.NewReader(addr, chaos.NewRoster(nil, nil))
	if err != nil {
		return "", err
	}
	defer reader.Close()
	return addr, s.replica.await(ctx, func() bool {
		info, err := reader.Do(ctx, "INFO", "replication")
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
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
