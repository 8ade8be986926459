// Package state is what outlives a socket or is seen by another node: the bus
// (Redis Pub/Sub, spoken as @socket.io/redis-adapter speaks it), the requests
// nodes send each other over it, and presence. It holds the node's Redis clients
// and no client connections.
//
// Everything here works on desired state: namespaces, room subscriptions and
// presence are declared at any time, whether Redis can be reached or not, and
// are carried to Redis as soon as it answers, again after every lost
// connection. Messages are different: they are published at most once. Those of
// the journal are numbered, so that what was sent when a connection broke can be
// sent again; of the others it is then reported as unknown.
package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Errors that callers tell apart.
var (
	ErrUnknown     = errors.New("state: it is not known whether redis took the message")
	ErrQueueFull   = errors.New("state: queue is full")
	ErrUnavailable = errors.New("state: redis is not reachable")
	ErrClosed      = errors.New("state: closed")
	ErrReleased    = errors.New("state: released before it was stored")
	ErrNoSocket    = errors.New("state: socket is not connected here")
	ErrNotOwner    = socketio.ErrNotOwner
	ErrConflict    = socketio.ErrOnceConflict
	ErrEpoch       = errors.New("state: the session is of an epoch of the journal that is over")

	ErrTooManyRequests = errors.New("state: too many requests wait for answers")
	ErrAnswersTooLarge = errors.New("state: the answers to requests exceed 64 MiB")
)

// Config is what a State needs to know. The zero value of an optional field
// means its default.
type Config struct {
	URL     string // as ParseURL reads it; empty: an in-process Redis, one node only
	TLS     TLSFiles
	Key     string // channel prefix (ADAPTER_KEY); default "socket.io"
	Node    string // the 8 characters every socket id of this node begins with
	UID     string // the 6 characters that name this node as an adapter
	Pattern bool   // subscribe by pattern, as Node.js does; forced without URL
	// HeardRooms, if not "", begins the names of rooms whose messages reach every node
	// always, by one pattern, and which therefore need no subscription. No name of a
	// node may begin with it.
	HeardRooms string
	// SpecificResponses sends answers to the node that asked instead of all
	// nodes (publishOnSpecificResponseChannel of Node.js): less traffic, where
	// every node that asks is one of these or has @socket.io/redis-adapter 8.
	SpecificResponses bool
	Cache             bool          // client-side caching of presence reads; off without URL
	PublishQueue      int           // bound of the publish queue in messages; default 65536
	PresenceWindow    time.Duration // presence updates of a room are merged over this time; 0: not at all
	// PresenceGrace is how long after a socket's connection broke (see
	// Presence.Disconnect, on any node) the members of its rooms on this node are
	// told that its user left, unless it is back by then; 0: at once.
	PresenceGrace time.Duration
	// Lease is how long this node's presence counts without a heartbeat; default 10 s.
	// The same on all nodes.
	Lease time.Duration
	// Recovery keeps messages in a journal in Redis, so that what a node misses
	// while it does not hear Redis can be delivered later, and sessions, so that
	// clients get their sockets back. The same on all nodes.
	Recovery bool
	// Retention is how long the journal is kept: at least SessionWindow + 10 s +
	// ProofLag + 15 s, see Sessions; default 4 min 20 s, or that if it is more. The
	// same on all nodes.
	Retention  time.Duration
	JournalMax int64 // entries of a namespace's journal at most, whatever their age; default 1,000,000
	// SessionWindow is how long a socket can be recovered after its conn ended;
	// default 2 min. The same on all nodes.
	SessionWindow time.Duration
	// ProofLag is the time after which everything sent on an open conn has been
	// received, or the conn has ended: pingInterval + 4 × pingTimeout + 2 ticks.
	// Default 108 s. The same on all nodes.
	ProofLag time.Duration
	Log      *slog.Logger // default slog.Default()
}

// publishQueueBytes bounds the payloads of the publish queue, next to Config.PublishQueue.
const publishQueueBytes = 64 << 20

