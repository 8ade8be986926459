package fanout

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/metrics"
)

// stripeCount spreads the room table over locks; a power of two.
const stripeCount = 64

// Config sizes a Hub. Zero values get the defaults named.
type Config struct {
	Shards      int           // goroutines that own conns; default 1, at most 256; callers pass GOMAXPROCS
	Tick        time.Duration // resolution of deadlines; default 1 s
	OutboxBytes int           // bound of one conn's outbox and backlog; default 4 MiB
	Inbox       int           // bound of deliveries waiting in one shard; default 65,536
	Linger      time.Duration // how long an empty room keeps its subscription; default 10 s
	Kept        int           // messages kept for a member while it catches up; default 128
	// WriteDelay is how long a busy shard at most collects messages before it
	// writes; one that was idle never waits. 0 is not at all.
	WriteDelay time.Duration
	// Stamp returns m with a position added, as a new message. It is called on
	// shards and must not block; nil: messages are not stamped.
	Stamp func(m *Message, id ID) *Message
	// Compress returns the compressed form of a message's Frame, nil if that is not
	// worth it. It is called on shards and must not wait: once for a message of at
	// least CompressFrom bytes that a conn is to get which takes that form, however
	// many there are. nil: nothing is compressed.
	Compress     func(frame []byte) []byte
	CompressFrom int
}

// Subscriber keeps the bus subscribed to what the hub needs. Calls must not
// block; the answer to Subscribe is Hub.Live with the same generation, from any
// goroutine, also from within the call.
type Subscriber interface {
	Subscribe(k Key, generation uint64)
	Unsubscribe(k Key, generation uint64)
}

// Hub knows which rooms have members on which shards. All methods may be called
// from any goroutine and do not block.
type Hub struct {
	cfg    Config
	sub    Subscriber
	m      *metrics.Metrics
	shards []*shard
	start  time.Time
	seed   maphash.Seed
	next   atomic.Uint32 // conn placement, round robin
	gen    atomic.Uint64 // subscription generations

	stripes [stripeCount]stripe

	lingerMu sync.Mutex // taken alone
	linger   []lingering

	stop    chan struct{}
	stopped sync.WaitGroup
}

// stripe guards the rooms whose key hashes to it. Its lock is taken after a
// member's and never together with a shard's or another stripe's.
type stripe struct {
	mu    sync.Mutex
	rooms map[Key]*Room
}

// New makes a Hub and starts its shards; Close ends them.
func New(cfg Config, sub Subscriber, m *metrics.Metrics) *Hub {
	h := newHub(cfg, sub, m)
	for _, s := range h.shards {
		h.stopped.Go(s.run)
	}
	h.stopped.Go(h.sweep)
	return h
}

