//go:build linux

package main

import (
	"io"
	"strings"
	"testing"
)

func TestChaosFlags(t *testing.T) {
	c := parse(t, "-scenario", scenarioChaos)
	if c.chaos.users != 3000 || c.rooms != 60 || c.nodes != 3 || c.watch.churn != 40 || len(listFlag(c.chaos.faults)) != len(chaosFaults()) {
		t.Errorf("%+v", c)
	}
	c = parse(t, "-scenario", scenarioChaos, "-users", "300", "-churn", "7", "-faults", "flush,cut", "-rooms", "12")
	if c.chaos.users != 300 || c.watch.churn != 7 || c.chaos.faults != "flush,cut" || c.rooms != 12 {
		t.Errorf("%+v", c)
	}
}

func TestBadChaosFlagsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"-faults":   {"-faults", "flush,earthquake"},
		"there are": {"-faults", ""},
		"-nodes":    {"-nodes", "1"},
		"-rooms":    {"-rooms", "2"},
		"-users":    {"-users", "0"},
		"-churn 0":  {"-churn", "0"},
		"-outage":   {"-outage", "-1s"},
		"-target":   {"-target", "127.0.0.1:3000,127.0.0.1:3001"},
		"-system":   {"-system", "node"},
	} {
		_, err := parseFlags(append([]string{"-scenario", scenarioChaos}, args...), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q in it", args, err, want)
		}
	}
}
