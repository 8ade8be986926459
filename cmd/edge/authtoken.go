package main

import (
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/stellara/edge/metrics"
)

// tokenCheck is what a token must fulfil. Its methods may be called from any goroutine.
type tokenCheck struct{ parser *jwt.Parser }

func newTokenCheck(cfg *Config, now func() time.Time) *tokenCheck {
	// The algorithms are pinned: a token cannot choose "none", or one that is not configured (RFC 8725
	// section 3.1). Which key it is verified with is chosen by keysFor.
	var names []string
	for _, a := range cfg.algorithms() {
		names = append(names, string(a))
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(names), jwt.WithLeeway(cfg.AuthJWTLeeway), jwt.WithTimeFunc(now), jwt.WithStrictDecoding(),
	}
	if len(cfg.AuthJWTAudience) > 0 {
		options = append(options, jwt.WithAudience(cfg.AuthJWTAudience...))
	}
	if cfg.AuthJWTIssuer != "" {
		options = append(options, jwt.WithIssuer(cfg.AuthJWTIssuer))
	}
	return &tokenCheck{jwt.NewParser(options...)}
}

// tokenClaims are the claims that are of interest.
type tokenClaims struct {
	jwt.RegisteredClaims
	Rooms roomsClaim `json:"rooms"`
}

var (
	errCritical = errors.New("the token demands extensions") // RFC 7515 section 4.1.11: none is understood
	errKeyID    = errors.New("kid is not a string")

	errVerifierPanicked = errors.New("the token could not be taken apart")
)

// endOfTime is the year 10000 in Unix seconds: a token that lives to see it does not expire.
const endOfTime = 253_402_300_800

// verify returns what a token says that one of keys has signed. The error is
// errUnknownKey if none of them could have, or the key that it names is not known
// and no key without a name has.
func (c *tokenCheck) verify(token string, keys []verifyKey) (*verified, error) {
	var claims tokenClaims
	guess := false
	_, err := c.parser.ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) {
		if _, critical := t.Header["crit"]; critical {
			return nil, errCritical
		}
		kid, ok := t.Header["kid"].(string)
		if !ok && t.Header["kid"] != nil {
			return nil, errKeyID
		}
		set, guessed, err := keysFor(keys, algorithm(t.Method.Alg()), kid)
		guess = guessed
		return set, err
	})
	if guess && errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		return nil, errUnknownKey
	}
	if err != nil {
		return nil, err
	}
	expires := int64(0)
	if claims.ExpiresAt != nil && claims.ExpiresAt.Unix() < endOfTime {
		expires = claims.ExpiresAt.UnixMilli()
	}
	return &verified{claims.Subject, newGrant(expires, claims.Rooms)}, nil
}

// refusedToken is what a client is told of verify's error; nil if there is none.
func refusedToken(err error) *refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return refused(metrics.AuthTokenExpired, "token has expired")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return refused(metrics.AuthTokenInvalid, "token is for another audience")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return refused(metrics.AuthTokenInvalid, "token is of another issuer")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return refused(metrics.AuthTokenInvalid, "token is not valid yet")
	}
	return refused(metrics.AuthTokenInvalid, "token is invalid")
}
