package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

// keyServer serves a JSON Web Key Set, or an error.
type keyServer struct {
	*httptest.Server
	asked atomic.Int64

	mu      sync.Mutex
	content []byte
	status  int
	gate    chan struct{} // answers wait for it if not nil
	began   chan struct{} // hears of each request, if not nil
}

func newKeyServer(t *testing.T, content []byte) *keyServer {
	t.Helper()
	s := &keyServer{content: content, status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		content, status, gate, began := s.content, s.status, s.gate, s.began
		s.mu.Unlock()
		if began != nil {
			began <- struct{}{}
		}
		if gate != nil {
			<-gate
		}
		w.WriteHeader(status)
		_, _ = w.Write(content)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(status int, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.content = status, content
}

// ringTest is an authenticator with its ring, and a clock that stands still.
type ringTest struct {
	*authenticator
	clock atomic.Int64 // Unix ns
	log   lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newRingTest makes it; its ring loads nothing before start.
func newRingTest(t *testing.T, environ map[string]string) *ringTest {
	t.Helper()
	cfg, err := LoadConfig(environ)
	if err != nil {
		t.Fatal(err)
	}
	rt := &ringTest{}
	rt.clock.Store(testNow.UnixNano())
	now := func() time.Time { return time.Unix(0, rt.clock.Load()) }
	m := metrics.New(prometheus.NewRegistry(), "test")
	ring, err := newKeyring(cfg, m, slog.New(slog.NewTextHandler(&rt.log, nil)), now)
	if err != nil {
		t.Fatal(err)
	}
	rt.authenticator = newAuthenticator(cfg, ring, m, state.ValidID, now)
	return rt
}

func (rt *ringTest) start(t *testing.T) { go rt.ring.run(t.Context()) }

func (rt *ringTest) pass(d time.Duration) { rt.clock.Add(int64(d)) }

func fromSet(url string) map[string]string {
	return map[string]string{"AUTH": "jwt", "AUTH_JWKS": url}
}

// es signs with the P-256 key or the P-384 one, which stands for the next.
func es(t *testing.T, kid string, next bool) string {
	t.Helper()
	i := newIssuer()
	if next {
		return signedWith(t, jwt.SigningMethodES384, i.p384, map[string]any{"kid": kid}, jwt.MapClaims{"sub": "u1"})
	}
	return signedWith(t, jwt.SigningMethodES256, i.p256, map[string]any{"kid": kid}, jwt.MapClaims{"sub": "u1"})
}

// TestKeyRotation: a token with a new key is accepted after one fetch, in which all that
// come meanwhile share, and made-up keys cause no more of them than one in askInterval.
func TestKeyRotation(t *testing.T) {
	i := newIssuer()
	srv := newKeyServer(t, jwks(jwk("old", i.p256, nil)))
	rt := newRingTest(t, fromSet(srv.URL))
	rt.start(t)
	if got := identified(t, rt.authenticator, authOf(es(t, "old", false))); got.code() != "" {
		t.Fatalf("a good token: %+v", got.r)
	}
	if n := srv.asked.Load(); n != 1 {
		t.Errorf("%d fetches for the first token, want 1", n)
	}
	if got := identified(t, rt.authenticator, authOf(es(t, "new", true))); got.code() != "token_invalid" {
		t.Errorf("a token with a key that is not there: %+v", got)
	}
	before := srv.asked.Load()
	for range 100 {
		if got := identified(t, rt.authenticator, authOf(es(t, "made up", true))); got.code() != "token_invalid" {
			t.Errorf("a made-up kid: %+v", got)
		}
	}
	if n := srv.asked.Load() - before; n != 0 {
		t.Errorf("100 made-up kids caused %d fetches", n)
	}

	srv.set(http.StatusOK, jwks(jwk("new", i.p384, nil)))
	rt.pass(askInterval)
	const crowd = 20
	answers := make(chan outcome, crowd)
	gate, began := make(chan struct{}), make(chan struct{}, crowd)
	srv.mu.Lock()
	srv.gate, srv.began = gate, began
	srv.mu.Unlock()
	for range crowd {
		rt.identify(authOf(es(t, "new", true)), func(v *verified, r *refusal) { answers <- outcome{v, r} })
	}
	wait(t, began)
	waitFor(t, "all wait for the fetch", func() bool {
		rt.ring.mu.Lock()
		defer rt.ring.mu.Unlock()
		return len(rt.ring.waiting) == crowd
	})
	close(gate)
	for range crowd {
		if got := wait(t, answers); got.code() != "" {
			t.Errorf("a token with the new key: %+v", got.r)
		}
	}
	if n := srv.asked.Load() - before; n != 1 {
		t.Errorf("%d fetches for the new key, want 1", n)
	}
	if got := identified(t, rt.authenticator, authOf(es(t, "old", false))); got.code() != "token_invalid" {
		t.Errorf("a token with the key that was withdrawn: %+v", got)
	}
	if got := testutil.ToFloat64(rt.metrics.Keys); got != 1 {
		t.Errorf("%v keys in the metric", got)
	}
}

// TestRotationBesideAFile: a key in a file, which has no name, does not keep a named one
// from being fetched.
func TestRotationBesideAFile(t *testing.T) {
	i := newIssuer()
	srv := newKeyServer(t, jwks(jwk("old", i.p384, nil)))
	environ := fromSet(srv.URL)
	environ["AUTH_JWT_KEY_FILE"] = file(t, "key.pem", publicPEM(i.p384.Public()))
	rt := newRingTest(t, environ)
	rt.ring.step(t.Context())
	next, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	srv.set(http.StatusOK, jwks(jwk("new", next, nil)))
	rt.start(t)
	token := signedWith(t, jwt.SigningMethodES384, next, map[string]any{"kid": "new"}, jwt.MapClaims{"sub": "u1"})
	if got := identified(t, rt.authenticator, authOf(token)); got.code() != "" {
		t.Errorf("a token with the new key: %+v", got.r)
	}
	if got := identified(t, rt.authenticator, authOf(es(t, "from the file", true))); got.code() != "" {
		t.Errorf("a token with the file's key: %+v", got.r)
	}
}

// TestKeysUnavailable: a node whose keys cannot be loaded says so, to clients, in its
// log once, and as not ready, until they can.
func TestKeysUnavailable(t *testing.T) {
	i := newIssuer()
	srv := newKeyServer(t, nil)
	srv.set(http.StatusInternalServerError, nil)
	rt := newRingTest(t, fromSet(srv.URL))
	if err := rt.ring.ready(); !errors.Is(err, errNoKeys) {
		t.Errorf("ready without keys: %v", err)
	}
	good := es(t, "k", false)
	rt.start(t)
	if got := identified(t, rt.authenticator, authOf(good)); got.code() != "keys_unavailable" {
		t.Errorf("with an issuer that fails: %+v", got)
	}
	if got := identified(t, rt.authenticator, authOf(good)); got.code() != "keys_unavailable" {
		t.Errorf("again, without a fetch: %+v", got)
	}
	if got := strings.Count(rt.log.String(), "level=ERROR"); got != 1 || !strings.Contains(rt.log.String(), "AUTH_JWKS") {
		t.Errorf("logged:\n%s", rt.log.String())
	}
	srv.set(http.StatusOK, jwks(jwk("k", i.p256, nil)))
	rt.pass(askInterval)
	if got := identified(t, rt.authenticator, authOf(good)); got.code() != "" {
		t.Errorf("with an issuer that is back: %+v", got)
	}
	if err := rt.ring.ready(); err != nil {
		t.Errorf("not ready with keys: %v", err)
	}
	if !strings.Contains(rt.log.String(), "loaded again") {
		t.Errorf("logged:\n%s", rt.log.String())
	}

	// What was loaded is good without the issuer, and only what it does not know is in doubt.
	srv.set(http.StatusNotFound, nil)
	rt.pass(askInterval)
	if got := identified(t, rt.authenticator, authOf(es(t, "next", true))); got.code() != "keys_unavailable" {
		t.Errorf("an unknown key while the issuer is away: %+v", got)
	}
	if got := identified(t, rt.authenticator, authOf(good)); got.code() != "" {
		t.Errorf("a known key while the issuer is away: %+v", got)
	}
	if err := rt.ring.ready(); err != nil {
		t.Errorf("not ready while the issuer is away: %v", err)
	}
	if failed := testutil.ToFloat64(rt.metrics.KeyLoads[metrics.KeyLoadFailed]); failed < 2 {
		t.Errorf("%v failures counted", failed)
	}
}

// TestWaitingIsBounded: no more than maxWaiting tokens wait for keys.
func TestWaitingIsBounded(t *testing.T) {
	rt := newRingTest(t, fromSet("http://127.0.0.1:1/"))
	for range maxWaiting {
		if got := rt.ring.ask(rt.ring.current(), func() {}); got != askWaits {
			t.Fatalf("asked: %v", got)
		}
	}
	if got := rt.ring.ask(rt.ring.current(), func() { t.Error("called") }); got != askUnavailable {
		t.Errorf("with %d waiting: %v", maxWaiting, got)
	}
}

// TestWorkersAreBounded: what is too much for the workers is refused as temporary.
func TestWorkersAreBounded(t *testing.T) {
	i := newIssuer()
	a := newTestAuth(t, map[string]string{"AUTH": "jwt", "AUTH_JWT_KEY_FILE": file(t, "k.pem", publicPEM(i.p256.Public()))})
	gate, running := make(chan struct{}), make(chan struct{})
	a.workers = &workers{max: 1, bound: 1}
	a.workers.submit(func() { close(running); <-gate })
	wait(t, running)
	waiting := make(chan outcome, 1)
	a.identify(authOf(es(t, "", false)), func(v *verified, r *refusal) { waiting <- outcome{v, r} })
	if got := identified(t, a, authOf(es(t, "", false))); got.code() != "busy" {
		t.Errorf("beyond the bound: %+v", got)
	}
	close(gate)
	if got := wait(t, waiting); got.code() != "" {
		t.Errorf("within it: %+v", got.r)
	}
}

// TestFilesAreReadAgain: when a file has changed its keys are the new ones; when it is
// broken the old ones stay.
func TestFilesAreReadAgain(t *testing.T) {
	i := newIssuer()
	path := file(t, "keys.pem", publicPEM(i.p256.Public()))
	rt := newRingTest(t, map[string]string{"AUTH": "jwt", "AUTH_JWT_KEY_FILE": path})
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		rt.pass(lookInterval + retryMost)
		rt.ring.step(context.Background())
	}
	step := func(what string, good, goodNext bool) {
		t.Helper()
		for next, want := range map[bool]bool{false: good, true: goodNext} {
			if _, err := rt.check.verify(es(t, "", next), *rt.ring.current()); (err == nil) != want {
				t.Errorf("%s: a token with the next key (%v): %v", what, next, err)
			}
		}
	}
	step("at first", true, false)
	loads := testutil.ToFloat64(rt.metrics.KeyLoads[metrics.KeyLoadDone])
	rt.pass(lookInterval)
	rt.ring.step(context.Background())
	if got := testutil.ToFloat64(rt.metrics.KeyLoads[metrics.KeyLoadDone]); got != loads {
		t.Error("a file that did not change is read again")
	}
	write([]byte("half"))
	step("with half a file", true, false)
	write(publicPEM(i.p384.Public()))
	step("exchanged", false, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	rt.pass(lookInterval)
	rt.ring.step(context.Background())
	step("removed", false, true)
}

// TestKeyFilesMustBeThere: what is on this machine is a mistake of the operator.
func TestKeyFilesMustBeThere(t *testing.T) {
	for variable, environ := range map[string]map[string]string{
		"AUTH_JWT_SECRET_FILE": {"AUTH": "jwt", "AUTH_JWT_SECRET_FILE": "/nowhere/secret"},
		"AUTH_JWT_KEY_FILE":    {"AUTH": "jwt", "AUTH_JWT_KEY_FILE": file(t, "bad.pem", []byte("x"))},
		"AUTH_JWKS":            {"AUTH": "jwt", "AUTH_JWKS": file(t, "bad.json", []byte("{"))},
	} {
		cfg, err := LoadConfig(environ)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newKeyring(cfg, metrics.New(prometheus.NewRegistry(), "test"), quiet, time.Now)
		if err == nil || !strings.HasPrefix(err.Error(), variable+": ") {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

// TestFetchKeys: a redirect does not lead from https to http, and what is too
// large is not read.
func TestFetchKeys(t *testing.T) {
	plain := newKeyServer(t, bytes.Repeat([]byte("x"), maxKeyBytes+1))
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	t.Cleanup(secure.Close)
	client := newKeyClient()
	client.Transport = secure.Client().Transport
	if _, err := fetchKeys(t.Context(), client, secure.URL); err == nil || !strings.Contains(err.Error(), "redirected from https to http") || plain.asked.Load() != 0 {
		t.Errorf("redirected to http: %v", err)
	}
	if _, err := fetchKeys(t.Context(), newKeyClient(), plain.URL); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge answer: %v", err)
	}
	plain.Close()
	secret := strings.Replace(plain.URL, "://", "://user-token:word@", 1) + "/keys?key=secret"
	if _, err := fetchKeys(t.Context(), newKeyClient(), secret); err == nil || strings.Contains(err.Error(), "user-token") || strings.Contains(err.Error(), "key=") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestLoadSchedule(t *testing.T) {
	at, s := testNow, loadSchedule{}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if s = s.after(false, refreshInterval, at); s.next.Sub(at) != want*time.Second || s.loaded || s.failures != i+1 {
			t.Errorf("after failure %d: %+v", i+1, s)
		}
	}
	for range 100 {
		s = s.after(false, refreshInterval, at)
	}
	if s.next.Sub(at) != retryMost {
		t.Errorf("after many failures: %+v", s)
	}
	if s = s.after(true, refreshInterval, at); s.failures != 0 || !s.loaded || s.next.Sub(at) != refreshInterval {
		t.Errorf("after success: %+v", s)
	}
	if s = s.after(false, refreshInterval, at); !s.loaded {
		t.Errorf("forgot that keys were loaded: %+v", s)
	}
}
