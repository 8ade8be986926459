package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuer is one key pair of every kind, made once: RSA takes its time.
type issuer struct {
	rsa, small, otherRSA *rsa.PrivateKey
	p256, p384, p521     *ecdsa.PrivateKey
	ed                   ed25519.PrivateKey
}

var newIssuer = sync.OnceValue(func() *issuer {
	i := &issuer{}
	var err [7]error
	i.rsa, err[0] = rsa.GenerateKey(rand.Reader, 2048)
	i.small, err[1] = rsa.GenerateKey(rand.Reader, 1024)
	i.p256, err[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	i.p384, err[3] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	i.p521, err[4] = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, i.ed, err[5] = ed25519.GenerateKey(rand.Reader)
	i.otherRSA, err[6] = rsa.GenerateKey(rand.Reader, 2048)
	for _, e := range err {
		if e != nil {
			panic(e)
		}
	}
	return i
})

// publicPEM is a public key as PEM.
func publicPEM(key any) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// file writes a file of the test's and returns its path.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// jwk is a public key as a JWK (RFC 7518 section 6, RFC 8037), written without the
// code that reads it.
func jwk(kid string, key crypto.Signer, more map[string]any) map[string]any {
	text := base64.RawURLEncoding.EncodeToString
	m := map[string]any{"kid": kid, "use": "sig"}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		m["kty"], m["n"], m["e"] = "RSA", text(k.N.Bytes()), "AQAB"
	case *ecdsa.PrivateKey:
		b, err := k.PublicKey.Bytes() // 4, x, y
		if err != nil {
			panic(err)
		}
		size := len(b) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Params().Name, text(b[1:1+size]), text(b[1+size:])
	case ed25519.PrivateKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", text(k.Public().(ed25519.PublicKey))
	}
	maps.Copy(m, more)
	return m
}

func jwks(keys ...map[string]any) []byte {
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return b
}

// signatures are all ways to sign.
func (i *issuer) signatures() map[jwt.SigningMethod]crypto.Signer {
	return map[jwt.SigningMethod]crypto.Signer{
		jwt.SigningMethodRS256: i.rsa, jwt.SigningMethodRS384: i.rsa, jwt.SigningMethodRS512: i.rsa,
		jwt.SigningMethodPS256: i.rsa, jwt.SigningMethodPS384: i.rsa, jwt.SigningMethodPS512: i.rsa,
		jwt.SigningMethodES256: i.p256, jwt.SigningMethodES384: i.p384, jwt.SigningMethodES512: i.p521,
		jwt.SigningMethodEdDSA: i.ed,
	}
}

// TestPublicKeys: a token is accepted if and only if it is signed by the key that is
// configured, as a key of its kind signs, whether the key is in a file or in a set.
func TestPublicKeys(t *testing.T) {
	i := newIssuer()
	for _, key := range []crypto.Signer{i.rsa, i.p256, i.p384, i.p521, i.ed} {
		fromPEM := map[string]string{"AUTH": "jwt", "AUTH_JWT_KEY_FILE": file(t, "key.pem", publicPEM(key.Public()))}
		fromSet := map[string]string{"AUTH": "jwt", "AUTH_JWKS": file(t, "keys.json", jwks(jwk("", key, nil)))}
		named := map[string]string{"AUTH": "jwt", "AUTH_JWKS": file(t, "keys.json", jwks(jwk("k1", key, nil)))}
		for name, environ := range map[string]map[string]string{"PEM": fromPEM, "set": fromSet, "set with kid": named} {
			a := newTestAuth(t, environ)
			for method, signer := range i.signatures() {
				want := ""
				if !bytes.Equal(publicPEM(signer.Public()), publicPEM(key.Public())) {
					want = "token_invalid"
				}
				token := signedWith(t, method, signer, map[string]any{"kid": "k1"}, jwt.MapClaims{"sub": "u1"})
				if got := identified(t, a, authOf(token)); got.code() != want {
					t.Errorf("a token %s with a %T from %s: %q, want %q", method.Alg(), key, name, got.code(), want)
				}
			}
		}
	}
}

