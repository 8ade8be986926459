package state

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const (
	batchCommands   = 1000            // of one DoMulti; from 2000 on rueidis would use another connection
	publishPatience = 5 * time.Second // how long a message waits for an absent Redis before it fails
	expiryTick      = 100 * time.Millisecond
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
	patience time.Duration // publishPatience

	deliverer Deliverer // set by Run before anything uses them
	responder Responder

	// Publishing.
	queueMu    sync.Mutex // guards queue, queueEnded; taken alone
	queue      queue
	queueEnded bool
	queued     chan struct{} // capacity 1: the queue is not empty

	// Subscribing.
	subsMu   sync.Mutex // guards subs, pending, session; taken alone
	subs     subscriptions
	pending  []announcement // waiting for announceLoop
	session  uint64         // counts Pub/Sub connections: confirmations of an older one are void
	wanted   chan struct{}  // capacity 1: there is something to send
	announce chan struct{}  // capacity 1: there is something to announce
	routes   atomic.Pointer[routes]

	requester requester

	old connID // the Pub/Sub connection before; subscribeLoop only
}

func newBus(cfg Config, l *link, ch socketio.Channels, m *metrics.Metrics) *Bus {
	b := &Bus{
		link: l, log: cfg.Log, metrics: m, channels: ch,
		node: cfg.Node, uid: cfg.UID, pattern: cfg.Pattern, specific: cfg.SpecificResponses,
		queue:    queue{maxItems: cfg.PublishQueue, maxBytes: publishQueueBytes},
		queued:   make(chan struct{}, 1),
		subs:     newSubscriptions(ch, cfg.Node, cfg.UID, cfg.Pattern),
		wanted:   make(chan struct{}, 1),
		announce: make(chan struct{}, 1),
		updates:  newUpdates(cfg.PresenceWindow, cfg.PresenceGrace),
		patience: publishPatience,

		requester: newRequester(),
	}
	b.routes.Store(&routes{})
	return b
}

func (b *Bus) begin(d Deliverer, r Responder) { b.deliverer, b.responder = d, r }

// Publish queues payload for the room's channel, or for the namespace's base
// channel when room is "". It returns ErrQueueFull or ErrClosed at once; after
// nil, done is called exactly once: with nil when Redis accepted the message,
// else with an error, after which the message may or may not have been sent
// but will not be sent again. sent is called just before the message is
// written. Both are called on the bus goroutine, must return at once, and may
// be nil. Messages reach Redis in the order of the calls; payload must not
// change until done.
func (b *Bus) Publish(ns, room string, payload []byte, sent func(), done func(error)) error {
	channel := ""
	if room == "" {
		channel = b.channels.Broadcast(ns)
	} else {
		channel = b.channels.Room(ns, room)
	}
	return b.enqueue(message{channel: channel, payload: payload, called: time.Now(), sent: sent, done: done})
}

func (b *Bus) enqueue(m message) error {
	b.queueMu.Lock()
	ended := b.queueEnded
	ok := !ended && b.queue.add(m)
	b.queueMu.Unlock()
	switch {
	case ended:
		return ErrClosed
	case !ok:
		b.metrics.Drops[metrics.DropPublishQueue].Inc()
		return ErrQueueFull
	}
	b.metrics.PublishQueue.Inc()
	notify(b.queued)
	return nil
}

// notify fills a channel of capacity 1.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// publishLoop sends one batch after the other until ctx ends.
func (b *Bus) publishLoop(ctx context.Context) {
	defer b.close()
	batch := make([]message, 0, batchCommands)
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.queued:
		}
		for {
			c := b.awaitRedis(ctx)
			if c == nil {
				return
			}
			b.queueMu.Lock()
			batch = b.queue.take(batch[:0], batchCommands)
			b.queueMu.Unlock()
			if len(batch) == 0 {
				break
			}
			b.send(ctx, c, batch)
			clear(batch)
		}
	}
}

// awaitRedis waits for Redis, failing the messages that ran out of patience;
// nil when ctx ended.
func (b *Bus) awaitRedis(ctx context.Context) *clients {
	if c, _ := b.link.get(); c != nil {
		return c
	}
	tick := time.NewTicker(expiryTick)
	defer tick.Stop()
	var late []message
	for {
		c, changed := b.link.get()
		if c != nil {
			return c
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
			b.queueMu.Lock()
			late = b.queue.expired(late[:0], time.Now().Add(-b.patience))
			b.queueMu.Unlock()
			for i := range late {
				b.settle(&late[i], ErrUnavailable)
			}
		}
	}
}

// send writes one batch and reports its outcome.
func (b *Bus) send(ctx context.Context, c *clients, batch []message) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	commands := make(rueidis.Commands, len(batch))
	for i := range batch {
		if batch[i].sent != nil {
			batch[i].sent()
		}
		commands[i] = c.cmd.B().Publish().Channel(batch[i].channel).Message(rueidis.BinaryString(batch[i].payload)).Build()
	}
	lost := false
	for i, r := range c.cmd.DoMulti(ctx, commands...) {
		err := r.Error()
		lost = lost || lostConnection(err)
		if err != nil {
			err = fmt.Errorf("state: publish: %w", err)
		}
		b.settle(&batch[i], err)
	}
	if lost {
		b.link.suspect()
		return
	}
	b.link.sign()
}

// settle counts and reports the outcome of one message.
func (b *Bus) settle(m *message, err error) {
	b.metrics.PublishQueue.Dec()
	if err == nil {
		b.metrics.Published.Inc()
		b.metrics.PublishAccepted.Observe(time.Since(m.called).Seconds())
	} else {
		b.metrics.Drops[metrics.DropRedis].Inc()
	}
	if m.done != nil {
		m.done(err)
	}
}

// close refuses further messages and fails the waiting ones.
func (b *Bus) close() {
	b.queueMu.Lock()
	b.queueEnded = true
	rest := b.queue.take(nil, b.queue.len())
	b.queueMu.Unlock()
	for i := range rest {
		b.settle(&rest[i], ErrClosed)
	}
}
