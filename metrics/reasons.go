package metrics

// Close names why a conn ended. The set is closed: every value is a label of
// edge_closes_total from the first scrape on.
type Close uint8

// Close reasons.
const (
	CloseTransportClose    Close = iota // the client closed the WebSocket or its TCP connection
	CloseTransportError                 // the transport failed: reset, write error
	CloseProtocolError                  // RFC 6455 or Engine.IO violated (close codes 1002, 1003, 1007)
	CloseMessageTooBig                  // a message above maxPayload (close code 1009)
	CloseParseError                     // an Engine.IO or Socket.IO packet that cannot be parsed
	CloseForced                         // a Socket.IO packet that the state of the conn forbids
	ClosePingTimeout                    // no pong within pingTimeout
	CloseConnectTimeout                 // no namespace joined within connectTimeout
	CloseServer                         // the application disconnected the client
	CloseShutdown                       // the node is shutting down
	CloseSlowReader                     // the outbox bound was reached: the client reads too slowly
	CloseInboundOverflow                // packets waiting behind a pending operation exceeded their bound
	ClosePanic                          // a bug of ours, confined to this conn (close code 1011)
	CloseOverloaded                     // the node cannot deliver what it accepted; the conn was given up
	CloseGap                            // messages were missed and could not be repaired
	CloseReplaced                       // the client came back elsewhere while this conn was still open
	CloseMoved                          // the conn went to the node that holds its WebSocket
	CloseDrain                          // the node is being drained; the conn's turn came
	CloseMaxAge                         // the conn was as old as conns get (MAX_CONN_AGE)
	ClosePacketRate                     // the client sent more packets than PACKET_RATE lets through
	CloseByteRate                       // the client sent more bytes than BYTE_RATE lets through
	CloseAttachmentTimeout              // a packet stayed incomplete: fragments or attachments did not come (ATTACHMENT_TIMEOUT)
	CloseTokenExpired                   // the client's token has expired
	closeCount
)

var closeNames = [closeCount]string{
	"transport_close", "transport_error", "protocol_error", "message_too_big", "parse_error", "forced_close",
	"ping_timeout", "connect_timeout", "server", "shutdown", "slow_reader", "inbound_overflow", "panic",
	"overloaded", "gap", "replaced", "moved", "drain", "max_age",
	"packet_rate", "byte_rate", "attachment_timeout", "token_expired",
}

// String is the label value.
func (c Close) String() string { return closeNames[c] }

// Drop names why a message did not go further. The set is closed.
type Drop uint8

// Drop reasons.
const (
	DropVolatile           Drop = iota // volatile, and the client was not writable
	DropPublishQueue                   // the publish queue was full; the sender was told
	DropDeliverQueue                   // a shard's inbox was full; its conns are closed as overloaded
	DropNoMembers                      // arrived for a room without members here, not decoded
	DropMalformed                      // from Redis, not an adapter message
	DropTooManyAttachments             // from Redis, more than 10 attachments
	DropTooBig                         // a packet above a quarter of the outbox bound
	DropClosing                        // for a conn that is already closing
	DropRedis                          // Redis refused or lost a publish; the sender was told
	DropPresenceUpdate                 // a presence update that could not be read
	DropConflict                       // another message than the one that was published under its name; the sender was told
	dropCount
)

var dropNames = [dropCount]string{
	"volatile", "publish_queue_full", "deliver_queue_full", "no_members", "malformed", "too_many_attachments",
	"too_big", "closing", "redis", "presence_update", "once_conflict",
}

// String is the label value.
func (d Drop) String() string { return dropNames[d] }

// Refusal names why a handshake, a namespace or an event was answered with an error. The set is closed.
type Refusal uint8

// Refusal reasons.
const (
	RefusalTransportUnknown Refusal = iota // Engine.IO code 0
	RefusalSessionUnknown                  // Engine.IO code 1
	RefusalHandshakeMethod                 // Engine.IO code 2
	RefusalBadRequest                      // Engine.IO code 3 and malformed WebSocket handshakes
	RefusalForbidden                       // Engine.IO code 4
	RefusalProtocolVersion                 // Engine.IO code 5
	RefusalMaxConns                        // MAX_CONNS reached
	RefusalShutdown                        // the node is being drained, or shutting down
	RefusalNamespace                       // Invalid namespace
	RefusalMiddleware                      // a middleware refused the socket (bad token, …)
	RefusalEvent                           // an application event answered {ok:false}
	RefusalPeer                            // the node that owns the session cannot be reached; Engine.IO code 1
	RefusalRate                            // sessions are opened faster than CONNECT_RATE
	RefusalRateSource                      // from this address faster than CONNECT_RATE_PER_IP
	RefusalNoRequest                       // a connection that had sent no request made room for another (MAX_PENDING)
	RefusalMaxConnsSource                  // this address has MAX_CONNS_PER_IP conns
	RefusalMaxConnsUser                    // this user has MAX_CONNS_PER_USER conns
	RefusalProxyHeader                     // no PROXY header where one is required, or one that is none, or from who may not send one
	RefusalOrigin                          // a browser's page of an origin that is not in ORIGINS
	RefusalRequestHead                     // the head of a request was malformed, too large, or did not come whole
	refusalCount
)

