package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// ErrUnsupported is a Redis that answers and can never serve the node: a
// cluster, a sentinel, or one that is too old.
var ErrUnsupported = errors.New("state: this redis cannot be used")

// Oldest version of Redis: the first with XTRIM MINID, SMISMEMBER and HRANDFIELD.
const oldestMajor, oldestMinor = 6, 2

// serverInfo is what INFO says of a server; fields are zero where it does not tell.
// https://redis.io/docs/latest/commands/info/
type serverInfo struct {
	run       string // run_id: another one says that it was restarted, or is another Redis
	mode      string // standalone, cluster or sentinel
	version   string
	maxMemory int64  // bytes; 0: no limit
	eviction  string // what it removes when they are used up
}

func parseInfo(text string) (i serverInfo) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "run_id":
			i.run = value
		case "redis_mode":
			i.mode = value
		case "redis_version":
			i.version = value
		case "maxmemory":
			i.maxMemory, _ = strconv.ParseInt(value, 10, 64) // one that is no number is not told
		case "maxmemory_policy":
			i.eviction = value
		}
	}
	return i
}

// supported is nil, or says why the server can never serve a node.
func (i serverInfo) supported() error {
	switch i.mode {
	case "cluster":
		return fmt.Errorf("%w: it is a node of a Redis Cluster (redis_mode:cluster), which is not supported; use one server, or sentinels and their master", ErrUnsupported)
	case "sentinel":
		return fmt.Errorf("%w: it is a sentinel; the URL of sentinels is redis-sentinel://host:port/master", ErrUnsupported)
	}
	first, rest, _ := strings.Cut(i.version, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, errMajor := strconv.Atoi(first)
	minor, errMinor := strconv.Atoi(second)
	if errMajor == nil && errMinor == nil && (major < oldestMajor || major == oldestMajor && minor < oldestMinor) {
		return fmt.Errorf("%w: it is version %s, and %d.%d or later is needed", ErrUnsupported, i.version, oldestMajor, oldestMinor)
	}
	return nil
}

// evicts reports whether the server removes keys when its memory is used up.
func (i serverInfo) evicts() bool {
	return i.maxMemory > 0 && i.eviction != "" && i.eviction != "noeviction"
}

// ask returns what the server says of itself. One that does not tell, or does
// not let the user ask, is taken as it is.
func ask(ctx context.Context, c rueidis.CommandClient) (serverInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var text string
	for _, r := range c.DoMulti(ctx, c.B().Info().Section("server").Build(), c.B().Info().Section("memory").Build()) {
		section, err := r.ToString()
		if lostConnection(err) {
			return serverInfo{}, fmt.Errorf("info: %w", err)
		}
		text += section
	}
	return parseInfo(text), nil
}

// failureOf names why Redis could not be connected to, for the log and the metrics.
func failureOf(err error) metrics.RedisFailure {
	switch {
	case errors.Is(err, errTLS):
		return metrics.RedisTLS
	case errors.Is(err, ErrUnsupported):
		return metrics.RedisUnsupported
	case errors.Is(err, errUnnamed):
		return metrics.RedisNoMaster
	case errors.Is(err, errReplica):
		return metrics.RedisReplica
	case denied(err):
		return metrics.RedisPermission
	}
	var answer *rueidis.RedisError
	if !errors.As(err, &answer) {
		return metrics.RedisUnreachable
	}
	switch word, _, _ := strings.Cut(answer.Error(), " "); word {
	case "WRONGPASS", "NOAUTH":
		return metrics.RedisAuth
	}
	return metrics.RedisBusy
}
