//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stellara/edge/bench/load"
)

// stack is a system under test with its load: Redis, nodes, and client processes. All that it starts
// ends with close.
type stack struct {
	dir     string
	redis   *process // nil if external
	nodes   []*process
	loaders []*process
	pipes   []io.Closer
	fleet   *load.Fleet
	plan    load.Plan

	survivors     *load.Fleet // loss only: the connections that carry messages
	survivorsPlan load.Plan

	redisURL string   // empty if there is none to look at
	listen   []string // addresses of the nodes that are ours
	admin    []string // addresses with /metrics
}

// startStack starts everything and waits until the nodes are ready.
func startStack(ctx context.Context, cfg config, name string) (s *stack, err error) {
	s = &stack{redisURL: cfg.redisURL}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return s, err
	}
	targets := cfg.targets
	if name != systemExternal {
		ports, err := freePorts(1 + 2*cfg.nodes)
		if err != nil {
			return s, err
		}
		if err := s.startRedis(ctx, ports[0]); err != nil {
			return s, err
		}
		if targets, err = s.startNodes(ctx, cfg, name, ports[1:]); err != nil {
			return s, err
		}
	}
	s.plan = cfg.plan(targets)
	if s.fleet, err = s.startLoaders(s.plan, cfg.processes); err != nil || cfg.scenario != scenarioLoss {
		return s, err
	}
	s.survivorsPlan = cfg.loss.survivors(&cfg, targets[cfg.loss.victims:])
	s.survivors, err = s.startLoaders(s.survivorsPlan, 1)
	return s, err
}

// startRedis starts a Redis that keeps nothing on disk.
func (s *stack) startRedis(ctx context.Context, port int) error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("redis-server is needed: %w", err)
	}
	s.redis, err = start("redis", s.dir, nil, path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--dir", s.dir, "--daemonize", "no")
	if err != nil {
		s.redis = nil
		return err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s.redisURL = "redis://" + addr
	return s.redis.await(ctx, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// startNodes starts the servers on 127.0.0.1 and returns their addresses.
func (s *stack) startNodes(ctx context.Context, cfg config, name string, ports []int) ([]string, error) {
	argv, err := command(ctx, cfg, name)
	if err != nil {
		return nil, err
	}
	var targets []string
	for i := range cfg.nodes {
		listen := fmt.Sprintf("127.0.0.1:%d", ports[2*i])
		admin := fmt.Sprintf("127.0.0.1:%d", ports[2*i+1])
		env := append([]string{
			"LISTEN_ADDR=" + listen, "ADMIN_ADDR=" + admin, "PEER_ADDR=127.0.0.1:0", "REDIS_URL=" + s.redisURL,
			"AUTH=none", "LOG_LEVEL=warn", "NODE_ENV=production", "DRAIN_DELAY=0s", "DRAIN_WINDOW=0s",
			"PACKET_RATE=0", "BYTE_RATE=0", // a few senders stand for a room's members
		}, cfg.env...)
		p, err := start(fmt.Sprintf("%s-%d", name, i+1), s.dir, env, argv...)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, p)
		targets = append(targets, listen)
		s.listen = append(s.listen, listen)
		if name == systemEdge {
			s.admin = append(s.admin, admin)
		}
	}
	for i, p := range s.nodes {
		if err := p.await(ctx, func() bool { return answers("http://" + targets[i] + "/readyz") }); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// command returns the command line of one node, after building or installing what it needs.
func command(ctx context.Context, cfg config, name string) ([]string, error) {
	if name == systemEdge && cfg.edge != "" {
		return []string{cfg.edge}, nil
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	if name == systemEdge {
		binary := filepath.Join(root, "bin", "edge")
		return []string{binary}, tool(ctx, root, "go", "build", "-o", binary, "./cmd/edge")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("the Node.js system needs node: %w", err)
	}
	dir := filepath.Join(root, "bench", "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "socket.io")); errors.Is(err, os.ErrNotExist) {
		if err := tool(ctx, dir, "npm", "ci", "--omit=dev", "--ignore-scripts"); err != nil {
			return nil, err
		}
	}
	return []string{node, filepath.Join(dir, "server.mjs")}, nil
}

// moduleRoot finds the directory of this module.
func moduleRoot(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(text))), nil
}

// tool runs a build command; its output is part of the error.
func tool(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, text)
	}
	return nil
}

// pipe is a process's standard input and output.
type pipe struct {
	io.Reader
	io.Writer
}

// startLoaders starts this program again as n client processes, which share a plan.
func (s *stack) startLoaders(plan load.Plan, n int) (*load.Fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var pipes []io.ReadWriter
	for range n {
		p := &process{name: fmt.Sprintf("loader-%d", len(s.loaders)+1), done: make(chan struct{})}
		p.cmd = exec.Command(self, loaderArg)
		p.cmd.Stderr = os.Stderr
		in, err := p.cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		r, w, err := os.Pipe() // not StdoutPipe: Wait would close it before the last answer is read
		if err != nil {
			return nil, err
		}
		p.cmd.Stdout = w
		err = p.launch()
		w.Close()
		if err != nil {
			r.Close()
			return nil, err
		}
		s.loaders = append(s.loaders, p)
		s.pipes = append(s.pipes, in, r)
		pipes = append(pipes, pipe{r, in})
	}
	return load.NewFleet(plan, pipes)
}

// cut ends the client processes at once; a call of the fleet that waits for them then fails.
func (s *stack) cut() {
	for _, p := range s.loaders {
		_ = p.cmd.Process.Kill() // fails only if it has ended
	}
}

// close ends everything: clients, nodes, then Redis.
func (s *stack) close() {
	s.cut()
	for _, p := range s.pipes {
		p.Close()
	}
	for _, p := range s.loaders {
		<-p.done
	}
	for _, p := range s.nodes {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // all at once; stop then waits for each
	}
	for _, p := range s.nodes {
		p.stop(5 * time.Second)
	}
	if s.redis != nil {
		s.redis.stop(5 * time.Second)
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// goroutines returns the largest go_goroutines metric of the nodes, 0 if there is none.
func (s *stack) goroutines() (most int) {
	client := http.Client{Timeout: 5 * time.Second}
	for _, admin := range s.admin {
		resp, err := client.Get("http://" + admin + "/metrics")
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if value, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
				if n, err := strconv.Atoi(value); err == nil {
					most = max(most, n)
				}
			}
		}
		resp.Body.Close()
	}
	return most
}
