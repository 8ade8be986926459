package main

import (
	"encoding/json"
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// A refusal is why a socket may not connect, or a token not take another's place:
// the message of the CONNECT_ERROR packet and the code in its data. It never
// contains the token.
type refusal struct {
	Why     metrics.Auth
	Message string
}

// Code is what clients branch on: the metric's label.
func (r *refusal) Code() string { return r.Why.String() }

func refused(why metrics.Auth, message string) *refusal { return &refusal{why, message} }

// maxToken bounds the work spent on a token, in bytes; real ones have a few hundred.
const maxToken = 8 << 10

// verified is who a client was found to be. It, or a *refusal, is a socket's data from when its
// client wanted a session back until the socket is connected or restored.
type verified struct {
	User  string
	Grant *grant
}

// claimant is a client that says who it is.
type claimant struct {
	auth      json.RawMessage // of its CONNECT packet; empty if there was none
	socketID  string
	handshake func() *engine.Handshake // not free
}

func claimantOf(s *engine.Socket) claimant {
	return claimant{auth: s.Auth(), socketID: s.ID(), handshake: s.Handshake}
}

// authenticator finds out who a socket is. Its methods may be called from any goroutine.
type authenticator struct {
	mode    authMode
	places  tokenPlaces
	check   *tokenCheck // nil with AUTH=none
	ring    *keyring    // nil with AUTH=none
	workers *workers    // nil if what there is to verify is verified at once
	tickets *tickets    // of the console
	validID func(kind, id string) error
	metrics *metrics.Metrics
}

// newAuthenticator makes what cfg says. ring is nil with AUTH=none. validID is the
// rule of user ids; now is the clock for exp and nbf.
func newAuthenticator(cfg *Config, ring *keyring, m *metrics.Metrics, validID func(kind, id string) error, now func() time.Time) *authenticator {
	a := &authenticator{mode: cfg.Auth, places: cfg.AuthTokenFrom, ring: ring, tickets: newTickets(now), validID: validID, metrics: m}
	if cfg.Auth != authJWT {
		return a
	}
	a.check = newTokenCheck(cfg, now)
	if cfg.hasPublicKeys() {
		a.workers = &workers{max: max(1, runtime.GOMAXPROCS(0)/2), bound: maxVerifications}
	}
	return a
}

// maxVerifications bounds the tokens that wait for a worker: a second's worth of one
// processor, and less than 16 MiB of tokens.
const maxVerifications = 2_000

// identify calls done once, now or later, on any goroutine, with who a client is or
// why it is refused. It never waits.
//
// AUTH=jwt: by its token; sub is the user. AUTH=none: auth.userId, a string; without it the socket id.
// With both, the console's clients by their ticket.
func (a *authenticator) identify(c claimant, done func(*verified, *refusal)) {
	if user, ok := a.tickets.of(c.auth); ok {
		a.settle(&verified{User: user}, nil, done)
		return
	}
	if a.mode == authJWT {
		token, r := findToken(a.places, c)
		if r != nil {
			a.settle(nil, r, done)
			return
		}
		a.verify(token, "", done)
		return
	}
	var claims struct {
		UserID json.RawMessage `json:"userId"`
	}
	if len(c.auth) > 0 && json.Unmarshal(c.auth, &claims) != nil {
		claims.UserID = nil // not an object: it says nothing
	}
	id := c.socketID
	if present(claims.UserID) && json.Unmarshal(claims.UserID, &id) != nil {
		a.settle(nil, refused(metrics.AuthUserInvalid, "userId is not a string"), done)
		return
	}
	a.settle(&verified{User: id}, nil, done)
}

// attempt is a token on its way to be verified.
type attempt struct {
	token string
	user  string // whose it must be; "" is anybody's
	asked bool   // it has waited for keys
	done  func(*verified, *refusal)
}

// verify is identify for a token, which must be of a user if that is not "".
func (a *authenticator) verify(token, user string, done func(*verified, *refusal)) {
	a.submit(attempt{token: token, user: user, done: done})
}

// submit has a worker try a token, unless too many wait; without workers it is tried at once.
func (a *authenticator) submit(at attempt) {
	if a.workers == nil {
		a.try(at)
		return
	}
	if !a.workers.submit(func() { a.try(at) }) {
		a.settle(nil, refused(metrics.AuthBusy, "too many clients are being authenticated, try again later"), at.done)
	}
}

// try verifies a token with the keys there are. If its own is not among them it waits
// for them to be loaded, once.
func (a *authenticator) try(at attempt) {
	keys := a.ring.current()
	v, err := a.verified(at.token, *keys)
	if !errors.Is(err, errUnknownKey) {
		r := refusedToken(err)
		if r == nil && at.user != "" && v.User != at.user {
			r = refused(metrics.AuthUserMismatch, "the token is another user's")
		}
		a.settle(v, r, at.done)
		return
	}
	next := a.ring.answer()
	if !at.asked {
		next = a.ring.ask(keys, func() { at.asked = true; a.submit(at) })
	}
	switch next {
	case askWaits:
	case askChanged:
		a.submit(at)
	case askUnavailable:
		a.settle(nil, refused(metrics.AuthKeysUnavailable, "the keys to verify tokens cannot be loaded, try again later"), at.done)
	case askRefused:
		a.settle(nil, refusedToken(err), at.done)
	}
}

// verified is check.verify. A bug in what takes tokens apart ends the token that meets it: on a
// worker nobody else would catch it, and it would end the process.
func (a *authenticator) verified(token string, keys []verifyKey) (v *verified, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.metrics.HandlerPanics.Inc()
			a.ring.log.Error("verifying a token panicked", "panic", p, "stack", string(debug.Stack()))
			v, err = nil, errVerifierPanicked
		}
	}()
	return a.check.verify(token, keys)
}

