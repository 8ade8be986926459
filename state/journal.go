package state

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Defaults of Config.
const (
	defaultRetention  = 4*time.Minute + 20*time.Second
	defaultJournalMax = 1_000_000
)

// journal is the node's access to the journal: for each namespace a Redis stream
// of the messages that must not be missed, and an epoch, within which the ids of
// the streams compare. All its methods may be called from any goroutine.
//
//	<key>-journal           Hash    epoch, run, cut:<stream>, gone:<stream>   bind.lua, trim.lua
//	<key>-journal#<ns>#     Stream  field m: the payload, with nil for its position
//	<key>-journals          Set     the streams
//	<key>-nodes             Hash    <incarnation>, ^<incarnation>             publish.lua, probe.lua
//	<key>-once#<name>       String  a message of that name was published
type journal struct {
	on          bool // Config.Recovery
	key         string
	incarnation string // the node's name in all of these, as long as it runs
	retention   time.Duration
	max         int64
	scripts     journalScripts
	log         *slog.Logger
	metrics     *metrics.Metrics

	// onVoid, which may be nil, is called when the node cannot prove any more what
	// its clients have: it missed messages. It must make
	// sure that nothing that was stored of them before is believed; only after it
	// has returned nil is anything delivered that came after the hole, and until
	// then it is called again. Set before Run.
	onVoid func(ctx context.Context, c *clients) error
	// onMissing and onRepaired, which may be nil, are told of gaps: what was
	// published since a time may not have been delivered; everything has been. They
	// return at once. Set before Run.
	onMissing  func(since time.Time)
	onRepaired func()

	binding chan struct{} // capacity 1: held by whoever binds
	ahead   atomic.Int64  // nanoseconds that Redis's clock is ahead of the node's

	mu      sync.Mutex // guards the rest; taken alone, never held across I/O
	gen     uint64     // of the clients that epoch was read with
	epoch   string     // "" before the first
	streams []string   // of the namespaces the node serves; only ever appended to
}

func newJournal(cfg Config, incarnation string, m *metrics.Metrics) *journal {
	return &journal{
		on: cfg.Recovery, key: cfg.Key, incarnation: incarnation, retention: cfg.Retention, max: cfg.JournalMax,
		scripts: newJournalScripts(), log: cfg.Log, metrics: m, binding: make(chan struct{}, 1),
	}
}

func (j *journal) hashKey() string                { return j.key + "-journal" }
func (j *journal) streamsKey() string             { return j.key + "-journals" }
func (j *journal) nodesKey() string               { return j.key + "-nodes" }
func (j *journal) streamKey(ns string) string     { return j.key + "-journal#" + ns + "#" }
func (j *journal) onceKey(name string) string     { return j.key + "-once#" + name }
func (j *journal) control(node string) string     { return j.key + "-node#" + node + "#" }
func (j *journal) cutField(stream string) string  { return "cut:" + stream }
func (j *journal) goneField(stream string) string { return "gone:" + stream }

// newJournalEpoch makes a name for an epoch: 48 random bits.
func newJournalEpoch() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// serve says that the node serves a namespace. Streams are probed and bound in
// the order of these calls.
func (j *journal) serve(ns string) {
	if j.on {
		j.mu.Lock()
		j.streams = append(j.streams, j.streamKey(ns))
		j.mu.Unlock()
	}
}

// served returns the streams of the node's namespaces; not to be written to.
func (j *journal) served() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.streams
}

// epochOf returns the epoch that was bound with c, "" before that.
func (j *journal) epochOf(c *clients) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.gen != c.gen {
		return ""
	}
	return j.epoch
}

// bind returns the epoch as it was when c was bound: at the first call with c,
// which may begin a new one. Scripts refuse what is meant for another.
func (j *journal) bind(ctx context.Context, c *clients) (epoch string, err error) {
	if epoch := j.epochOf(c); epoch != "" {
		return epoch, nil
	}
	epoch, _, err = j.tails(ctx, c)
	return epoch, err
}

// rebind is bind after Redis had shown that was, bound before, is over.
func (j *journal) rebind(ctx context.Context, c *clients, was string) (epoch string, err error) {
	if epoch := j.epochOf(c); epoch != "" && epoch != was {
		return epoch, nil // somebody else was faster
	}
	epoch, _, err = j.tails(ctx, c)
	return epoch, err
}

// tails binds c anew, and returns also the last id of each of the node's streams.
func (j *journal) tails(ctx context.Context, c *clients) (epoch string, tails map[string]socketio.Offset, err error) {
	select {
	case j.binding <- struct{}{}:
		defer func() { <-j.binding }()
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
	streams := j.served()
	keys := append([]string{j.hashKey(), j.streamsKey(), j.nodesKey()}, streams...)
	reply, err := texts(j.call(ctx, c, metrics.JournalBind, keys, []string{c.run, newJournalEpoch()}), "BIND", 1+len(streams))
	if err != nil {
		return "", nil, err
	}
	epoch, tails = reply[0], make(map[string]socketio.Offset, len(streams))
	for i, stream := range streams {
		tail, ok := socketio.ParseEntryID(reply[1+i])
		if !ok {
			return "", nil, fmt.Errorf("%w: BIND gives the id %q", errAnswer, reply[1+i])
		}
		tail.Epoch = epoch
		tails[stream] = tail
	}
	j.mu.Lock()
	before := j.epoch
	j.gen, j.epoch = c.gen, epoch
	j.mu.Unlock()
	if before != "" && before != epoch {
		j.log.Info("another epoch of the journal began", "epoch", epoch, "before", before)
	}
	return epoch, tails, nil
}

// void has everything forgotten that was stored of the clients; see onVoid.
func (j *journal) void(ctx context.Context, c *clients) error {
	if j.onVoid == nil {
		return nil
	}
	return j.onVoid(ctx, c)
}

// missing says that what was published since a time may not have been delivered.
func (j *journal) missing(since time.Time) {
	if j.onMissing != nil {
		j.onMissing(since)
	}
}

// repaired says that everything was delivered.
func (j *journal) repaired() {
	if j.onRepaired != nil {
		j.onRepaired()
	}
}

// skew is how many seconds Redis's clock is ahead, as of the last probe.
func (j *journal) skew() float64 { return time.Duration(j.ahead.Load()).Seconds() }
