// Package metrics is the whole metric catalogue of the edge on one screen.
//
// Names have the prefix edge_, units are _seconds and _bytes, counters end in
// _total. Labels come only from the closed sets of reasons.go: never a room, a
// user, a socket or a namespace chosen by a client. Every series exists, at
// zero, from the first scrape on. All methods of all fields may be called from
// any goroutine.
package metrics

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics holds one collector per name. Fields are plain collectors so that a
// hot path pays one atomic operation and no label lookup.
type Metrics struct {
	// Latency of the one way through, in seconds. The first three add up to the
	// fourth, all measured on the publishing node: one clock.
	PublishAccepted prometheus.Histogram // publish called → Redis accepted the message
	RedisHub        prometheus.Histogram // sent to Redis → own copy reached the hub
	HubWritten      prometheus.Histogram // reached the hub → a shard wrote it to its conns (once per message and shard)
	PublishWritten  prometheus.Histogram // publish called → written (own messages, once per message and shard)

	// Presence in Redis, by op.
	Presence      [presenceOpCount]prometheus.Observer // seconds until Redis answered
	PresenceBatch [presenceOpCount]prometheus.Observer // members or sockets of one call; of the ops that take several
	PresenceReap  prometheus.Histogram                 // seconds one node needed to clean up after a dead incarnation

	// What is there now.
	ConnsWebSocket, ConnsPolling prometheus.Gauge
	Pending                      prometheus.Gauge // TCP connections of clients that have sent no request yet
	Sockets                      prometheus.Gauge
	Rooms                        prometheus.Gauge // rooms with local members, private rooms not counted
	Subscriptions                prometheus.Gauge // Redis channels and patterns subscribed
	ShardQueue                   prometheus.Gauge // operations that shards have taken and not finished
	PublishQueue                 prometheus.Gauge // messages waiting for Redis
	Ready                        prometheus.Gauge // 1 while /readyz answers 200
	Sessions                     prometheus.Gauge // sessions this node has open

	// What went by.
	Connects                   prometheus.Counter // conns opened
	PendingFull, AcceptErrors  prometheus.Counter // times that connections had to wait for MAX_PENDING; that none could be accepted
	FramesReceived, FramesSent prometheus.Counter // WebSocket messages and control frames in; packets out
	BytesReceived, BytesSent   prometheus.Counter // on the client side, TCP payload
	Writes                     prometheus.Counter // writes to client sockets: BytesSent/Writes shows merging
	Published, Delivered       prometheus.Counter // messages accepted by Redis; copies handed to outboxes
	BusMessages                prometheus.Counter // messages from Redis for rooms with local members
	BusReconnects              prometheus.Counter // Pub/Sub connections lost
	AdapterRequests            prometheus.Counter // requests of other nodes answered or executed
	HandlerPanics              prometheus.Counter
	CacheInvalidations         prometheus.Counter
	Closes                     [closeCount]prometheus.Counter
	Drops                      [dropCount]prometheus.Counter
	Refusals                   [refusalCount]prometheus.Counter
	CacheReads                 [cacheResultCount]prometheus.Counter
	Recoveries                 [recoveryCount]prometheus.Counter // clients that wanted their socket back
	Recovered                  prometheus.Counter                // messages replayed to them

	relaying
	deflating
	standing
	connecting

	JournalReads       prometheus.Counter // XRANGE commands for clients that missed something
	JournalReadCallers prometheus.Counter // clients they were for

	PresenceErrors       prometheus.Counter             // presence operations that failed and will be tried again
	PresenceExpired      prometheus.Counter             // presence operations refused because the lease was over
	PresenceIncarnations prometheus.Counter             // incarnations begun
	PresenceReaped       prometheus.Counter             // dead incarnations that this node cleaned up after
	PresenceScrubbed     prometheus.Counter             // things found that no living or dead incarnation answers for
	PresenceRefreshes    prometheus.Counter             // snapshots sent to rooms because changes were missed
	PresenceDrift        [driftCount]prometheus.Counter // differences found by audits
	PresenceDirty        prometheus.Gauge               // presence facts not yet stored in Redis
	PresenceLeaseMargin  prometheus.Gauge               // seconds the lease still had when it was renewed last
	PresenceNodes        prometheus.Gauge               // incarnations registered in Redis
	RedisClockSkew       prometheus.Gauge               // seconds Redis's clock is ahead of this node's

	// The journal in Redis, by op: seconds until Redis answered.
	Journal           [journalOpCount]prometheus.Observer
	JournalDuplicates prometheus.Counter // journalled messages dropped because they had been received before
	JournalLag        prometheus.Gauge   // seconds the newest journalled message was old when it was received
	PublishRetries    prometheus.Counter // batches sent again because their outcome was unknown
	GapRepairs        [gapCount]prometheus.Counter
	GapFailures       [gapFailureCount]prometheus.Counter
	GapMessages       prometheus.Counter   // journalled messages delivered by gap repairs
	GapRepair         prometheus.Histogram // seconds from the loss until everything missed was delivered

	trunking
	authenticating
	serving
}

