package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

const testSocket = "AAAAAAAAbbbbbbbbCCCC"

var testNow = time.Unix(1_700_000_000, 0)

func signed(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signedWith is signed with more in the header.
func signedWith(t *testing.T, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestJWT(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(claims jwt.MapClaims) string {
		return signed(t, jwt.SigningMethodHS256, []byte(testSecret), claims)
	}
	at := func(d time.Duration) int64 { return testNow.Add(d).Unix() }
	good := hs256(jwt.MapClaims{"sub": "u1"})
	parts := strings.Split(good, ".")

	tests := []struct {
		name, token string
		user, code  string
	}{
		{"good", good, "u1", ""},
		{"good with exp and nbf", hs256(jwt.MapClaims{"sub": "u1", "exp": at(time.Minute), "nbf": at(-time.Minute)}), "u1", ""},
		{"expired within the leeway", hs256(jwt.MapClaims{"sub": "u1", "exp": at(-29 * time.Second)}), "u1", ""},
		{"expired", hs256(jwt.MapClaims{"sub": "u1", "exp": at(-31 * time.Second)}), "", "token_expired"},
		{"exp not a number", hs256(jwt.MapClaims{"sub": "u1", "exp": "never"}), "", "token_invalid"},
		{"not valid yet", hs256(jwt.MapClaims{"sub": "u1", "nbf": at(31 * time.Second)}), "", "token_invalid"},
		{"alg none", signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"sub": "u1"}), "", "token_invalid"},
		{"RS256", signed(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"sub": "u1"}), "", "token_invalid"},
		{"HS512 with the right key", signed(t, jwt.SigningMethodHS512, []byte(testSecret), jwt.MapClaims{"sub": "u1"}), "", "token_invalid"},
		{"wrong key", signed(t, jwt.SigningMethodHS256, []byte(strings.ToUpper(testSecret)), jwt.MapClaims{"sub": "u1"}), "", "token_invalid"},
		{"expired and wrong key", signed(t, jwt.SigningMethodHS256, []byte("other"), jwt.MapClaims{"sub": "u1", "exp": at(-time.Hour)}), "", "token_invalid"},
		{"claims exchanged", parts[0] + ".eyJzdWIiOiJyb290In0." + parts[2], "", "token_invalid"},
		{"no signature", parts[0] + "." + parts[1] + ".", "", "token_invalid"},
		{"no sub", hs256(jwt.MapClaims{"name": "u1"}), "", "user_invalid"},
		{"empty sub", hs256(jwt.MapClaims{"sub": ""}), "", "user_invalid"},
		{"sub not a string", hs256(jwt.MapClaims{"sub": 1}), "", "token_invalid"},
		{"sub with braces", hs256(jwt.MapClaims{"sub": "a{b}"}), "", "user_invalid"},
		{"sub too long", hs256(jwt.MapClaims{"sub": strings.Repeat("u", 256)}), "", "user_invalid"},
		{"garbage", "abc", "", "token_invalid"},
		{"empty", "", "", "token_missing"},
		{"crit", signedWith(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"crit": []string{"exp"}}, jwt.MapClaims{"sub": "u1"}), "", "token_invalid"},
		{"a kid, which the secret has not", signedWith(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"kid": "k1"}, jwt.MapClaims{"sub": "u1"}), "u1", ""},
		{"kid not a string", signedWith(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"kid": 1}, jwt.MapClaims{"sub": "u1"}), "", "token_invalid"},
		{"rooms", hs256(jwt.MapClaims{"sub": "u1", "rooms": map[string]any{"join": []string{"a", "b*", "*"}, "publish": []string{}}}), "u1", ""},
		{"rooms of another shape", hs256(jwt.MapClaims{"sub": "u1", "rooms": []string{"a"}}), "", "token_invalid"},
		{"rooms with a slip", hs256(jwt.MapClaims{"sub": "u1", "rooms": map[string]any{"pubish": []string{"a"}}}), "", "token_invalid"},
		{"rooms that are null", hs256(jwt.MapClaims{"sub": "u1", "rooms": map[string]any{"join": nil}}), "", "token_invalid"},
		{"rooms with * in the middle", hs256(jwt.MapClaims{"sub": "u1", "rooms": map[string]any{"join": []string{"a*b"}}}), "", "token_invalid"},
		{"good but huge", hs256(jwt.MapClaims{"sub": "u1", "more": strings.Repeat("a", maxToken)}), "", "token_invalid"},
	}
	a := newTestAuth(t, production())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			auth, _ := json.Marshal(map[string]any{"token": tt.token, "userId": "admin"})
			checkUser(t, a, string(auth), tt.user, tt.code)
		})
	}
	for _, auth := range []string{``, `{}`, `{"token":null}`, `{"userId":"u1"}`, `[]`, `"x"`, `null`} {
		checkUser(t, a, auth, "", "token_missing")
	}
	for _, auth := range []string{`{"token":1}`, `{"token":{}}`} {
		checkUser(t, a, auth, "", "token_invalid")
	}
}

