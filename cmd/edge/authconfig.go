package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
)

// words is a list of values separated by commas.
type words []string

// UnmarshalText refuses empty values.
func (w *words) UnmarshalText(b []byte) error {
	*w = nil
	for word := range strings.SplitSeq(string(b), ",") {
		if word = strings.TrimSpace(word); word == "" {
			return fmt.Errorf("%q has an empty value between its commas", b)
		}
		*w = append(*w, word)
	}
	return nil
}

// oneOfWords reads a list of distinct values out of a closed set.
func oneOfWords[T ~string](dst *[]T, b []byte, allowed ...T) error {
	var all words
	if err := all.UnmarshalText(b); err != nil {
		return err
	}
	*dst = nil
	for _, word := range all {
		var one T
		if err := oneOf(&one, []byte(word), allowed...); err != nil {
			return err
		}
		if slices.Contains(*dst, one) {
			return fmt.Errorf("%q is there twice", word)
		}
		*dst = append(*dst, one)
	}
	return nil
}

// algorithmList is AUTH_JWT_ALGORITHMS.
type algorithmList []algorithm

// UnmarshalText takes the names of RFC 7518 and RFC 8037, but not none.
func (l *algorithmList) UnmarshalText(b []byte) error {
	return oneOfWords((*[]algorithm)(l), b, append([]algorithm{"HS256", "HS384", "HS512"}, publicAlgorithms...)...)
}

// tokenPlace is where a client may put its token.
type tokenPlace string

// Values of AUTH_TOKEN_FROM.
const (
	fromAuth        tokenPlace = "auth"
	fromQuery       tokenPlace = "query"
	fromSubprotocol tokenPlace = "subprotocol"
)

// tokenPlaces is AUTH_TOKEN_FROM, in the order in which they are looked at.
type tokenPlaces []tokenPlace

// UnmarshalText takes the names of places.
func (l *tokenPlaces) UnmarshalText(b []byte) error {
	return oneOfWords((*[]tokenPlace)(l), b, fromAuth, fromQuery, fromSubprotocol)
}

// Bounds of AUTH_JWT_LEEWAY and AUTH_EXPIRY_WARNING.
const (
	maxLeeway  = 5 * time.Minute
	maxWarning = time.Hour
)

// hasSecret and hasPublicKeys say what kinds of keys are configured.
func (c *Config) hasSecret() bool     { return c.AuthJWTSecret != "" || c.AuthJWTSecretFile != "" }
func (c *Config) hasPublicKeys() bool { return c.AuthJWTKeyFile != "" || c.AuthJWKS != "" }

// algorithms are those that are permitted: AUTH_JWT_ALGORITHMS, or HS256 with a
// secret and those of public keys with such.
func (c *Config) algorithms() []algorithm {
	if c.AuthJWTAlgorithms != nil {
		return c.AuthJWTAlgorithms
	}
	var all []algorithm
	if c.hasSecret() {
		all = append(all, "HS256")
	}
	if c.hasPublicKeys() {
		all = append(all, publicAlgorithms...)
	}
	return all
}

func (c *Config) checkAuth(p *problems) {
	if !p.has("AUTH_JWT_LEEWAY") && (c.AuthJWTLeeway < 0 || c.AuthJWTLeeway > maxLeeway) {
		p.add("AUTH_JWT_LEEWAY", "%v is not between 0s and %v", c.AuthJWTLeeway, maxLeeway)
	}
	if !p.has("AUTH_EXPIRY_WARNING") && (c.AuthExpiryWarning < 0 || c.AuthExpiryWarning > maxWarning) {
		p.add("AUTH_EXPIRY_WARNING", "%v is not between 0s and %v", c.AuthExpiryWarning, maxWarning)
	}
	if strings.ContainsFunc(c.AuthJWTIssuer, unicode.IsControl) {
		p.add("AUTH_JWT_ISSUER", "%q has control characters", c.AuthJWTIssuer)
	}
	if strings.HasPrefix(strings.TrimSpace(c.AuthJWTKeyFile), "-----BEGIN") {
		p.add("AUTH_JWT_KEY_FILE", "is a key; it must be the path of a file that has it")
	}
	if p.has("AUTH") {
		return
	}
	switch c.Auth {
	case authJWT:
		c.checkKeys(p)
	case authNone:
		if !c.AuthNonePublic && !p.has("AUTH_NONE_PUBLIC") && !p.has("LISTEN_ADDR") && !isLoopback(c.ListenAddr) {
			p.add("AUTH", "none lets anybody be any user, and LISTEN_ADDR=%s is not a loopback address: set AUTH=jwt, or AUTH_NONE_PUBLIC=true to allow it", c.ListenAddr)
		}
	}
}

// checkKeys compares the keys that are configured with what they are to be used for.
func (c *Config) checkKeys(p *problems) {
	if p.has("AUTH_JWKS") || p.has("AUTH_JWT_ALGORITHMS") {
		return
	}
	least := leastSecret(c.algorithms())
	switch {
	case !c.hasSecret() && !c.hasPublicKeys():
		p.add("AUTH_JWT_SECRET", "is required when AUTH=jwt (at least %d bytes), or AUTH_JWT_SECRET_FILE, AUTH_JWT_KEY_FILE or AUTH_JWKS; AUTH=none would trust any client", minSecret)
	case c.AuthJWTSecret != "" && c.AuthJWTSecretFile != "":
		p.add("AUTH_JWT_SECRET_FILE", "names a second secret beside AUTH_JWT_SECRET")
	case c.AuthJWTSecret != "" && len(c.AuthJWTSecret) < least:
		p.add("AUTH_JWT_SECRET", "has %d bytes; at least %d are required", len(c.AuthJWTSecret), least)
	}
	shared, public := false, false
	for _, a := range c.algorithms() {
		shared, public = shared || a.shared(), public || !a.shared()
	}
	switch {
	case p.has("AUTH_JWT_SECRET"):
	case shared && !c.hasSecret():
		p.add("AUTH_JWT_ALGORITHMS", "has one that needs a secret, and neither AUTH_JWT_SECRET nor AUTH_JWT_SECRET_FILE is set")
	case public && !c.hasPublicKeys():
		p.add("AUTH_JWT_ALGORITHMS", "has one that needs a public key, and neither AUTH_JWT_KEY_FILE nor AUTH_JWKS is set")
	case !shared && c.hasSecret():
		p.add("AUTH_JWT_ALGORITHMS", "has none that a secret is for, but one is set")
	case !public && c.hasPublicKeys():
		p.add("AUTH_JWT_ALGORITHMS", "has none that public keys are for, but AUTH_JWT_KEY_FILE or AUTH_JWKS is set")
	}
}

// warnAuth says what of the authentication works but may not be meant.
func (c *Config) warnAuth(log *slog.Logger) {
	if c.Auth == authNone {
		if c.hasSecret() || c.hasPublicKeys() {
			log.Warn("keys for tokens are set but not used, because AUTH is none: clients say who they are, unchecked")
		}
		if c.AuthNonePublic && !c.Origins.set() {
			log.Warn("AUTH is none and ORIGINS is empty: any web page can connect as any user, from the browser of whoever opens it")
		}
		return
	}
	if slices.Contains(c.AuthTokenFrom, fromQuery) {
		log.Warn("AUTH_TOKEN_FROM has query: what is in URLs ends up in the logs of proxies")
	}
	if c.AuthJWKS.exposed() {
		log.Warn("AUTH_JWKS begins with http: whoever can change what comes from there can be any user")
	}
}
