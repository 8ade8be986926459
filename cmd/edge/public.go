package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/stellara/edge/metrics"
)

// socketIOPath is where Socket.IO clients knock unless told otherwise. The
// reference server matches the prefix only, and so does this one.
const socketIOPath = "/socket.io/"

// unreadBodyTimeout bounds how long a request with a body that is of no use here
// may hold its connection.
const unreadBodyTimeout = 10 * time.Second

// publicHandler serves the clients' listener. Matching is by hand: a ServeMux
// would answer unclean paths with redirects, which Socket.IO clients do not follow.
func publicHandler(clients http.Handler, ready *readiness) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if strings.HasPrefix(path, socketIOPath) {
			clients.ServeHTTP(w, r)
			return
		}
		if r.ContentLength != 0 {
			// net/http waits for a body that nobody reads before it closes.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadBodyTimeout))
		}
		switch {
		case path == "/healthz":
			healthz(w, r)
		case path == "/readyz":
			ready.serve(w, r)
		case path == "/readyz/sessions":
			ready.serveSessions(w, r)
		default:
			http.Error(w, "not found: Socket.IO clients connect to "+socketIOPath, http.StatusNotFound)
		}
	})
}

// newPublicServer bounds the HTTP phase of clients: the head of a request in bytes, of which net/http takes
// 4 KiB more, and in time. There is no ReadTimeout and
// no WriteTimeout because a long-polling request waits for longer than any that would protect.
func newPublicServer(h http.Handler, e *entrance, maxHeader int, headerTime time.Duration, log *slog.Logger) *http.Server {
	heads := newHeads(e.m.Refusals[metrics.RefusalRequestHead])
	return &http.Server{
		Handler: heads.handler(e.handler(h)),
		ConnState: func(c net.Conn, state http.ConnState) {
			heads.watch(c, state)
			e.watch(c, state)
		},
		ConnContext: heads.context,
		// Every request is to be handled here, or heads would take it for none.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerTime,
		IdleTimeout:                  75 * time.Second,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     httpLog(log, "clients"),
	}
}

// listen opens a TCP listener for very many connections. TCP keep-alive is off:
// Go's default is a probe per connection every 15 s, and Engine.IO pings find
// dead peers anyway. Multipath TCP is off: its sockets cost more and are not what the poller expects.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := listenConfig()
	return lc.Listen(ctx, "tcp", addr)
}

// listenClients is listen for clients, of whose unread bytes the kernel keeps no
// more than notSent beyond what the network and the client have taken; 0 leaves it
// to the kernel. Connections inherit it from the listener, so it costs no system call for each.
func listenClients(ctx context.Context, addr string, notSent int) (net.Listener, error) {
	lc := listenConfig()
	if notSent > 0 {
		lc.Control = func(_, _ string, c syscall.RawConn) error {
			var refused error
			err := c.Control(func(fd uintptr) { refused = limitNotSent(fd, notSent) })
			return errors.Join(err, refused)
		}
	}
	return lc.Listen(ctx, "tcp", addr)
}

func listenConfig() net.ListenConfig {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	return lc
}
