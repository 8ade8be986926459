package main

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// heads counts the connections of which no request was handled because its head was
// malformed, too large, or did not come whole: net/http answers or ends these by
// itself, and tells nobody but by the connection's state, and that of the first request
// only: a later one that it refuses is not counted. Safe for concurrent use.
type heads struct {
	refused prometheus.Counter

	mu    sync.Mutex // guards begun; a leaf
	begun map[net.Conn]struct{}
}

func newHeads(refused prometheus.Counter) *heads {
	return &heads{refused: refused, begun: make(map[net.Conn]struct{})}
}

// headKey is the key of a request's connection in its context.
type headKey struct{}

// context is the http.Server's ConnContext.
func (h *heads) context(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, headKey{}, c)
}

// watch is a part of the http.Server's ConnState. A connection becomes active when
// net/http has read its head, or has failed to after the first byte.
func (h *heads) watch(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, begun := h.begun[c]
	switch {
	case state == http.StateActive:
		h.begun[c] = struct{}{}
	case begun:
		delete(h.begun, c)
		h.refused.Inc()
	}
}

// handler takes note that the head of a request was accepted.
func (h *heads) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(headKey{}).(net.Conn); ok {
			h.mu.Lock()
			delete(h.begun, c)
			h.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}
