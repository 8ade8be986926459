package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/stellara/edge/socketio"
)

// Config holds a Server's settings. The zero value of every field but Node and
// UID means Socket.IO's default.
type Config struct {
	Path           string        // URL path prefix; "/socket.io/"
	PingInterval   time.Duration // time between a pong and the next ping; 25 s
	PingTimeout    time.Duration // time a client has to answer a ping; 20 s
	ConnectTimeout time.Duration // time a conn has to join a namespace; 45 s
	BodyTimeout    time.Duration // time a client has to send a request's body; 30 s
	MaxPayload     int           // largest message from a client in bytes; 1,000,000
	MaxConns       int           // open conns at which handshakes are refused; 0 is no limit
	// MaxConnAge is the longest life of a conn; it is closed up to a quarter of it
	// before, by chance, and its client comes back, to any node: so load finds its way to
	// nodes that are new. 0 is no limit; a plain WebSocket has none.
	MaxConnAge time.Duration

	// ConnectRate bounds the sessions that are opened per second, with ConnectBurst of
	// them at once: what is refused is answered 503 with Retry-After. 0 is no limit; a
	// burst is a second's worth unless it is set. Requests of sessions that are open,
	// upgrades included, are never refused for it.
	ConnectRate  float64
	ConnectBurst int
	// ConnectRatePerSource is the same for each address that connects, a /64 for IPv6,
	// and answered 429. The addresses of TrustedProxies have no limit, nor, with
	// ConnectRatePublicOnly, have private, shared and loopback ones, which balancers have.
	ConnectRatePerSource  float64
	ConnectBurstPerSource int
	ConnectRatePublicOnly bool

	// TrustedProxies are the proxies whose X-Forwarded-For says who the client is: its
	// address is then what the limits go by, Config.Allow finds in RemoteAddr, and the
	// handshake has. What other clients send there does not count.
	TrustedProxies []netip.Prefix
	// MaxConnsPerSource bounds the open conns of each address, a /64 for IPv6; one more
	// is answered 429. 0 is no limit. The addresses of TrustedProxies have none, nor, with
	// PublicSourcesOnly, have private, shared and loopback ones, which balancers have.
	MaxConnsPerSource int
	PublicSourcesOnly bool

	// PacketRate bounds the packets per second that a client sends, WebSocket messages
	// with attachments, pings and heartbeats included, and PacketBurst those it may send
	// at once; ByteRate and ByteBurst its bytes as they come, and on WebSockets that are
	// compressed once more as they are inflated. Who sends more is disconnected from
	// its namespaces and closed. 0 is no limit; a burst is a second's worth unless it is
	// set, that of bytes at least 2 × MaxPayload, for the largest message must pass.
	PacketRate  float64
	PacketBurst int
	ByteRate    float64
	ByteBurst   int
	// MaxAttachments is how many attachments a client's packet may have: 10, which is
	// also the most; below 0 none.
	MaxAttachments int
	// AttachmentTimeout is the time a client has to complete a packet that it has begun:
	// the frames of its message, and its attachments; 30 s. It is noticed after up to
	// twice that time.
	AttachmentTimeout time.Duration

	// OutboxBytes bounds what waits for one conn; a client that lets it fill is
	// closed as a slow reader. One packet may be a quarter of it. 4 × MaxPayload,
	// at least 4 MiB. What the kernel keeps besides is the listener's to bound:
	// TCP_NOTSENT_LOWAT, which accepted connections inherit (tcp(7)).
	OutboxBytes int
	// InboundBytes bounds the packets of one socket that wait behind a pending
	// operation or a busy handler. 4 × MaxPayload.
	InboundBytes int
	// Handlers bounds the goroutines that run handlers; 256.
	Handlers int
	Shards   int // fan-out workers; GOMAXPROCS
	Pollers  int // epoll loops; half of GOMAXPROCS, at least 1
	// WriteDelay is how long a busy fan-out worker at most collects messages, to
	// merge those of one conn into one write; one that was idle writes at once. 0 is
	// not at all.
	WriteDelay time.Duration

	// Node is this node's part of every socket id: the first 8 of its 20
	// characters, of the base64url alphabet. UID is the 6 characters by which
	// adapter messages name their sender. Both are random when empty.
	Node string
	UID  string

	// UserRooms, if not "", begins the names of rooms that every socket is in without
	// joining: with "user:", those of the user ada (Socket.SetUser) are in user:ada, on
	// all nodes, and a socket without a user is in user:<its id>. Nothing is kept for
	// them in Redis, and Socket.Rooms does not list them. The bus must hear them all.
	UserRooms string

	// KeepHeaders keeps each handshake's HTTP headers for Socket.Handshake, at
	// the price of a few hundred bytes per conn.
	KeepHeaders bool

	// WebSocketOnly refuses long-polling.
	WebSocketOnly bool
	// GzipFrom is the size in bytes from which answers to polls are compressed for
	// clients that accept gzip; 0 is never. (engine.io does from 1024 on.)
	GzipFrom int
	// Deflate, if not nil, lets WebSockets compress messages.
	Deflate *Deflate
	// Allow, if not nil, decides about every opening request; the text of its
	// error is the client's answer (403, Engine.IO code 4).
	Allow func(*http.Request) error
	// AllowOrigin, if not nil, decides by its Origin header about every request, those
	// of sessions that are open and WebSocket handshakes included; what it refuses is
	// answered 403 (RFC 6454 section 7; RFC 6455 section 10.2). It is not asked about
	// requests without one, as programs send them. It must be quick.
	AllowOrigin func(*http.Request) bool
	// CORS, if not nil, is what browsers of other origins may do.
	CORS *CORS
	// Cookie, if not nil, is set with the session id as its value on the opening
	// answer of a polling session, for balancers that stick to cookies.
	Cookie *http.Cookie

	// Peers, if not nil, reaches the other nodes, so that a balancer may spread the
	// requests of one client over all of them: no sticky sessions. It needs a Bus.
	Peers Peers

	// Recovery, if not nil, gives clients that lost their connection their sockets back.
	Recovery *Recovery

	Logger *slog.Logger // slog.Default
}

