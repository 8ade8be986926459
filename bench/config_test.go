//go:build linux

package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, args ...string) config {
	t.Helper()
	c, err := parseFlags(args, io.Discard)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return c
}

func TestFlagDefaultsAreTheBenchmark(t *testing.T) {
	c := parse(t)
	if c.conns != 5000 || c.rooms != 50 || c.nodes != 3 || c.payload != 128 || !slices.Equal(c.rates, []float64{100}) ||
		c.warmup != 10*time.Second || c.duration != time.Minute || !slices.Equal(c.systems(), []string{systemEdge}) {
		t.Errorf("steady: %+v", c)
	}
	c = parse(t, "-scenario", "idle")
	if c.conns != 15_000 || c.rooms != 150 || c.nodes != 1 || c.heartbeats != 2 || !c.browser {
		t.Errorf("idle: %+v", c)
	}
	if c = parse(t, "-scenario", "idle", "-conns", "100", "-nodes", "2"); c.conns != 100 || c.nodes != 2 || c.rooms != 1 {
		t.Errorf("idle with flags: %+v", c)
	}
	if c = parse(t, "-scenario", "tiny-rooms"); c.conns != 5000 || c.rooms != 2500 || c.senders != 2 {
		t.Errorf("tiny-rooms: %+v", c)
	}
	if c = parse(t, "-scenario", "saturation", "-rooms", "1"); c.saturation.search(&c).start != 8 || c.processes != 2 {
		t.Errorf("saturation of one room: %+v", c)
	}
}

func TestFlagsAreRead(t *testing.T) {
	c := parse(t, "-system", "both", "-rates", "100, 400,700", "-headers", "plain", "-env", "GOGC=50,GOMAXPROCS=1", "-conns", "10", "-rooms", "5")
	if !slices.Equal(c.rates, []float64{100, 400, 700}) || c.browser || len(c.env) != 2 || c.senders != 2 {
		t.Errorf("%+v", c)
	}
	if !slices.Equal(c.systems(), []string{systemNode, systemEdge}) || c.name() != "steady-both" {
		t.Errorf("systems %v, name %q", c.systems(), c.name())
	}
	c = parse(t, "-target", "127.0.0.1:3000,127.0.0.1:3001,[::1]:3002")
	if !slices.Equal(c.targets, []string{"127.0.0.1:3000", "127.0.0.1:3001", "[::1]:3002"}) || c.nodes != 3 || c.name() != "steady-external" {
		t.Errorf("targets %v, %d nodes, name %q", c.targets, c.nodes, c.name())
	}
	if p := c.plan(c.targets); !strings.HasPrefix(p.Prefix, "bench") {
		t.Errorf("names on somebody else's servers start with %q", p.Prefix)
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"-scenario":           {"-scenario", "fast"},
		"-system":             {"-system", "php"},
		"-rates":              {"-rates", "100,many"},
		"-rate":               {"-rate", "0"},
		"-headers":            {"-headers", "huge"},
		"-nodes":              {"-nodes", "0"},
		"-rooms":              {"-rooms", "0"},
		"-duration":           {"-duration", "10ms"},
		"-duration -1s":       {"-scenario", "idle", "-duration", "-1s"},
		"-from":               {"-scenario", "saturation", "-from", "0"},
		"-factor":             {"-scenario", "saturation", "-factor", "1"},
		"-resolution":         {"-scenario", "saturation", "-resolution", "1"},
		"rooms":               {"-conns", "10", "-rooms", "20"},
		"payload":             {"-payload", "10"},
		"-target":             {"-target", "nowhere"},
		"unexpected argument": {"steady"},
	} {
		if _, err := parseFlags(args, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not name %s", args, err, want)
		}
	}
}

func TestOpenFileLimitNamesTheNumber(t *testing.T) {
	c := parse(t, "-conns", "3000000000", "-nodes", "1")
	if err := c.checkFiles(); err == nil || !strings.Contains(err.Error(), "3000001000") {
		t.Errorf("error %v does not name the files a node needs", err)
	}
	c = parse(t, "-conns", "3000000000", "-target", "127.0.0.1:1", "-procs", "1")
	if err := c.checkFiles(); err == nil || !strings.Contains(err.Error(), "3000000100") || !strings.Contains(err.Error(), "-procs") {
		t.Errorf("error %v does not name the files a client process needs", err)
	}
	c = parse(t, "-conns", "100")
	if err := c.checkFiles(); err != nil || c.processes != 1 {
		t.Errorf("100 connections: %d processes, %v", c.processes, err)
	}
}

func TestStormFlags(t *testing.T) {
	c := parse(t, "-scenario", "storm")
	if c.conns != 500 || c.recovery.clients != 5000 || c.storm.times != 3 || c.storm.spread != time.Second || c.storm.calm != 30*time.Second {
		t.Errorf("storm: %+v", c)
	}
	if c = parse(t, "-scenario", "churn"); c.conns != 1000 || c.comings.rate != 200 || c.comings.life != 2*time.Second {
		t.Errorf("churn: %+v", c)
	}
	if c = parse(t, "-scenario", "storm", "-system", "both"); len(c.systems()) != 2 {
		t.Errorf("storm on both: %v", c.systems())
	}
	for want, args := range map[string][]string{
		"-storms":       {"-scenario", "storm", "-storms", "0"},
		"-spread":       {"-scenario", "storm", "-spread", "0s"},
		"-target":       {"-scenario", "storm", "-target", "127.0.0.1:1"},
		"-within":       {"-scenario", "storm", "-within", "1h"},
		"-comings":      {"-scenario", "churn", "-comings", "0"},
		"-rates":        {"-scenario", "churn", "-rates", "1,2"},
		"-returning 10": {"-scenario", "storm", "-rooms", "20", "-returning", "10"},
	} {
		_, err := parseFlags(args, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not name %s", args, err, want)
		}
	}
}
