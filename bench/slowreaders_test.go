//go:build linux

package main

import (
	"maps"
	"testing"
	"time"

	"github.com/stellara/edge/bench/load"
)

func TestSlowReadersFlags(t *testing.T) {
	c := parse(t, "-scenario", "slow-readers")
	if c.conns != 5000 || c.nodes != 3 || c.slow.slow != 500 || c.slow.stall != 80*time.Second || c.payload < 1000 || len(c.env) != 1 {
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

func TestSendQueues(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:0BB8 0101007F:C001 01 00010000:00000005 04:0000001D 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0101007F:C001 0100007F:0BB8 01 00000FFF:00008000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
   3: 0100007F:0BB9 0101007F:C002 04 00000010:00000000 04:0000001D 00000000     0        0 0 1 0 20 4 30 10 -1
`
	if got := sendQueues(table, portsOf([]string{"127.0.0.1:3000", "127.0.0.1:3001"})); got != 0x10010 {
		t.Errorf("%#x bytes, want those of lines 1 and 3", got)
	}
}

func TestUsualP99(t *testing.T) {
	plan := load.Step{Start: 1000}
	seconds := make([]load.Second, 6)
	for i, ms := range []int{90, 2, 500, 3, 4, 90} {
		seconds[i].Latency.Record(time.Duration(ms) * time.Millisecond)
	}
	at := func(second int) int64 { return plan.Start + int64(second)*int64(time.Second) }
	// Seconds 1 to 3 as a whole: 2, 500 and 3 ms.
	if got := usualP99(plan, seconds, at(1)-5, at(4)+5); got < 2.9 || got > 3.1 {
		t.Errorf("%v ms, want the 3 of the middle", got)
	}
	if got := usualP99(plan, seconds, at(1)+5, at(2)-5); got != 0 {
		t.Errorf("%v ms of no second", got)
	}
}