// ProofLag is the time after which everything sent on an open conn has been
// received: every ping is behind it, and a conn that does not answer one is
// closed. A timeout may be extended once, before the answer that proves the most
// and again before the one that is missing.
func (c *Config) ProofLag() time.Duration { return c.PingInterval + 4*c.PingTimeout + 3*c.tick() }

// withDefaults returns the config with defaults filled in, or an error that
// names every field that is wrong.
func (c Config) withDefaults() (Config, error) {
	def(&c.Path, "/socket.io/")
	def(&c.PingInterval, 25*time.Second)
	def(&c.PingTimeout, 20*time.Second)
	def(&c.ConnectTimeout, 45*time.Second)
	def(&c.BodyTimeout, 30*time.Second)
	def(&c.MaxPayload, 1_000_000)
	def(&c.OutboxBytes, max(4<<20, 4*c.MaxPayload))
	def(&c.InboundBytes, 4*c.MaxPayload)
	def(&c.ConnectBurst, defaultBurst(c.ConnectRate))
	def(&c.ConnectBurstPerSource, defaultBurst(c.ConnectRatePerSource))
	def(&c.PacketBurst, defaultBurst(c.PacketRate))
	def(&c.ByteBurst, max(defaultBurst(c.ByteRate), 2*c.MaxPayload))
	def(&c.MaxAttachments, socketio.MaxAttachments)
	def(&c.AttachmentTimeout, 30*time.Second)
	def(&c.Handlers, 256)
	def(&c.Shards, runtime.GOMAXPROCS(0))
	def(&c.Pollers, max(1, runtime.GOMAXPROCS(0)/2))
	def(&c.Node, randomID(6))
	def(&c.UID, randomID(6)[:6])
	def(&c.Logger, slog.Default())

	if c.Recovery != nil {
		r := *c.Recovery
		def(&r.Window, 2*time.Minute)
		c.Recovery = &r
	}

	var errs []error
	if c.Deflate != nil {
		var err error
		if c.Deflate, err = c.Deflate.withDefaults(); err != nil {
			errs = append(errs, err)
		}
	}
	if !strings.HasPrefix(c.Path, "/") || !strings.HasSuffix(c.Path, "/") {
		errs = append(errs, fmt.Errorf("engine: Path %q must begin and end with a slash", c.Path))
	}
	if len(c.Node) != nodeLen || !socketio.IsBase64URL(c.Node) {
		errs = append(errs, fmt.Errorf("engine: Node %q must be %d characters of A-Z a-z 0-9 - _", c.Node, nodeLen))
	}
	if len(c.UID) != 6 || !socketio.IsBase64URL(c.UID) {
		errs = append(errs, fmt.Errorf("engine: UID %q must be 6 characters of A-Z a-z 0-9 - _", c.UID))
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"PingInterval", c.PingInterval}, {"PingTimeout", c.PingTimeout}, {"ConnectTimeout", c.ConnectTimeout}, {"BodyTimeout", c.BodyTimeout}, {"AttachmentTimeout", c.AttachmentTimeout}} {
		if d.v < 10*time.Millisecond {
			errs = append(errs, fmt.Errorf("engine: %s %v is below 10ms", d.name, d.v))
		}
	}
	if c.MaxConnAge < 0 {
		errs = append(errs, fmt.Errorf("engine: MaxConnAge %v is below 0, which is no limit", c.MaxConnAge))
	}
	errs = append(errs, checkRate("ConnectRate", c.ConnectRate, c.ConnectBurst), checkRate("ConnectRatePerSource", c.ConnectRatePerSource, c.ConnectBurstPerSource))
	errs = append(errs, c.checkInbound()...)
	if c.MaxPayload < 1 || c.MaxPayload > c.OutboxBytes/4 {
		errs = append(errs, fmt.Errorf("engine: MaxPayload %d must be between 1 and a quarter of OutboxBytes (%d)", c.MaxPayload, c.OutboxBytes/4))
	}
	return c, errors.Join(errs...)
}

