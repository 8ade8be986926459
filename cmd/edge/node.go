package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

// node is one running edge.
type node struct {
	cfg     *Config
	log     *slog.Logger
	metrics *metrics.Metrics
	state   *state.State
	engine  *engine.Server
	app     *app
	ready   *readiness
	drain   *drain
	keys    *keyring // nil with AUTH=none
	peers   *peers   // nil with PEER_ADDR=off

	entrance                      *entrance // of the clients' listener
	public, admin                 *http.Server
	publicListener, adminListener net.Listener
	peerListener                  net.Listener // nil with PEER_ADDR=off
	advertised                    string       // where other nodes reach it; "" while that is not known
}

// newNode wires a node and opens its listeners. Redis need not be reachable yet.
func newNode(cfg *Config, log *slog.Logger) (*node, error) {
	files, err := raiseFileLimit()
	if err != nil {
		return nil, err
	}
	maxConns, err := connLimit(cfg.MaxConns, files)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := metrics.New(registry, edgeVersion())
	m.MaxConns.Set(float64(maxConns))
	m.PresenceLease.Set(cfg.PresenceLease.Seconds())

	var ring *keyring
	if cfg.Auth == authJWT {
		if ring, err = newKeyring(cfg, m, log, time.Now); err != nil {
			return nil, err
		}
	}

	name, uid := randomID(8), randomID(6)
	settings := engineConfig(cfg, maxConns, name, uid, log)
	st, err := state.Open(state.Config{
		URL: string(cfg.RedisURL), TLS: cfg.redisTLS(), Key: cfg.AdapterKey, SpecificResponses: cfg.SpecificResponses, Node: name, UID: uid,
		Pattern: cfg.Subscriptions == subscribePattern, HeardRooms: userRoomPrefix, Cache: cfg.RedisCache,
		PresenceWindow: cfg.PresenceWindow, PresenceGrace: cfg.PresenceGrace, Lease: cfg.PresenceLease, Log: log,
		Recovery: cfg.Recovery.enabled(), ProofLag: settings.ProofLag(),
	}, m)
	if err != nil {
		return nil, err
	}
	if cfg.Recovery.enabled() {
		settings.Recovery = &engine.Recovery{Sessions: st.Sessions(), Journal: cfg.Recovery.journal}
	}
	var srv *engine.Server
	var between *peers
	if cfg.PeerAddr != peersOff {
		// Streams come when the node serves, and srv is there.
		between = newPeers(name, cfg.PeerSecret, st.Peers(), func(s engine.Stream, kind byte, payload []byte) engine.Receiver {
			return srv.Accept(s, kind, payload)
		}, log, m)
		settings.Peers = between
	}
	srv, err = engine.New(settings, st.Bus(), m)
	if err != nil {
		return nil, errors.Join(err, st.Close(context.Background()))
	}
	ns := srv.Of("/", engine.Inline())
	a := newApp(ns, st.Presence(), m.Refusals[metrics.RefusalEvent], log)
	a.recovery = cfg.Recovery.enabled()
	a.limits = appLimits{rooms: cfg.MaxRooms, perUser: cfg.MaxConnsPerUser, crowded: m.Refusals[metrics.RefusalMaxConnsUser]}
	a.expiries = newExpiries(cfg.AuthExpiryWarning, cfg.AuthJWTLeeway, m.Expiring, time.Now)
	auth := newAuthenticator(cfg, ring, m, state.ValidID, time.Now)
	a.register(ns, auth)
	ready := &readiness{state: st.Ready, capacity: &capacity{most: maxConns, conns: srv.Conns}, peers: between != nil}
	if ring != nil {
		ready.keys = ring.ready
	}
	leaving := newDrain(cfg, ready, log)

	n := &node{
		cfg: cfg, log: log, metrics: m, state: st, engine: srv, app: a, ready: ready, drain: leaving, keys: ring, peers: between,
		entrance: newEntrance(cfg.MaxPending, func() int { return maxConns - srv.Conns() }, m, log),
	}
	n.admin = newAdminServer(guardBrowsers(cfg.AdminToken,
		adminHandler(cfg.AdminToken, registry, ready, presenceHandler(st.Presence(), log),
			mount{"/drain", requireToken(cfg.AdminToken, leaving.handler(srv.Conns))},
			mount{apiPrefix, n.api(ns, name, maxConns).handler(cfg.AdminToken)},
			mount{"POST /console/tickets", requireToken(cfg.AdminToken, issueTicket(auth.tickets, state.ValidID))},
			mount{"GET /console/socket.io/", consoleSocket(auth.tickets, srv)})), log)
	n.public = newPublicServer(farewell(ready, publicHandler(srv, ready)), n.entrance, cfg.MaxHeaderBytes, cfg.HeaderTimeout, log)
	if err := n.listen(); err != nil {
		return nil, errors.Join(err, n.abandon())
	}
	n.logStart(name, maxConns)
	n.warn(maxConns, files)
	return n, nil
}

