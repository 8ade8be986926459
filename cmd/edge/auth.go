package main

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A refusal is why a socket may not connect: the message of the CONNECT_ERROR
// packet and the code in its data. It never contains the token.
type refusal struct{ Code, Message string }

// Codes of refused connections. The set is closed: clients branch on it.
const (
	codeTokenMissing = "token_missing"
	codeTokenInvalid = "token_invalid"
	codeTokenExpired = "token_expired"
	codeUserInvalid  = "user_invalid"
)

// tokenLeeway is how far the clocks of the edge and the issuer may be apart.
const tokenLeeway = 30 * time.Second

// maxToken bounds the work spent on a token, in bytes; real ones have a few hundred.
const maxToken = 8 << 10

// authenticator finds out who a socket is. Its methods may be called from any goroutine.
type authenticator struct {
	mode    authMode
	key     []byte // HS256
	parser  *jwt.Parser
	validID func(kind, id string) error
}

// newAuthenticator makes one for AUTH=mode. validID is the rule of user ids; now is the clock for exp and nbf.
func newAuthenticator(mode authMode, key secret, validID func(kind, id string) error, now func() time.Time) *authenticator {
	return &authenticator{
		mode: mode, key: []byte(key), validID: validID,
		// The algorithm is pinned: a token cannot choose "none" or have the key taken for a public one
		// (RFC 8725 section 3.1).
		parser: jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithLeeway(tokenLeeway), jwt.WithTimeFunc(now), jwt.WithStrictDecoding()),
	}
}

// user returns the user id of a socket from the auth object of its CONNECT
// packet (raw JSON, empty when the client sent none), or why it is refused.
//
// AUTH=jwt: auth.token, signed with HS256; sub is the user; exp and nbf hold if present.
// AUTH=none: auth.userId, a string; without it the socket id.
func (a *authenticator) user(auth json.RawMessage, socketID string) (string, *refusal) {
	var claims struct {
		Token  json.RawMessage `json:"token"`
		UserID json.RawMessage `json:"userId"`
	}
	if len(auth) > 0 && json.Unmarshal(auth, &claims) != nil {
		claims.Token, claims.UserID = nil, nil // not an object: it says nothing
	}
	id := socketID
	if a.mode == authJWT {
		sub, refused := a.subject(claims.Token)
		if refused != nil {
			return "", refused
		}
		id = sub
	} else if present(claims.UserID) && json.Unmarshal(claims.UserID, &id) != nil {
		return "", &refusal{codeUserInvalid, "userId is not a string"}
	}
	if err := a.validID("user", id); err != nil {
		return "", &refusal{codeUserInvalid, strings.TrimPrefix(err.Error(), "state: ")}
	}
	return id, nil
}

// subject verifies the token (raw JSON) and returns its sub claim.
func (a *authenticator) subject(raw json.RawMessage) (string, *refusal) {
	if !present(raw) {
		return "", &refusal{codeTokenMissing, "token is missing"}
	}
	var token string
	if json.Unmarshal(raw, &token) != nil || len(token) > maxToken {
		return "", &refusal{codeTokenInvalid, "token is invalid"}
	}
	if token == "" {
		return "", &refusal{codeTokenMissing, "token is missing"}
	}
	var claims jwt.RegisteredClaims
	_, err := a.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return a.key, nil })
	switch {
	case err == nil:
		return claims.Subject, nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", &refusal{codeTokenExpired, "token has expired"}
	}
	return "", &refusal{codeTokenInvalid, "token is invalid"}
}

// present reports whether a field was given and is not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
