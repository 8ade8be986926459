package trunk

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/stellara/edge/metrics"
)

// Errors of Open and Send. Open's first three may wrap a cause.
var (
	ErrUnknown     = errors.New("trunk: no such node")               // it is gone
	ErrUnreachable = errors.New("trunk: the node cannot be reached") // now; it may live
	ErrRefused     = errors.New("trunk: the node refuses this one")  // the secrets differ
	ErrClosed      = errors.New("trunk: closed")                     // the stream, or Trunks
	ErrFull        = errors.New("trunk: the node does not keep up")  // too much waits for it
	ErrTooBig      = errors.New("trunk: message larger than 80 MiB") // see MaxMessage
)

// Config is what Trunks need.
type Config struct {
	// Node is this node's name, 8 characters.
	Node string
	// Secret returns the secret that all nodes share, as it is now. While it is
	// empty nothing is dialled and everything that comes is refused.
	Secret func() []byte
	// Resolve returns the address of a peer, host:port. The error is ErrUnknown
	// if there is no such node.
	Resolve func(ctx context.Context, node string) (addr string, err error)
	// Accept returns the receiver of a stream that a peer opened with its first
	// message, or nil to refuse it. payload is valid during the call only.
	// Called by the trunk's reader; it must not block.
	Accept func(s *Stream, kind byte, payload []byte) Receiver
	Log    *slog.Logger
}

// times are the intervals of the protocol; tests have their own.
type times struct {
	handshake time.Duration // bound of a handshake, and of a dial with its handshake
	heartbeat time.Duration // without anything else to send, a heartbeat is sent
	silence   time.Duration // without anything received, or with a write pending, the trunk is dead
	failure   time.Duration // for which a failed dial is not tried again
	linger    time.Duration // for which Close waits for peers to take what was sent
}

var usual = times{
	handshake: 2 * time.Second,
	heartbeat: time.Second,
	silence:   4 * time.Second,
	failure:   500 * time.Millisecond,
	linger:    time.Second,
}

// maxHandshakes is how many incoming connections may be in their handshake.
const maxHandshakes = 64

// Trunks are a node's trunks, in both directions. All methods may be called
// from any goroutine.
type Trunks struct {
	// Set by New, then read-only.
	cfg     Config
	metrics *metrics.Metrics
	times   times
	dial    func(ctx context.Context, addr string) (net.Conn, error)
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	slots   chan struct{} // one per handshake of an incoming connection
	warned  warnings
	running sync.WaitGroup // every goroutine

	mu        sync.Mutex // guards the rest; never held together with a trunk's
	closed    bool
	peers     map[string]*peer // what is known of nodes that are dialled
	trunks    map[*trunk]struct{}
	conns     map[net.Conn]struct{} // incoming, in their handshake
	listeners map[net.Listener]struct{}
}

// New returns Trunks without any trunk; Serve and Open make them. It panics if
// the node's name cannot be one.
func New(cfg Config, m *metrics.Metrics) *Trunks {
	if len(cfg.Node) != nameBytes {
		panic("trunk: the name of a node has 8 characters")
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Trunks{
		cfg: cfg, metrics: m, times: usual, ctx: ctx, cancel: cancel, slots: make(chan struct{}, maxHandshakes),
		dial: func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
		peers: map[string]*peer{}, trunks: map[*trunk]struct{}{},
		conns: map[net.Conn]struct{}{}, listeners: map[net.Listener]struct{}{},
	}
}

// Serve takes the connections of peers from l, until Close (nil) or until l
// fails. It closes l.
func (t *Trunks) Serve(l net.Listener) error {
	defer l.Close()
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.listeners[l] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.listeners, l)
		t.mu.Unlock()
	}()
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		if err == nil {
			pause = 0
			t.receive(conn)
			continue
		}
		if t.ctx.Err() != nil {
			return nil
		}
		if !passing(err) {
			return err
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		t.cfg.Log.Warn("cannot take a connection of another node", "error", err, "again_in", pause.String())
		select {
		case <-time.After(pause):
		case <-t.ctx.Done():
			return nil
		}
	}
}