// api makes the HTTP API for backends on namespace ns.
func (n *node) api(ns *engine.Namespace, name string, maxConns int) *api {
	a := &api{
		fleet: nodes{ns}, local: ns, presence: &presenceAPI{n.state.Presence(), n.log}, info: n.reporter(name, maxConns), node: name,
		drain: n.drain, conns: n.engine.Conns,
		log: n.log, metrics: n.metrics,
	}
	if n.cfg.Recovery.enabled() {
		a.bars = n.state.Sessions()
	}
	return newAPI(a, n.cfg.MaxPayload)
}

// engineConfig is what the engine is told of the configuration; peers and recovery come later.
func engineConfig(cfg *Config, maxConns int, name, uid string, log *slog.Logger) engine.Config {
	c := engine.Config{
		Path: socketIOPath, PingInterval: cfg.PingInterval, PingTimeout: cfg.PingTimeout, ConnectTimeout: cfg.ConnectTimeout,
		MaxPayload: cfg.MaxPayload, MaxConns: maxConns, MaxConnAge: cfg.MaxConnAge, WriteDelay: cfg.WriteDelay, Deflate: cfg.deflate(),
		Node: name, UID: uid, UserRooms: userRoomPrefix, Logger: log, AllowOrigin: cfg.Origins.check(), CORS: cfg.Origins.cors(),
	}
	cfg.limit(&c)
	return c
}

// logStart says what the node is, for the log.
func (n *node) logStart(name string, maxConns int) {
	others := peersOff
	if n.peers != nil {
		others = cmp.Or(n.advertised, "unknown")
	}
	n.log.Info("starting", "version", edgeVersion(), "go", runtime.Version(), "node", name,
		"listen", n.publicListener.Addr().String(), "admin", n.adminListener.Addr().String(), "peers", others,
		"redis", n.cfg.redisName(), "subscriptions", n.cfg.subscriptionsInUse(), "recovery", n.cfg.Recovery.String(), "deflate", n.cfg.Deflate.String(), "auth", string(n.cfg.Auth), "max_conns", maxConns)
}

// warn says what works but may not be meant.
func (n *node) warn(maxConns, files int) {
	n.cfg.warnAuth(n.log)
	if n.peers == nil && (n.cfg.PeerAdvertise != "" || n.cfg.PeerSecret != "") {
		n.log.Warn("PEER_ADVERTISE and PEER_SECRET are not used, because PEER_ADDR is off")
	}
	for _, name := range n.cfg.unused() {
		n.log.Warn("a limit is not used, because the limit it belongs to is off", "variable", name)
	}
	if maxConns > files-spareFiles {
		n.log.Warn("MAX_CONNS leaves too few files for other uses", "max_conns", maxConns, "open_file_limit", files)
	} else if n.cfg.MaxPending > files-maxConns {
		n.log.Warn("MAX_PENDING is more than the files that MAX_CONNS leaves: a full node may run out of them", "max_pending", n.cfg.MaxPending, "max_conns", maxConns, "open_file_limit", files)
	}
}

// abandon ends what newNode began, for a node that does not run.
func (n *node) abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.ShutdownGrace)
	defer cancel()
	return errors.Join(n.engine.Shutdown(ctx), n.state.Close(ctx))
}

