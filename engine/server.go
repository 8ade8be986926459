package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// Bus carries messages between nodes. Calls do not block and may come from any
// goroutine. What arrives goes to Server.Deliver, subscriptions that became
// live to Server.Subscribed.
type Bus interface {
	// Open makes the node serve a namespace.
	Open(ns string)
	// Publish queues an adapter message. An error means that nothing was queued.
	Publish(p socketio.Publication) error
	// Subscribe wants a room's channel; generation is given back by Subscribed.
	Subscribe(ns, room string, generation uint64)
	// Unsubscribe gives that generation of the room up.
	Unsubscribe(ns, room string, generation uint64)

	Fleet
}

// Fleet asks all nodes, this one and Node.js servers included. Calls do not
// block; answers come on another goroutine and must not block. An error comes
// with the answers that did arrive. No rooms select everybody.
type Fleet interface {
	FetchSockets(ns string, o socketio.BroadcastOptions, done func([]socketio.RemoteSocket, error))
	AllRooms(ns string, done func([]string, error))
	SocketsJoin(ns string, o socketio.BroadcastOptions, rooms []string, done func(error))
	SocketsLeave(ns string, o socketio.BroadcastOptions, rooms []string, done func(error))
	DisconnectSockets(ns string, o socketio.BroadcastOptions, closeConn bool, done func(error))
	// BroadcastWithAck emits an event that clients acknowledge: ack gets each
	// client's first argument as MessagePack, nil if it sent none.
	BroadcastWithAck(ns string, o socketio.BroadcastOptions, flags socketio.Flags, data []byte, timeout time.Duration,
		ack func(packet []byte), done func(clients int, err error))
	// ServerSideEmit sends an event to the other servers; with a nil done no
	// answers are wanted.
	ServerSideEmit(ns string, data []byte, done func(responses []json.RawMessage, err error))
}

// Server is a Socket.IO server. New makes it, Start opens it for ServeHTTP,
// Shutdown ends it, after Drain if its clients are to leave one by one. All methods may be called from any goroutine.
type Server struct {
	// Set by New, then read-only.
	cfg       Config
	log       *slog.Logger
	m         *metrics.Metrics
	bus       Bus
	hub       *fanout.Hub
	pool      *pool
	partials  sync.Pool // *partial: those that no conn needs
	sockets   *socketTable
	sessions  *sessionTable // that began with long-polling
	ids       *idSource
	flights   *flights
	limits    *websocket.Limits
	limiter   *connectLimiter // nil without limits
	sources   *sourceCounts   // nil without a limit
	rates     *inboundRates   // nil without limits
	born      time.Time       // the zero of the limits' clocks
	maxPacket int             // bytes of one packet with its attachments
	ticks     tickTable
	bounds    moveBounds
	ping      *fanout.Message
	noop      *fanout.Message
	probed    []byte // the frame that answers a probe
	loop      *loop
	plain     PlainHandler  // not nil: plain WebSocket, no Engine.IO
	engine    EngineHandler // not nil: Engine.IO, no Socket.IO

	conns    atomic.Int64
	draining atomic.Bool   // no new conns
	stopping chan struct{} // closed by Shutdown
	stopOnce sync.Once
	holds    holds    // WebSockets of other nodes' conns
	arrivals arrivals // sockets that move here
	kicks    kicks
	loopback *loopback // nil with a bus of the caller's
	empty    chan struct{}

	mu         sync.RWMutex // guards the fields below; taken alone
	namespaces map[string]*Namespace
	numbered   []*Namespace
	dynamic    []dynamicNamespace

	recovery *recovery // nil without; set by New, then read-only

	order *sequence // of what arrives from the bus

	// Owned by whose turn it is in order.
	incoming socketio.Broadcast
	text     []byte
}

// tickTable is Config's durations in ticks.
type tickTable struct{ interval, timeout, connect, attachment, drain, poll, linger, age fanout.Tick }

// New makes a server. With a nil bus it is a single node on its own.
func New(cfg Config, bus Bus, m *metrics.Metrics) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if bus != nil && cfg.Recovery != nil && cfg.Recovery.Sessions == nil {
		return nil, errors.New("engine: Recovery without Sessions needs a server without a Bus")
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, m: m, bus: bus,
		pool:      newPool(cfg.Handlers),
		sockets:   newSocketTable(),
		sessions:  &sessionTable{m: make(map[id]*conn)},
		ids:       &idSource{node: cfg.Node},
		flights:   newFlights(),
		limits:    &websocket.Limits{Server: true, MaxMessage: cfg.MaxPayload, Inflater: new(websocket.Inflater)},
		limiter:   newConnectLimiter(&cfg),
		sources:   newSourceCounts(&cfg),
		rates:     newInboundRates(&cfg),
		born:      time.Now(),
		maxPacket: cfg.OutboxBytes / 4,
		bounds:    usualMoveBounds,
		ping:      engineMessage(string(socketio.EnginePing)),
		noop:      engineMessage(string(socketio.EngineNoop)),
		probed:    websocket.AppendFrame(nil, websocket.Text, []byte("3probe")),
		empty:     make(chan struct{}, 1),
		stopping:  make(chan struct{}),

		namespaces: make(map[string]*Namespace),
		order:      newSequence(),
	}
	fan := fanout.Config{Shards: cfg.Shards, Tick: cfg.tick(), OutboxBytes: cfg.OutboxBytes, Stamp: s.stamp, WriteDelay: cfg.WriteDelay}
	if err := s.compressInto(&fan); err != nil {
		return nil, err
	}
	if cfg.Recovery != nil {
		s.recovery = &recovery{Sessions: cfg.Recovery.Sessions, journal: cfg.Recovery.Journal}
	}
	if cfg.UserRooms != "" {
		s.sockets.users = newUserTable()
	}
	if bus == nil {
		var own *memory
		if s.recovery != nil && s.recovery.Sessions == nil {
			own = newMemory(cfg.Recovery.Window, cfg.ProofLag())
			s.recovery.Sessions = own
			go own.run()
		}
		s.loopback = newLoopback(s, own)
		s.bus = s.loopback
	}
	s.hub = fanout.New(fan, subscriber{s}, m)
	t := s.hub.Ticks
	s.ticks = tickTable{
		interval: t(cfg.PingInterval), timeout: t(cfg.PingTimeout), connect: t(cfg.ConnectTimeout), attachment: t(cfg.AttachmentTimeout),
		drain: t(drainTime), poll: t(pollClose), linger: t(lingerTime),
	}
	if cfg.MaxConnAge > 0 {
		s.ticks.age = t(cfg.MaxConnAge)
	}
	return s, nil
}

