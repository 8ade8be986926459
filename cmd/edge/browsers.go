package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guardBrowsers keeps pages of other sites, which an operator's browser may have open,
// from using the operators' listener: what changes something must come from its own
// page or from no browser (Fetch metadata, or else the Origin header). So must what asks
// for profiles: they take processor time though nobody can read them. Without a token
// the listener is on a loopback address, and its name must say so, too: a page whose
// name is made to point here (DNS rebinding) counts as the same origin.
func guardBrowsers(token secret, next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	guarded := origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token == "" && !isLocalName(r.Host) {
			http.Error(w, fmt.Sprintf("the host %q is none of this machine: without ADMIN_TOKEN the listener is asked by a loopback address or localhost", r.Host), http.StatusForbidden)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/debug/") {
			as := *r
			as.Method = http.MethodPost // reading is not checked
			if err := origins.Check(&as); err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
		}
		guarded.ServeHTTP(w, r)
	})
}

// isLocalName reports whether the Host of a request, with or without a port, is a
// loopback address or localhost; no Host at all is no browser's.
func isLocalName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