// listen opens the listeners, or none.
func (n *node) listen() (err error) {
	if n.publicListener, err = listenClients(context.Background(), n.cfg.ListenAddr, n.cfg.TCPNotSentLowat); err != nil {
		return fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	if n.cfg.ProxyProtocol == proxyProtocolOn {
		n.publicListener = newProxyListener(n.publicListener, n.cfg.TrustedProxies, n.cfg.HeaderTimeout, n.metrics, n.log)
	}
	n.publicListener = n.entrance.listener(n.publicListener)
	if n.adminListener, err = listen(context.Background(), n.cfg.AdminAddr); err != nil {
		return errors.Join(fmt.Errorf("ADMIN_ADDR: %w", err), n.publicListener.Close())
	}
	if n.peers == nil {
		return nil
	}
	if n.peerListener, err = listen(context.Background(), n.cfg.PeerAddr); err != nil {
		return errors.Join(fmt.Errorf("PEER_ADDR: %w", err), n.publicListener.Close(), n.adminListener.Close())
	}
	if n.advertised, err = n.findAddress(context.Background()); err != nil {
		n.log.Warn("other nodes cannot reach this one yet: its address is not known; PEER_ADVERTISE may say it", "error", err)
	}
	return nil
}

// findAddress returns where other nodes reach this one.
func (n *node) findAddress(ctx context.Context) (string, error) {
	return advertised(ctx, n.cfg.PeerAdvertise, n.peerListener.Addr(), n.cfg.redisServers())
}

// closeListeners closes what listen opened, for a node that does not serve.
func (n *node) closeListeners() error {
	err := errors.Join(n.publicListener.Close(), n.adminListener.Close())
	if n.peerListener != nil {
		err = errors.Join(err, n.peerListener.Close())
	}
	return err
}

// run serves until the node is drained, ctx ends or a part fails, then shuts down
// within SHUTDOWN_GRACE. The error is nil if the node ended in order.
func (n *node) run(ctx context.Context) error {
	if err := n.engine.Start(); err != nil {
		return errors.Join(err, n.closeListeners(), n.abandon())
	}
	// Redis is needed until presence has been released, so its context is not ctx.
	running, stop := context.WithCancel(context.Background())
	defer stop()
	failed := make(chan error, 4) // one slot per goroutine that may fail: none blocks
	go func() { failed <- serving("LISTEN_ADDR", n.public.Serve(n.publicListener)) }()
	go func() { failed <- serving("ADMIN_ADDR", n.admin.Serve(n.adminListener)) }()
	n.meet(running, failed)
	stateEnded := make(chan struct{})
	go func() {
		defer close(stateEnded)
		if err := n.state.Run(running, n.engine, n.engine, n.app.presenceUpdated); err != nil && running.Err() == nil {
			failed <- fmt.Errorf("redis: %w", err)
		}
	}()
	go n.ready.watch(running, n.metrics.Ready, n.metrics.Draining, n.log)
	go trim(running, n.log)
	go n.app.expiries.run(running)
	if n.keys != nil {
		go n.keys.run(running)
	}

	cause := n.leave(ctx, failed)
	if cause != nil {
		n.log.Error("shutting down", "error", cause)
	}
	err := n.shutdown(func() {
		stop()
		<-stateEnded
	})
	return errors.Join(cause, err)
}

// meet lets the other nodes reach this one, until ctx ends or peers are closed.
func (n *node) meet(ctx context.Context, failed chan<- error) {
	if n.peers == nil {
		return
	}
	go func() {
		if err := n.peers.trunks.Serve(n.peerListener); err != nil {
			failed <- serving("PEER_ADDR", err)
		}
	}()
	if n.advertised != "" {
		n.peers.directory.Announce(n.advertised)
		return
	}
	go n.peers.announce(ctx, n.findAddress)
}

// serving names the listener in the error of an http.Server.
func serving(name string, err error) error { return fmt.Errorf("%s: %w", name, err) }

// shutdown ends the node in order: no new clients, no clients, what they sent
// published, their sessions closed, no presence, no Redis. stopState ends state.Run and waits for it. A step that fails or takes
// too long does not keep the next ones from running.
func (n *node) shutdown(stopState func()) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.ShutdownGrace)
	defer cancel()
	n.ready.draining.Store(true)
	n.drain.enter(phaseStopping)
	n.metrics.Ready.Set(0)

	ended := make(chan error, 1)
	go func() { ended <- n.end(ctx, stopState) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		// What observes ctx ends now; what does not must not keep the process.
		select {
		case err = <-ended:
		case <-time.After(time.Second):
			err = fmt.Errorf("shutdown: not finished after SHUTDOWN_GRACE (%v)", n.cfg.ShutdownGrace)
		}
	}
	if err != nil {
		return err
	}
	n.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

func (n *node) end(ctx context.Context, stopState func()) error {
	_ = n.publicListener.Close() // refuses new clients while those that are here are sent away
	withdrawn := n.withdraw(ctx)

	// Clients get half of the time at most: releasing presence matters more than their close frames.
	clients, cancel := context.WithTimeout(ctx, n.cfg.ShutdownGrace/2)
	defer cancel()
	errClients := named("close connections", n.engine.Shutdown(clients))
	errHTTP := n.public.Shutdown(clients)
	if errors.Is(errHTTP, net.ErrClosed) {
		errHTTP = nil // the listener, closed above before Serve noticed
	}
	if errHTTP = named("end HTTP requests", errHTTP); errHTTP != nil {
		_ = n.public.Close()
	}
	// Not before: the close frames of clients whose WebSocket is on another node go through a trunk.
	errPeers := named("end connections to other nodes", n.peers.close(ctx))
	errWithdrawn := named("withdraw the address", <-withdrawn)
	errPublish := named("publish what clients sent", n.state.Bus().Flush(ctx))
	// Clients are on their way to other nodes, which want to find their sessions closed.
	errSessions := named("store sessions", n.state.Sessions().Flush(ctx))
	errPresence := named("release presence", n.state.Presence().Flush(ctx))
	stopState()
	errState := named("close Redis", n.state.Close(ctx))
	_ = n.admin.Close() // last, so that metrics can be read until the end
	return errors.Join(errClients, errHTTP, errPeers, errWithdrawn, errPublish, errSessions, errPresence, errState)
}

// withdraw takes the node out of the directory, so that no peer dials it from
// now on. Nobody waits for Redis meanwhile: the channel gets the result.
func (n *node) withdraw(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	if n.peers == nil {
		result <- nil
		return result
	}
	go func() { result <- n.peers.directory.Withdraw(ctx) }()
	return result
}

func named(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("shutdown: %s: %w", step, err)
}

// randomID returns n characters of the base64url alphabet: 6 random bits each.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}
