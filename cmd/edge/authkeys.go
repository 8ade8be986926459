package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// algorithm is how a token is signed, by its name in RFC 7518 section 3.1 and RFC 8037.
type algorithm string

// hmacKeys are the algorithms with a shared secret, with the least bytes of it:
// the size of the hash (RFC 7518 section 3.2).
var hmacKeys = map[algorithm]int{"HS256": 32, "HS384": 48, "HS512": 64}

// publicAlgorithms are those with a public key.
var publicAlgorithms = []algorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func (a algorithm) shared() bool { return hmacKeys[a] > 0 }

// verifyKey is one key that tokens are verified with.
type verifyKey struct {
	id         string      // kid; "" if it has none
	algorithms []algorithm // that it may be used for, of which at least one is permitted
	key        any         // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

const (
	minRSABits = 2048 // RFC 7518 section 3.3
	maxKeys    = 64   // of one source
	maxTries   = 4    // keys that are tried for a token that does not name its own
)

// errUnknownKey is the error of a token for which there is no key: one may have
// been added where keys come from.
var errUnknownKey = errors.New("no key for the token")

// keysFor returns the keys with which a token may be verified that says alg and kid.
// Its alg selects among keys that are for that algorithm and for no other kind: a
// public key never serves as a secret (RFC 8725 section 3.1). A key without an id
// is tried for every token whose kid is not known, as is every key for a token
// without one. guess says that the token names a key, and it may be none of these.
func keysFor(keys []verifyKey, alg algorithm, kid string) (set jwt.VerificationKeySet, guess bool, err error) {
	var named, unnamed []jwt.VerificationKey
	for i := range keys {
		k := &keys[i]
		switch {
		case !slices.Contains(k.algorithms, alg):
		case k.id == kid && kid != "":
			named = append(named, k.key)
		case k.id == "" || kid == "":
			unnamed = append(unnamed, k.key)
		}
	}
	set.Keys = named
	if len(named) == 0 {
		set.Keys, guess = unnamed, kid != ""
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxTries {
		return set, guess, errUnknownKey
	}
	return set, guess, nil
}

// newVerifyKey makes a key of what it may be used for among permitted. only is the one
// algorithm it is meant for, if that is known.
func newVerifyKey(id string, key any, only string, permitted []algorithm) (verifyKey, error) {
	var able []algorithm
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return verifyKey{}, fmt.Errorf("an RSA key has %d bits; at least %d are required", k.N.BitLen(), minRSABits)
		}
		able = []algorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			able = []algorithm{"ES256"}
		case 384:
			able = []algorithm{"ES384"}
		case 521:
			able = []algorithm{"ES512"}
		}
	case ed25519.PublicKey:
		able = []algorithm{"EdDSA"}
	case []byte:
		for a, size := range hmacKeys {
			if len(k) >= size {
				able = append(able, a)
			}
		}
	}
	able = slices.DeleteFunc(able, func(a algorithm) bool {
		return !slices.Contains(permitted, a) || only != "" && only != string(a)
	})
	if len(able) == 0 {
		return verifyKey{}, fmt.Errorf("a key %T is for none of the permitted algorithms", key)
	}
	return verifyKey{id, able, key}, nil
}

// readSecret makes a key of a file's content. A newline at its end is not part of the secret.
func readSecret(content []byte, permitted []algorithm) ([]verifyKey, error) {
	secret := bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(secret, "\r\n\x00") {
		return nil, errors.New("is not one line of text")
	}
	if least := leastSecret(permitted); len(secret) < least {
		return nil, fmt.Errorf("has %d bytes; at least %d are required", len(secret), least)
	}
	k, err := newVerifyKey("", secret, "", permitted)
	return []verifyKey{k}, err
}

// leastSecret is the least size of a secret for all that is permitted, in bytes.
func leastSecret(permitted []algorithm) int {
	least := minSecret
	for _, a := range permitted {
		least = max(least, hmacKeys[a])
	}
	return least
}

// readPEM reads public keys and certificates (RFC 7468).
func readPEM(content []byte, permitted []algorithm) (keys []verifyKey, err error) {
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		var public any
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = cert.PublicKey
			}
		default:
			return nil, fmt.Errorf("has a %s; only public keys and certificates belong there", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		k, err := newVerifyKey("", public, "", permitted)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 || len(keys) > maxTries {
		return nil, fmt.Errorf("has %d keys in PEM; 1 to %d are required", len(keys), maxTries)
	}
	return keys, nil
}

// readJWKS reads a JSON Web Key Set. Keys that cannot be used here are left out, as
// RFC 7517 section 5 asks for; so are shared secrets, which have no place in one.
func readJWKS(content []byte, permitted []algorithm) ([]verifyKey, error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, fmt.Errorf("is not a JSON Web Key Set: %w", err)
	}
	var keys []verifyKey
	var unused error
	for _, raw := range set.Keys {
		k, err := readJWK(raw, permitted)
		if err != nil {
			unused = err
			continue
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0 && unused != nil:
		return nil, fmt.Errorf("has no key that can be used, the last one because %w", unused)
	case len(keys) == 0 || len(keys) > maxKeys:
		return nil, fmt.Errorf("has %d keys; 1 to %d are required", len(keys), maxKeys)
	}
	return keys, nil
}

func readJWK(raw json.RawMessage, permitted []algorithm) (verifyKey, error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &m); err != nil {
		return verifyKey{}, err
	}
	if m.USE != "" && m.USE != jwkset.UseSig || m.KTY == jwkset.KtyOct {
		return verifyKey{}, errors.New("it is not for signatures")
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return verifyKey{}, errors.New("it is not for verifying")
	}
	m.D, m.P, m.Q, m.DP, m.DQ, m.QI, m.OTH = "", "", "", "", "", "", nil // a private part is none of our business
	m.X5U = ""                                                           // nothing is fetched for it
	k, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return verifyKey{}, err
	}
	return newVerifyKey(m.KID, k.Key(), string(m.ALG), permitted)
}