// TestAlgorithmConfusion: the public key of a token is known to all, so it must never
// serve as a secret, whatever the token says.
func TestAlgorithmConfusion(t *testing.T) {
	i := newIssuer()
	text := publicPEM(i.rsa.Public())
	der, _ := pem.Decode(text)
	claims := jwt.MapClaims{"sub": "admin"}
	pinned := map[string]string{"AUTH": "jwt", "AUTH_JWT_KEY_FILE": file(t, "key.pem", text)}
	both := production("AUTH_JWT_KEY_FILE", file(t, "key.pem", text), "AUTH_JWT_ALGORITHMS", "HS256,HS384,HS512,RS256,PS256", "AUTH_JWT_SECRET", strings.Repeat(testSecret, 2))
	set := map[string]string{"AUTH": "jwt", "AUTH_JWKS": file(t, "keys.json", jwks(jwk("k1", i.rsa, nil)))}
	only := map[string]string{"AUTH": "jwt", "AUTH_JWT_ALGORITHMS": "PS256", "AUTH_JWT_KEY_FILE": file(t, "key.pem", text)}
	for name, environ := range map[string]map[string]string{"a public key": pinned, "a secret and a public key": both, "a set": set, "PS256 alone": only} {
		a := newTestAuth(t, environ)
		for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			for what, secret := range map[string][]byte{"PEM": text, "PEM without newline": text[:len(text)-1], "DER": der.Bytes, "the modulus": i.rsa.N.Bytes(), "nothing": {}} {
				for _, kid := range []string{"", "k1"} {
					token := signedWith(t, method, secret, map[string]any{"kid": kid}, claims)
					if got := identified(t, a, authOf(token)); got.code() != "token_invalid" {
						t.Errorf("with %s, %s with the %s as its secret: %+v", name, method.Alg(), what, got)
					}
				}
			}
		}
		none := signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims)
		parts := strings.Split(signed(t, jwt.SigningMethodRS256, i.rsa, claims), ".")
		for _, alg := range []string{"none", "None", "NONE", "hs256", "RS256 ", ""} {
			header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + alg + `","typ":"JWT"}`))
			for _, token := range []string{none, header + "." + parts[1] + "." + parts[2], header + "." + parts[1] + "."} {
				if got := identified(t, a, authOf(token)); got.code() != "token_invalid" {
					t.Errorf("with %s, alg %q: %+v", name, alg, got)
				}
			}
		}
		foreign := signed(t, jwt.SigningMethodPS256, i.otherRSA, claims)
		if got := identified(t, a, authOf(foreign)); got.code() != "token_invalid" {
			t.Errorf("with %s, a token of somebody else: %+v", name, got)
		}
		if got := identified(t, a, authOf(signed(t, jwt.SigningMethodPS256, i.rsa, claims))); got.code() != "" {
			t.Errorf("with %s, a good token: %+v", name, got.r)
		}
	}
	a := newTestAuth(t, only)
	if got := identified(t, a, authOf(signed(t, jwt.SigningMethodRS256, i.rsa, claims))); got.code() != "token_invalid" {
		t.Errorf("RS256 where PS256 alone is permitted: %+v", got)
	}
}

func TestKeysFor(t *testing.T) {
	keys := []verifyKey{
		{"a", []algorithm{"RS256", "PS256"}, "rsa a"},
		{"b", []algorithm{"RS256"}, "rsa b"},
		{"a", []algorithm{"ES256"}, "ec a"},
		{"", []algorithm{"RS256"}, "rsa from PEM"},
		{"", []algorithm{"HS256"}, "secret"},
	}
	for _, tt := range []struct {
		alg   algorithm
		kid   string
		want  []jwt.VerificationKey
		guess bool
	}{
		{"RS256", "a", []jwt.VerificationKey{"rsa a"}, false},
		{"PS256", "a", []jwt.VerificationKey{"rsa a"}, false},
		{"ES256", "a", []jwt.VerificationKey{"ec a"}, false},
		{"PS256", "b", nil, true},
		{"RS256", "c", []jwt.VerificationKey{"rsa from PEM"}, true},
		{"RS256", "", []jwt.VerificationKey{"rsa a", "rsa b", "rsa from PEM"}, false},
		{"HS256", "a", []jwt.VerificationKey{"secret"}, true},
		{"ES384", "", nil, false},
	} {
		set, guess, err := keysFor(keys, tt.alg, tt.kid)
		if (err != nil) != (tt.want == nil) || err == nil && !slices.Equal(set.Keys, tt.want) || guess != tt.guess {
			t.Errorf("keys for %s, kid %q: %v, %v, %v; want %v, %v", tt.alg, tt.kid, set.Keys, guess, err, tt.want, tt.guess)
		}
	}
	for len(keys) < 8 {
		keys = append(keys, verifyKey{"z", []algorithm{"RS256"}, "another"})
	}
	if _, _, err := keysFor(keys, "RS256", ""); err == nil {
		t.Error("a token without kid has more than maxTries keys tried")
	}
}

