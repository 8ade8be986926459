//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
)

// The shipped configuration has what a run changes, and nothing else is changed.
func TestBalancerConfig(t *testing.T) {
	shipped, err := os.ReadFile("../deploy/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	nodes := []string{"127.0.0.1:11", "127.0.0.1:12", "127.0.0.1:13"}
	text, err := balancerConfig(string(shipped), "127.0.0.1:99", nodes, 4040)
	if err != nil {
		t.Fatal(err)
	}
	for part, times := range map[string]int{
		"bind 127.0.0.1:99\n": 1, "maxconn 4040 ": 1, "server edge-1 127.0.0.1:11\n": 2, "server edge-3 127.0.0.1:13\n": 2,
		"127.0.0.1:3001": 0, "user haproxy": 0, "uri /readyz ver": 1, "uri /readyz/sessions ver": 1, "balance leastconn": 2,
	} {
		if n := strings.Count(text, part); n != times {
			t.Errorf("%q is there %d times, want %d", part, n, times)
		}
	}
	if _, err := balancerConfig(strings.Replace(string(shipped), "    bind :80\n", "", 1), "127.0.0.1:99", nodes, 1); err == nil || !strings.Contains(err.Error(), "bind :80") {
		t.Errorf("a configuration without its address: %v", err)
	}
	if _, err := balancerConfig(string(shipped), "127.0.0.1:99", nodes[:2], 1); err == nil {
		t.Error("two nodes are accepted")
	}
}

func TestParseBalancer(t *testing.T) {
	const head = "# pxname,svname,scur,hrsp_4xx,hrsp_5xx,\n"
	for text, want := range map[string]balancerCounts{
		head + "clients,FRONTEND,1,2,7,\nsessions,edge-1,0,1,2,\nsessions,edge-2,0,0,1,\nsessions,BACKEND,0,0,5,\nhandshakes,edge-1,,,,\n": {serverErrors: 3, failures: 4},
		head + "clients,FRONTEND,1,2,0,\nsessions,edge-1,0,1,0,\n":                                                                         {},
	} {
		got, err := parseBalancer(strings.NewReader(text))
		if err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	for _, text := range []string{"", head, "# pxname,svname\na,b\n", head + "clients,FRONTEND,1,2,many,\n"} {
		if got, err := parseBalancer(strings.NewReader(text)); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestDrainFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-nodes", "2"}, {"-target", "127.0.0.1:1"}, {"-system", "node"}, {"-rooms", "0"}, {"-rates", "1,2"},
		{"-drain-window", "0s"}, {"-drain-delay", "-1s"}, {"-max-conns", "1000"},
	} {
		if _, err := parseFlags(append([]string{"-scenario", "chaos-drain"}, args...), os.Stderr); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	c, err := parseFlags([]string{"-scenario", "chaos-drain"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if c.conns != 2000 || c.nodes != 3 || c.rates[0] != 100 || !strings.Contains(strings.Join(c.drain.env(), " "), "DRAIN_DELAY=5s DRAIN_WINDOW=10s SHUTDOWN_GRACE=10s MAX_CONNS=1400") {
		t.Errorf("%+v", c)
	}
}
