package metrics

import "github.com/prometheus/client_golang/prometheus"

// RedisFailure names why an attempt to connect to Redis failed. The set is closed.
type RedisFailure uint8

// Failures of attempts to connect to Redis.
const (
	RedisUnreachable RedisFailure = iota // it does not answer, or hangs up
	RedisTLS                             // a certificate is not accepted by either side, or it speaks no TLS
	RedisAuth                            // it does not know the user or the password
	RedisPermission                      // the user may not do what connecting needs
	RedisReplica                         // it is a replica
	RedisBusy                            // it answers that it cannot serve now: it loads its data, or a script runs
	RedisUnsupported                     // a cluster, a sentinel, or too old
	RedisNoMaster                        // the sentinels do not name a master
	redisFailureCount
)

var redisFailureNames = [redisFailureCount]string{
	"unreachable", "tls", "auth", "permission", "replica", "busy", "unsupported", "no_master",
}

// String is the label value.
func (f RedisFailure) String() string { return redisFailureNames[f] }

// connecting is about reaching Redis, and being let do what is needed there.
type connecting struct {
	RedisFailures [redisFailureCount]prometheus.Counter // attempts to connect that failed
	RedisDenials  prometheus.Counter                    // commands that the user has no right to
}

// catalogueRedis is the part of New that is about connecting to Redis.
func (m *Metrics) catalogueRedis(r registrar) {
	fill(m.RedisFailures[:], r.counterVec("edge_redis_connect_failures_total", "Attempts to connect to Redis that failed by reason.", "reason"), func(i int) string { return RedisFailure(i).String() })
	m.RedisDenials = r.counter("edge_redis_denials_total", "Commands that Redis refused because its user lacks a right.")
}
