package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

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
		{"expired", hs256(jwt.MapClaims{"sub": "u1", "exp": at(-31 * time.Second)}), "", codeTokenExpired},
		{"exp not a number", hs256(jwt.MapClaims{"sub": "u1", "exp": "never"}), "", codeTokenInvalid},
		{"not valid yet", hs256(jwt.MapClaims{"sub": "u1", "nbf": at(31 * time.Second)}), "", codeTokenInvalid},
		{"alg none", signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"sub": "u1"}), "", codeTokenInvalid},
		{"RS256", signed(t, jwt.SigningMethodRS256, rsaKey, jwt.MapClaims{"sub": "u1"}), "", codeTokenInvalid},
		{"HS512 with the right key", signed(t, jwt.SigningMethodHS512, []byte(testSecret), jwt.MapClaims{"sub": "u1"}), "", codeTokenInvalid},
		{"wrong key", signed(t, jwt.SigningMethodHS256, []byte(strings.ToUpper(testSecret)), jwt.MapClaims{"sub": "u1"}), "", codeTokenInvalid},
		{"expired and wrong key", signed(t, jwt.SigningMethodHS256, []byte("other"), jwt.MapClaims{"sub": "u1", "exp": at(-time.Hour)}), "", codeTokenInvalid},
		{"claims exchanged", parts[0] + ".eyJzdWIiOiJyb290In0." + parts[2], "", codeTokenInvalid},
		{"no signature", parts[0] + "." + parts[1] + ".", "", codeTokenInvalid},
		{"no sub", hs256(jwt.MapClaims{"name": "u1"}), "", codeUserInvalid},
		{"empty sub", hs256(jwt.MapClaims{"sub": ""}), "", codeUserInvalid},
		{"sub not a string", hs256(jwt.MapClaims{"sub": 1}), "", codeTokenInvalid},
		{"sub with braces", hs256(jwt.MapClaims{"sub": "a{b}"}), "", codeUserInvalid},
		{"sub too long", hs256(jwt.MapClaims{"sub": strings.Repeat("u", 256)}), "", codeUserInvalid},
		{"garbage", "abc", "", codeTokenInvalid},
		{"empty", "", "", codeTokenMissing},
		{"good but huge", hs256(jwt.MapClaims{"sub": "u1", "more": strings.Repeat("a", maxToken)}), "", codeTokenInvalid},
	}
	a := newAuthenticator(authJWT, testSecret, state.ValidID, func() time.Time { return testNow })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			auth, _ := json.Marshal(map[string]any{"token": tt.token, "userId": "admin"})
			checkUser(t, a, string(auth), tt.user, tt.code)
		})
	}
	for _, auth := range []string{``, `{}`, `{"token":null}`, `{"userId":"u1"}`, `[]`, `"x"`, `null`} {
		checkUser(t, a, auth, "", codeTokenMissing)
	}
	for _, auth := range []string{`{"token":1}`, `{"token":{}}`} {
		checkUser(t, a, auth, "", codeTokenInvalid)
	}
}

func TestAuthNone(t *testing.T) {
	a := newAuthenticator(authNone, "", state.ValidID, func() time.Time { return testNow })
	for _, tt := range []struct{ auth, user, code string }{
		{``, testSocket, ""},
		{`{}`, testSocket, ""},
		{`{"userId":null}`, testSocket, ""},
		{`{"token":"ignored"}`, testSocket, ""},
		{`{"userId":"u1"}`, "u1", ""},
		{`{"userId":"Zoë \u2713"}`, "Zoë ✓", ""},
		{`{"userId":""}`, "", codeUserInvalid},
		{`{"userId":7}`, "", codeUserInvalid},
		{`{"userId":["u1"]}`, "", codeUserInvalid},
		{`{"userId":"a\nb"}`, "", codeUserInvalid},
		{`{"userId":"{u}"}`, "", codeUserInvalid},
	} {
		t.Run(tt.auth, func(t *testing.T) { checkUser(t, a, tt.auth, tt.user, tt.code) })
	}
}

func checkUser(t *testing.T, a *authenticator, auth, user, code string) {
	t.Helper()
	got, refused := a.user(json.RawMessage(auth), testSocket)
	gotCode := ""
	if refused != nil {
		gotCode = refused.Code
		if refused.Message == "" || len(auth) > 40 && strings.Contains(fmt.Sprint(refused), auth[10:40]) {
			t.Errorf("refused with the message %q", refused.Message)
		}
	}
	if got != user || gotCode != code {
		t.Errorf("auth %.60s: user %q, code %q; want %q, %q", auth, got, gotCode, user, code)
	}
}
