//go:build linux

package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestDeliveryFlags(t *testing.T) {
	c := parse(t, "-scenario", scenarioDelivery)
	if c.conns != 1000 || c.rooms != 20 || c.rates[0] != 200 || c.nodes != 3 || c.delivery.silence != 5*time.Minute ||
		c.chaos.faults != strings.Join(deliveryFaultNames(), ",") || c.delivery.nodeFaults != faultsOnNode {
		t.Errorf("%+v", c)
	}
	c = parse(t, "-scenario", scenarioDelivery, "-system", "both", "-conns", "60", "-rooms", "3", "-faults", "kill,rolling", "-every", "5s")
	if c.conns != 60 || c.rooms != 3 || c.chaos.faults != "kill,rolling" || c.delivery.every != 5*time.Second || c.system != systemBoth {
		t.Errorf("%+v", c)
	}
}

func TestBadDeliveryFlagsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"-faults":      {"-faults", "kill,flush"}, // which is one of chaos-presence
		"-node-faults": {"-node-faults", "earthquake"},
		"there are":    {"-faults", ""},
		"-nodes":       {"-nodes", "1"},
		"-rooms":       {"-rooms", "0"},
		"-rates":       {"-rates", "1,2"},
		"-every":       {"-every", "2s"},
		"-silent":      {"-silent", "0"},
		"-target":      {"-target", "127.0.0.1:3000,127.0.0.1:3001"},
	} {
		_, err := parseFlags(append([]string{"-scenario", scenarioDelivery}, args...), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q in it", args, err, want)
		}
	}
}

func TestRecoveryFlags(t *testing.T) {
	c := parse(t, "-scenario", scenarioRecovery)
	if c.recovery.clients != 5000 || c.conns != 500 || c.nodes != 3 || c.duration != 15*time.Second {
		t.Errorf("%+v", c)
	}
	if p := c.plan([]string{"a:1", "b:1", "c:1"}); strings.Join(p.Targets, " ") != "b:1 c:1" {
		t.Errorf("steady connections are on %v", p.Targets)
	}
	c = parse(t, "-scenario", scenarioJournal, "-env", "A=B")
	parts := c.parts()
	if len(c.rates) != 2 || len(parts) != 2 || strings.Join(parts[0].cfg.env, " ") != "A=B RECOVERY=off" ||
		strings.Join(parts[1].cfg.env, " ") != "A=B RECOVERY=on" || parts[1].title != "RECOVERY=on" {
		t.Errorf("%+v", parts)
	}
	for want, args := range map[string][]string{
		"-system":    {scenarioJournal, "-system", "both"},
		"-nodes":     {scenarioRecovery, "-nodes", "1"},
		"-returning": {scenarioRecovery, "-returning", "5"},
		"-rates":     {scenarioRecovery, "-rates", "1,2"},
		"-within":    {scenarioRecovery, "-within", "5m"},
	} {
		_, err := parseFlags(append([]string{"-scenario"}, args...), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q in it", args, err, want)
		}
	}
}

// TestResultMeter has a node die and begin at zero, once noticed by its start time and once by its numbers.
func TestResultMeter(t *testing.T) {
	m := &resultMeter{stack: &chaosStack{}, last: map[string]map[string]float64{}, sum: map[string]map[string]float64{}}
	m.count("x", "a 1", map[string]float64{"complete": 5})
	m.count("x", "b 1", map[string]float64{"complete": 2, "epoch": 1})
	m.count("x", "a 1", map[string]float64{"complete": 7})
	m.count("x", "a 2", map[string]float64{"complete": 1})
	m.count("x", "b 1", map[string]float64{"complete": 1})
	m.count("y", "a 1", map[string]float64{"complete": 3})
	if got := m.take(); got["x"]["complete"] != 7+1+2+1 || got["x"]["epoch"] != 1 || len(got["x"]) != 2 || got["y"]["complete"] != 3 {
		t.Errorf("%v", got)
	}
	m.count("x", "a 2", map[string]float64{"complete": 4})
	if got := m.take(); got["x"]["complete"] != 3 || len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestMetricValue(t *testing.T) {
	text := "# HELP a x\na_total 7\na 12\nb{c=\"d\"} 3\n"
	if metricValue(text, "a") != "12" || metricNumber(text, "a_total") != 7 || metricValue(text, "b") != "" || metricNumber(text, "b") != 0 {
		t.Error(metricValue(text, "a"), metricNumber(text, "a_total"))
	}
}
