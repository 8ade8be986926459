package metrics

import "github.com/prometheus/client_golang/prometheus"

// standing is what a node may have and what it has of it, for who has to see what is left.
type standing struct {
	MaxConns      prometheus.Gauge // MAX_CONNS as it is in force
	OutboxBytes   prometheus.Gauge // in all outboxes; a message counts once for each
	Draining      prometheus.Gauge // 1 from the beginning of a drain to the end
	RedisUp       prometheus.Gauge // 1 while Redis answers commands
	PresenceLease prometheus.Gauge // seconds: PRESENCE_LEASE
}

// catalogueNode is the part of New that is about a node's bounds.
func (m *Metrics) catalogueNode(r registrar) {
	m.MaxConns = r.gauge("edge_max_conns", "Most conns that the node takes.")
	m.OutboxBytes = r.gauge("edge_outbox_bytes", "Bytes that wait in the outboxes of all conns, a message once for each; messages are shared, so memory is less.")
	m.Draining = r.gauge("edge_draining", "1 from the moment at which the node is drained or shut down.")
	m.RedisUp = r.gauge("edge_redis_up", "1 while Redis answers the node's commands.")
	m.PresenceLease = r.gauge("edge_presence_lease_seconds", "Time without a heartbeat after which other nodes take this one for dead.")
}
