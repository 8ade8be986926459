package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const subscribeBatch = 512 // channels of one SUBSCRIBE or UNSUBSCRIBE

// Open says that the node serves a namespace: it hears the base channel, the
// private rooms of its sockets, requests and responses. Opening again is no
// change.
func (b *Bus) Open(ns string) {
	b.subsMu.Lock()
	b.open(ns)
	b.subsMu.Unlock()
	notify(b.wanted)
}

// open is Open under subsMu.
func (b *Bus) open(ns string) {
	if b.subs.namespaces[ns] == nil {
		b.subs.open(ns)
		b.journal.serve(ns)
		b.routes.Store(b.routes.Load().with(b, ns))
	}
}

// Subscribe wants the room's channel (and, in namespace "/", its presence
// events) as generation gen. Deliverer.Subscribed follows when it is live: soon,
// if it is already.
func (b *Bus) Subscribe(ns, room string, gen uint64) {
	b.subsMu.Lock()
	b.open(ns)
	a, live := b.subs.want(ns, room, gen)
	if live {
		b.pending = append(b.pending, a)
	}
	b.subsMu.Unlock()
	if live {
		notify(b.announce)
	} else {
		notify(b.wanted)
	}
}

// Unsubscribe gives the room up, unless it was subscribed again as another
// generation. A caller that expects to come back waits before it calls.
func (b *Bus) Unsubscribe(ns, room string, gen uint64) {
	b.subsMu.Lock()
	b.subs.forget(ns, room, gen)
	wanted := b.subs.wants(ns, room)
	b.subsMu.Unlock()
	if ns == presenceNamespace && !wanted {
		b.updates.forget(room)
	}
	notify(b.wanted)
}

// announceLoop makes the Deliverer.Subscribed calls until ctx ends: from one
// goroutine that holds no lock, so that the callee may call the bus.
func (b *Bus) announceLoop(ctx context.Context) {
	var batch []announcement
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.announce:
		}
		b.subsMu.Lock()
		batch, b.pending = b.pending, batch[:0]
		hearing := b.hearing
		b.subsMu.Unlock()
		for _, a := range batch {
			if !b.announceOne(a, hearing) {
				break // what was live is not any more, and is announced again
			}
		}
	}
}

// announceOne makes one announcement, unless a gap has opened since; they and
// Deliverer.Unheard have an order.
func (b *Bus) announceOne(a announcement, hearing uint64) bool {
	b.ears.Lock()
	defer b.ears.Unlock()
	b.subsMu.Lock()
	same := hearing == b.hearing
	b.subsMu.Unlock()
	if same {
		if a.ns == presenceNamespace {
			b.updates.subscribed(a.room)
		}
		b.deliverer.Subscribed(a.ns, a.room, a.gen)
	}
	return same
}

// subscribeLoop keeps one Pub/Sub connection until ctx ends.
func (b *Bus) subscribeLoop(ctx context.Context) {
	var (
		wait  backoff
		known uint64 // the link's generation when the connection before ended
	)
	for lost := error(nil); ; {
		c, err := b.link.verify(ctx)
		if err != nil {
			return
		}
		// An outage of Redis itself has been logged by the link.
		if lost != nil && c.gen == known && !denied(lost) { // what is denied is named once, see denials
			b.log.Warn("the Pub/Sub connection is lost; subscribing again", "error", lost)
		}
		known = c.gen
		started := time.Now()
		lost = b.listen(ctx, c)
		b.metrics.Subscriptions.Set(0)
		if ctx.Err() != nil {
			return
		}
		b.unsubscribed(lost)
		b.metrics.BusReconnects.Inc()
		if time.Since(started) > 10*backoffMax {
			wait = backoff{}
		}
		if !wait.sleep(ctx) {
			return
		}
	}
}

// errDeaf ends a Pub/Sub connection that does not bring what Redis publishes.
var errDeaf = errors.New("state: it does not bring the node's own probes")

// unsubscribed says that the Pub/Sub connection is over.
func (b *Bus) unsubscribed(why error) {
	b.ears.Lock()
	defer b.ears.Unlock()
	b.subsMu.Lock()
	b.session++ // what the old connection still confirms is void
	b.subs.reset()
	b.subsMu.Unlock()
	cause := metrics.GapConnection
	if errors.Is(why, errDeaf) {
		cause = metrics.GapProbe
	}
	b.openGap(cause, "")
}