// passing reports whether a listener that failed may work again.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// receive starts the handshake of an incoming connection, or refuses it.
func (t *Trunks) receive(conn net.Conn) {
	refuse := func(r metrics.TrunkRefusal) {
		t.metrics.TrunkRefusals[r].Inc()
		_ = conn.Close()
	}
	select {
	case t.slots <- struct{}{}:
	default:
		refuse(metrics.TrunkRefusalCrowd)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(t.times.handshake)) // before Close may set another
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.conns[conn] = struct{}{}
		t.running.Add(1)
	}
	t.mu.Unlock()
	if closed {
		<-t.slots
		refuse(metrics.TrunkRefusalShutdown)
		return
	}
	go func() {
		defer t.running.Done()
		trunk := t.admit(conn)
		<-t.slots
		if trunk != nil {
			trunk.read()
		}
	}()
}

// admit does the handshake of an incoming connection. It returns nil if that
// did not become a trunk.
func (t *Trunks) admit(conn net.Conn) *trunk {
	peer, err := greet(conn, t.cfg.Node, t.cfg.Secret(), func() bool { return t.ctx.Err() != nil })
	t.mu.Lock()
	delete(t.conns, conn)
	t.mu.Unlock()
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err == nil {
		if trunk := newTrunk(t, conn, peer, false); t.add(trunk) {
			return trunk
		}
		err = errEnding
	}
	_ = conn.Close()
	reason := t.refusal(err)
	t.metrics.TrunkRefusals[reason].Inc()
	host := hostOf(conn.RemoteAddr().String())
	if reason == metrics.TrunkRefusalSecret && t.warned.due(host, time.Now()) {
		t.cfg.Log.Warn("refused another node: it has another PEER_SECRET, or this one has none yet", "address", conn.RemoteAddr().String(), "secret_known", len(t.cfg.Secret()) > 0)
		return nil
	}
	t.cfg.Log.Debug("refused a connection to PEER_ADDR", "address", conn.RemoteAddr().String(), "reason", reason.String(), "error", err)
	return nil
}

// refusal is the reason for an error of greet.
func (t *Trunks) refusal(err error) metrics.TrunkRefusal {
	var timeout net.Error
	switch {
	case errors.Is(err, errSecret):
		return metrics.TrunkRefusalSecret
	case errors.Is(err, errOtherNode):
		return metrics.TrunkRefusalNode
	case errors.Is(err, errEnding), t.ctx.Err() != nil:
		return metrics.TrunkRefusalShutdown
	case errors.As(err, &timeout) && timeout.Timeout():
		return metrics.TrunkRefusalTimeout
	}
	return metrics.TrunkRefusalProtocol
}

// add makes a trunk one of t and starts its writer. It reports false if t is
// closed. The caller runs the reader, on a goroutine that t.running counts.
func (t *Trunks) add(trunk *trunk) bool {
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.trunks[trunk] = struct{}{}
		t.running.Go(trunk.write)
	}
	t.mu.Unlock()
	if closed {
		return false
	}
	t.metrics.Trunks.Inc()
	trunk.log.Debug("trunk up")
	return true
}

// forget removes a trunk that has ended, and says why.
func (t *Trunks) forget(trunk *trunk, cause error) {
	t.mu.Lock()
	delete(t.trunks, trunk)
	if p := t.peers[trunk.peer]; p != nil && p.trunk == trunk {
		delete(t.peers, trunk.peer)
	}
	closed := t.closed
	t.mu.Unlock()
	t.metrics.Trunks.Dec()
	if closed || errors.Is(cause, errPeerEnding) {
		trunk.log.Debug("trunk down", "cause", cause)
		return
	}
	trunk.log.Warn("trunk broken", "cause", cause)
}

// Close ends all trunks: what was sent is written, every stream's receiver gets
// Broken, and no goroutine is left. Peers that do not take what was sent within
// a second lose it.
func (t *Trunks) Close() {
	t.mu.Lock()
	t.closed = true
	t.cancel()
	for l := range t.listeners {
		_ = l.Close()
	}
	for conn := range t.conns {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // what has proved itself is still told why
	}
	trunks := make([]*trunk, 0, len(t.trunks))
	for trunk := range t.trunks {
		trunks = append(trunks, trunk)
	}
	t.mu.Unlock()
	for _, trunk := range trunks {
		trunk.finish()
	}
	late := time.AfterFunc(t.times.linger, func() {
		for _, trunk := range trunks {
			trunk.fail(errEnding)
		}
	})
	defer late.Stop()
	t.running.Wait()
}