// Deliverer takes what the bus receives. Its methods are called one after the
// other, never from inside another and never from inside a call of Bus, and must
// return at once.
type Deliverer interface {
	// Deliver hands over one adapter payload, in the order of Redis. room is the
	// one whose channel it came on; "" for the base channel, and for what was read
	// from the journal. payload is valid during the call only and must not be
	// written to.
	Deliver(ns, room string, payload []byte)
	// Subscribed says that everything published to the room from now on arrives:
	// the subscription asked for as generation gen is live. It is called again
	// after Unheard, when it is live again.
	Subscribed(ns, room string, gen uint64)
	// Unheard says that no room is live any more, until Subscribed says so again.
	// With Config.Recovery what is published meanwhile is delivered before that,
	// or Missed is called.
	Unheard()
	// Missed says that messages of the journal were missed and will not be
	// delivered. What is delivered next came after them. Sessions that began in the
	// epoch save, if it is not "", have missed nothing. Only with Config.Recovery.
	Missed(save string)
	// Advanced says that everything of the namespace's journal up to end was
	// delivered, or is for nobody here.
	Advanced(ns string, end socketio.Offset)
	// Replaced says that the socket has moved to another node, as the
	// generation-th that has it.
	Replaced(ns, sid string, generation uint64)
	// Cut says that the socket moved from one node to another, as the generation-th
	// that has it: what was delivered before is for the one, what comes after for the
	// other. Both are told, at the same place in the order. at is where the journal
	// was; it is zero if this node has not delivered everything before it, or something
	// behind it already: then it must not be relied on. A node whose Pub/Sub connection
	// was lost then is not told at all.
	Cut(ns, sid string, generation uint64, at socketio.Offset)
}

// State owns the Redis clients of a node.
type State struct {
	embedded *embedded // nil with a URL
	link     *link
	bus      *Bus
	journal  *journal
	presence *Presence
	sessions *Sessions
	peers    *Peers

	mu      sync.Mutex // guards running, closed
	running bool
	closed  bool
}

// nodeLen is the length of a node's name.
const nodeLen = 8

// nodeForm and uidForm are the alphabets of socket ids and adapter uids (base64url).
var (
	nodeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{8}$`)
	uidForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{6}$`)
)

