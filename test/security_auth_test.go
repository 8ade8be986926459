package test

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stellara/edge/internal/wire"
)

// CVE-2020-28481, socket.io: pages of any origin could connect, with the cookies of
// whoever looked at them.
func securityOriginBypass(t *testing.T, bin string) {
	a := attack(t, bin, "", "ORIGINS=https://app.example.com,https://*.example.org,same")
	for _, origin := range []string{
		"https://evil.example", "null", "", "https://app.example.com.evil.example", "https://evil-app.example.com", "https://app.example.com@evil.example",
		"https://evil.example/https://app.example.com", "http://app.example.com", "https://app.example.com:8443", "https://app.example.com/", "https://app.example.com#", "https://example.org",
		"https://evilexample.org", "https://x.example.org.evil.example", "https://app.example.comx", "app.example.com", "*", "file://", "https://[::1]", "https://app.example.com\r\nOrigin: https://evil.example",
		"https://evil.example, https://app.example.com", "https://x/.example.org", "http://y", "https://app.example.com\x00.evil.example", "https://app\u3002example.com",
	} {
		status400 := strings.Contains(origin, "\x00") // which is no header to begin with
		want := counted{"refusal origin": 3}
		if status400 {
			want = counted{"refusal request_head": 3}
		}
		a.suffers(t, want, func() {
			for _, request := range []string{
				get(openPolling, "Origin: "+origin+"\r\n"), get(openWebSocket, "Origin: "+origin+"\r\n"+upgradeHeaders),
				"OPTIONS " + openPolling + " HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\nAccess-Control-Request-Method: POST\r\n\r\n",
			} {
				status, body := a.request(t, request)
				if status != 403 && !(status400 && status == 400) {
					t.Errorf("%q is answered %d %q", request, status, body)
				}
			}
		})
	}
	t.Run("for a session that is open", func(t *testing.T) {
		session := a.session(t)
		a.suffers(t, counted{"refusal origin": 3}, func() {
			evil := "Origin: https://evil.example\r\n"
			for _, request := range []string{
				get(session, evil), "POST " + session + " HTTP/1.1\r\nHost: x\r\n" + evil + "Content-Length: 2\r\n\r\n40", get(strings.Replace(session, "polling", "websocket", 1), evil+upgradeHeaders),
			} {
				status, body := a.request(t, request)
				refusedWith(t, request, status, 403, body, "")
			}
		})
	})
	a.suffers(t, counted{}, func() { // pages that may
		for _, origin := range []string{"https://app.example.com", "HTTPS://APP.EXAMPLE.COM", "https://app.example.com:443", "https://a.b.example.org", "http://x", "https://x"} {
			if status, body := a.request(t, get(openPolling, "Origin: "+origin+"\r\n")); status != 200 {
				t.Errorf("%q is answered %d %q", origin, status, body)
			}
		}
	})
}

// part is a part of a JSON Web Token (RFC 7515 section 2).
func part(v any) string {
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		text = string(b)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// macToken is a token of the user admin, signed with a key that two know.
func macToken(header string, h func() hash.Hash, key []byte) string {
	text := part(header) + "." + part(`{"sub":"admin"}`)
	mac := hmac.New(h, key)
	mac.Write([]byte(text))
	return text + "." + part(string(mac.Sum(nil)))
}

// rsaToken is one signed with a private key (RS256).
func rsaToken(t *testing.T, header, claims string, key *rsa.PrivateKey) string {
	t.Helper()
	text := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + part(string(signature))
}

// CVE-2015-9235, jsonwebtoken: a token said itself how it was to be verified, such as
// with the public key as the secret of an HMAC, or not at all.
func securityAlgorithmConfusion(t *testing.T, bin string) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	file := filepath.Join(t.TempDir(), "public.pem")
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	good := rsaToken(t, `{"alg":"RS256"}`, `{"sub":"ada"}`, private)
	tokens := map[string]string{
		"a public key as a file":           macToken(`{"alg":"HS256"}`, sha256.New, public),
		"a public key as a file, trimmed":  macToken(`{"alg":"HS256"}`, sha256.New, bytes.TrimSpace(public)),
		"a public key as DER":              macToken(`{"alg":"HS256"}`, sha256.New, der),
		"a public key as PKCS #1":          macToken(`{"alg":"HS256"}`, sha256.New, x509.MarshalPKCS1PublicKey(&private.PublicKey)),
		"a public key as its modulus":      macToken(`{"alg":"HS256"}`, sha256.New, private.N.Bytes()),
		"another hash":                     macToken(`{"alg":"HS512"}`, sha512.New, public),
		"no secret":                        macToken(`{"alg":"HS256"}`, sha256.New, nil),
		"RS256 with an HMAC":               macToken(`{"alg":"RS256"}`, sha256.New, public),
		"two algorithms":                   macToken(`{"alg":"RS256","alg":"HS256"}`, sha256.New, public),
		"an algorithm that is a list":      macToken(`{"alg":["HS256"]}`, sha256.New, public),
		"no algorithm":                     macToken(`{}`, sha256.New, public),
		"another key":                      rsaToken(t, `{"alg":"RS256"}`, `{"sub":"admin"}`, other),
		"another key with its certificate": rsaToken(t, `{"alg":"RS256","jwk":{"kty":"RSA","e":"AQAB","n":"`+part(string(other.N.Bytes()))+`"},"jku":"https://127.0.0.1:1/","x5u":"https://127.0.0.1:1/"}`, `{"sub":"admin"}`, other),
		"a kid that is a path":             macToken(`{"alg":"HS256","kid":"../../../dev/null"}`, sha256.New, nil),
		"a signature of another algorithm": part(`{"alg":"PS256"}`) + good[strings.IndexByte(good, '.'):],
		"a critical header":                rsaToken(t, `{"alg":"RS256","crit":["x"],"x":1}`, `{"sub":"admin"}`, other),
		"exchanged claims":                 strings.Replace(good, part(`{"sub":"ada"}`), part(`{"sub":"admin"}`), 1),
		"no signature":                     good[:strings.LastIndexByte(good, '.')+1],
		"a signature cut short":            good[:len(good)-8],
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", ""} {
		text := part(fmt.Sprintf(`{"alg":%q}`, none)) + "." + part(`{"sub":"admin"}`) + "."
		tokens["alg "+none], tokens["alg "+none+" with a signature"] = text, text+part("x")
	}
	for name, environ := range map[string][]string{
		"a public key":              nil,
		"a public key and a secret": {"AUTH_JWT_SECRET=" + strings.Repeat("another secret ", 3)},
	} {
		t.Run(name, func(t *testing.T) {
			a := attack(t, bin, `{"token":"`+good+`"}`, append([]string{"AUTH=jwt", "AUTH_JWT_KEY_FILE=" + file}, environ...)...)
			for name, token := range tokens {
				t.Run(name, func(t *testing.T) {
					t.Cleanup(func() { a.alone(t) })
					a.suffers(t, counted{"refusal middleware": 1, "auth token_invalid": 1}, func() {
						c := wire.Dial(t, a.addr, openWebSocket, nil)
						c.Receive()
						c.Text(`40{"token":"` + token + `"}`)
						if answer := c.Receive(); !strings.HasPrefix(answer, `44{"message":"token`) || !strings.Contains(answer, `"code":"token_invalid"`) || strings.Contains(answer, token) {
							t.Errorf("answered %q", answer)
						}
					})
				})
			}
		})
	}
}