// TestReadKeys: bad key material is refused with the reason, and what others put into
// a set is left out.
func TestReadKeys(t *testing.T) {
	i := newIssuer()
	private, err := x509.MarshalPKCS8PrivateKey(i.p256)
	if err != nil {
		t.Fatal(err)
	}
	join := func(all ...[]byte) []byte { return slices.Concat(all...) }
	type read func([]byte, []algorithm) ([]verifyKey, error)
	for _, tt := range []struct {
		name    string
		read    read
		content []byte
		keys    int
		problem string
	}{
		{"one key", readPEM, publicPEM(i.rsa.Public()), 1, ""},
		{"three keys and text", readPEM, join([]byte("for 2026:\n"), publicPEM(i.rsa.Public()), publicPEM(i.p256.Public()), publicPEM(i.ed.Public())), 3, ""},
		{"PKCS 1", readPEM, pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&i.rsa.PublicKey)}), 1, ""},
		{"a private key", readPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0, "only public keys"},
		{"a small RSA key", readPEM, publicPEM(i.small.Public()), 0, "1024 bits"},
		{"nothing", readPEM, []byte("ssh-rsa AAAA"), 0, "0 keys"},
		{"too many", readPEM, join(publicPEM(i.rsa.Public()), publicPEM(i.p256.Public()), publicPEM(i.p384.Public()), publicPEM(i.p521.Public()), publicPEM(i.ed.Public())), 0, "5 keys"},
		{"half a key", readPEM, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), 0, "key 1"},
		{"a secret with a newline", readSecret, []byte(testSecret + "\n"), 1, ""},
		{"two lines", readSecret, []byte(testSecret + "\n" + testSecret), 0, "one line"},
		{"a short secret", readSecret, []byte(testSecret[1:] + "\n"), 0, "31 bytes"},
		{"a set", readJWKS, jwks(jwk("a", i.rsa, nil), jwk("b", i.p256, nil), jwk("c", i.p384, nil), jwk("d", i.p521, nil), jwk("e", i.ed, nil)), 5, ""},
		{"with keys for other uses", readJWKS, jwks(jwk("a", i.rsa, map[string]any{"use": "enc"}), jwk("b", i.p256, map[string]any{"key_ops": []string{"sign"}}), jwk("c", i.ed, map[string]any{"alg": "EdDSA"})), 1, ""},
		{"with keys of unknown kinds", readJWKS, jwks(map[string]any{"kty": "AKP", "kid": "a", "alg": "ML-DSA-44", "pub": "x"}, jwk("b", i.p256, nil)), 1, ""},
		{"with a secret", readJWKS, jwks(map[string]any{"kty": "oct", "kid": "a", "k": base64.RawURLEncoding.EncodeToString([]byte(testSecret))}), 0, "not for signatures"},
		{"with a small RSA key", readJWKS, jwks(jwk("a", i.small, nil)), 0, "1024 bits"},
		{"for an algorithm that is not permitted", readJWKS, jwks(jwk("a", i.rsa, map[string]any{"alg": "RSA-OAEP"})), 0, "none of the permitted"},
		{"with a point that is on no curve", readJWKS, jwks(jwk("a", i.p256, map[string]any{"x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})), 0, "no key that can be used"},
		{"an empty set", readJWKS, jwks(), 0, "0 keys"},
		{"HTML", readJWKS, []byte("<html>"), 0, "not a JSON Web Key Set"},
	} {
		permitted := publicAlgorithms
		if len(tt.content) < 40 && strings.HasPrefix(string(tt.content), testSecret[1:2]) || strings.HasPrefix(string(tt.content), testSecret) {
			permitted = []algorithm{"HS256"}
		}
		keys, err := tt.read(tt.content, permitted)
		if len(keys) != tt.keys && tt.problem == "" || (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%s: %d keys, %v; want %d, %q", tt.name, len(keys), err, tt.keys, tt.problem)
		}
	}
}

// BenchmarkVerify is what one token costs whoever verifies it.
func BenchmarkVerify(b *testing.B) {
	i := newIssuer()
	permitted := append([]algorithm{"HS256"}, publicAlgorithms...)
	secret, err := newVerifyKey("", []byte(testSecret), "", permitted)
	if err != nil {
		b.Fatal(err)
	}
	check := newTokenCheck(&Config{AuthJWTAlgorithms: permitted}, time.Now)
	run := func(method jwt.SigningMethod, signer any, key verifyKey) {
		token, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "u1", "iss": "https://id.example", "iat": 1_700_000_000}).SignedString(signer)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(method.Alg(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := check.verify(token, []verifyKey{key}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run(jwt.SigningMethodHS256, []byte(testSecret), secret)
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodPS256, jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodES512, jwt.SigningMethodEdDSA} {
		signer := i.signatures()[method]
		key, err := newVerifyKey("", signer.Public(), "", permitted)
		if err != nil {
			b.Fatal(err)
		}
		run(method, signer, key)
	}
}
