//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// loaderArg makes the program a loader process that obeys its standard input.
const loaderArg = "loader"

func main() {
	// Children die with the thread that started them (Pdeathsig), so that thread must be this one.
	runtime.LockOSThread()
	if len(os.Args) == 2 && os.Args[1] == loaderArg {
		// The parent ends its loaders, also after an interrupt of the whole terminal.
		signal.Ignore(os.Interrupt)
		exit(load.Serve(os.Stdin, os.Stdout))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if len(os.Args) == 4 && os.Args[1] == attackersArg {
		exit(attackers(ctx, os.Args[2], os.Args[3]))
	}
	cfg, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, cfg, os.Stdout)
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted; everything it started has ended")
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run measures each system after the other, prints the table and writes the files.
func run(ctx context.Context, cfg config, out io.Writer) error {
	switch cfg.scenario {
	case scenarioChaos:
		return chaosPresence(ctx, cfg, out)
	case scenarioDelivery:
		return chaosDelivery(ctx, cfg, out)
	case scenarioDrain:
		return chaosDrain(ctx, cfg, out)
	case scenarioHostile:
		return hostileRun(ctx, cfg, out)
	case scenarioCompare:
		return compare(ctx, cfg, out)
	}
	if err := cfg.checkFiles(); err != nil {
		return err
	}
	if cfg.scenario == scenarioFloor {
		return runFloor(cfg, out)
	}
	clock, err := load.NewClock()
	if err != nil {
		return err
	}
	write, err := loopbackWrite()
	if err != nil {
		return err
	}
	rep := &report.Report{Scenario: cfg.scenario, Started: time.Now(), Machine: machine(write), Load: cfg.load()}
	for _, p := range cfg.parts() {
		sys, err := p.measure(ctx, clock, out)
		if err != nil {
			return fmt.Errorf("%s: %w", p.system, err)
		}
		rep.Systems = append(rep.Systems, *sys)
	}
	// The edge, or what is larger, first: ratios are of the first column to the second.
	slices.Reverse(rep.Systems)
	return finish(cfg, rep, out)
}

// finish judges the figures, prints the table and writes the files.
func finish(cfg config, rep *report.Report, out io.Writer) error {
	rep.Verdicts = report.Judge(rep)
	fmt.Fprint(out, report.Text(rep))
	jsonPath, htmlPath, err := rep.Write(cfg.out, cfg.name())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n%s\n", jsonPath, htmlPath)
	return nil
}
