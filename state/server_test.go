package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stellara/edge/metrics"
)

func TestParseInfo(t *testing.T) {
	got := parseInfo("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\n# Memory\r\nmaxmemory:1048576\r\nmaxmemory_policy:allkeys-lru\r\n")
	want := serverInfo{run: "abc", mode: "standalone", version: "7.0.15", maxMemory: 1 << 20, eviction: "allkeys-lru"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parseInfo(""); got != (serverInfo{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestSupported(t *testing.T) {
	for _, i := range []serverInfo{{}, {version: "6.2.0"}, {version: "6.10"}, {mode: "standalone", version: "7.0.15"}, {version: "255.255.255"}, {version: "unstable"}} {
		if err := i.supported(); err != nil {
			t.Errorf("%+v: %v", i, err)
		}
	}
	for text, i := range map[string]serverInfo{
		"Redis Cluster":     {mode: "cluster", version: "7.0.15"},
		"redis-sentinel://": {mode: "sentinel", version: "7.0.15"},
		"version 6.0.16":    {mode: "standalone", version: "6.0.16"},
		"version 5.0.14":    {version: "5.0.14"},
	} {
		if err := i.supported(); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, which does not name %s", i, err, text)
		}
	}
}

func TestEvicts(t *testing.T) {
	for i, want := range map[serverInfo]bool{
		{}: false, {eviction: "allkeys-lru"}: false, {maxMemory: 1, eviction: "noeviction"}: false, {maxMemory: 1}: false,
		{maxMemory: 1, eviction: "volatile-ttl"}: true,
	} {
		if got := i.evicts(); got != want {
			t.Errorf("%+v: %v", i, got)
		}
	}
}

func TestFailureOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want metrics.RedisFailure
	}{
		{io.EOF, metrics.RedisUnreachable},
		{fmt.Errorf("%w: unknown authority", errTLS), metrics.RedisTLS},
		{fmt.Errorf("%w: a cluster", ErrUnsupported), metrics.RedisUnsupported},
		{errReplica, metrics.RedisReplica},
	} {
		if got := failureOf(tt.err); got != tt.want {
			t.Errorf("%v is %s, want %s", tt.err, got, tt.want)
		}
	}
}

// refusing runs a node against a Redis that can never be used, and returns what Run says.
func refusing(t *testing.T, b *backend) error {
	t.Helper()
	n := b.open(t, "nodeAAAA", nil)
	n.Bus().Open("/")
	ended := make(chan error, 1)
	go func() { ended <- n.Run(context.Background(), n.recorder, n.recorder, nil) }()
	err := await(t, "Run returns", ended)
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return err
}

// A cluster's node and a sentinel are named for what they are, and the node does not go on.
func TestUnsupportedServers(t *testing.T) {
	cluster := startRedis(t, "--cluster-enabled", "yes")
	options, err := parseURL(cluster.url())
	if err != nil {
		t.Fatal(err)
	}
	if err := refusing(t, &backend{options: options, redis: cluster}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "Redis Cluster") {
		t.Errorf("a cluster's node: %v", err)
	}
}

// A cluster in the place of the Redis before is waited out: it may go as it came.
func TestClusterComesLater(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", nil)
	b.redis.stop()
	standalone := b.redis.args
	b.redis.args = append(slices.Clone(standalone), "--cluster-enabled", "yes")
	b.redis.start(t)
	eventually(t, "the cluster is refused", func() error {
		if n.log.count("reason=unsupported") == 0 {
			return errNotYet
		}
		return nil
	})
	if err := n.Ready(); !errors.Is(err, ErrUnsupported) {
		t.Errorf("readiness says %v", err)
	}
	b.redis.stop()
	b.redis.args = standalone
	b.redis.start(t)
	eventually(t, "ready again", n.Ready)
}

// A Redis that may remove keys is warned of, once.
func TestEvictionIsWarnedOf(t *testing.T) {
	b := observed(t, redisWith(t, "--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"))
	n := b.start(t, "nodeAAAA", nil)
	b.redis.stop()
	b.redis.start(t)
	eventually(t, "redis is back", func() error {
		if n.log.count("redis is back") == 0 {
			return errNotYet
		}
		return nil
	})
	if got := n.log.count("maxmemory_policy=volatile-ttl"); got != 1 {
		t.Errorf("%d lines warn of it", got)
	}
}

// redisWith is a backend whose redis-server has further arguments.
func redisWith(t testing.TB, args ...string) *backend {
	t.Helper()
	r := startRedis(t, args...)
	options, err := parseURL(r.url())
	if err != nil {
		t.Fatal(err)
	}
	return &backend{name: "redis-server", options: options, redis: r}
}
