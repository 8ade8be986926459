//go:build linux

package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestHostileFlags(t *testing.T) {
	c := parse(t, "-scenario", scenarioHostile)
	if c.conns != 500 || c.nodes != 1 || c.rooms != 10 || c.rates[0] != 100 || c.duration != time.Minute || c.hostile.lasts != 10*time.Minute {
		t.Errorf("%+v", c)
	}
	c = parse(t, "-scenario", scenarioHostile, "-for", "20s", "-attacks", "50", "-sources", "7", "-conns", "100")
	if p := c.attackPlan("a:1"); p.Addr != "a:1" || p.For != 20*time.Second || p.Rate != 50 || p.Sources != 7 || p.Room != mainRoom(0) {
		t.Errorf("%+v", p)
	}
}

func TestBadHostileFlagsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"-for":     {"-for", "0s"},
		"-attacks": {"-attacks", "0"},
		"-sources": {"-sources", "0"},
		"-nodes":   {"-nodes", "2"},
		"-system":  {"-system", "both"},
		"-rooms":   {"-rooms", "100"},
		"-rates":   {"-rates", "1,2"},
		"-target":  {"-target", "127.0.0.1:3000"},
	} {
		_, err := parseFlags(append([]string{"-scenario", scenarioHostile}, args...), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q in it", args, err, want)
		}
	}
}
