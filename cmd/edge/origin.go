package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/stellara/edge/engine"
)

// origins is ORIGINS: the pages that may connect, by their origin (RFC 6454). The
// zero value lets all connect, and has no CORS headers sent.
type origins struct {
	rules []originRule
	same  bool // pages of the host that they connect to
	any   bool
}

// originRule is one origin, or all whose host ends with a dot and host.
type originRule struct {
	scheme, host, port string // port as it is written in an origin: "" if it is the scheme's own
	below              bool
}

// UnmarshalText reads origins separated by commas: scheme://host[:port], a host that
// begins with *. for all below it, the word same, or * alone.
func (o *origins) UnmarshalText(b []byte) error {
	*o = origins{}
	for word := range strings.SplitSeq(string(b), ",") {
		switch word = strings.TrimSpace(word); word {
		case "same":
			o.same = true
		case "*":
			o.any = true
		default:
			rule, err := parseOrigin(word)
			if err != nil {
				return err
			}
			o.rules = append(o.rules, rule)
		}
	}
	if o.any && (o.same || len(o.rules) > 0) {
		return errors.New("* allows every origin, so nothing may be beside it")
	}
	return nil
}

// parseOrigin reads one origin as ORIGINS has it.
func parseOrigin(word string) (r originRule, err error) {
	given, below := word, false
	if scheme, host, ok := strings.Cut(word, "://*."); ok {
		given, below = scheme+"://"+host, true
	}
	if r, err = splitOrigin(given); err != nil || strings.Contains(r.host, "*") || below && !strings.Contains(r.host, ".") {
		return r, fmt.Errorf("%q is not an origin, such as https://app.example.com or https://*.example.com, and not same or *", word)
	}
	r.below = below
	return r, nil
}

// splitOrigin takes an origin apart. "null", and whatever has a path or a user, is none.
func splitOrigin(s string) (originRule, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") || u.Opaque != "" {
		return originRule{}, errors.New("not an origin")
	}
	port := u.Port()
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return originRule{}, err
		}
		port = strconv.FormatUint(n, 10)
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		port = ""
	}
	return originRule{scheme: scheme, host: strings.ToLower(u.Hostname()), port: port}, nil
}

// set reports whether there is anything to check.
func (o *origins) set() bool { return o.any || o.same || len(o.rules) > 0 }

// allow decides about a request that has an Origin header. More than one is none
// that a browser sends.
func (o *origins) allow(r *http.Request) bool {
	given := r.Header["Origin"]
	switch {
	case o.any:
		return true
	case len(given) != 1:
		return false
	}
	from, err := splitOrigin(given[0])
	return err == nil && (o.listed(from) || o.same && from.at(r.Host))
}

// listed reports whether a rule allows the origin.
func (o *origins) listed(from originRule) bool {
	for _, r := range o.rules {
		if r.scheme == from.scheme && r.port == from.port && (!r.below && r.host == from.host || r.below && strings.HasSuffix(from.host, "."+r.host)) {
			return true
		}
	}
	return false
}

// at reports whether the origin is that of the host a request was sent to. Which
// scheme that was is not known behind a proxy that ends TLS, so it is not compared.
func (r originRule) at(host string) bool {
	to, err := splitOrigin(r.scheme + "://" + host)
	return err == nil && to.host == r.host && to.port == r.port
}

// cors is what pages of allowed origins may do with polling. They may send cookies,
// which only a balancer reads: nobody is authenticated by one.
func (o *origins) cors() *engine.CORS {
	switch {
	case o.any:
		return &engine.CORS{Origins: []string{"*"}}
	case len(o.rules) == 0: // a page of the same origin needs none
		return nil
	}
	return &engine.CORS{Credentials: true, Allowed: func(origin string) bool {
		from, err := splitOrigin(origin)
		return err == nil && o.listed(from)
	}}
}

// check is Config.AllowOrigin, nil if there is nothing to check.
func (o *origins) check() func(*http.Request) bool {
	if !o.set() {
		return nil
	}
	return o.allow
}
