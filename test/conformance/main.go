// Command conformance runs the servers that public conformance suites drive.
//
//	go run ./test/conformance websocket -addr 127.0.0.1:9001
//
// websocket is a plain echo server for WebSocket suites such as Autobahn, with
// messages up to 16 MiB, on the transport that the edge serves its clients with.
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

const usage = "usage: conformance websocket [-addr HOST:PORT]"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || args[0] != "websocket" {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("websocket", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:9001", "address to listen on")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return serveEcho(ctx, *addr)
}

// maxMessage is the largest message the echo server takes, in bytes.
const maxMessage = 16 << 20

// serveEcho echoes every message until ctx ends.
func serveEcho(ctx context.Context, addr string) error {
	srv, err := engine.NewPlain(engine.Config{Path: "/", MaxPayload: maxMessage},
		func(w *engine.WebSocket, text bool, data []byte) { w.Send(text, data) },
		metrics.New(prometheus.NewRegistry(), "conformance"))
	if err != nil {
		return err
	}
	if err := srv.Start(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	front := &http.Server{Handler: srv, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- front.Serve(listener) }()
	fmt.Printf("websocket echo server on ws://%s/\n", listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	_ = front.Close()
	limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(limited)
}