// latencyBuckets have an edge at 0.2 s, the objective, and resolve the range around it and below.
var latencyBuckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .15, .2, .3, .5, 1, 2.5, 5,
}

// Buckets of what is no latency.
var (
	batchBuckets = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
	reapBuckets  = []float64{.01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10, 20, 40}

	repairBuckets = []float64{.01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10, 20, 40, 80}
)

// New makes every collector and registers it with reg. version is the edge's
// own. It panics on a name registered before, which is a programming error.
func New(reg prometheus.Registerer, version string) *Metrics {
	r := registrar{reg}
	m := &Metrics{
		PublishAccepted: r.histogram("edge_publish_accepted_seconds", "Time from publish to acceptance by Redis."),
		RedisHub:        r.histogram("edge_redis_hub_seconds", "Time from sending to Redis until the node's own copy reached its hub."),
		HubWritten:      r.histogram("edge_hub_written_seconds", "Time from the hub until a shard had written the message to its conns, once per message and shard."),
		PublishWritten:  r.histogram("edge_publish_written_seconds", "Time from publish until a shard had written the message to its conns, measured on the publishing node."),

		Sockets:       r.gauge("edge_sockets", "Sockets: namespace memberships of conns."),
		Rooms:         r.gauge("edge_rooms", "Rooms with local members, private rooms not counted."),
		Subscriptions: r.gauge("edge_subscriptions", "Redis channels and patterns subscribed."),
		ShardQueue:    r.gauge("edge_shard_queue_depth", "Operations that shards have taken and not finished."),
		PublishQueue:  r.gauge("edge_publish_queue_depth", "Messages waiting to be sent to Redis."),
		Ready:         r.gauge("edge_ready", "1 while the node is ready for traffic."),
		PresenceDirty: r.gauge("edge_presence_dirty", "Presence facts not yet stored in Redis."),

		Pending:      r.gauge("edge_pending_connections", "TCP connections of clients that have sent no request yet."),
		PendingFull:  r.counter("edge_pending_full_total", "Times that connections had to wait because too many had sent no request."),
		AcceptErrors: r.counter("edge_accept_errors_total", "Connections that could not be accepted, as for want of descriptors."),

		Connects:           r.counter("edge_connects_total", "Conns opened."),
		FramesReceived:     r.counter("edge_frames_received_total", "WebSocket messages and control frames received from clients."),
		FramesSent:         r.counter("edge_frames_sent_total", "Packets sent to clients."),
		BytesReceived:      r.counter("edge_received_bytes_total", "Bytes received from clients."),
		BytesSent:          r.counter("edge_sent_bytes_total", "Bytes sent to clients."),
		Writes:             r.counter("edge_writes_total", "Writes to client sockets."),
		Published:          r.counter("edge_published_total", "Messages accepted by Redis."),
		Delivered:          r.counter("edge_deliveries_total", "Message copies handed to conns."),
		BusMessages:        r.counter("edge_bus_messages_total", "Messages from Redis for rooms with local members."),
		BusReconnects:      r.counter("edge_bus_reconnects_total", "Pub/Sub connections lost."),
		AdapterRequests:    r.counter("edge_adapter_requests_total", "Adapter requests of other nodes served."),
		HandlerPanics:      r.counter("edge_handler_panics_total", "Application handlers, and verifications of tokens, that panicked."),
		CacheInvalidations: r.counter("edge_cache_invalidations_total", "Client-side caching invalidations received."),

		Recovered: r.counter("edge_recovered_messages_total", "Messages replayed to clients that got their socket back."),

		Sessions:           r.gauge("edge_sessions", "Sessions of sockets that this node has open."),
		JournalReads:       r.counter("edge_journal_reads_total", "Commands that read the journal for clients that missed something."),
		JournalReadCallers: r.counter("edge_journal_read_callers_total", "Readings of the journal asked for."),

		PresenceReap:         r.histogramIn("edge_presence_reap_seconds", "Time one node needed to clean up after a dead incarnation.", reapBuckets),
		PresenceErrors:       r.counter("edge_presence_errors_total", "Presence operations that failed and are tried again."),
		PresenceExpired:      r.counter("edge_presence_expired_total", "Presence operations refused because the lease was over."),
		PresenceIncarnations: r.counter("edge_presence_incarnations_total", "Incarnations begun: one at start, and one each time Redis did not know the node any more."),
		PresenceReaped:       r.counter("edge_presence_reaped_total", "Dead incarnations this node cleaned up after."),
		PresenceScrubbed:     r.counter("edge_presence_scrubbed_total", "Things found that no living or dead incarnation answers for, and removed."),
		PresenceRefreshes:    r.counter("edge_presence_refreshes_total", "Snapshots sent to rooms because changes were missed."),
		PresenceLeaseMargin:  r.gauge("edge_presence_lease_margin_seconds", "What the lease still had when it was renewed last."),
		PresenceNodes:        r.gauge("edge_presence_incarnations", "Incarnations registered in Redis, as of the last heartbeat."),
		RedisClockSkew:       r.gauge("edge_redis_clock_skew_seconds", "How far Redis's clock is ahead of this node's, as of the last heartbeat."),
	}
	m.catalogueJournal(r)
	m.catalogueRelay(r)
	m.catalogueDeflate(r)
	m.catalogueNode(r)
	m.catalogueRedis(r)
	m.catalogueAuth(r)
	conns := r.gaugeVec("edge_conns", "Open conns by transport.", "transport")
	m.ConnsWebSocket, m.ConnsPolling = conns.WithLabelValues("websocket"), conns.WithLabelValues("polling")

	presence := r.histogramVec("edge_presence_operation_seconds", "Presence operations in Redis by op.", "op")
	for i := range m.Presence {
		m.Presence[i] = presence.WithLabelValues(PresenceOp(i).String())
	}
	batch := r.histogramVecIn("edge_presence_batch_size", "Members or sockets of one presence operation by op.", batchBuckets, "op")
	for _, op := range []PresenceOp{PresenceHold, PresenceAssert, PresenceRelease, PresenceAttach, PresenceDetach, PresenceReapUser, PresenceIndex} {
		m.PresenceBatch[op] = batch.WithLabelValues(op.String())
	}
	fill(m.PresenceDrift[:], r.counterVec("edge_presence_drift_total", "Differences between what the node holds and what Redis has, found by audits.", "kind"), func(i int) string { return Drift(i).String() })
	fill(m.Closes[:], r.counterVec("edge_closes_total", "Conns ended by reason.", "reason"), func(i int) string { return Close(i).String() })
	fill(m.Drops[:], r.counterVec("edge_drops_total", "Messages dropped by reason.", "reason"), func(i int) string { return Drop(i).String() })
	fill(m.Refusals[:], r.counterVec("edge_refusals_total", "Handshakes, namespaces and events refused by reason.", "reason"), func(i int) string { return Refusal(i).String() })
	fill(m.CacheReads[:], r.counterVec("edge_cache_reads_total", "Presence reads by how they were answered.", "result"), func(i int) string { return CacheResult(i).String() })

	fill(m.Recoveries[:], r.counterVec("edge_recoveries_total", "Clients that asked for the socket they had before, by how it ended.", "result"), func(i int) string { return Recovery(i).String() })

	m.catalogueTrunk(r)
	m.catalogueAPI(r)

	r.gaugeVec("edge_build_info", "Always 1; version and Go version as labels.", "version", "goversion").
		WithLabelValues(version, runtime.Version()).Set(1)
	return m
}

