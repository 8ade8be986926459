// Command edge serves Socket.IO clients on one node and joins any number of
// nodes through Redis: rooms reach across nodes, and presence is kept in three
// plain keys. It is configured by environment variables (edge -help lists
// them) and runs without Redis too, as a single node.
//
// Its application on namespace "/" has four events: join, leave, message and
// presence. Package engine is the server below it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/caarlos0/env/v11"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // could not start, could not end in order, or the healthcheck failed
	exitUsage  = 2 // unknown flags
)

func main() {
	os.Exit(run(os.Args[1:], env.ToMap(os.Environ()), os.Stdout, os.Stderr))
}

// run is the command with the given flags and environment; it returns the exit code.
func run(args []string, environ map[string]string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("edge", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	showVersion := flags.Bool("version", false, "")
	check := flags.Bool("healthcheck", false, "")
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		printHelp(stdout)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "edge: %v\nRun edge -help for usage.\n", err)
		return exitUsage
	case *showVersion:
		fmt.Fprintln(stdout, edgeVersion())
		return exitOK
	}

	cfg, err := LoadConfig(environ)
	if err != nil {
		fmt.Fprintf(stderr, "edge: the configuration is wrong:\n%v\nRun edge -help for all variables.\n", err)
		return exitFailed
	}
	if *check {
		if err := healthcheck(context.Background(), cfg.ListenAddr, cfg.proxied); err != nil {
			fmt.Fprintln(stderr, "edge: healthcheck:", err)
			return exitFailed
		}
		return exitOK
	}

	setGCPercent(environ)
	log, finish := newLogger(stderr, cfg.LogLevel, cfg.LogFormat)
	defer finish()
	slog.SetDefault(log) // nbio's complaints, and those of packages that know no other
	if err := serve(cfg, log); err != nil {
		log.Error("failed", "error", err)
		return exitFailed
	}
	return exitOK
}

// gcPercent is GOGC unless the environment says otherwise. Most of a node's heap is
// conns, which stay: half of it as room for garbage, not all, makes a process a
// quarter smaller, and deliveries allocate so little that it costs no CPU time that
// could be measured (docs/performance.md).
const gcPercent = 50

// setGCPercent gives the collector its default; GOGC is the runtime's own variable,
// as is GOMEMLIMIT.
func setGCPercent(environ map[string]string) {
	if environ["GOGC"] == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// serve runs a node until it is told to end, then ends it in order.
func serve(cfg *Config, log *slog.Logger) error {
	n, err := newNode(cfg, log)
	if err != nil {
		return err
	}
	stop := onSignals(n.drain, log)
	defer stop()
	return n.run(context.Background())
}