// Bounds of Config.ConnectRate and its like, in sessions per second, and of their
// bursts, in sessions: within them a schedule does not overflow.
const (
	MinConnectRate, MaxConnectRate = 0.001, 1e6
	MaxConnectBurst                = 1_000_000
)

// Bounds of Config.PacketRate and Config.ByteRate, per second. A burst may be worth MaxBurstTime.
const (
	MinPacketRate, MaxPacketRate = 0.1, 1e5
	MinByteRate, MaxByteRate     = 1e3, 1e9
	MaxBurstTime                 = longestBurst
)

// checkInbound is about what clients send.
func (c *Config) checkInbound() (errs []error) {
	for _, r := range []struct {
		name     string
		v        float64
		burst    int
		min, max float64
	}{
		{"PacketRate", c.PacketRate, c.PacketBurst, MinPacketRate, MaxPacketRate},
		{"ByteRate", c.ByteRate, c.ByteBurst, MinByteRate, MaxByteRate},
	} {
		if r.v != 0 && !(r.v >= r.min && r.v <= r.max) { // not a number neither
			errs = append(errs, fmt.Errorf("engine: %s %v must be 0 or between %v and %v per second", r.name, r.v, r.min, r.max))
		}
		if r.v != 0 && (r.burst < 1 || float64(r.burst) > max(r.v, 1)*MaxBurstTime.Seconds()) {
			errs = append(errs, fmt.Errorf("engine: the burst %d of %s must be between 1 and what it lets in within %v", r.burst, r.name, MaxBurstTime))
		}
	}
	if c.ByteRate != 0 && c.ByteBurst < 2*c.MaxPayload {
		errs = append(errs, fmt.Errorf("engine: ByteBurst %d is below twice MaxPayload (%d), which a message may count that is compressed", c.ByteBurst, c.MaxPayload))
	}
	if c.MaxAttachments > socketio.MaxAttachments {
		errs = append(errs, fmt.Errorf("engine: MaxAttachments %d is above %d", c.MaxAttachments, socketio.MaxAttachments))
	}
	if c.MaxConnsPerSource < 0 || c.MaxConnsPerSource > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("engine: MaxConnsPerSource %d must be between 0 and %d", c.MaxConnsPerSource, math.MaxInt32))
	}
	return errs
}

// checkRate returns an error for a rate or a burst that makes no sense.
func checkRate(name string, perSecond float64, burst int) error {
	if perSecond != 0 && !(perSecond >= MinConnectRate && perSecond <= MaxConnectRate) { // not a number neither
		return fmt.Errorf("engine: %s %v must be 0 or between %v and %v per second", name, perSecond, MinConnectRate, MaxConnectRate)
	}
	if burst < 1 || burst > MaxConnectBurst {
		return fmt.Errorf("engine: the burst %d of %s must be between 1 and %d", burst, name, MaxConnectBurst)
	}
	return nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// tick is the resolution of heartbeats: a tenth of pingTimeout, at most 1 s.
func (c *Config) tick() time.Duration { return min(time.Second, c.PingTimeout/10) }
