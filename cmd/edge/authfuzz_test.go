package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// FuzzToken: a token that nobody signed is nobody's, whatever it says; what the client
// is told of it does not repeat it.
func FuzzToken(f *testing.F) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	// Both kinds of keys are known, so that one could be taken for the other.
	cfg := &Config{Auth: authJWT, AuthJWTKeyFile: "set", AuthJWTSecret: testSecret}
	permitted := cfg.algorithms()
	public, err := newVerifyKey("k", &private.PublicKey, "", permitted)
	if err != nil {
		f.Fatal(err)
	}
	secret, err := newVerifyKey("", []byte(testSecret), "", permitted)
	if err != nil {
		f.Fatal(err)
	}
	check := newTokenCheck(cfg, func() time.Time { return testNow })
	real := map[string]bool{}
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodHS256} {
		var key any = private
		if method == jwt.SigningMethodHS256 {
			key = []byte(testSecret)
		}
		token, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "u1"}).SignedString(key)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := check.verify(token, []verifyKey{public, secret}); err != nil {
			f.Fatalf("%s: %v", token, err)
		}
		real[token] = true
		f.Add(token)
		f.Add(token[:len(token)-1])
		f.Add("eyJhbGciOiJub25lIn0." + strings.Split(token, ".")[1] + ".")
	}
	for _, token := range []string{"", "..", "e30.e30.", "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.e30.AA", "a.b.c.d.e", "eyJhbGciOiJSUzI1NiIsImNyaXQiOltdfQ.e30.AA"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		v, err := check.verify(token, []verifyKey{public, secret})
		switch {
		case err == nil && !real[token]:
			t.Fatalf("%q lets %+v in", token, v)
		case err == nil:
			return
		case v != nil:
			t.Errorf("%q: %v, and yet %+v", token, err, v)
		}
		if r := refusedToken(err); r == nil || len(token) > 8 && strings.Contains(r.Message, token) {
			t.Errorf("%q is refused with %+v", token, r)
		}
	})
}

// FuzzKeys: whatever a file or an answer with keys contains, each key that comes of it
// may be used for what is permitted and fits its kind.
func FuzzKeys(f *testing.F) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[:20]}))
	for _, set := range []string{
		`{"keys":[{"kty":"RSA","e":"AQAB","n":"AQAB"}]}`, `{"keys":[{"kty":"oct","k":"AAAA","alg":"HS256"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1","use":"sig"}]}`,
		`{"keys":null}`, `{"keys":[{}]}`, `[]`,
	} {
		f.Add([]byte(set))
	}
	permitted := append(slices.Clone(publicAlgorithms), "HS256")
	f.Fuzz(func(t *testing.T, content []byte) {
		for name, read := range map[string]func([]byte, []algorithm) ([]verifyKey, error){"PEM": readPEM, "JWKS": readJWKS} {
			keys, err := read(content, permitted)
			if (err == nil) == (len(keys) == 0) || len(keys) > maxKeys {
				t.Fatalf("%s: %d keys, %v", name, len(keys), err)
			}
			for _, k := range keys {
				checkKey(t, k)
			}
		}
	})
}

// checkKey fails the test if a key is none for its algorithms.
func checkKey(t *testing.T, k verifyKey) {
	t.Helper()
	var fits []algorithm
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			fits = []algorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		}
	case *ecdsa.PublicKey:
		fits = map[elliptic.Curve][]algorithm{elliptic.P256(): {"ES256"}, elliptic.P384(): {"ES384"}, elliptic.P521(): {"ES512"}}[key.Curve]
	case ed25519.PublicKey:
		if len(key) == ed25519.PublicKeySize {
			fits = []algorithm{"EdDSA"}
		}
	}
	for _, a := range k.algorithms {
		if !slices.Contains(fits, a) {
			t.Errorf("a key %T is for %s", k.key, a)
		}
	}
}

// plainOrigin is what a browser's page may have as its origin, and its host.
var plainOrigin = regexp.MustCompile(`^(?i:https)://([^/?#@\\ ]*)$`)

// FuzzOrigin: what is let in is an origin of a host that was listed, whatever a
// header may look like.
func FuzzOrigin(f *testing.F) {
	for _, origin := range []string{
		"https://app.example.com", "https://a.b.example.org:443", "https://app.example.com@evil.example", "https://app.example.com.evil.example", "https://app.example.com#", "null", "",
		"https://[::1]", "https://app.example.com:", "https:app.example.com", "https://app.example.com%2eevil.example", "HTTPS://APP.example.com", "https://evilexample.org",
	} {
		f.Add(origin)
	}
	var o origins
	if err := o.UnmarshalText([]byte("https://app.example.com,https://*.example.org")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, origin string) {
		if !o.check()(&http.Request{Host: "edge.example", Header: http.Header{"Origin": {origin}}}) {
			return
		}
		m := plainOrigin.FindStringSubmatch(origin)
		if m == nil {
			t.Fatalf("%q was let in", origin)
		}
		host := strings.ToLower(strings.TrimSuffix(strings.TrimRight(m[1], "0123456789"), ":"))
		if strings.Contains(m[1], ":") && !strings.HasSuffix(m[1], ":443") && !strings.HasSuffix(m[1], ":") && !regexp.MustCompile(`:0*443$`).MatchString(m[1]) {
			t.Fatalf("%q was let in, on another port", origin)
		}
		if host != "app.example.com" && !strings.HasSuffix(host, ".example.org") {
			t.Fatalf("%q was let in, of host %q", origin, host)
		}
	})
}

// FuzzRooms: rooms of a token either are read as they say, or end it; there is no
// claim that lets in more than it names.
func FuzzRooms(f *testing.F) {
	for _, text := range []string{`{"join":["a","b*"],"publish":[]}`, `{"join":["*"]}`, `{"join":["a*b"]}`, `{"join":null}`, `{"__proto__":["*"]}`, `[]`, `{"join":["a"],"join":["*"]}`} {
		f.Add(text, "a")
	}
	f.Fuzz(func(t *testing.T, text, room string) {
		var claim roomsClaim
		if json.Unmarshal([]byte(text), &claim) != nil {
			return
		}
		g := newGrant(0, claim)
		var said map[string][]string
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			t.Fatalf("%q was read: %v", text, err)
		}
		if list, limited := said["join"]; limited && g.mayJoin(room) && !matchesAny(list, room) {
			t.Errorf("%q lets its user join %q", text, room)
		}
	})
}

// matchesAny is the meaning of a list of rooms, said in the simplest way.
func matchesAny(list []string, room string) bool {
	return slices.ContainsFunc(list, func(rule string) bool {
		prefix, all := strings.CutSuffix(rule, "*")
		return all && strings.HasPrefix(room, prefix) || rule == room
	})
}
