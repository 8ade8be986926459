package main

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// consoleFiles is the page of the operators' listener: no build step, no other origin.
//
//go:embed console
var consoleFiles embed.FS

// consolePolicy lets the page do what it does and nothing else.
const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// consolePage serves the page and its parts. They hold nothing of this node: what
// they show they ask for, with the token.
func consolePage() http.Handler {
	files := http.FileServerFS(consoleFiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", consolePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // another version of the edge has another page
		if r.URL.Path == "/" {
			http.ServeFileFS(w, r, consoleFiles, "console/index.html")
			return
		}
		files.ServeHTTP(w, r)
	})
}

// maxTicketBody is more than a user's name needs.
const maxTicketBody = 2 << 10

// issueTicket answers POST {"user": "<id>"} with {"ticket": "…"}, which lets one in as
// that user for a minute.
func issueTicket(t *tickets, validID func(kind, id string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			User string `json:"user"`
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTicketBody))
		if err == nil {
			err = json.Unmarshal(body, &ask)
		}
		if err == nil {
			err = validID("user", ask.User)
		}
		if err != nil {
			http.Error(w, fmt.Sprintf("the body must be {\"user\": \"<id>\"}: %v", err), http.StatusBadRequest)
			return
		}
		text := t.issue(ask.User)
		if text == "" {
			w.Header().Set("Retry-After", "60")
			http.Error(w, "too many tickets were asked for within a minute", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(struct {
			Ticket string `json:"ticket"`
		}{text})
	})
}

var errNoTicket = errors.New("the console needs a ticket, of POST /console/tickets")

// consoleSocket lets the console's WebSockets through to the clients' front door: who
// has a ticket, and nobody else. The page comes from this listener, whose origin is none
// that clients may have; the ticket says more than it would.
func consoleSocket(t *tickets, clients http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if _, ok := t.user(query.Get("ticket")); !ok {
			http.Error(w, errNoTicket.Error(), http.StatusUnauthorized)
			return
		}
		query.Del("ticket") // it must not be kept with the handshake
		r = r.Clone(r.Context())
		r.URL = &url.URL{Path: socketIOPath, RawQuery: query.Encode()}
		r.Header.Del("Origin")
		clients.ServeHTTP(w, r)
	})
}
