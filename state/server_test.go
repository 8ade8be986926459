package state

import (
	"errors"
	"fmt"
	"io"
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