// catalogueJournal is the part of New that is about the journal.
func (m *Metrics) catalogueJournal(r registrar) {
	m.JournalDuplicates = r.counter("edge_journal_duplicates_total", "Journalled messages dropped because they had been received before.")
	m.JournalLag = r.gauge("edge_journal_lag_seconds", "Age of the newest journalled message when it was received, by Redis's clock.")
	m.PublishRetries = r.counter("edge_publish_retries_total", "Batches of messages sent to Redis again because their outcome was unknown.")
	m.GapMessages = r.counter("edge_gap_repaired_messages_total", "Journalled messages delivered by gap repairs.")
	m.GapRepair = r.histogramIn("edge_gap_repair_seconds", "Time from the loss of the subscriptions until everything missed was delivered.", repairBuckets)
	ops := r.histogramVec("edge_journal_operation_seconds", "Operations on the journal and the sessions in Redis by op.", "op")
	for i := range m.Journal {
		m.Journal[i] = ops.WithLabelValues(JournalOp(i).String())
	}
	fill(m.GapRepairs[:], r.counterVec("edge_gap_repairs_total", "Gap repairs completed by what opened the gap.", "cause"), func(i int) string { return Gap(i).String() })
	fill(m.GapFailures[:], r.counterVec("edge_gap_repair_failures_total", "Gaps that could not be repaired by cause.", "cause"), func(i int) string { return GapFailure(i).String() })
}