// Start begins to serve conns. It must be called once, before ServeHTTP.
func (s *Server) Start() error {
	l, err := startLoop(s)
	if err != nil {
		return fmt.Errorf("engine: start event loop: %w", err)
	}
	s.loop = l
	return nil
}

// Of returns the namespace of that name, made on first use. The name begins
// with a slash; one is added if it does not. Options count on first use only.
func (s *Server) Of(name string, opts ...NamespaceOption) *Namespace {
	if name == "" || name[0] != '/' {
		name = "/" + name
	}
	n, created := s.of(name, nil, opts)
	if created {
		s.bus.Open(name)
	}
	return n
}

// of returns the namespace, complete with what setup adds if it had to be made.
func (s *Server) of(name string, setup func(*Namespace), opts []NamespaceOption) (n *Namespace, created bool) {
	if n = s.namespace(name); n != nil {
		return n, false
	}
	n = &Namespace{srv: s, name: name, nameBytes: []byte(name), acks: newAckTable()}
	n.table.Store(&hooks{})
	for _, o := range opts {
		o(n)
	}
	if setup != nil {
		setup(n) // before anybody can find it, and without the lock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.namespaces[name]; other != nil {
		return other, false
	}
	n.number = uint32(len(s.numbered))
	s.namespaces[name] = n
	s.numbered = append(s.numbered, n)
	return n, true
}

// dynamicNamespace makes namespaces on demand.
type dynamicNamespace struct {
	match func(name string, auth json.RawMessage) bool
	setup func(*Namespace)
	opts  []NamespaceOption
}

// OfFunc makes namespaces on demand: when a client asks for one that does not
// exist and match accepts its name, it is made and setup adds its handlers and
// middleware, nothing else. Both run on the goroutine that read the packet and
// must not wait. Every name that match accepts makes a namespace that stays, so it
// must not accept any name.
func (s *Server) OfFunc(match func(name string, auth json.RawMessage) bool, setup func(*Namespace), opts ...NamespaceOption) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dynamic = append(s.dynamic[:len(s.dynamic):len(s.dynamic)], dynamicNamespace{match, setup, opts})
}

// demand returns the namespace, made on demand if it may be, or nil.
func (s *Server) demand(name string, auth []byte) *Namespace {
	if n := s.namespace(name); n != nil {
		return n
	}
	s.mu.RLock()
	dynamic := s.dynamic
	s.mu.RUnlock()
	for _, d := range dynamic {
		if d.match(name, auth) {
			n, created := s.of(name, d.setup, d.opts)
			if created {
				s.bus.Open(name)
			}
			return n
		}
	}
	return nil
}

// namespace returns the namespace or nil.
func (s *Server) namespace(name string) *Namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.namespaces[name]
}

func (s *Server) byNumber(i uint32) *Namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.numbered[i]
}

// Conns is the number of open conns.
func (s *Server) Conns() int { return int(s.conns.Load()) }

// gone counts a conn whose transport closed.
func (s *Server) gone(c *conn) {
	if c.poll != nil && !c.marked(markPolled) {
		s.m.ConnsPolling.Dec()
	} else {
		s.m.ConnsWebSocket.Dec()
	}
	s.release(c.handshake.remote)
}

// release gives back the place of one conn from an address.
func (s *Server) release(from netip.Addr) {
	s.sources.release(from)
	if s.conns.Add(-1) == 0 {
		select {
		case s.empty <- struct{}{}:
		default:
		}
	}
}

// Shutdown refuses new conns, closes all conns without a DISCONNECT packet, so
// that clients come back by themselves, and waits until they are gone and every
// disconnect handler has run. When ctx ends first, what is left is cut off and
// the context's error returned. The server cannot be started again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.stopOnce.Do(func() { close(s.stopping) })
	err := s.clear(ctx, metrics.CloseShutdown)
	if err != nil {
		err = fmt.Errorf("engine: shutdown: %d conns cut off: %w", s.conns.Load(), err)
		s.hub.VisitConns(func(sink fanout.Sink) { sink.(*conn).abort() }, nil)
	}
	if s.loop != nil {
		s.loop.stop()
	}
	s.pool.wait()
	s.hub.Close()
	if s.loopback != nil {
		s.loopback.close()
	}
	return err
}