var refusalNames = [refusalCount]string{
	"transport_unknown", "session_unknown", "handshake_method", "bad_request", "forbidden", "protocol_version",
	"max_conns", "shutdown", "invalid_namespace", "middleware", "event", "peer_unreachable",
	"rate_limited", "rate_limited_source", "no_request",
	"max_conns_source", "max_conns_user", "proxy_header", "origin",
	"request_head",
}

// String is the label value.
func (r Refusal) String() string { return refusalNames[r] }

// PresenceOp names a presence operation in Redis. The set is closed.
type PresenceOp uint8

// Presence operations: the scripts by their names, then what is done without one.
const (
	PresenceHold PresenceOp = iota
	PresenceAssert
	PresenceRelease
	PresenceAttach
	PresenceDetach
	PresenceReapUser
	PresenceHeartbeat
	PresenceClaim
	PresenceNominate
	PresenceSnapshot
	PresenceIndex   // also when rooms are crossed out
	PresenceAudit   // looking whether Redis still has what this node holds
	PresenceScrub   // a page of the search for what dead incarnations left
	PresenceRead    // any other read
	presenceOpCount // of which those before PresenceAudit are scripts
)

var presenceOpNames = [presenceOpCount]string{
	"hold", "assert", "release", "attach", "detach", "reap_user", "heartbeat", "claim", "nominate", "snapshot",
	"index", "audit", "scrub", "read",
}

// String is the label value.
func (o PresenceOp) String() string { return presenceOpNames[o] }

// Drift names a difference between what a node holds and what Redis has of it. The set is closed.
type Drift uint8

// Drifts.
const (
	DriftMissing Drift = iota // Redis lacked what the node holds; put back
	DriftExtra                // Redis had what the node does not hold; removed
	driftCount
)

var driftNames = [driftCount]string{"missing", "extra"}

// String is the label value.
func (d Drift) String() string { return driftNames[d] }

// CacheResult names how a presence read was answered. The set is closed.
type CacheResult uint8

// Cache results.
const (
	CacheHit     CacheResult = iota // from client-side caching
	CacheMiss                       // asked Redis
	CacheOverlay                    // from this node's own holds (read-your-writes)
	cacheResultCount
)

var cacheResultNames = [cacheResultCount]string{"hit", "miss", "overlay"}

// String is the label value.
func (c CacheResult) String() string { return cacheResultNames[c] }

// JournalOp names an operation on the journal or the sessions in Redis. The set is closed.
type JournalOp uint8

// Journal operations: the scripts by their names, then what is done without one.
const (
	JournalPublish JournalOp = iota // a numbered batch of messages
	JournalBind                     // which epoch it is, and the tails of the streams
	JournalTrim
	JournalProbe
	JournalSessionSave
	JournalSessionClose
	JournalSessionClaim
	JournalSessionMove
	JournalSessionBar
	JournalRead    // a page of a stream
	journalOpCount // of which those before JournalRead are scripts
)

var journalOpNames = [journalOpCount]string{
	"publish", "bind", "trim", "probe", "session_save", "session_close", "session_claim", "session_move", "session_bar", "read",
}

// String is the label value.
func (o JournalOp) String() string { return journalOpNames[o] }

// Gap names why messages of the journal had to be read instead of heard. The set is closed.
type Gap uint8

// Gaps.
const (
	GapStart      Gap = iota // the node began to listen; nothing was missed
	GapNamespace             // a namespace was opened; nothing was missed
	GapConnection            // the Pub/Sub connection was lost
	GapProbe                 // the Pub/Sub connection was given up: it did not bring the node's own probes
	GapEpoch                 // another epoch of the journal began
	gapCount
)

var gapNames = [gapCount]string{"start", "namespace", "connection", "probe", "epoch"}

// String is the label value.
func (g Gap) String() string { return gapNames[g] }

// GapFailure names why a gap could not be repaired. The set is closed.
type GapFailure uint8

// Failures of gap repairs.
const (
	GapEpochChanged GapFailure = iota // another epoch began while the node did not listen
	GapTrimmed                        // the journal does not reach back to what the node received last
	GapTooMany                        // too many entries
	GapUnreachable                    // the journal could not be read for too long
	gapFailureCount
)

var gapFailureNames = [gapFailureCount]string{"epoch", "trimmed", "too_many", "unreachable"}

// String is the label value.
func (g GapFailure) String() string { return gapFailureNames[g] }
