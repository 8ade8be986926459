//go:build linux

package main

import (
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/stellara/edge/bench/report"
)

func TestMovesHasThreeRuns(t *testing.T) {
	c := parse(t, "-scenario", scenarioMoves)
	if c.conns != 4000 || c.nodes != 2 || c.rooms != 0 || c.heartbeats != 2 {
		t.Errorf("defaults: %+v", c)
	}
	const a, b = "127.0.0.1:1", "127.0.0.1:2"
	want := []struct{ way, poll string }{{report.WayDirect, ""}, {report.WayHere, b}, {report.WayMoved, a}}
	parts := c.parts()
	if len(parts) != len(want) {
		t.Fatalf("%d runs, want %d", len(parts), len(want))
	}
	for i, p := range parts {
		plan := p.cfg.plan([]string{a, b})
		if p.title != want[i].way || plan.Poll != want[i].poll || len(plan.Targets) != 1 || plan.Targets[0] != b || !plan.Ask {
			t.Errorf("run %d: %q, polls at %q, WebSockets at %v", i, p.title, plan.Poll, plan.Targets)
		}
	}
	for want, args := range map[string][]string{
		"-nodes":  {"-nodes", "3"},
		"-rooms":  {"-rooms", "2"},
		"-system": {"-system", "both"},
		"-target": {"-target", a},
	} {
		if _, err := parseFlags(append([]string{"-scenario", scenarioMoves}, args...), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not name %s", args, err, want)
		}
	}
}

const someNode = `# HELP edge_moves_total Moves
edge_moves_total{result="moved"} 7
edge_moves_total{result="postponed"} 2
edge_relayed_requests_total{op="poll"} 3
edge_relayed_requests_total{op="upgrade"} 10
edge_relayed_frames_total 5
edge_relayed_websockets 1
edge_trunk_sent_bytes_total 400
`

func TestMovesAreCounted(t *testing.T) {
	var from, to movesLook
	for _, l := range []*movesLook{&from, &to} {
		l.results, l.commands = map[string]float64{}, map[string]int64{"evalsha": 3, "ping": 1}
		if err := l.count(someNode); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.count(someNode); err != nil {
		t.Fatal(err)
	}
	to.commands = map[string]int64{"evalsha": 10, "ping": 1, "hset": 2}
	to.bytes, to.cpu[1] = 100, 2
	if to.relayedWebSockets != 2 || to.relayedRequests != 26 {
		t.Errorf("two nodes: %+v", to)
	}
	f := movesBetween(from, to, 7)
	if !maps.Equal(f.Results, map[string]float64{"moved": 7, "postponed": 2}) || !maps.Equal(f.Commands, map[string]float64{"evalsha": 7, "hset": 2}) {
		t.Errorf("results %v, commands %v", f.Results, f.Commands)
	}
	if f.Conns != 7 || f.RelayedRequests != 13 || f.RelayedFrames != 5 || f.TrunkBytes != 400 || f.RedisBytes != 100 || f.CPU != [2]float64{0, 2} {
		t.Errorf("%+v", f)
	}
	if err := to.count("edge_relayed_websockets 1\n"); err == nil || !strings.Contains(err.Error(), "edge_moves_total") {
		t.Errorf("a node without moves: %v", err)
	}
}

func TestLiveHeapIsRead(t *testing.T) {
	if n, err := heapAlloc("heap profile: 1: 2 [3: 4]\n\n# runtime.MemStats\n# Alloc = 1\n# HeapAlloc = 123456\n# HeapSys = 7\n"); n != 123456 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := heapAlloc("404 page not found"); err == nil {
		t.Error("no profile was read as one")
	}
}
