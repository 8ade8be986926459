// Command conformance runs the servers that public conformance suites drive, on
// the edge's own engine.
//
//	go run ./test/conformance websocket -addr 127.0.0.1:9001
//	go run ./test/conformance protocol -addr localhost:3000
//	go run ./test/conformance client -addr localhost:3210
//
// websocket is a plain echo server for WebSocket suites such as Autobahn, with
// messages up to 16 MiB. protocol serves the Engine.IO and the Socket.IO protocol
// suites on one port. client serves socket.io-client's own tests. An address of
// localhost listens on 127.0.0.1 and on ::1. -deflate adds permessage-deflate, for
// messages of any size. -ping-interval and -ping-timeout are the heartbeat of
// protocol, for tests that are about something else than the suites' short one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

const usage = "usage: conformance websocket|protocol|client [-addr HOST:PORT] [-deflate] [-ping-interval DURATION] [-ping-timeout DURATION]"

// suite is one conformance server.
type suite struct {
	addr  string // default address: where the suite looks for it
	build func(settings) (http.Handler, []*engine.Server, error)
}

// settings are what a server may be told besides its address.
type settings struct {
	deflate                   *engine.Deflate
	pingInterval, pingTimeout time.Duration // of protocol
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	suites := map[string]suite{
		"websocket": {"127.0.0.1:9001", buildWebSocket},
		"protocol":  {"localhost:3000", buildProtocol},
		"client":    {"localhost:3210", buildClient},
	}
	if len(args) == 0 {
		return errors.New(usage)
	}
	s, ok := suites[args[0]]
	if !ok {
		return fmt.Errorf("no server named %q; %s", args[0], usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	addr := flags.String("addr", s.addr, "address to listen on")
	compress := flags.Bool("deflate", false, "agree to permessage-deflate")
	var set settings
	flags.DurationVar(&set.pingInterval, "ping-interval", 300*time.Millisecond, "time between a pong and the next ping, of protocol")
	flags.DurationVar(&set.pingTimeout, "ping-timeout", 200*time.Millisecond, "time a client has to answer a ping, of protocol")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *compress {
		set.deflate = &engine.Deflate{From: 1}
	}
	return serve(ctx, args[0], *addr, s, set)
}

// serve runs the suite's server until ctx ends.
func serve(ctx context.Context, name, addr string, s suite, set settings) error {
	handler, servers, err := s.build(set)
	if err != nil {
		return err
	}
	for _, srv := range servers {
		if err := srv.Start(); err != nil {
			return err
		}
	}
	listeners, err := listen(addr)
	if err != nil {
		return err
	}
	front := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- front.Serve(l) }()
		fmt.Printf("%s server on %s\n", name, l.Addr())
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	_ = front.Close()
	limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, srv := range servers {
		err = errors.Join(err, srv.Shutdown(limited))
	}
	return err
}

// listen listens on the address; localhost means both of its addresses, as far
// as the machine has them.
func listen(addr string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if host != "localhost" {
		l, err := net.Listen("tcp", addr)
		return []net.Listener{l}, err
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, err
	}
	_, port, _ = net.SplitHostPort(l.Addr().String()) // port 0 was a choice of the system's
	listeners := []net.Listener{l}
	if l6, err := net.Listen("tcp6", net.JoinHostPort("::1", port)); err == nil {
		listeners = append(listeners, l6)
	}
	return listeners, nil
}

func newMetrics() *metrics.Metrics { return metrics.New(prometheus.NewRegistry(), "conformance") }

// maxMessage is the largest message the echo server takes, in bytes.
const maxMessage = 16 << 20

// buildWebSocket makes a server that echoes every message.
func buildWebSocket(set settings) (http.Handler, []*engine.Server, error) {
	srv, err := engine.NewPlain(engine.Config{Path: "/", MaxPayload: maxMessage, Deflate: set.deflate},
		func(w *engine.WebSocket, text bool, data []byte) { w.Send(text, data) }, newMetrics())
	return srv, []*engine.Server{srv}, err
}