// newHub makes a Hub whose shards do not run yet.
func newHub(cfg Config, sub Subscriber, m *metrics.Metrics) *Hub {
	setDefault(&cfg.Shards, 1)
	cfg.Shards = min(cfg.Shards, maxShards)
	setDefault(&cfg.Tick, time.Second)
	setDefault(&cfg.OutboxBytes, 4<<20)
	setDefault(&cfg.Inbox, 65536)
	setDefault(&cfg.Linger, 10*time.Second)
	setDefault(&cfg.Kept, 128)
	h := &Hub{cfg: cfg, sub: sub, m: m, start: time.Now(), seed: maphash.MakeSeed(), stop: make(chan struct{})}
	for i := range h.stripes {
		h.stripes[i].rooms = make(map[Key]*Room)
	}
	for i := range cfg.Shards {
		h.shards = append(h.shards, newShard(h, i))
	}
	return h
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Close stops the shards without delivering what is queued; call it once. Conns
// must have been ended before: later calls of other methods do nothing, and a
// Visit that was not finished never is.
func (h *Hub) Close() {
	close(h.stop)
	h.stopped.Wait()
}

// Now is the current tick.
func (h *Hub) Now() Tick { return Tick(time.Since(h.start) / h.cfg.Tick) }

// Ticks converts a duration to ticks, rounded down, at least 1.
func (h *Hub) Ticks(d time.Duration) Tick { return max(1, Tick(d/h.cfg.Tick)) }

// Attach gives c a shard and a first deadline. Until Open nothing is written:
// messages wait in the outbox. It must return before anything else is done with
// c, and c is used once: after Detach it is not attached again.
func (h *Hub) Attach(c *Conn, sink Sink, deadline Tick) {
	c.sink = sink
	c.shard = h.shards[int(h.next.Add(1))%len(h.shards)]
	c.backlog.Store(1) // taken back by Open
	c.waiting.Store(true)
	c.shard.enqueue(op{kind: opAttach, conn: c, tick: deadline})
}

// Open allows writing: the sink is ready for Write.
func (h *Hub) Open(c *Conn) { c.Wrote(1) }

// Detach forgets c: its outbox is discarded and its deadline removed. Its
// members must be closed by CloseMember.
func (h *Hub) Detach(c *Conn) { c.shard.enqueue(op{kind: opDetach, conn: c}) }

// End sends last, if not nil, after everything queued; nothing may follow it.
// Sink.Drained is called when the kernel has it all.
func (h *Hub) End(c *Conn, last *Message) {
	c.shard.enqueue(op{kind: opEnd, conn: c, msg: last})
}

// Send sends m to one conn, in order with its other sends. It reports false when
// the conn's bound is reached; the conn is then closed as a slow reader.
func (h *Hub) Send(c *Conn, m *Message) bool { return h.send(c, nil, m) }

// SendMember is Send for a member's conn. A message to be stamped gets the
// member's position.
func (h *Hub) SendMember(to *Member, m *Message) bool { return h.send(to.conn, to, m) }

func (h *Hub) send(c *Conn, to *Member, m *Message) bool {
	if c.direct.Add(int64(len(m.Frame)))+c.backlog.Load() > int64(h.cfg.OutboxBytes) {
		c.direct.Add(-int64(len(m.Frame)))
		if m.Volatile {
			h.m.Drops[metrics.DropVolatile].Inc()
			return true
		}
		c.shard.enqueue(op{kind: opOverflow, conn: c})
		return false
	}
	c.shard.enqueue(op{kind: opSend, conn: c, member: to, msg: m})
	return true
}

// Wake makes the shard call Sink.Expire for c in its next pass, whatever the
// deadline: the state that Expire decides by has changed.
func (h *Hub) Wake(c *Conn) { c.shard.enqueue(op{kind: opWake, conn: c}) }

// Join makes m a member of k. since is the journal position before which
// nothing is for m; it is ignored if m is a member already. live, if not nil,
// is called once, and must not block: when the room's subscription is live (at
// once if it is, else on the bus's goroutine), or when the room is forgotten
// because everybody left before that. Join reports false, without calling live,
// if the member is closed.
func (h *Hub) Join(m *Member, k Key, since ID, live func()) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	if i := m.find(k); i >= 0 {
		r := m.rooms[i]
		m.mu.Unlock()
		h.whenLive(r, live)
		return true
	}
	r, created := h.count(k, m.conn.shard.index)
	m.rooms = append(m.rooms, r)
	m.conn.shard.enqueue(op{kind: opJoin, member: m, room: r, id: since})
	m.mu.Unlock()
	// The join is in the inbox before SUBSCRIBE is sent: what arrives by the
	// subscription comes behind it.
	h.announce(r, created)
	h.whenLive(r, live)
	return true
}

// announce has a room subscribed that was just created.
func (h *Hub) announce(r *Room, created bool) {
	if !created {
		return
	}
	if r.Key.Room != "" {
		h.m.Rooms.Inc()
	}
	h.sub.Subscribe(r.Key, r.generation)
	h.release(r, noShard)
}

// Leave ends m's membership of k. It reports false if there was none.
func (h *Hub) Leave(m *Member, k Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(k)
	if i < 0 {
		return false
	}
	r := m.rooms[i]
	m.rooms = slices.Delete(m.rooms, i, i+1)
	m.conn.shard.enqueue(op{kind: opLeave, member: m, room: r})
	return true
}

// CloseMember ends all memberships of m; later joins are refused.
func (h *Hub) CloseMember(m *Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	m.rooms = nil
	m.conn.shard.enqueue(op{kind: opCloseMember, member: m})
}

