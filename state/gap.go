package state

import (
	"context"
	"errors"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const (
	firstPage   = 100              // entries; the following pages are as long as their size allows
	gapEntries  = 100_000          // of one namespace; who is so far behind is better off starting anew
	gapPatience = 60 * time.Second // how long a journal that cannot be read is waited for
)

// errGapRetired ends a repair that another gap has overtaken.
var errGapRetired = errors.New("state: another gap has begun")

// A gap is a time in which messages may have been published that the node did
// not hear: from the loss of its Pub/Sub connection until all subscriptions are
// live again. It is repaired from the journal, where each message that may have
// been missed still is; where that cannot be proved, Deliverer.Missed says so.
//
// All calls of Deliverer and Responder that come from Pub/Sub or from a repair
// are made under Bus.ears, which is the order of deliveries.

// openGap withholds what is journalled until the journal was read; see feed.gap.
// The caller holds ears.
func (b *Bus) openGap(cause metrics.Gap, turn string) {
	b.subsMu.Lock()
	b.hearing++
	b.subs.withholdAll()
	b.pending = b.pending[:0]
	b.subsMu.Unlock()
	if b.feed.gap(cause, turn) {
		b.gapSince = time.Now()
	}
	b.gaps.Store(int64(b.feed.opened()))
	if turn == "" {
		b.journal.missing(b.whole)
	}
	b.deliverer.Unheard()
	notify(b.repair)
}

// baseline begins to follow the journals of namespaces, before anything of them
// is subscribed.
func (b *Bus) baseline(ctx context.Context, c *clients, namespaces []string) error {
	_, tails, err := b.journal.tails(ctx, c)
	if err != nil {
		return err
	}
	b.ears.Lock()
	defer b.ears.Unlock()
	for _, ns := range namespaces {
		stream := b.journal.streamKey(ns)
		tail, ok := tails[stream]
		if !ok {
			return answered("BIND", len(tails), len(namespaces), nil)
		}
		if b.feed.opened() == 0 {
			b.gapSince = time.Now()
		}
		b.feed.follow(ns, stream, tail)
	}
	b.gaps.Store(int64(b.feed.opened()))
	return nil
}

// hearsEntry says whether a journalled message from Pub/Sub is to be delivered
// now. The caller holds ears.
func (b *Bus) hearsEntry(ns string, o socketio.Offset) bool {
	t := b.feed.byName[ns]
	if t == nil {
		return true
	}
	switch t.arrive(o) {
	case arrivedNew:
		b.metrics.JournalLag.Set(max(0, time.Since(time.UnixMilli(int64(o.Ms))).Seconds()+b.journal.skew()))
		return true
	case arrivedAgain:
		b.metrics.JournalDuplicates.Inc()
	case arrivedElsewhere:
		b.openGap(metrics.GapEpoch, o.Epoch)
		t.arrive(o)
	}
	return false
}

// hearsTail takes the tail of a stream as it was when Redis published something
// that has arrived. The caller holds ears.
func (b *Bus) hearsTail(stream string, tail socketio.Offset) {
	t := b.feed.byStream[stream]
	if t == nil {
		return
	}
	switch t.arrive(tail) {
	case arrivedNew:
		b.deliverer.Advanced(t.ns, tail)
	case arrivedElsewhere:
		b.openGap(metrics.GapEpoch, tail.Epoch)
		t.arrive(tail)
	}
}

// repairLoop repairs gaps until ctx ends.
func (b *Bus) repairLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.repair:
		}
		b.repairGaps(ctx)
	}
}

// repairGaps repairs what can be repaired now: what is heard again.
func (b *Bus) repairGaps(ctx context.Context) {
	var (
		wait   backoff
		failed time.Time // the first error
	)
	for ctx.Err() == nil {
		r := &repair{Bus: b}
		if !r.begin() {
			return
		}
		err := r.run(ctx, !failed.IsZero() && time.Since(failed) > b.gapPatience)
		switch {
		case err == nil:
			wait, failed = backoff{}, time.Time{}
			continue
		case errors.Is(err, errGapRetired):
			return // it is looked at again when the subscriptions are live
		case failed.IsZero():
			failed = time.Now()
			b.log.Warn("the journal cannot be read; trying again", "error", err)
		}
		if !wait.sleep(ctx) {
			return
		}
	}
}

// repair is one repair of the tracks that are open and heard again.
type repair struct {
	*Bus
	c       *clients
	hearing uint64 // Bus.hearing when it began
	tracks  []*track
}

// begin finds what is to be repaired; false if there is nothing.
func (r *repair) begin() bool {
	r.ears.Lock()
	defer r.ears.Unlock()
	r.subsMu.Lock()
	defer r.subsMu.Unlock()
	if r.subs.restoring > 0 {
		return false
	}
	r.hearing = r.Bus.hearing
	for _, t := range r.feed.tracks {
		if t.open && r.subs.hears(t.ns) {
			r.tracks = append(r.tracks, t)
		}
	}
	return len(r.tracks) > 0
}

