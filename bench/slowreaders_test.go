//go:build linux

package main

import (
	"maps"
	"testing"
	"time"
)

func TestSlowReadersFlags(t *testing.T) {
	c := parse(t, "-scenario", "slow-readers")
	if c.conns != 5000 || c.nodes != 3 || c.slow.slow != 500 || c.slow.stall != time.Minute || c.payload < 1000 {
		t.Errorf("%+v", c)
	}
	if p := c.plan([]string{"127.0.0.1:1"}); p.Slow != 500 {
		t.Errorf("the plan has %d slow readers", p.Slow)
	}
	if p := parse(t); p.plan([]string{"127.0.0.1:1"}).Slow != 0 {
		t.Error("the steady plan has slow readers")
	}
}

func TestSocketPages(t *testing.T) {
	const text = "sockets: used 300\nTCP: inuse 27 orphan 1 tw 23 alloc 31 mem 384522\nUDP: inuse 4 mem 2\n"
	if n, err := socketPages(text); n != 384522 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := socketPages("UDP: inuse 4 mem 2\n"); err == nil {
		t.Error("no error without TCP")
	}
}

func TestLess(t *testing.T) {
	got := less(map[string]float64{"a": 5, "b": 2, "c": 1}, map[string]float64{"a": 3, "b": 2})
	if !maps.Equal(got, map[string]float64{"a": 2, "c": 1}) || total(got) != 3 {
		t.Errorf("%v", got)
	}
}