// settle checks the user id, counts the outcome and tells it.
func (a *authenticator) settle(v *verified, r *refusal, done func(*verified, *refusal)) {
	if r == nil {
		if err := a.validID("user", v.User); err != nil {
			r = refused(metrics.AuthUserInvalid, strings.TrimPrefix(err.Error(), "state: "))
		}
	}
	if r != nil {
		a.metrics.Auths[r.Why].Inc()
		done(nil, r)
		return
	}
	a.metrics.Auths[metrics.AuthAccepted].Inc()
	done(v, nil)
}

// tokenParameter is the query parameter with a token, and what precedes one that is
// offered as a subprotocol.
const (
	tokenParameter = "token"
	tokenProtocol  = "token."
)

// findToken returns the client's token: of the first of places that has one.
func findToken(places tokenPlaces, c claimant) (string, *refusal) {
	var h *engine.Handshake
	for _, place := range places {
		if place != fromAuth && h == nil {
			h = c.handshake()
		}
		token := ""
		switch place {
		case fromAuth:
			var claims struct{ Token json.RawMessage }
			if len(c.auth) > 0 && json.Unmarshal(c.auth, &claims) != nil {
				continue // not an object: it says nothing
			}
			var r *refusal
			if token, r = tokenOf(claims.Token); r != nil && r.Why != metrics.AuthTokenMissing {
				return "", r
			}
		case fromQuery:
			token = h.Query.Get(tokenParameter)
		case fromSubprotocol:
			for _, name := range h.Protocols {
				if rest, ok := strings.CutPrefix(name, tokenProtocol); ok {
					token = rest
				}
			}
		}
		if len(token) > maxToken {
			return "", refused(metrics.AuthTokenInvalid, "token is invalid")
		}
		if token != "" {
			return token, nil
		}
	}
	return "", refused(metrics.AuthTokenMissing, "token is missing")
}

// tokenOf reads a token as JSON.
func tokenOf(raw json.RawMessage) (string, *refusal) {
	if !present(raw) {
		return "", refused(metrics.AuthTokenMissing, "token is missing")
	}
	var token string
	if json.Unmarshal(raw, &token) != nil || len(token) > maxToken {
		return "", refused(metrics.AuthTokenInvalid, "token is invalid")
	}
	if token == "" {
		return "", refused(metrics.AuthTokenMissing, "token is missing")
	}
	return token, nil
}

// present reports whether a field was given and is not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