// still locks ears if the subscriptions are those that the repair began with.
func (r *repair) still() bool {
	r.ears.Lock()
	r.subsMu.Lock()
	same := r.hearing == r.Bus.hearing
	r.subsMu.Unlock()
	if !same {
		r.ears.Unlock()
	}
	return same
}

// run repairs. With giveUp the journals are not read any more.
func (r *repair) run(ctx context.Context, giveUp bool) error {
	if r.c, _ = r.link.get(); r.c == nil {
		return ErrUnavailable
	}
	epoch, err := r.journal.bind(ctx, r.c)
	if err != nil {
		return err
	}
	if giveUp {
		if err := r.passOver(ctx, metrics.GapUnreachable, r.tracks); err != nil {
			return err
		}
		for _, t := range r.tracks {
			r.close(t, socketio.Offset{})
		}
		return nil
	}
	if err := r.enter(epoch); err != nil {
		return err
	}
	for _, t := range r.tracks {
		if err := r.track(ctx, t, epoch); err != nil {
			return err
		}
	}
	return nil
}

// enter goes on at the beginning of the present epoch where the tracks are in
// another. A session of another epoch is never claimed, so that nothing need be
// made void; and one that began in this one misses nothing.
func (r *repair) enter(epoch string) error {
	var old []*track
	whole := true
	r.ears.Lock()
	for _, t := range r.tracks {
		if t.open && t.last.Epoch != epoch {
			old = append(old, t)
			whole = whole && t.turn == epoch
		}
	}
	r.ears.Unlock()
	if len(old) == 0 {
		return nil
	}
	if !r.still() {
		return errGapRetired
	}
	defer r.ears.Unlock()
	if !whole {
		r.miss(metrics.GapEpochChanged, epoch)
	}
	for _, t := range old {
		if whole && t.turn != epoch {
			return errGapRetired
		}
		t.enter(epoch)
	}
	return nil
}

// miss tells that messages are missing, save for sessions that began in an epoch.
// The caller holds ears.
func (r *repair) miss(why metrics.GapFailure, save string) {
	r.metrics.GapFailures[why].Inc()
	r.log.Warn("messages were missed and cannot be repaired; the conns concerned are closed", "cause", why.String())
	r.deliverer.Missed(save)
}

// passOver goes on at the present ends of journals of which something is missing.
func (r *repair) passOver(ctx context.Context, why metrics.GapFailure, tracks []*track) error {
	// In this order: once its conn is closed, a client may claim its session.
	if err := r.journal.void(ctx, r.c); err != nil {
		return err
	}
	_, tails, err := r.journal.tails(ctx, r.c)
	if err != nil {
		return err
	}
	if !r.still() {
		return errGapRetired
	}
	defer r.ears.Unlock()
	r.miss(why, "")
	for _, t := range tracks {
		t.skip(tails[t.stream])
	}
	return nil
}

// track reads the journal of one namespace until it has everything that arrives.
func (r *repair) track(ctx context.Context, t *track, epoch string) error {
	var buf []byte
	count := firstPage
	for {
		if !r.still() {
			return errGapRetired
		}
		last, shown, read := t.last, t.shown, t.read
		r.ears.Unlock()
		p, err := r.journal.read(ctx, r.c, t.stream, last, count)
		switch {
		case err != nil:
			return err
		case p.epoch != epoch:
			if epoch, err = r.journal.rebind(ctx, r.c, epoch); err == nil {
				err = r.enter(epoch)
			}
		case p.gone.After(last):
			err = r.passOver(ctx, metrics.GapTrimmed, []*track{t})
		case read+len(p.entries) > r.gapEntries:
			err = r.passOver(ctx, metrics.GapTooMany, []*track{t})
		default:
			count = nextCount(p)
			if buf, err = r.deliver(t, p, buf); err == nil && p.end && r.close(t, shown) {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// deliver delivers a page.
func (r *repair) deliver(t *track, p page, buf []byte) ([]byte, error) {
	for _, e := range p.entries {
		if !r.still() {
			return buf, errGapRetired
		}
		buf = socketio.SetEntry(buf[:0], e.Payload, e.Offset)
		t.take(e.Offset)
		r.metrics.GapMessages.Inc()
		r.deliverer.Deliver(t.ns, "", buf)
		r.ears.Unlock()
	}
	return buf, nil
}

// close ends the repair of a track, unless more has arrived. Its rooms are live.
func (r *repair) close(t *track, shown socketio.Offset) bool {
	if !r.still() {
		return false // which the next step finds out
	}
	defer r.ears.Unlock()
	if !t.caughtUp(shown) {
		return false
	}
	r.deliverer.Advanced(t.ns, t.last) // also of a journal in which nothing happens after this
	if r.feed.opened() == 0 {
		r.journal.repaired()
		r.metrics.GapRepairs[r.feed.cause].Inc()
		r.metrics.GapRepair.Observe(time.Since(r.gapSince).Seconds())
	}
	r.gaps.Store(int64(r.feed.opened()))
	r.subsMu.Lock()
	r.pending = r.subs.hear(t.ns, r.pending)
	r.subsMu.Unlock()
	notify(r.announce)
	return true
}
