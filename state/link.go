package state

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// clients are the Redis clients of one connection to Redis: a new command
// client after every loss, so that everything sent before the loss is known to
// be over, and a new one that reads the journal, so that it is the same Redis;
// the read client lives on.
type clients struct {
	gen     uint64 // counts connections, from 1
	cmd     *client
	read    *client
	journal *client // nil without Config.Recovery
	run     string  // Redis's run_id: another one says that it was restarted, or is another Redis; "" if it does not tell
}

const (
	pingInterval = time.Second
	silence      = 2500 * time.Millisecond // without a sign of life the connection is given up
	staleAfter   = 3 * time.Second         // without a sign of life the node is not ready
	backoffMin   = 50 * time.Millisecond
	backoffMax   = time.Second
)

// link supervises the connection to Redis: it makes the clients, notices their
// loss, makes new ones with jittered backoff, and logs each outage once.
type link struct {
	options    redisOptions
	cache      bool
	name       string // client name prefix, unique to this incarnation
	log        *slog.Logger
	metrics    *metrics.Metrics
	journalled bool // the journal is read: set before run

	refused chan struct{} // closed when the first Redis can never be used: nothing of the node is in it
	check   chan struct{} // a user of the clients saw an error: ping now
	flushed chan struct{} // capacity 1: everything cached was invalidated, Redis may have lost it
	caching atomic.Bool   // the read client caches
	alive   atomic.Int64  // time of the last sign of life, nanoseconds since epoch of born
	born    time.Time

	mu      sync.Mutex    // guards the rest; never held across I/O
	current *clients      // nil while Redis is away
	err     error         // why it is away
	checks  uint64        // pings and losses so far: "was it looked at since?"
	changed chan struct{} // closed and replaced whenever current or checks change

	warned bool    // that Redis evicts keys; run only
	read   *client // made with the first connection; run and close only
	old    connID  // the command connection before; run only
	ending sync.WaitGroup
}

func newLink(o redisOptions, cache bool, name string, log *slog.Logger, m *metrics.Metrics) *link {
	o.denials = newDenials(log, m)
	return &link{
		options: o, cache: cache, name: name, log: log, metrics: m,
		refused: make(chan struct{}), check: make(chan struct{}, 1), flushed: make(chan struct{}, 1), changed: make(chan struct{}), born: time.Now(),
		err: errors.New("not connected yet"),
	}
}

// get returns the clients, nil while Redis is away, and a channel that is
// closed when that may have changed.
func (l *link) get() (*clients, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.changed
}

// caches reports whether reads may go through the cache.
func (l *link) caches() bool { return l.caching.Load() }

// suspect makes the link look at the connection now.
func (l *link) suspect() {
	select {
	case l.check <- struct{}{}:
	default:
	}
}

