package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminHandler serves the operators' listener. With a token, profiles and
// presence need it: profiles show memory contents and cost CPU time, presence
// names users. Without one, the listener is on a loopback address (the
// configuration sees to that). What further mounts serve decides for itself.
func adminHandler(token secret, reg *prometheus.Registry, ready *readiness, presence http.Handler, further ...mount) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", consolePage())
	mux.Handle("GET /console/", consolePage())
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", ready.serve)
	mux.HandleFunc("GET /readyz/sessions", ready.serveSessions)

	mux.Handle("/presence/", requireToken(token, presence))

	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("/debug/pprof/", requireToken(token, profiles))
	for _, m := range further {
		mux.Handle(m.pattern, m.handler)
	}
	return mux
}

// mount is a handler and the pattern it serves (http.ServeMux).
type mount struct {
	pattern string
	handler http.Handler
}

// wwwAuthenticate is what a request without the token is told (RFC 6750 section 3).
const wwwAuthenticate = `Bearer realm="edge admin"`

// requireToken lets requests with "Authorization: Bearer <token>" through; an empty token lets all through.
func requireToken(token secret, next http.Handler) http.Handler {
	admits := bearerCheck(token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !admits(r) {
			w.Header().Set("WWW-Authenticate", wwwAuthenticate)
			http.Error(w, "ADMIN_TOKEN required as a bearer token", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearerCheck reports whether a request has "Authorization: Bearer <token>"; an empty token admits all.
func bearerCheck(token secret) func(*http.Request) bool {
	if token == "" {
		return func(*http.Request) bool { return true }
	}
	want := sha256.Sum256([]byte(token))
	return func(r *http.Request) bool {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(given)) // equal lengths: the comparison says nothing about the token's
		return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}
}

// healthz says that the process serves HTTP, ready or not.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, "ok\n")
}

// newAdminServer limits what a stranger on the operators' listener can hold on
// to. A response may take two minutes, so that a long profile can be taken.
func newAdminServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          httpLog(log, "admin"),
	}
}
