package state

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const (
	probeInterval = time.Second
	probeSilence  = 3 * time.Second // of the Pub/Sub connection while probes are published: it is dead
)

// probing tells a dead Pub/Sub connection from a quiet one: pure state.
type probing struct {
	heard uint64    // how much had been received
	since time.Time // when that was first so
}

// published takes note of a probe that Redis published at now, to a control
// channel that is live or not, when so much had been received. It reports
// whether the connection is dead.
func (p *probing) published(now time.Time, live bool, received uint64) (dead bool) {
	if !live || received != p.heard || p.since.IsZero() {
		p.heard, p.since = received, now
		return false
	}
	return now.Sub(p.since) >= probeSilence
}

// sentProbe is a probe that may arrive.
type sentProbe struct {
	number uint64
	sent   time.Time
}

// probeLoop publishes a probe every second until ctx ends. It tells Redis that
// the node lives; and when it arrives, it tells the node that nothing is missing
// of what was published before, so that a gap begins there and not at the last
// message of a quiet namespace.
func (b *Bus) probeLoop(ctx context.Context) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	var p probing
	for n := uint64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c, _ := b.link.get()
		if c == nil {
			continue
		}
		if err := b.publishProbe(ctx, c, n); err != nil {
			if lostConnection(err) {
				b.link.suspect()
			}
			continue
		}
		b.subsMu.Lock()
		live := b.subs.controlLive()
		b.subsMu.Unlock()
		received := b.received.Load()
		busy := received%2 == 1 // something is being delivered right now
		if p.published(time.Now(), live && !busy, received) {
			p = probing{}
			notify(b.deaf)
		}
	}
}

// publishProbe publishes one probe, and sees that the epoch is the one bound.
func (b *Bus) publishProbe(ctx context.Context, c *clients, n uint64) error {
	j := b.journal
	keys := append([]string{j.hashKey(), j.nodesKey()}, j.served()...)
	before := time.Now()
	b.ears.Lock()
	b.probed[n%uint64(len(b.probed))] = sentProbe{n, before}
	b.ears.Unlock()
	answer, err := texts(j.call(ctx, c, metrics.JournalProbe, keys, []string{j.incarnation, b.control, strconv.FormatUint(n, 10)}), "PROBE", 2)
	if err != nil {
		return err
	}
	ms, err := strconv.ParseInt(answer[1], 10, 64)
	if err != nil {
		return fmt.Errorf("%w: PROBE says %q", errAnswer, answer[1])
	}
	now := time.Now()
	j.ahead.Store(int64(time.UnixMilli(ms).Sub(before.Add(now.Sub(before) / 2))))
	if was := j.epochOf(c); j.on && was != answer[0] {
		_, err = j.rebind(ctx, c, was)
	}
	return err
}

// receiveControl takes a message of the node's control channel. The caller holds ears.
func (b *Bus) receiveControl(text string) {
	kind, rest, _ := strings.Cut(text, " ")
	switch kind {
	case "probe": // <number> <epoch> <id>,<id>,…
		number, rest, _ := strings.Cut(rest, " ")
		epoch, ids, _ := strings.Cut(rest, " ")
		if n, err := strconv.ParseUint(number, 10, 64); err == nil && b.probed[n%uint64(len(b.probed))].number == n {
			b.whole = b.probed[n%uint64(len(b.probed))].sent
		}
		b.receiveProbe(epoch, ids)
	case "drop": // <generation> <sid> <namespace>
		generation, rest, _ := strings.Cut(rest, " ")
		sid, ns, _ := strings.Cut(rest, " ")
		if n, err := strconv.ParseUint(generation, 10, 64); err == nil && sid != "" && ns != "" {
			b.deliverer.Replaced(ns, sid, n)
			return
		}
		b.metrics.Drops[metrics.DropMalformed].Inc()
	case "cut": // <generation> <sid> <epoch> <id> <namespace>
		b.receiveCut(rest)
	default:
		b.metrics.Drops[metrics.DropMalformed].Inc()
	}
}

func (b *Bus) receiveProbe(epoch, ids string) {
	if epoch == "-" || ids == "" {
		return
	}
	streams := b.journal.served()
	for i, id := range strings.Split(ids, ",") {
		tail, ok := socketio.ParseEntryID(id)
		if !ok || i >= len(streams) {
			b.metrics.Drops[metrics.DropMalformed].Inc()
			return
		}
		tail.Epoch = epoch
		b.hearsTail(streams[i], tail)
	}
}

// drop tells a node that another one has the socket now, as its generation-th
// owner. A full queue loses it; the socket's client is gone from there anyway.
func (b *Bus) drop(incarnation, ns, sid string, generation uint64) {
	text := "drop " + strconv.FormatUint(generation, 10) + " " + sid + " " + ns
	_ = b.enqueue(message{channel: b.journal.control(incarnation), payload: []byte(text), called: time.Now()})
}
