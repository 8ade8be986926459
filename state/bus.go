package state

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Bus publishes to and subscribes from Redis Pub/Sub on the channels of
// @socket.io/redis-adapter. Its methods may be called from any goroutine,
// never block and never wait for Redis.
//
// FetchSockets, AllRooms, SocketsJoin, SocketsLeave, DisconnectSockets,
// BroadcastWithAck and ServerSideEmit ask or command all nodes that serve a
// namespace, this one and Node.js servers included. The namespace must be
// open; calls before Run wait for it. Their callbacks are never made from
// inside the call and must return at once; done is called exactly once. A
// request ends with ErrUnavailable, at most 5 s after the call, when Redis
// cannot be reached; with ErrQueueFull, ErrTooManyRequests or
// ErrAnswersTooLarge when a bound forbids it; with ErrClosed when Run ends;
// and with an error that is context.DeadlineExceeded when not everybody
// answered in time. What did arrive is passed with the error.
type Bus struct {
	link     *link
	log      *slog.Logger
	metrics  *metrics.Metrics
	channels socketio.Channels
	node     string
	uid      string
	pattern  bool
	specific bool // Config.SpecificResponses
	updates  *updates
	journal  *journal
	patience time.Duration // publishPatience
	doubt    time.Duration // unknownPatience

	deliverer Deliverer // set by Run before anything uses them
	responder Responder

	// Publishing.
	queueMu    sync.Mutex // guards queue, queueEnded, flushing; taken alone
	queue      queue
	queueEnded bool
	flushing   bool          // Flush was called
	queued     chan struct{} // capacity 1: the queue is not empty
	unsettled  atomic.Int64  // messages published before Flush that have no outcome yet
	settledAll chan struct{} // capacity 1: there were none, for Flush
	number     uint64        // of the last numbered batch that Redis has; publishLoop only
	late       []message     // of expire; publishLoop only
	keys, args []string      // of batchCall; publishLoop only

	// Subscribing.
	subsMu   sync.Mutex // guards subs, pending, session, hearing; taken within ears or alone
	subs     subscriptions
	pending  []announcement // waiting for announceLoop
	session  uint64         // counts Pub/Sub connections: confirmations of an older one are void
	hearing  uint64         // counts gaps: announcements from before the last are void
	wanted   chan struct{}  // capacity 1: there is something to send
	announce chan struct{}  // capacity 1: there is something to announce
	routes   atomic.Pointer[routes]

	// Receiving. ears is the order of all that is delivered and announced. It is
	// held across the calls of Deliverer and Responder, which take no lock of the
	// bus but subsMu, queueMu and the requester's.
	ears        sync.Mutex // guards feed, gapSince, probed, whole, parsed
	feed        feed
	gapSince    time.Time          // when what is open opened
	probed      [8]sentProbe       // the last probes, by their numbers
	whole       time.Time          // everything published up to then has been received
	parsed      socketio.Broadcast // of isOf
	gaps        atomic.Int64       // open tracks of feed
	repair      chan struct{}      // capacity 1: a gap may be repaired now
	gapPatience time.Duration      // gapPatience
	gapEntries  int                // gapEntries
	control     string             // channel of this node alone
	received    atomic.Uint64      // twice the messages received, and one more while one is delivered
	deaf        chan struct{}      // capacity 1: the Pub/Sub connection is dead

	requester requester

	old connID // the Pub/Sub connection before; subscribeLoop only
}

func newBus(cfg Config, l *link, j *journal, ch socketio.Channels, m *metrics.Metrics) *Bus {
	b := &Bus{
		link: l, log: cfg.Log, metrics: m, channels: ch,
		node: cfg.Node, uid: cfg.UID, pattern: cfg.Pattern, specific: cfg.SpecificResponses,
		queue:  queue{maxItems: cfg.PublishQueue, maxBytes: publishQueueBytes},
		queued: make(chan struct{}, 1), settledAll: make(chan struct{}, 1),
		subs:     newSubscriptions(ch, cfg.Node, cfg.UID, cfg.Pattern),
		wanted:   make(chan struct{}, 1),
		announce: make(chan struct{}, 1),
		updates:  newUpdates(cfg.PresenceWindow, cfg.PresenceGrace),
		journal:  j,
		patience: publishPatience,
		doubt:    unknownPatience,

		repair:      make(chan struct{}, 1),
		gapPatience: gapPatience,
		gapEntries:  gapEntries,
		control:     j.control(j.incarnation),
		whole:       time.Now(),
		deaf:        make(chan struct{}, 1),

		requester: newRequester(),
	}
	b.subs.control, b.subs.journalled, b.subs.heard = b.control, j.on, cfg.HeardRooms
	b.routes.Store(&routes{})
	return b
}

func (b *Bus) begin(d Deliverer, r Responder) { b.deliverer, b.responder = d, r }

// notify fills a channel of capacity 1.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