// listen opens a Pub/Sub connection, subscribes what is wanted, and follows
// changes of it until the connection is lost or ctx ends.
func (b *Bus) listen(ctx context.Context, c *clients) error {
	ps, err := pubsubClient(b.link.options, b.link.name)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	conn, _ := ps.Dedicate()
	b.subsMu.Lock()
	b.session++
	session := b.session
	b.subs.reset()
	b.subsMu.Unlock()
	ended := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      b.receive,
		OnSubscription: func(s rueidis.PubSubSubscription) { b.confirmed(session, s) },
	})
	defer func() {
		ps.conns.closeAll() // first, so that closing waits for nothing
		for range ended {   // until the hooks are not called any more
		}
		conn.Close()
		ps.Close()
	}()
	if !b.link.options.basic {
		// Before anything is subscribed: whoever counts the subscribers of the
		// request channel must not find this node twice.
		if err := b.old.kill(ctx, c.cmd); err != nil {
			return err
		}
		if b.old, err = identify(ctx, conn, b.link.name+"-ps"); err != nil {
			return err
		}
	}
	select {
	case <-b.deaf: // which was the one before
	default:
	}
	for {
		if err := b.subscribeWanted(ctx, c, conn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			if err == nil {
				err = rueidis.ErrClosing
			}
			return err
		case <-b.deaf:
			return errDeaf
		case <-b.wanted:
		}
	}
}

// subscribeWanted sends the difference between what is wanted and what was sent.
func (b *Bus) subscribeWanted(ctx context.Context, c *clients, conn rueidis.DedicatedClient) error {
	for {
		var changes commands
		b.subsMu.Lock()
		fresh := len(b.subs.fresh)
		namespaces := b.subs.fresh[:fresh:fresh]
		if fresh == 0 {
			changes = b.subs.next(subscribeBatch)
		}
		b.subsMu.Unlock()
		if fresh > 0 {
			if err := b.baseline(ctx, c, namespaces); err != nil {
				return err
			}
			b.subsMu.Lock()
			b.subs.fresh = b.subs.fresh[fresh:]
			b.subsMu.Unlock()
			continue
		}
		if b.gaps.Load() > 0 {
			notify(b.repair) // perhaps what it waits for is not wanted any more
		}
		if changes.len() == 0 {
			return nil
		}
		for _, cmd := range []struct {
			names []string
			build func(names []string) rueidis.Completed
		}{
			{changes.psubscribe, func(names []string) rueidis.Completed { return conn.B().Psubscribe().Pattern(names...).Build() }},
			{changes.subscribe, func(names []string) rueidis.Completed { return conn.B().Subscribe().Channel(names...).Build() }},
			{changes.unsubscribe, func(names []string) rueidis.Completed { return conn.B().Unsubscribe().Channel(names...).Build() }},
		} {
			if len(cmd.names) == 0 {
				continue
			}
			call, cancel := context.WithTimeout(ctx, callTimeout)
			err := conn.Do(call, cmd.build(cmd.names)).Error()
			cancel()
			if err != nil {
				b.link.options.denials.note(called{"subscription", cmd.names[0]}, err)
				return fmt.Errorf("subscribe: %w", err)
			}
		}
	}
}

// confirmed takes one confirmation from the Pub/Sub reader.
func (b *Bus) confirmed(session uint64, s rueidis.PubSubSubscription) {
	pattern := s.Kind == "psubscribe" || s.Kind == "punsubscribe"
	b.subsMu.Lock()
	if session != b.session {
		b.subsMu.Unlock()
		return
	}
	before := len(b.pending)
	b.pending = b.subs.confirm(topic{s.Channel, pattern}, b.pending)
	announce := len(b.pending) > before
	live := b.subs.liveCount
	b.subsMu.Unlock()
	b.metrics.Subscriptions.Set(float64(live))
	if announce {
		notify(b.announce)
	}
	if b.gaps.Load() > 0 {
		notify(b.repair)
	}
}
