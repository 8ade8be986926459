package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
)

const (
	testSecret = "0123456789abcdef0123456789abcdef"
	peerSecret = "what the nodes of a test share, long enough"
)

// production is an environment that starts.
func production(more ...string) map[string]string {
	m := map[string]string{"REDIS_URL": "redis://localhost:6379", "AUTH_JWT_SECRET": testSecret}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestConfigDefaults(t *testing.T) {
	alone, err := LoadConfig(map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		ListenAddr: "127.0.0.1:3000", AdminAddr: "127.0.0.1:9464", RedisCache: true, AdapterKey: "socket.io",
		Subscriptions: subscribeExact, PeerAddr: peersOff, Auth: authNone, PingInterval: 25 * time.Second, PingTimeout: 20 * time.Second,
		ConnectTimeout: 45 * time.Second, MaxPayload: 1_000_000, WriteDelay: 50 * time.Millisecond, TCPNotSentLowat: 65536, DeflateFrom: 1024, MaxPending: 512, PresenceWindow: 250 * time.Millisecond,
		AuthJWTLeeway: 30 * time.Second, AuthTokenFrom: tokenPlaces{fromAuth}, AuthExpiryWarning: time.Minute,
		PresenceGrace: 5 * time.Second, PresenceLease: 10 * time.Second, ShutdownGrace: 10 * time.Second, LogLevel: "info", LogFormat: "text",
	}
	want.Recovery.byDefault = true
	want.ProxyProtocol, want.MaxConnsPerUser, want.PacketRate, want.ByteRate = proxyProtocolOff, 100, 500, 4_000_000
	want.MaxRooms, want.MaxAttachments, want.AttachmentTimeout = 1000, 10, 30*time.Second
	want.MaxHeaderBytes, want.HeaderTimeout = 16384, 10*time.Second
	if !reflect.DeepEqual(*alone, want) {
		t.Errorf("without any variable:\n got %+v\nwant %+v", *alone, want)
	}

	fleet, err := LoadConfig(production())
	if err != nil {
		t.Fatal(err)
	}
	if fleet.ListenAddr != ":3000" || fleet.PeerAddr != ":9465" || fleet.Auth != authJWT {
		t.Errorf("with REDIS_URL: LISTEN_ADDR %q, PEER_ADDR %q, AUTH %q; want :3000, :9465, jwt", fleet.ListenAddr, fleet.PeerAddr, fleet.Auth)
	}
}

func TestConfigAccepts(t *testing.T) {
	for _, environ := range []map[string]string{
		{"AUTH": "none", "LISTEN_ADDR": "localhost:0"},
		{"AUTH": "none", "LISTEN_ADDR": "[::1]:3000"},
		{"AUTH": "none", "LISTEN_ADDR": "[::ffff:127.0.0.1]:3000"},
		{"AUTH": "none", "LISTEN_ADDR": ":3000", "AUTH_NONE_PUBLIC": "true"},
		{"AUTH": "", "LISTEN_ADDR": "", "PING_INTERVAL": ""}, // empty is not set
		production("REDIS_URL", "rediss://user:pass@redis.example:6380/2"),
		production("ADMIN_ADDR", ":9464", "ADMIN_TOKEN", "secret"),
		production("MAX_CONNS", "15000", "MAX_PAYLOAD", "2000", "PRESENCE_WINDOW", "0s", "PRESENCE_LEASE", "5s", "SUBSCRIPTIONS", "pattern"),
		production("PRESENCE_LEASE", "5m", "PRESENCE_GRACE", "0s"),
		production("PRESENCE_GRACE", "1m"),
		production("DEFLATE", "on", "DEFLATE_FROM", "1"),
		production("DEFLATE", "off"),
		production("RECOVERY", "off"),
		production("RECOVERY", "on,typing:=off,typing:big:=on"),
		production("PEER_ADDR", "off", "PEER_ADVERTISE", "edge-1.internal", "PEER_SECRET", testSecret),
		production("PEER_ADDR", "10.0.0.7:0", "PEER_ADVERTISE", "[2001:db8::7]:9465"),
		{"PEER_ADDR": "127.0.0.1:0"},
		production("TCP_NOTSENT_LOWAT", "0"),
		production("CONNECT_RATE", "2000", "CONNECT_BURST", "4000", "CONNECT_RATE_PER_IP", "0.5", "CONNECT_BURST_PER_IP", "20"),
		production("AUTH_JWKS", "https://id.example/keys", "AUTH_TOKEN_FROM", "auth,query,subprotocol", "AUTH_JWT_LEEWAY", "0s", "AUTH_EXPIRY_WARNING", "0s", "AUTH_JWT_AUDIENCE", "a,b"),
		production("AUTH_JWT_SECRET", "", "AUTH_JWT_KEY_FILE", "/run/keys.pem", "AUTH_JWT_ALGORITHMS", "RS256,ES256,EdDSA"),
		production("AUTH_JWT_SECRET", "", "AUTH_JWT_SECRET_FILE", "/run/secret"),
		production("ORIGINS", "https://app.example.com,https://*.example.com,same"),
		production("LOG_LEVEL", "debug", "LOG_FORMAT", "json", "REDIS_CACHE", "false", "ADAPTER_KEY", "myapp"),
	} {
		if _, err := LoadConfig(environ); err != nil {
			t.Errorf("%v: %v", environ, err)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	tests := []struct {
		variable string // named by the error
		environ  map[string]string
		contains string // what is allowed, or what else matters
	}{
		{"LISTEN_ADDR", production("LISTEN_ADDR", "3000"), "host:port"},
		{"LISTEN_ADDR", production("LISTEN_ADDR", ":http"), "host:port"},
		{"LISTEN_ADDR", production("LISTEN_ADDR", ":70000"), "host:port"},
		{"ADMIN_ADDR", production("ADMIN_ADDR", "localhost"), "host:port"},
		{"ADMIN_TOKEN", production("ADMIN_ADDR", ":9464"), "ADMIN_ADDR=:9464"},
		{"ADMIN_TOKEN", production("ADMIN_ADDR", "admin.example:9464"), "loopback"},
		{"REDIS_URL", production("REDIS_URL", "localhost:6379"), "redis://"},
		{"REDIS_URL", production("REDIS_URL", "http://localhost:6379"), "rediss://"},
		{"REDIS_URL", production("REDIS_URL", "redis://"), "redis://"},
		{"REDIS_URL", production("REDIS_URL", "redis://u:hunter2@host:port"), "redis://"},
		{"REDIS_CACHE", production("REDIS_CACHE", "maybe"), "true, false"},
		{"REDIS_TLS_CA", production("REDIS_TLS_CA", "ca.pem"), "rediss://"},
		{"REDIS_TLS_CERT", production("REDIS_TLS_CERT", "cert.pem", "REDIS_URL", "rediss://redis", "REDIS_TLS_KEY", "/no/such/key.pem"), "no such file"},
		{"REDIS_TLS_KEY", production("REDIS_TLS_CERT", "cert.pem", "REDIS_URL", "rediss://redis"), "required with REDIS_TLS_CERT"},
		{"SPECIFIC_RESPONSES", production("SPECIFIC_RESPONSES", "maybe"), "true, false"},
		{"ADAPTER_KEY", production("ADAPTER_KEY", "a\nb"), "control characters"},
		{"ADAPTER_KEY", production("ADAPTER_KEY", "a\xffb"), "UTF-8"},
		{"ADAPTER_KEY", production("ADAPTER_KEY", strings.Repeat("k", 201)), "200"},
		{"PEER_ADDR", production("PEER_ADDR", "on"), "not off"},
		{"PEER_ADDR", production("PEER_ADDR", "9465"), "host:port"},
		{"PEER_ADVERTISE", production("PEER_ADVERTISE", ":9465"), "host or host:port"},
		{"PEER_ADVERTISE", production("PEER_ADVERTISE", "edge-1:0"), "host or host:port"},
		{"PEER_ADVERTISE", production("PEER_ADVERTISE", "http://edge-1"), "host or host:port"},
		{"PEER_ADVERTISE", production("PEER_ADVERTISE", "0.0.0.0"), "that others can connect to"},
		{"PEER_SECRET", production("PEER_SECRET", testSecret[1:]), "31 bytes; at least 32"},
		{"SUBSCRIPTIONS", production("SUBSCRIPTIONS", "all"), "exact, pattern"},
		{"AUTH", production("AUTH", "basic"), "jwt, none"},
		{"AUTH", map[string]string{"AUTH": "none", "LISTEN_ADDR": ":3000"}, "AUTH_NONE_PUBLIC=true"},
		{"AUTH", map[string]string{"LISTEN_ADDR": "0.0.0.0:3000"}, "LISTEN_ADDR=0.0.0.0:3000"},
		{"AUTH_JWT_SECRET", map[string]string{"REDIS_URL": "redis://localhost:6379"}, "required"},
		{"AUTH_JWT_SECRET", map[string]string{"AUTH": "jwt"}, "required"},
		{"AUTH_JWT_SECRET", production("AUTH_JWT_SECRET", testSecret[:31]), "31 bytes; at least 32"},
		{"AUTH_NONE_PUBLIC", production("AUTH_NONE_PUBLIC", "si"), "true, false"},
		{"AUTH_JWT_SECRET_FILE", production("AUTH_JWT_SECRET_FILE", "/run/secret"), "second secret"},
		{"AUTH_JWT_KEY_FILE", production("AUTH_JWT_KEY_FILE", "-----BEGIN PUBLIC KEY-----"), "path of a file"},
		{"AUTH_JWT_ALGORITHMS", production("AUTH_JWT_KEY_FILE", "/run/keys.pem", "AUTH_JWT_ALGORITHMS", "HS256"), "public keys are for"},
		{"AUTH_JWKS", production("AUTH_JWKS", "ftp://id.example/keys"), "https://"},
		{"AUTH_JWT_ALGORITHMS", production("AUTH_JWT_ALGORITHMS", "none"), "RS256"},
		{"AUTH_JWT_ALGORITHMS", production("AUTH_JWT_ALGORITHMS", "HS256,HS256"), "twice"},
		{"AUTH_JWT_ALGORITHMS", production("AUTH_JWT_ALGORITHMS", "HS256,RS256"), "AUTH_JWT_KEY_FILE"},
		{"AUTH_JWT_ALGORITHMS", production("AUTH_JWT_SECRET", "", "AUTH_JWKS", "/run/keys", "AUTH_JWT_ALGORITHMS", "HS256,RS256"), "AUTH_JWT_SECRET"},
		{"AUTH_JWT_ALGORITHMS", production("AUTH_JWKS", "/run/keys", "AUTH_JWT_ALGORITHMS", "RS256"), "secret is for"},
		{"AUTH_JWT_SECRET", production("AUTH_JWT_ALGORITHMS", "HS512"), "at least 64"},
		{"AUTH_JWT_AUDIENCE", production("AUTH_JWT_AUDIENCE", "a,,b"), "empty value"},
		{"AUTH_JWT_ISSUER", production("AUTH_JWT_ISSUER", "https://id.example\n"), "control characters"},
		{"AUTH_JWT_LEEWAY", production("AUTH_JWT_LEEWAY", "10m"), "5m"},
		{"AUTH_TOKEN_FROM", production("AUTH_TOKEN_FROM", "cookie"), "auth, query, subprotocol"},
		{"AUTH_EXPIRY_WARNING", production("AUTH_EXPIRY_WARNING", "60"), "unit"},
		{"AUTH_EXPIRY_WARNING", production("AUTH_EXPIRY_WARNING", "-1s"), "1h"},
		{"ORIGINS", production("ORIGINS", "app.example.com"), "https://*.example.com"},
		{"MAX_CONNS", production("MAX_CONNS", "-1"), "below 0"},
		{"MAX_CONNS", production("MAX_CONNS", "many"), "whole number"},
		{"PING_INTERVAL", production("PING_INTERVAL", "25"), "unit"},
		{"PING_INTERVAL", production("PING_INTERVAL", "0s"), "100ms"},
		{"PING_TIMEOUT", production("PING_TIMEOUT", "-1s"), "100ms"},
		{"CONNECT_TIMEOUT", production("CONNECT_TIMEOUT", "2h"), "1h"},
		{"MAX_PAYLOAD", production("MAX_PAYLOAD", "10"), "1000"},
		{"MAX_PAYLOAD", production("MAX_PAYLOAD", "1e6"), "whole number"},
		{"WRITE_DELAY", production("WRITE_DELAY", "-1ms"), "between"},
		{"WRITE_DELAY", production("WRITE_DELAY", "2s"), "1s"},
		{"WRITE_DELAY", production("WRITE_DELAY", "10"), "unit"},
		{"TCP_NOTSENT_LOWAT", production("TCP_NOTSENT_LOWAT", "1"), "4096"},
		{"TCP_NOTSENT_LOWAT", production("TCP_NOTSENT_LOWAT", "64k"), "whole number"},
		{"MAX_PENDING", production("MAX_PENDING", "0"), "between 1 and"},
		{"CONNECT_RATE", production("CONNECT_RATE", "-1"), "neither 0 nor between"},
		{"CONNECT_RATE", production("CONNECT_RATE", "NaN"), "neither 0 nor between"},
		{"CONNECT_RATE", production("CONNECT_RATE", "10/s"), "not a number"},
		{"CONNECT_BURST", production("CONNECT_BURST", "-1"), "a second's worth"},
		{"CONNECT_RATE_PER_IP", production("CONNECT_RATE_PER_IP", "1e9"), "neither 0 nor between"},
		{"CONNECT_BURST_PER_IP", production("CONNECT_BURST_PER_IP", "1000001"), "a second's worth"},
		{"TRUSTED_PROXIES", production("TRUSTED_PROXIES", "balancer"), "loopback, linklocal or private"},
		{"TRUSTED_PROXIES", production("TRUSTED_PROXIES", "10.0.0.1,"), "loopback, linklocal or private"},
		{"TRUSTED_PROXIES", production("TRUSTED_PROXIES", "::ffff:10.0.0.0/104"), "such as 10.0.0.0/8"},
		{"TRUSTED_PROXIES", production("TRUSTED_PROXIES", "private,0.0.0.0/0"), "everybody"},
		{"TRUSTED_PROXIES", production("TRUSTED_PROXIES", "::/0"), "everybody"},
		{"PROXY_PROTOCOL", production("PROXY_PROTOCOL", "v2", "TRUSTED_PROXIES", "private"), "off, on"},
		{"PROXY_PROTOCOL", production("PROXY_PROTOCOL", "on"), "TRUSTED_PROXIES"},
		{"MAX_CONNS_PER_IP", production("MAX_CONNS_PER_IP", "-1"), "between 0 and"},
		{"MAX_CONNS_PER_IP", production("MAX_CONNS_PER_IP", "few"), "whole number"},
		{"MAX_CONNS_PER_USER", production("MAX_CONNS_PER_USER", "10000001"), "between 0 and"},
		{"PACKET_RATE", production("PACKET_RATE", "0.01"), "neither 0 nor between"},
		{"PACKET_RATE", production("PACKET_RATE", "NaN"), "neither 0 nor between"},
		{"PACKET_BURST", production("PACKET_BURST", "-1"), "the default"},
		{"PACKET_BURST", production("PACKET_RATE", "1", "PACKET_BURST", "1801"), "1800"},
		{"BYTE_RATE", production("BYTE_RATE", "1M"), "not a number"},
		{"BYTE_RATE", production("BYTE_RATE", "1000"), "MAX_PAYLOAD"},
		{"BYTE_BURST", production("BYTE_BURST", "1999999"), "2 x MAX_PAYLOAD"},
		{"MAX_ROOMS", production("MAX_ROOMS", "0"), "between 1 and"},
		{"MAX_ATTACHMENTS", production("MAX_ATTACHMENTS", "11"), "between 0 and 10"},
		{"ATTACHMENT_TIMEOUT", production("ATTACHMENT_TIMEOUT", "0s"), "100ms"},
		{"MAX_HEADER_BYTES", production("MAX_HEADER_BYTES", "100"), "between 1024 and"},
		{"HEADER_TIMEOUT", production("HEADER_TIMEOUT", "2h"), "1h"},
		{"PRESENCE_WINDOW", production("PRESENCE_WINDOW", "-1ms"), "between"},
		{"PRESENCE_WINDOW", production("PRESENCE_WINDOW", "1h"), "1m"},
		{"PRESENCE_GRACE", production("PRESENCE_GRACE", "-1s"), "between"},
		{"PRESENCE_GRACE", production("PRESENCE_GRACE", "61s"), "1m"},
		{"PRESENCE_GRACE", production("PRESENCE_GRACE", "5"), "unit"},
		{"PRESENCE_LEASE", production("PRESENCE_LEASE", "4999ms"), "5s"},
		{"PRESENCE_LEASE", production("PRESENCE_LEASE", "301s"), "5m"},
		{"PRESENCE_LEASE", production("PRESENCE_LEASE", "10"), "unit"},
		{"DEFLATE", production("DEFLATE", "true"), "off, on, or a level from 1 to 9"},
		{"DEFLATE", production("DEFLATE", "0"), "off, on, or a level from 1 to 9"},
		{"DEFLATE", production("DEFLATE", "10"), "off, on, or a level from 1 to 9"},
		{"DEFLATE_FROM", production("DEFLATE_FROM", "0"), "between 1 and"},
		{"DEFLATE_FROM", production("DEFLATE_FROM", "1K"), "whole number"},
		{"RECOVERY", production("RECOVERY", "yes"), "on or off"},
		{"RECOVERY", production("RECOVERY", "typing:=off"), "begin with on or off"},
		{"RECOVERY", production("RECOVERY", "on,typing:"), "=on or =off"},
		{"RECOVERY", production("RECOVERY", "on,=off"), "=on or =off"},
		{"RECOVERY", production("RECOVERY", "on,"), "=on or =off"},
		{"RECOVERY", production("RECOVERY", "on,a=off,a=on"), "two rules"},
		{"SHUTDOWN_GRACE", production("SHUTDOWN_GRACE", "0s"), "100ms"},
		{"DRAIN_DELAY", production("DRAIN_DELAY", "-1s"), "between 0s and 1h"},
		{"DRAIN_WINDOW", production("DRAIN_WINDOW", "2h"), "between 0s and 1h"},
		{"MAX_CONN_AGE", production("MAX_CONN_AGE", "500ms"), "neither 0 nor between 1s and 720h"},
		{"LOG_LEVEL", production("LOG_LEVEL", "verbose"), "debug, info, warn, error"},
		{"LOG_FORMAT", production("LOG_FORMAT", "xml"), "text, json"},
	}
	tested := map[string]bool{}
	for _, tt := range tests {
		tested[tt.variable] = true
		t.Run(fmt.Sprintf("%s=%q", tt.variable, tt.environ[tt.variable]), func(t *testing.T) {
			_, err := LoadConfig(tt.environ)
			if err == nil {
				t.Fatal("accepted")
			}
			if text := err.Error(); !strings.HasPrefix(text, tt.variable+": ") || !strings.Contains(text, tt.contains) || strings.Contains(text, "\n") {
				t.Errorf("error %q is not one line that names %s and says %q", text, tt.variable, tt.contains)
			}
		})
	}
	for _, v := range variables() {
		if !tested[v.name] {
			t.Errorf("no bad value of %s is tested", v.name)
		}
	}
}

func TestDeflateLevels(t *testing.T) {
	for text, want := range map[string]struct {
		deflate *engine.Deflate
		logged  string
	}{
		"":    {nil, "off"},
		"off": {nil, "off"},
		"on":  {&engine.Deflate{Level: 1, From: 2000}, "1"},
		"1":   {&engine.Deflate{Level: 1, From: 2000}, "1"},
		"9":   {&engine.Deflate{Level: 9, From: 2000}, "9"},
	} {
		cfg, err := LoadConfig(production("DEFLATE", text, "DEFLATE_FROM", "2000"))
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.deflate(); !reflect.DeepEqual(got, want.deflate) || cfg.Deflate.String() != want.logged {
			t.Errorf("DEFLATE=%s: %+v, logged as %s", text, got, cfg.Deflate)
		}
	}
}

// Errors are reported together, and none repeats a secret.
func TestConfigReportsAll(t *testing.T) {
	_, err := LoadConfig(map[string]string{
		"REDIS_URL": "redis://u:hunter2@[host", "AUTH_JWT_SECRET": "correct horse", "ADMIN_ADDR": ":9464",
		"PING_TIMEOUT": "soon", "LOG_LEVEL": "loud", "MAX_PAYLOAD": "0",
	})
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, name := range []string{"REDIS_URL", "AUTH_JWT_SECRET", "ADMIN_TOKEN", "PING_TIMEOUT", "LOG_LEVEL", "MAX_PAYLOAD"} {
		count := 0
		for _, l := range lines {
			if strings.HasPrefix(l, name+": ") {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%s is named by %d lines of:\n%v", name, count, err)
		}
	}
	for _, secret := range []string{"hunter2", "correct horse"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats the secret %q", secret)
		}
	}
}

func TestHelpNamesEveryVariable(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"-help"}, nil, &out, &out); code != exitOK {
		t.Fatalf("-help exits with %d", code)
	}
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		tag := typ.Field(i).Tag
		if tag.Get("env") == "" || tag.Get("help") == "" {
			t.Errorf("field %s has no env or no help tag", typ.Field(i).Name)
		}
		if !strings.Contains(out.String(), "\n"+tag.Get("env")+" ") {
			t.Errorf("-help does not show %s", tag.Get("env"))
		}
		if d := tag.Get("envDefault"); !strings.Contains(out.String(), " "+d) {
			t.Errorf("-help does not show the default %q of %s", d, tag.Get("env"))
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(strings.TrimRight(line, "\n")) > 100 {
			t.Errorf("line of more than 100 columns: %q", line)
		}
	}
}

func TestRunFlags(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"-version"}, exitOK, edgeVersion() + "\n", ""},
		{[]string{"-verison"}, exitUsage, "", "-verison"},
		{[]string{"serve"}, exitUsage, "", "serve"},
	} {
		var out, errOut bytes.Buffer
		if code := run(tt.args, nil, &out, &errOut); code != tt.code || out.String() != tt.stdout || !strings.Contains(errOut.String(), tt.stderr) {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", tt.args, code, out.String(), errOut.String())
		}
	}
	var errOut bytes.Buffer
	if code := run(nil, map[string]string{"AUTH": "basic"}, &errOut, &errOut); code != exitFailed || !strings.Contains(errOut.String(), "AUTH: ") {
		t.Errorf("bad configuration: exit %d, %q", code, errOut.String())
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	cfg, err := LoadConfig(production("ADMIN_TOKEN", "admin-token-value", "PEER_SECRET", peerSecret))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s", *cfg, *cfg, *cfg, cfg.AuthJWTSecret)
	for _, format := range []logFormat{"text", "json"} {
		log, _ := newLogger(&out, "info", format)
		log.Info("x", "secret", cfg.AuthJWTSecret, "config", cfg)
	}
	if err := json.NewEncoder(&out).Encode(cfg); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{testSecret, "admin-token-value", peerSecret} {
		if strings.Contains(out.String(), s) {
			t.Errorf("the secret %q shows in %s", s, out.String())
		}
	}
}

func TestConnLimit(t *testing.T) {
	for _, tt := range []struct{ configured, files, want int }{
		{0, 20_000, 19_000}, {5, 20_000, 5}, {50_000, 20_000, 50_000}, {0, 1_001, 1}, {7, 100, 7},
	} {
		if got, err := connLimit(tt.configured, tt.files); err != nil || got != tt.want {
			t.Errorf("connLimit(%d, %d) = %d, %v; want %d", tt.configured, tt.files, got, err, tt.want)
		}
	}
	if _, err := connLimit(0, 1_000); err == nil || !strings.Contains(err.Error(), "MAX_CONNS") {
		t.Errorf("a limit that leaves nothing: %v", err)
	}
}

func TestLogLevels(t *testing.T) {
	for level, want := range map[logLevel]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got := slogLevel(level); got != want {
			t.Errorf("slogLevel(%s) = %v", level, got)
		}
	}
}