func TestAuthNone(t *testing.T) {
	a := newTestAuth(t, map[string]string{})
	for _, tt := range []struct{ auth, user, code string }{
		{``, testSocket, ""},
		{`{}`, testSocket, ""},
		{`{"userId":null}`, testSocket, ""},
		{`{"token":"ignored"}`, testSocket, ""},
		{`{"userId":"u1"}`, "u1", ""},
		{`{"userId":"Zoë \u2713"}`, "Zoë ✓", ""},
		{`{"userId":""}`, "", "user_invalid"},
		{`{"userId":7}`, "", "user_invalid"},
		{`{"userId":["u1"]}`, "", "user_invalid"},
		{`{"userId":"a\nb"}`, "", "user_invalid"},
		{`{"userId":"{u}"}`, "", "user_invalid"},
	} {
		t.Run(tt.auth, func(t *testing.T) { checkUser(t, a, tt.auth, tt.user, tt.code) })
	}
}

// newTestAuth makes the authenticator of an environment, at testNow.
func newTestAuth(t *testing.T, environ map[string]string) *authenticator {
	t.Helper()
	cfg, err := LoadConfig(environ)
	if err != nil {
		t.Fatal(err)
	}
	m, now := metrics.New(prometheus.NewRegistry(), "test"), func() time.Time { return testNow }
	var ring *keyring
	if cfg.Auth == authJWT {
		if ring, err = newKeyring(cfg, m, quiet, now); err != nil {
			t.Fatal(err)
		}
		go ring.run(t.Context())
	}
	return newAuthenticator(cfg, ring, m, state.ValidID, now)
}

// outcome is what a client was told.
type outcome struct {
	v *verified
	r *refusal
}

// code is the refusal's code, "" if there is none.
func (o outcome) code() string {
	if o.r == nil {
		return ""
	}
	return o.r.Code()
}

// identified asks who a client with an auth object is and waits for the answer.
func identified(t *testing.T, a *authenticator, c claimant) outcome {
	t.Helper()
	answer := make(chan outcome, 1)
	a.identify(c, func(v *verified, r *refusal) { answer <- outcome{v, r} })
	return wait(t, answer)
}

// wait returns what comes of a channel.
func wait[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		panic("unreachable")
	}
}

func authOf(token string) claimant {
	auth, _ := json.Marshal(map[string]string{"token": token})
	return claimant{auth: auth, socketID: testSocket}
}

func checkUser(t *testing.T, a *authenticator, auth, user, code string) {
	t.Helper()
	got := identified(t, a, claimant{auth: json.RawMessage(auth), socketID: testSocket})
	gotUser := ""
	if got.v != nil {
		gotUser = got.v.User
	}
	if got.r != nil && (got.r.Message == "" || len(auth) > 40 && strings.Contains(fmt.Sprint(got.r), auth[10:40])) {
		t.Errorf("refused with the message %q", got.r.Message)
	}
	if gotUser != user || got.code() != code {
		t.Errorf("auth %.60s: user %q, code %q; want %q, %q", auth, gotUser, got.code(), user, code)
	}
	label := "accepted"
	if code != "" {
		label = code
	}
	for i := range a.metrics.Auths {
		if metrics.Auth(i).String() == label && testutil.ToFloat64(a.metrics.Auths[i]) == 0 {
			t.Errorf("auth %.60s is not counted as %s", auth, label)
		}
	}
}

