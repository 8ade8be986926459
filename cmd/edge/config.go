package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caarlos0/env/v11"
)

// Config is everything the environment can say. Each field is one variable:
// env is its name, envDefault its default, shown the text of a default that
// depends on other variables, help its meaning in the table of -help.
type Config struct {
	ListenAddr string `env:"LISTEN_ADDR" shown:":3000, or 127.0.0.1:3000 without REDIS_URL" help:"address for clients, with /healthz and /readyz"`
	AdminAddr  string `env:"ADMIN_ADDR" envDefault:"127.0.0.1:9464" help:"address for operators and backends: /metrics, /healthz, /readyz, /drain, /api/v1/, /presence/, /debug/pprof/"`
	AdminToken secret `env:"ADMIN_TOKEN" help:"bearer token for /drain, /api/v1/, /presence/ and /debug/pprof/; required when ADMIN_ADDR is not a loopback address"`

	RedisURL   secret `env:"REDIS_URL" help:"redis://[user:password@]host:port[/db], with TLS rediss://...; through sentinels redis-sentinel://host:port,host:port/master[/db] or rediss-sentinel://...; empty: an in-process Redis, one node alone"`
	RedisCache bool   `env:"REDIS_CACHE" envDefault:"true" help:"client-side caching of presence reads; false for servers without CLIENT TRACKING"`

	RedisTLSCA   string `env:"REDIS_TLS_CA" shown:"the CAs of the system" help:"PEM file of the CAs that may sign the certificates of Redis and sentinels; with TLS only"`
	RedisTLSCert string `env:"REDIS_TLS_CERT" help:"PEM file of the certificate that this node shows to Redis; empty: none"`
	RedisTLSKey  string `env:"REDIS_TLS_KEY" help:"PEM file of the key of REDIS_TLS_CERT"`

	AdapterKey        string        `env:"ADAPTER_KEY" envDefault:"socket.io" help:"channel prefix, as the key option of @socket.io/redis-adapter"`
	SpecificResponses bool          `env:"SPECIFIC_RESPONSES" envDefault:"false" help:"answer requests of other nodes on the asker's own channel, as publishOnSpecificResponseChannel of @socket.io/redis-adapter; all nodes must be version 8 of it, or edges"`
	Subscriptions     subscriptions `env:"SUBSCRIPTIONS" envDefault:"exact" help:"exact: one channel per room with local members; pattern: all rooms' messages, for fleets whose Node.js servers move sockets into rooms"`

	PeerAddr      string `env:"PEER_ADDR" shown:":9465, or off without REDIS_URL" help:"address for the other nodes, which pass on what concerns sessions of this one; off: nothing is passed on, and long-polling needs sticky sessions"`
	PeerAdvertise string `env:"PEER_ADVERTISE" shown:"PEER_ADDR's address, or the one from which this node reaches Redis" help:"host or host:port under which the other nodes reach PEER_ADDR"`
	PeerSecret    secret `env:"PEER_SECRET" help:"what nodes prove to each other that they know, at least 32 bytes, the same on all; empty: a random one that they share through Redis"`

	Auth           authMode `env:"AUTH" shown:"jwt, or none without REDIS_URL" help:"jwt: auth.token names the user in sub; none: auth.userId names the user, unchecked"`
	AuthJWTSecret  secret   `env:"AUTH_JWT_SECRET" help:"HS256 key of at least 32 bytes; this or another source of keys is required when AUTH=jwt"`
	AuthNonePublic bool     `env:"AUTH_NONE_PUBLIC" envDefault:"false" help:"true: allow AUTH=none on a LISTEN_ADDR that is not a loopback address"`

	AuthJWTSecretFile string        `env:"AUTH_JWT_SECRET_FILE" help:"file with the secret, in place of AUTH_JWT_SECRET; read again when it changes"`
	AuthJWTKeyFile    string        `env:"AUTH_JWT_KEY_FILE" help:"file with up to 4 public keys or certificates in PEM, for tokens signed with RS, PS, ES or EdDSA; read again when it changes"`
	AuthJWKS          keySetPlace   `env:"AUTH_JWKS" help:"JSON Web Key Set with public keys: file, or https:// URL, fetched every 10 minutes and for an unknown kid"`
	AuthJWTAlgorithms algorithmList `env:"AUTH_JWT_ALGORITHMS" shown:"HS256 with a secret, all others with public keys" help:"algorithms that tokens may be signed with, separated by commas: HS256, RS256, ES256, EdDSA, and so on"`
	AuthJWTAudience   words         `env:"AUTH_JWT_AUDIENCE" help:"values separated by commas, one of which must be in aud; empty: not checked"`
	AuthJWTIssuer     string        `env:"AUTH_JWT_ISSUER" help:"value that iss must have; empty: not checked"`
	AuthJWTLeeway     time.Duration `env:"AUTH_JWT_LEEWAY" envDefault:"30s" help:"how far the clocks of the issuer and of this node may be apart"`
	AuthTokenFrom     tokenPlaces   `env:"AUTH_TOKEN_FROM" envDefault:"auth" help:"where clients may put their token, separated by commas: auth (auth.token), query (?token=), subprotocol (token.<JWT>); the first that has one counts"`
	AuthExpiryWarning time.Duration `env:"AUTH_EXPIRY_WARNING" envDefault:"60s" help:"how long before its token expires a client is told so; 0s: not at all"`

	Origins origins `env:"ORIGINS" help:"origins of web pages that may connect, separated by commas: https://app.example.com, https://*.example.com, same (the host they connect to), or * alone; others get 403, programs send none; empty: not checked, and pages of other origins cannot use long-polling"`

	MaxConns       int           `env:"MAX_CONNS" envDefault:"0" help:"most connections at a time; 0: the open-file limit less 1000"`
	PingInterval   time.Duration `env:"PING_INTERVAL" envDefault:"25s" help:"time between Engine.IO pings"`
	PingTimeout    time.Duration `env:"PING_TIMEOUT" envDefault:"20s" help:"time to answer a ping before the connection is closed"`
	ConnectTimeout time.Duration `env:"CONNECT_TIMEOUT" envDefault:"45s" help:"time to join a namespace before the connection is closed"`
	MaxPayload     int           `env:"MAX_PAYLOAD" envDefault:"1000000" help:"largest message from a client, in bytes"`

	WriteDelay      time.Duration `env:"WRITE_DELAY" envDefault:"50ms" help:"longest time for which a busy node collects messages to merge those of one connection into one write; an idle one writes at once; 0s: not at all"`
	TCPNotSentLowat int           `env:"TCP_NOTSENT_LOWAT" envDefault:"65536" help:"bytes that the kernel keeps for a client beyond what it can send; 0: as many as it likes, up to 4 MB"`

	Deflate     deflateLevel `env:"DEFLATE" envDefault:"off" help:"compression on WebSockets (permessage-deflate) for clients that offer it: off, on, or a level from 1, the fastest, which is on, to 9"`
	DeflateFrom int          `env:"DEFLATE_FROM" envDefault:"1024" help:"size of a message from which it is compressed, in bytes"`

	MaxPending        int      `env:"MAX_PENDING" envDefault:"512" help:"TCP connections whose request is awaited at a time: others wait for a place, which one that is silent for 3 s loses; half as many are kept idle between two requests"`
	ConnectRate       float64  `env:"CONNECT_RATE" envDefault:"0" help:"sessions that may be opened per second, in all; 0: no limit"`
	ConnectBurst      int      `env:"CONNECT_BURST" shown:"a second's worth" help:"how many of them at once"`
	ConnectRatePerIP  *float64 `env:"CONNECT_RATE_PER_IP" shown:"100 for public addresses only" help:"sessions that may be opened per second from one address, or one /64 of IPv6; TRUSTED_PROXIES have no limit; 0: no limit"`
	ConnectBurstPerIP int      `env:"CONNECT_BURST_PER_IP" shown:"1000 or a second's worth of a rate that is set" help:"how many of them at once"`

	TrustedProxies    trustedProxies `env:"TRUSTED_PROXIES" help:"addresses and networks, separated by commas, of proxies that say who the client is, also loopback, linklocal and private: in X-Forwarded-For, or with PROXY_PROTOCOL"`
	ProxyProtocol     proxyProtocol  `env:"PROXY_PROTOCOL" envDefault:"off" help:"on: connections from TRUSTED_PROXIES begin with a header of the PROXY protocol, version 1 or 2"`
	MaxConnsPerIP     *int           `env:"MAX_CONNS_PER_IP" shown:"1000 for public addresses, no limit for others" help:"most connections at a time from one address, or one /64 of IPv6; TRUSTED_PROXIES have no limit; 0: no limit"`
	MaxConnsPerUser   int            `env:"MAX_CONNS_PER_USER" envDefault:"100" help:"most connections at a time of one user to this node; 0: no limit"`
	PacketRate        float64        `env:"PACKET_RATE" envDefault:"500" help:"packets that one connection may send per second; who sends more is disconnected; 0: no limit"`
	PacketBurst       int            `env:"PACKET_BURST" shown:"four seconds' worth" help:"how many of them at once"`
	ByteRate          float64        `env:"BYTE_RATE" envDefault:"4000000" help:"bytes that one connection may send per second; who sends more is disconnected; 0: no limit"`
	ByteBurst         int            `env:"BYTE_BURST" shown:"four seconds' worth, at least 2 x MAX_PAYLOAD" help:"how many of them at once"`
	MaxRooms          int            `env:"MAX_ROOMS" envDefault:"1000" help:"most rooms a socket may be in, its own included"`
	MaxAttachments    int            `env:"MAX_ATTACHMENTS" envDefault:"10" help:"most attachments of one packet from a client; 0: none"`
	AttachmentTimeout time.Duration  `env:"ATTACHMENT_TIMEOUT" envDefault:"30s" help:"time to complete a packet that has begun, its attachments included, before the connection is closed"`
	MaxHeaderBytes    int            `env:"MAX_HEADER_BYTES" envDefault:"16384" help:"largest head of a request from a client, in bytes"`
	HeaderTimeout     time.Duration  `env:"HEADER_TIMEOUT" envDefault:"10s" help:"time to send the head of a request"`

	Recovery recoveryRules `env:"RECOVERY" envDefault:"on" help:"connection state recovery, for which messages are kept in Redis: on or off, then prefix=on or prefix=off for rooms whose names begin with it, as on,typing:=off"`

	PresenceWindow time.Duration `env:"PRESENCE_WINDOW" envDefault:"250ms" help:"time over which presence updates to a room are merged; 0s: not at all"`
	PresenceGrace  time.Duration `env:"PRESENCE_GRACE" envDefault:"5s" help:"time for which members are not told that a user left whose connection broke, in case it recovers; 0s: told at once"`
	PresenceLease  time.Duration `env:"PRESENCE_LEASE" envDefault:"10s" help:"time without a sign of life after which other nodes remove this node's presence; the same on all nodes"`
	ShutdownGrace  time.Duration `env:"SHUTDOWN_GRACE" envDefault:"10s" help:"longest time from the end of DRAIN_WINDOW to the end of the process"`

	DrainDelay  time.Duration `env:"DRAIN_DELAY" shown:"5s, or 0s without REDIS_URL" help:"time from SIGTERM, or POST /drain, in which the node is not ready but serves as before: load balancers notice"`
	DrainWindow time.Duration `env:"DRAIN_WINDOW" shown:"10s, or 0s without REDIS_URL" help:"time after it over which the connections are closed, one after the other; their clients come back to other nodes"`
	MaxConnAge  time.Duration `env:"MAX_CONN_AGE" envDefault:"0s" help:"longest life of a connection, which ends up to a quarter of it before; its client comes back, perhaps to a newer node; 0s: no limit"`

	LogLevel  logLevel  `env:"LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	LogFormat logFormat `env:"LOG_FORMAT" envDefault:"text" help:"text or json"`
}

// Closed sets of values. Their UnmarshalText refuses anything else and says what is allowed.
type (
	authMode      string
	subscriptions string
	logLevel      string
	logFormat     string
)

// Values of AUTH and SUBSCRIPTIONS.
const (
	authJWT  authMode = "jwt"
	authNone authMode = "none"

	subscribeExact   subscriptions = "exact"
	subscribePattern subscriptions = "pattern"
)

func (a *authMode) UnmarshalText(b []byte) error { return oneOf(a, b, authJWT, authNone) }
func (s *subscriptions) UnmarshalText(b []byte) error {
	return oneOf(s, b, subscribeExact, subscribePattern)
}
func (l *logLevel) UnmarshalText(b []byte) error {
	return oneOf(l, b, "debug", "info", "warn", "error")
}
func (f *logFormat) UnmarshalText(b []byte) error { return oneOf(f, b, "text", "json") }

// oneOf stores b in dst if it is one of allowed.
func oneOf[T ~string](dst *T, b []byte, allowed ...T) error {
	if !slices.Contains(allowed, T(b)) {
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = string(a)
		}
		return fmt.Errorf("%q is not one of %s", b, strings.Join(names, ", "))
	}
	*dst = T(b)
	return nil
}

// secret is a value that never shows in logs or error texts: fmt, slog and
// encoding/json print its presence only. Every variable of this type may be
// given as a file, see withSecretFiles.
type secret string

// String hides the value.
func (s secret) String() string {
	if s == "" {
		return ""
	}
	return "[set]"
}

// GoString hides the value from %#v.
func (s secret) GoString() string { return s.String() }

// MarshalText hides the value from encoding/json and slog's handlers.
func (s secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// minSecret is the shortest HS256 key taken, in bytes: the size of the hash, as RFC 7518 section 3.2 demands. What
// peers prove with the same hash is as long.
const minSecret = 32

// peersOff is the PEER_ADDR of a node without peers.
const peersOff = "off"

// Bounds of numbers and times. They exclude mistakes (a missing unit, a stray digit), not choices.
const (
	minTimer, maxTimer     = 100 * time.Millisecond, time.Hour
	maxPresenceWindow      = time.Minute
	maxWriteDelay          = time.Second
	maxPresenceGrace       = time.Minute
	minLease, maxLease     = 5 * time.Second, 5 * time.Minute // below, a silent connection costs the lease before it is noticed
	minGrace, maxGrace     = 100 * time.Millisecond, time.Hour
	minPayload, maxPayload = 1_000, 64 << 20
	minNotSent, maxNotSent = 4 << 10, 64 << 20
	maxKey                 = 200
)

// LoadConfig reads and checks the variables in environ (name → value), and the
// files that variables name. A variable that is set but empty counts as not set.
// The error lists every problem, one per line, each beginning with the
// variable's name; it never contains a secret. While a secret's file cannot be
// read, nothing else is checked: too much depends on it.
func LoadConfig(environ map[string]string) (*Config, error) {
	environ, err := withSecretFiles(environ, readSecretFile)
	if err != nil {
		return nil, err
	}
	cfg := &Config{}
	p := problems{}
	err = env.ParseWithOptions(cfg, env.Options{Environment: environ, FuncMap: map[reflect.Type]env.ParserFunc{
		reflect.TypeFor[time.Duration](): parseDuration,
		reflect.TypeFor[int]():           parseInt,
		reflect.TypeFor[float64]():       parseFloat,
		reflect.TypeFor[bool]():          parseBool,
	}})
	p.addParse(err)

	if cfg.Auth == "" {
		cfg.Auth = authJWT
		if cfg.RedisURL == "" {
			cfg.Auth = authNone
		}
	}
	if cfg.ListenAddr == "" {
		cfg.ListenAddr = ":3000"
		if cfg.RedisURL == "" {
			cfg.ListenAddr = "127.0.0.1:3000"
		}
	}
	if cfg.PeerAddr == "" {
		cfg.PeerAddr = ":9465"
		if cfg.RedisURL == "" {
			cfg.PeerAddr = peersOff
		}
	}
	cfg.setDrain(environ)
	cfg.checkListeners(&p)
	cfg.checkPeers(&p)
	cfg.checkRedis(&p)
	cfg.checkAdapter(&p)
	cfg.checkAuth(&p)
	cfg.checkNumbers(&p)
	cfg.checkConnectRates(&p)
	cfg.checkProxies(&p)
	cfg.checkLimits(&p)
	cfg.checkDrain(&p)
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return cfg, nil
}

func (c *Config) checkListeners(p *problems) {
	for _, l := range []struct{ name, addr string }{{"LISTEN_ADDR", c.ListenAddr}, {"ADMIN_ADDR", c.AdminAddr}} {
		if err := checkAddr(l.addr); err != nil {
			p.add(l.name, "%v", err)
		}
	}
	if c.AdminToken == "" && !p.has("ADMIN_ADDR") && !isLoopback(c.AdminAddr) {
		p.add("ADMIN_TOKEN", "is required because ADMIN_ADDR=%s is not a loopback address", c.AdminAddr)
	}
}

func (c *Config) checkPeers(p *problems) {
	if c.PeerAddr != peersOff {
		if err := checkAddr(c.PeerAddr); err != nil {
			p.add("PEER_ADDR", "%v, and not off", err)
		}
	}
	if c.PeerAdvertise != "" {
		if _, _, err := splitAdvertise(c.PeerAdvertise); err != nil {
			p.add("PEER_ADVERTISE", "%v", err)
		}
	}
	if c.PeerSecret != "" && len(c.PeerSecret) < minSecret {
		p.add("PEER_SECRET", "has %d bytes; at least %d are required", len(c.PeerSecret), minSecret)
	}
}

func (c *Config) checkAdapter(p *problems) {
	if len(c.AdapterKey) > maxKey || !utf8.ValidString(c.AdapterKey) || strings.ContainsFunc(c.AdapterKey, unicode.IsControl) {
		p.add("ADAPTER_KEY", "must be at most %d bytes of UTF-8 without control characters", maxKey)
	}
}

// problems collects what is wrong, at most one entry per variable and cause.
type problems struct {
	errs   []error
	failed map[string]bool
}

func (p *problems) add(name, format string, args ...any) {
	if p.failed == nil {
		p.failed = map[string]bool{}
	}
	p.failed[name] = true
	p.errs = append(p.errs, fmt.Errorf("%s: "+format, append([]any{name}, args...)...))
}

// has reports whether the variable failed before, so that its value says nothing.
func (p *problems) has(name string) bool { return p.failed[name] }

// addParse adds the errors of env's parser, which name struct fields, under the names of their variables.
func (p *problems) addParse(err error) {
	if err == nil {
		return
	}
	var all env.AggregateError
	if !errors.As(err, &all) {
		p.errs = append(p.errs, err)
		return
	}
	for _, e := range all.Errors {
		var pe env.ParseError
		if !errors.As(e, &pe) {
			p.errs = append(p.errs, e)
			continue
		}
		f, _ := reflect.TypeFor[Config]().FieldByName(pe.Name)
		p.add(f.Tag.Get("env"), "%v", pe.Err)
	}
}

func parseDuration(v string) (any, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return nil, fmt.Errorf("%q is not a duration with a unit, such as 250ms, 10s or 2m", v)
	}
	return d, nil
}

func parseInt(v string) (any, error) {
	n, err := strconv.Atoi(v)
	if err != nil {
		return nil, fmt.Errorf("%q is not a whole number", v)
	}
	return n, nil
}

func parseBool(v string) (any, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return nil, fmt.Errorf("%q is not one of true, false", v)
	}
	return b, nil
}

// checkAddr accepts host:port and :port with a numeric port.
func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port or :port", addr)
	}
	return nil
}

// isLoopback reports whether addr can be reached from this machine only. A
// name other than localhost counts as reachable: what it resolves to is not ours to say.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// subscriptionsInUse is how the node subscribes: the in-process Redis knows
// patterns only.
func (c *Config) subscriptionsInUse() string {
	if c.RedisURL == "" {
		return string(subscribePattern)
	}
	return string(c.Subscriptions)
}