// verify makes the link look at the connection now and returns the clients
// that stood the test, waiting for Redis if it is away.
func (l *link) verify(ctx context.Context) (*clients, error) {
	l.mu.Lock()
	before := l.checks
	l.mu.Unlock()
	for {
		l.suspect()
		l.mu.Lock()
		c, checks, changed := l.current, l.checks, l.changed
		l.mu.Unlock()
		if c != nil && checks > before {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// sign records a sign of life.
func (l *link) sign() { l.alive.Store(int64(time.Since(l.born))) }

// quiet is the time since the last sign of life.
func (l *link) quiet() time.Duration {
	return time.Since(l.born) - time.Duration(l.alive.Load())
}

// down returns why Redis is away, nil when it is not.
func (l *link) down() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return l.err
	}
	return nil
}

func (l *link) set(c *clients, err error) {
	l.mu.Lock()
	l.current, l.err = c, err
	if c != nil {
		l.metrics.RedisUp.Set(1)
	} else {
		l.metrics.RedisUp.Set(0)
	}
	l.checks++
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
}

// run keeps the clients connected until ctx ends. Its error is ErrUnsupported:
// the first Redis that answers can never be used. One that takes the place of
// another later may go again, so that the node waits.
func (l *link) run(ctx context.Context) error {
	if s := l.options.sentinels; s != nil {
		l.ending.Go(func() { s.watch(ctx, l.log, l.suspect) })
	}
	for gen := uint64(1); ; gen++ {
		c, err := l.connect(ctx, gen)
		if c == nil {
			return err
		}
		l.sign()
		l.set(c, nil)
		err = l.watch(ctx, c)
		l.set(nil, err)
		l.ending.Go(c.cmd.end)
		if c.journal != nil {
			l.ending.Go(c.journal.end)
		}
		if ctx.Err() != nil {
			return nil
		}
		l.log.Warn("redis is lost; trying again until it is back", "redis", l.options.name, "error", err)
	}
}

// connect tries until it has clients; it has none when ctx ended, or with the
// error of run. Each reason of a failure is logged once.
func (l *link) connect(ctx context.Context, gen uint64) (*clients, error) {
	started := time.Now()
	var wait backoff
	logged := make(map[metrics.RedisFailure]bool)
	if gen > 1 {
		logged[metrics.RedisUnreachable] = true // as a loss
	}
	for try := 0; ; try++ {
		c, err := l.dial(ctx, gen)
		if err == nil {
			if gen > 1 || try > 0 {
				l.log.Info("redis is back", "redis", l.options.name, "after", time.Since(started).Round(time.Millisecond).String())
			} else {
				l.log.Info("redis is connected", "redis", l.options.name)
			}
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		l.set(nil, err)
		why := failureOf(err)
		l.metrics.RedisFailures[why].Inc()
		if gen == 1 && why == metrics.RedisUnsupported {
			close(l.refused)
			return nil, err
		}
		if !logged[why] {
			logged[why] = true
			l.log.Warn("redis cannot be reached; trying until it can", "redis", l.options.name, "reason", why.String(), "error", err)
		}
		if !wait.sleep(ctx) {
			return nil, nil
		}
	}
}

// dial makes new clients and makes sure that the command connection before is over.
func (l *link) dial(ctx context.Context, gen uint64) (*clients, error) {
	cmd, err := commandClient(l.options, l.name)
	if err != nil {
		return nil, err
	}
	run, err := l.greet(ctx, cmd)
	if err != nil {
		l.ending.Go(cmd.end)
		return nil, err
	}
	if l.read == nil {
		if l.read, err = l.dialRead(); err != nil {
			l.ending.Go(cmd.end)
			return nil, err
		}
		l.caching.Store(l.cache)
	}
	c := &clients{gen: gen, cmd: cmd, read: l.read, run: run}
	if l.journalled {
		if c.journal, err = journalClient(l.options, l.name); err != nil {
			l.ending.Go(cmd.end)
			return nil, err
		}
	}
	return c, nil
}

// greet sees that Redis serves commands, ends the connection before, and returns
// Redis's run_id.
func (l *link) greet(ctx context.Context, cmd *client) (run string, err error) {
	if err := l.ping(ctx, cmd); err != nil {
		return "", err
	}
	if l.options.basic {
		return "", nil
	}
	info, err := ask(ctx, cmd)
	if err != nil {
		return "", err
	}
	if err := info.supported(); err != nil {
		return "", err
	}
	if info.evicts() && !l.warned {
		l.warned = true
		l.log.Warn("redis removes keys when its memory is used up, and presence and sessions with them; set maxmemory-policy to noeviction",
			"redis", l.options.name, "maxmemory_policy", info.eviction, "maxmemory", info.maxMemory)
	}
	id, err := identify(ctx, cmd, l.name+"-cmd")
	if err != nil {
		return "", err
	}
	if err := l.old.kill(ctx, cmd); err != nil {
		return "", err
	}
	l.old = id
	return info.run, nil
}

// dialRead makes the read client, without caching for a server that cannot track keys.
func (l *link) dialRead() (*client, error) {
	c, err := readClient(l.options, l.name, l.cache, l.invalidated)
	if errors.Is(err, rueidis.ErrNoCache) {
		l.log.Warn("redis does not support client-side caching; presence reads are not cached", "error", err)
		l.cache = false
		c, err = readClient(l.options, l.name, false, nil)
	}
	return c, err
}

// invalidated counts keys that Redis invalidated; nil stands for all of them at
// once: the connection was lost, or Redis was emptied.
func (l *link) invalidated(keys []rueidis.RedisMessage) {
	if keys == nil {
		notify(l.flushed)
	}
	l.metrics.CacheInvalidations.Add(float64(max(1, len(keys))))
}

// watch pings until the connection is lost or ctx ended. A ping that is late
// is not a loss yet: a slow script may hold Redis up for a moment.
func (l *link) watch(ctx context.Context, c *clients) error {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-l.check:
		}
		for {
			err := l.ping(ctx, c.cmd)
			if err == nil {
				break
			}
			if late := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil; !late || l.quiet() > silence {
				return err
			}
		}
		l.sign()
		l.set(c, nil)
	}
}

// errReplica ends a connection to a Redis that takes no writes any more. Such a
// one answers everything else, publishes to nobody, and would go on for ever.
var errReplica = errors.New("state: redis is a replica")

// ping asks whether Redis serves commands and is no replica; LOADING and the
// like are a no. A server that does not tell its role is taken as it is.
func (l *link) ping(ctx context.Context, c *client) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	commands := rueidis.Commands{c.B().Ping().Build()}
	if !l.options.basic {
		commands = append(commands, c.B().Role().Build())
	}
	results := c.DoMulti(ctx, commands...)
	if err := results[0].Error(); err != nil {
		return err
	}
	if len(results) > 1 {
		role, err := results[1].ToArray()
		if lostConnection(err) {
			return err
		}
		if err == nil && len(role) > 0 {
			if name, _ := role[0].ToString(); name == "slave" {
				return errReplica
			}
		}
	}
	return nil
}

// close ends the read client and waits for all clients to be gone. run has returned.
func (l *link) close(ctx context.Context) error {
	if l.read != nil {
		l.ending.Go(l.read.end)
	}
	if l.options.sentinels != nil {
		l.ending.Go(l.options.sentinels.end)
	}
	gone := make(chan struct{})
	go func() { l.ending.Wait(); close(gone) }()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backoff is a growing, jittered wait between backoffMin and backoffMax. The
// zero value starts at the minimum.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, backoffMin), backoffMax)
	return b.last/2 + rand.N(b.last/2+1)
}

// sleep waits for the next step; false when ctx ended first.
func (b *backoff) sleep(ctx context.Context) bool {
	t := time.NewTimer(b.next())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