// TestTokenPlaces: a token is looked for where AUTH_TOKEN_FROM says, and nowhere else.
func TestTokenPlaces(t *testing.T) {
	one, two, three := hsToken(t, "one"), hsToken(t, "two"), hsToken(t, "three")
	everywhere := func() *engine.Handshake {
		return &engine.Handshake{Query: url.Values{"token": {two}}, Protocols: []string{"chat", "token." + three}}
	}
	nowhere := func() *engine.Handshake { return &engine.Handshake{} }
	for _, tt := range []struct {
		places, auth string
		handshake    func() *engine.Handshake
		user, code   string
	}{
		{"auth", one, everywhere, "one", ""},
		{"auth", "", everywhere, "", "token_missing"},
		{"query", one, everywhere, "two", ""},
		{"subprotocol", one, everywhere, "three", ""},
		{"auth,query,subprotocol", one, everywhere, "one", ""},
		{"auth,query,subprotocol", "", everywhere, "two", ""},
		{"subprotocol,auth", "", everywhere, "three", ""},
		{"subprotocol, auth", one, nowhere, "one", ""},
		{"auth,query", "bad", everywhere, "", "token_invalid"},
		{"query,subprotocol", one, nowhere, "", "token_missing"},
	} {
		a := newTestAuth(t, production("AUTH_TOKEN_FROM", tt.places))
		c := authOf(tt.auth)
		c.handshake = tt.handshake
		got := identified(t, a, c)
		if got.code() != tt.code || tt.code == "" && got.v.User != tt.user {
			t.Errorf("from %s: %+v, want %q, %q", tt.places, got, tt.user, tt.code)
		}
	}
	a := newTestAuth(t, production("AUTH_TOKEN_FROM", "query"))
	huge := func() *engine.Handshake {
		return &engine.Handshake{Query: url.Values{"token": {strings.Repeat("a", maxToken+1)}}}
	}
	if got := identified(t, a, claimant{handshake: huge}); got.code() != "token_invalid" {
		t.Errorf("a huge token: %+v", got)
	}
}

func hsToken(t *testing.T, user string) string {
	t.Helper()
	return signed(t, jwt.SigningMethodHS256, []byte(testSecret), jwt.MapClaims{"sub": user})
}

// TestAudienceAndIssuer: they are checked if they are configured.
func TestAudienceAndIssuer(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		claims  jwt.MapClaims
		message string
	}{
		{nil, jwt.MapClaims{"aud": "other", "iss": "other"}, ""},
		{[]string{"AUTH_JWT_AUDIENCE", "chat, edge"}, jwt.MapClaims{"aud": "edge"}, ""},
		{[]string{"AUTH_JWT_AUDIENCE", "chat,edge"}, jwt.MapClaims{"aud": []string{"x", "chat"}}, ""},
		{[]string{"AUTH_JWT_AUDIENCE", "chat,edge"}, jwt.MapClaims{"aud": []string{"x"}}, "token is for another audience"},
		{[]string{"AUTH_JWT_AUDIENCE", "chat,edge"}, jwt.MapClaims{}, "token is invalid"},
		{[]string{"AUTH_JWT_ISSUER", "https://id.example"}, jwt.MapClaims{"iss": "https://id.example"}, ""},
		{[]string{"AUTH_JWT_ISSUER", "https://id.example"}, jwt.MapClaims{"iss": "https://id.example/"}, "token is of another issuer"},
		{[]string{"AUTH_JWT_ISSUER", "https://id.example"}, jwt.MapClaims{}, "token is invalid"},
		{[]string{"AUTH_JWT_LEEWAY", "0s"}, jwt.MapClaims{"exp": testNow.Unix()}, "token has expired"},
		{[]string{"AUTH_JWT_LEEWAY", "2m"}, jwt.MapClaims{"exp": testNow.Unix() - 119}, ""},
	} {
		tt.claims["sub"] = "u1"
		got := identified(t, newTestAuth(t, production(tt.environ...)), authOf(signed(t, jwt.SigningMethodHS256, []byte(testSecret), tt.claims)))
		message := ""
		if got.r != nil {
			message = got.r.Message
		}
		if message != tt.message {
			t.Errorf("%v with %v: %q, want %q", tt.environ, tt.claims, message, tt.message)
		}
	}
}

// TestVerifierPanics: what takes tokens apart is others' code; a bug there costs a token, and is told.
func TestVerifierPanics(t *testing.T) {
	a := newTestAuth(t, production())
	a.check = &tokenCheck{} // without a parser
	got := identified(t, a, authOf(signed(t, jwt.SigningMethodHS256, []byte(testSecret), jwt.MapClaims{"sub": "ada"})))
	if n := testutil.ToFloat64(a.metrics.HandlerPanics); got.code() != "token_invalid" || n != 1 {
		t.Errorf("%q, %v panics counted", got.code(), n)
	}
}
