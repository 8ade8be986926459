package state

import (
	"context"
	"errors"
	"fmt"
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

// Publish queues a message for its channel. It returns ErrQueueFull, ErrClosed,
// or what is wrong with the message, at once; after nil, Done is called exactly
// once, on the bus goroutine: with nil when Redis has the message; with
// ErrUnknown when that is not known, the message may have been published or may
// be later, but never twice; with ErrConflict, or any other error, when it was not
// and will not be. Messages reach Redis in the order of the calls.
//
// A message that is journalled, or published once, survives a lost connection:
// its batch is numbered and sent until Redis has answered. Others are not sent
// again.
func (b *Bus) Publish(p socketio.Publication) error {
	m := message{payload: p.Payload, called: time.Now(), sent: p.Sent, done: p.Done}
	if p.Room == "" {
		m.channel = b.channels.Broadcast(p.Namespace)
	} else {
		m.channel = b.channels.Room(p.Namespace, p.Room)
	}
	if p.Once != "" {
		m.once, m.digest = b.journal.onceKey(p.Once), p.Digest
	}
	if p.Journal && b.journal.on {
		if n := len(p.Payload); n == 0 || p.Payload[n-1] != 0xc0 {
			return errors.New("state: the payload of a journalled message has no place for its position")
		}
		if m.stream = b.routes.Load().streams[p.Namespace]; m.stream == "" {
			b.Open(p.Namespace)
			m.stream = b.journal.streamKey(p.Namespace)
		}
	}
	return b.enqueue(m)
}

func (b *Bus) enqueue(m message) error {
	b.queueMu.Lock()
	ended := b.queueEnded
	m.awaited = !b.flushing
	ok := !ended && b.queue.add(m)
	if ok && m.awaited {
		b.unsettled.Add(1)
	}
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

// publishLoop sends one batch after the other until ctx ends.
func (b *Bus) publishLoop(ctx context.Context) {
	defer b.close()
	batch := make([]message, 0, batchCommands)
	var numbered bool
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
			batch, numbered = b.queue.next(batch[:0])
			b.queueMu.Unlock()
			switch {
			case len(batch) == 0:
			case numbered:
				b.sendNumbered(ctx, batch)
			default:
				b.send(ctx, c, batch)
			}
			if len(batch) == 0 {
				break
			}
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
			b.expire()
		}
	}
}

// expire fails the queued messages that ran out of patience.
func (b *Bus) expire() {
	b.queueMu.Lock()
	b.late = b.queue.expired(b.late[:0], time.Now().Add(-b.patience))
	b.queueMu.Unlock()
	for i := range b.late {
		b.settle(&b.late[i], ErrUnavailable)
	}
	clear(b.late)
}

// send writes one batch of messages of which each is on its own, and reports
// their outcome.
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
		b.settle(&batch[i], publishError(err))
	}
	if lost {
		b.link.suspect()
		return
	}
	b.link.sign()
}

// publishError says what an error of PUBLISH means for the message.
func publishError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoMoreDials): // so that it was not sent
		return fmt.Errorf("state: publish: %w", ErrUnavailable)
	case lostConnection(err):
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	default:
		return fmt.Errorf("state: publish: %w", err)
	}
}

// settle counts and reports the outcome of one message, once.
func (b *Bus) settle(m *message, err error) {
	if m.settled {
		return
	}
	m.settled = true
	b.metrics.PublishQueue.Dec()
	switch {
	case err == nil:
		b.metrics.Published.Inc()
		b.metrics.PublishAccepted.Observe(time.Since(m.called).Seconds())
	case errors.Is(err, ErrConflict):
		b.metrics.Drops[metrics.DropConflict].Inc()
	default:
		b.metrics.Drops[metrics.DropRedis].Inc()
	}
	if m.done != nil {
		m.done(err)
	}
	if m.awaited && b.unsettled.Add(-1) == 0 {
		notify(b.settledAll)
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