// registrar makes and registers collectors.
type registrar struct{ reg prometheus.Registerer }

func (r registrar) must(name string, c prometheus.Collector) {
	if err := r.reg.Register(c); err != nil {
		panic(fmt.Sprintf("metrics: register %s: %v", name, err))
	}
}

func (r registrar) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.must(name, c)
	return c
}

func (r registrar) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.must(name, c)
	return c
}

func (r registrar) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.must(name, g)
	return g
}

func (r registrar) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.must(name, g)
	return g
}

func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help,
		Buckets:                        buckets,
		NativeHistogramBucketFactor:    1.1, // ≤ 10 % error; scrapers that ask for native histograms get both
		NativeHistogramMaxBucketNumber: 160,
	}
}

func (r registrar) histogram(name, help string) prometheus.Histogram {
	return r.histogramIn(name, help, latencyBuckets)
}

func (r registrar) histogramIn(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(histogramOpts(name, help, buckets))
	r.must(name, h)
	return h
}

func (r registrar) histogramVec(name, help string, labels ...string) *prometheus.HistogramVec {
	return r.histogramVecIn(name, help, latencyBuckets, labels...)
}

func (r registrar) histogramVecIn(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(histogramOpts(name, help, buckets), labels)
	r.must(name, h)
	return h
}

// fill resolves the closed label set once, so that hot paths index an array.
func fill(dst []prometheus.Counter, vec *prometheus.CounterVec, label func(int) string) {
	for i := range dst {
		dst[i] = vec.WithLabelValues(label(i))
	}
}
