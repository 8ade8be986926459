//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/bench/chaos"
	"github.com/stellara/edge/internal/port"
)

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
		"--dbfilename", rdbName(s.lives), "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
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
	free, err := port.Free()
	if err != nil {
		return "", err
	}
	addr = fmt.Sprintf("127.0.0.1:%d", free)
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
	return addr, s.replica.await(ctx, func() bool {
		info, err := redisDo(ctx, addr, "INFO", "replication")
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
}

// redisDo runs one command on the Redis at an address and returns the answer as text.
func redisDo(ctx context.Context, addr string, words ...string) (string, error) {
	reader, err := chaos.NewReader(addr, chaos.NewRoster(nil, nil))
	if err != nil {
		return "", err
	}
	defer reader.Close()
	return reader.Do(ctx, words...)
}

// do runs one command on the Redis in use.
func (s *chaosStack) do(ctx context.Context, words ...string) (string, error) {
	return redisDo(ctx, s.redisAddr, words...)
}

// during is how a test spends time between the steps of a fault.
type during func(context.Context, time.Duration) error

// restartRedis kills Redis and starts it again in the same place after a while, empty unless args say
// where its data are.
func (s *chaosStack) restartRedis(ctx context.Context, wait during, args ...string) error {
	s.redis.kill()
	if err := wait(ctx, redisDown); err != nil {
		return err
	}
	p, err := s.startRedis(ctx, s.redisAddr, args...)
	if err != nil {
		return err
	}
	s.redis = p
	return nil
}

// saveRedis has Redis write its data to disk, and returns the arguments with which another one begins
// with them.
func (s *chaosStack) saveRedis(ctx context.Context) (args []string, err error) {
	if _, err := s.do(ctx, "SAVE"); err != nil {
		return nil, err
	}
	return []string{"--dbfilename", rdbName(s.lives)}, nil
}

func rdbName(life int) string { return fmt.Sprintf("redis-%d.rdb", life) }

// failover kills Redis while its replica lags, and makes the replica the Redis in use. killed is called
// right after the kill.
func (s *chaosStack) failover(ctx context.Context, wait during, killed func()) error {
	addr, err := s.startReplica(ctx)
	if err != nil {
		return err
	}
	if err := wait(ctx, replicaLag); err != nil {
		return err
	}
	s.link.Hold()
	if err := wait(ctx, replicaLag); err != nil {
		return err
	}
	s.redis.kill()
	s.link.Close() // with what was held
	killed()
	if err := wait(ctx, redisDown); err != nil {
		return err
	}
	s.redis, s.redisAddr, s.replica, s.link = s.replica, addr, nil, nil
	if _, err := s.do(ctx, "REPLICAOF", "NO", "ONE"); err != nil {
		return err
	}
	for _, n := range s.nodes {
		n.proxy.Retarget(addr)
	}
	return nil
}