// Live says that the subscription of that generation of k is live.
func (h *Hub) Live(k Key, generation uint64) {
	s := h.stripe(k)
	s.mu.Lock()
	r := s.rooms[k]
	if r == nil || r.generation != generation {
		s.mu.Unlock()
		return
	}
	r.live = true
	waiters := r.waiters
	r.waiters = nil
	s.mu.Unlock()
	for _, w := range waiters {
		w()
	}
}

// Room returns the room if it has members on this node, or is reserved, else nil.
func (h *Hub) Room(k Key) *Room {
	s := h.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rooms[k]; r != nil && r.total > 0 {
		return r
	}
	return nil
}

// RoomKeys appends the keys of all rooms of a namespace that have members, in
// no order, without the namespace's own entry.
func (h *Hub) RoomKeys(namespace uint32, dst []string) []string {
	for i := range h.stripes {
		s := &h.stripes[i]
		s.mu.Lock()
		for k, r := range s.rooms {
			if k.Namespace == namespace && k.Room != "" && r.hasMembers() {
				dst = append(dst, k.Room)
			}
		}
		s.mu.Unlock()
	}
	return dst
}

// EachRoom calls f for every room of a namespace that has members, in no order,
// without the namespace's own entry, with the number of its members on this node.
// f is called with a lock held: it must not call the hub.
func (h *Hub) EachRoom(namespace uint32, f func(room string, members int)) {
	for i := range h.stripes {
		s := &h.stripes[i]
		s.mu.Lock()
		for k, r := range s.rooms {
			if k.Namespace != namespace || k.Room == "" {
				continue
			}
			members := 0
			for _, n := range r.counts {
				members += int(n)
			}
			if members > 0 {
				f(k.Room, members)
			}
		}
		s.mu.Unlock()
	}
}

// Deliver sends m to the target's members on this node, in the order of the
// calls of one caller. It reports whether any shard had members.
func (h *Hub) Deliver(m *Message, t *Target) bool {
	o := op{kind: opDeliver, msg: m, target: t}
	if t.simple() {
		o.room, o.target = t.Rooms[0], nil
	}
	return h.eachShard(t, func(s *shard) { s.deliver(o) })
}

// Visit calls visit for every member of the target, on its shard, then done
// once, on the last shard (or at once if there is none). Both must not block.
func (h *Hub) Visit(t *Target, visit func(*Member), done func()) {
	begin, finish := countdown(done)
	h.eachShard(t, func(s *shard) {
		begin()
		s.enqueue(op{kind: opVisit, target: t, visit: &visitor{members: visit, done: finish}})
	})
	finish()
}

// VisitConns calls visit for every attached conn's sink, on its shard, then done, if
// not nil, once, on the last shard. Both must not block.
func (h *Hub) VisitConns(visit func(Sink), done func()) {
	begin, finish := countdown(done)
	v := &visitor{conns: visit, done: finish}
	for _, s := range h.shards {
		begin()
		s.enqueue(op{kind: opVisitConns, visit: v})
	}
	finish()
}

// countdown calls done, if not nil, when finish was called once more than begin.
func countdown(done func()) (begin, finish func()) {
	var pending atomic.Int32
	pending.Store(1)
	begin = func() { pending.Add(1) }
	finish = func() {
		if pending.Add(-1) == 0 && done != nil {
			done()
		}
	}
	return begin, finish
}

// eachShard calls f for every shard that has members of the target.
func (h *Hub) eachShard(t *Target, f func(*shard)) bool {
	var has [maxShards]bool
	for _, r := range t.Rooms {
		s := h.stripe(r.Key)
		s.mu.Lock()
		for i, n := range r.counts {
			has[i] = has[i] || n > 0
		}
		s.mu.Unlock()
	}
	for _, m := range t.Members {
		has[m.conn.shard.index] = true
	}
	found := false
	for i, s := range h.shards {
		if has[i] {
			found = true
			f(s)
		}
	}
	return found
}

// maxShards bounds Config.Shards so that a delivery needs no allocation to
// collect its shards.
const maxShards = 256

func (h *Hub) stripe(k Key) *stripe {
	return &h.stripes[maphash.Comparable(h.seed, k)%stripeCount]
}