// Open checks cfg and starts the in-process Redis if there is no URL. It does
// not need Redis to be reachable.
func Open(cfg Config, m *metrics.Metrics) (*State, error) {
	if !nodeForm.MatchString(cfg.Node) {
		return nil, fmt.Errorf("state: node %q is not 8 characters of A-Z a-z 0-9 _ -", cfg.Node)
	}
	if !uidForm.MatchString(cfg.UID) {
		return nil, fmt.Errorf("state: uid %q is not 6 characters of A-Z a-z 0-9 _ -", cfg.UID)
	}
	if cfg.PublishQueue < 0 {
		return nil, fmt.Errorf("state: publish queue bound %d is negative", cfg.PublishQueue)
	}
	if cfg.PresenceWindow < 0 {
		return nil, fmt.Errorf("state: presence window %v is negative", cfg.PresenceWindow)
	}
	if cfg.PresenceGrace < 0 {
		return nil, fmt.Errorf("state: presence grace %v is negative", cfg.PresenceGrace)
	}
	if cfg.Lease < 0 {
		return nil, fmt.Errorf("state: lease %v is negative", cfg.Lease)
	}
	if cfg.SessionWindow < 0 || cfg.ProofLag < 0 {
		return nil, fmt.Errorf("state: session window %v or proof lag %v is negative", cfg.SessionWindow, cfg.ProofLag)
	}
	if cfg.Key == "" {
		cfg.Key = "socket.io"
	}
	if cfg.PublishQueue == 0 {
		cfg.PublishQueue = 65536
	}
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	if cfg.Retention < 0 || cfg.JournalMax < 0 {
		return nil, fmt.Errorf("state: retention %v or length %d of the journal is negative", cfg.Retention, cfg.JournalMax)
	}
	if least := cfg.leastRetention(); cfg.Recovery && cfg.Retention > 0 && cfg.Retention < least {
		return nil, fmt.Errorf("state: the journal's retention %v is less than %v, which the session window and the proof lag need", cfg.Retention, least)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.URL != "" {
		address, err := ParseURL(cfg.URL)
		if err != nil {
			return nil, fmt.Errorf("state: redis URL %w", err)
		}
		return assemble(cfg, address.options(cfg.TLS), m), nil
	}
	cfg.Log.Info("no REDIS_URL: using an in-process Redis; this node serves alone and forgets everything when it stops")
	e := startEmbedded()
	s := assemble(cfg, e.options(), m)
	s.embedded = e
	return s, nil
}

// assemble puts the parts together.
func assemble(cfg Config, o redisOptions, m *metrics.Metrics) *State {
	if o.basic {
		cfg.Pattern, cfg.Cache = true, false
	}
	if cfg.SessionWindow == 0 {
		cfg.SessionWindow = defaultSessionWindow
	}
	if cfg.ProofLag == 0 {
		cfg.ProofLag = defaultProofLag
	}
	if cfg.Retention == 0 {
		cfg.Retention = max(defaultRetention, cfg.leastRetention())
	}
	if cfg.JournalMax == 0 {
		cfg.JournalMax = defaultJournalMax
	}
	incarnation := newIncarnation()
	l := newLink(o, cfg.Cache, "edge-"+cfg.Node+"-"+incarnation, cfg.Log, m)
	l.journalled = cfg.Recovery
	j := newJournal(cfg, incarnation, m)
	b := newBus(cfg, l, j, socketio.Channels{Key: cfg.Key}, m)
	sessions := newSessions(cfg, l, j, incarnation, m)
	j.onVoid, j.onMissing, j.onRepaired = sessions.void, sessions.missingSince, sessions.repaired
	sessions.drop = b.drop
	return &State{
		link:     l,
		bus:      b,
		journal:  j,
		presence: newPresence(cfg, l, incarnation, b.updates, m),
		sessions: sessions,
		peers:    newPeers(cfg, l),
	}
}

// Bus is the node's side of the bus.
func (s *State) Bus() *Bus { return s.bus }

// Presence is the node's side of presence.
func (s *State) Presence() *Presence { return s.presence }

// Sessions is the node's side of connection state recovery.
func (s *State) Sessions() *Sessions { return s.sessions }

// Peers is where this node and the others find each other.
func (s *State) Peers() *Peers { return s.peers }

// Run connects to Redis, and connects again whenever the connection is lost,
// until ctx ends; it then fails what is still queued and returns ctx's error. It
// also ends, with ErrUnsupported, when the first Redis that answers can never be used.
// onPresence is called on a goroutine of its own, one update after the other,
// and may be nil. Run may be called once.
func (s *State) Run(ctx context.Context, d Deliverer, r Responder, onPresence func(PresenceUpdate)) error {
	s.mu.Lock()
	if s.running || s.closed {
		s.mu.Unlock()
		return errors.New("state: Run may be called once, before Close")
	}
	s.running = true
	s.mu.Unlock()

	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	s.bus.begin(d, r)
	s.sessions.dismiss = func(ns, sid string) {
		r.LocalDisconnect(ns, socketio.BroadcastOptions{Rooms: []string{sid}}, true)
	}
	wg.Go(func() {
		if err := s.link.run(ctx); err != nil {
			end(err)
		}
	})
	wg.Go(func() { s.bus.publishLoop(ctx) })
	wg.Go(func() { s.bus.subscribeLoop(ctx) })
	wg.Go(func() { s.bus.announceLoop(ctx) })
	wg.Go(func() { s.bus.repairLoop(ctx) })
	wg.Go(func() { s.bus.probeLoop(ctx) })
	wg.Go(func() { s.bus.trimLoop(ctx) })
	wg.Go(func() { s.bus.requestLoop(ctx) })
	wg.Go(func() { s.bus.countLoop(ctx) })
	wg.Go(func() { s.bus.updateLoop(ctx, onPresence) })
	wg.Go(func() { s.presence.run(ctx) })
	wg.Go(func() { s.presence.janitorLoop(ctx) })
	wg.Go(func() { s.presence.scrubLoop(ctx) })
	wg.Go(func() { s.presence.refreshLoop(ctx) })
	wg.Go(func() { s.peers.announceLoop(ctx) })
	wg.Go(func() { s.peers.lookupLoop(ctx) })
	if s.journal.on {
		wg.Go(func() { s.sessions.run(ctx) })
		wg.Go(func() { s.sessions.tails.run(ctx) })
	} else {
		s.sessions.close()
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// Close closes the clients and stops the in-process Redis. Call it after Run
// has returned, and after Presence.Flush if presence is to be released. It
// waits for pending Redis calls, no longer than ctx.
func (s *State) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return nil
	}
	s.bus.close()
	s.bus.requester.end()
	s.presence.close()
	s.sessions.close()
	s.peers.end()
	err := s.link.close(ctx)
	if s.embedded != nil {
		s.embedded.stop()
	}
	return err
}
