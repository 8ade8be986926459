//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/bench/report"
)

// movesWithin is how long to wait, when everybody is online, until nothing is relayed any more.
const movesWithin = 30 * time.Second

// moves connects everybody in the way of this run, and looks at what that took, and at what it left when
// heartbeats have gone round.
func (m *measurement) moves(ctx context.Context) error {
	heapBefore, err := m.liveHeaps(ctx)
	if err != nil {
		return err
	}
	from, err := m.lookMoves(ctx)
	if err != nil {
		return err
	}
	m.before = m.stack.snapshot(m.clock)
	if err := m.connect(ctx); err != nil {
		return err
	}
	to, err := m.allMoved(ctx)
	if err != nil {
		return err
	}
	cpu := m.stack.snapshot(m.clock).cpu.Sub(m.before.cpu)
	m.sys.Connect.CPU = &cpu
	f := movesBetween(from, to, m.sys.Connect.Done)
	f.Answers = report.NewLatency(&m.answers)
	if err := m.check(ctx, "loaded", time.Now()); err != nil {
		return err
	}
	if err := m.idle(ctx); err != nil {
		return err
	}
	end, err := m.lookMoves(ctx)
	if err != nil {
		return err
	}
	heap, err := m.liveHeaps(ctx)
	if err != nil {
		return err
	}
	f.Memory = report.MovesMemory{
		RSSBefore: from.rss, RSS: end.rss, HeapBefore: heapBefore[movesHolder], Heap: heap[movesHolder],
		LeftBefore: heapBefore[movesOwner], Left: heap[movesOwner],
		RedisBefore: from.redis, Redis: end.redis,
	}
	f.RelayedWebSockets, f.Goroutines = end.relayedWebSockets, end.goroutines
	m.sys.Moves = f
	m.say("%.0f moved, %.0f WebSockets are relayed; %.0f bytes of RSS and %.0f of live heap per conn on their node",
		f.Results["moved"], f.RelayedWebSockets, f.PerConn(f.Memory.RSSBefore, f.Memory.RSS), f.PerConn(f.Memory.HeapBefore, f.Memory.Heap))
	return m.leave(ctx)
}

// allMoved waits until no WebSocket is relayed, or for movesWithin.
func (m *measurement) allMoved(ctx context.Context) (movesLook, error) {
	for end := time.Now().Add(movesWithin); ; {
		look, err := m.lookMoves(ctx)
		if err != nil || look.relayedWebSockets == 0 || time.Now().After(end) {
			return look, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return look, err
		}
	}
}

// movesLook is what Redis and the nodes say at a moment; sums of both nodes but for rss, the holder's.
type movesLook struct {
	commands          map[string]int64
	bytes             int64 // to and from Redis
	redis             int64 // bytes that Redis uses
	rss               int64
	results           map[string]float64 // of moves
	relayedFrames     float64
	relayedWebSockets float64
	relayedRequests   float64
	trunkBytes        float64
	cpu               [movesNodes]float64 // seconds
	goroutines        [movesNodes]float64
}

func (m *measurement) lookMoves(ctx context.Context) (l movesLook, err error) {
	info, err := redisInfo(ctx, m.stack.redisURL)
	if err != nil {
		return l, err
	}
	l.commands, l.results = commandCalls(info), map[string]float64{}
	for _, name := range []string{"total_net_input_bytes", "total_net_output_bytes"} {
		n, err := infoNumber(info, name)
		if err != nil {
			return l, err
		}
		l.bytes += n
	}
	if l.redis, err = infoNumber(info, "used_memory"); err != nil {
		return l, err
	}
	for i, p := range m.stack.nodes {
		used, err := usageOf(p.cmd.Process.Pid)
		if err != nil {
			return l, err
		}
		l.cpu[i] = used.cpu
		if i == movesHolder {
			l.rss = used.rss
		}
		text, err := scrape(ctx, m.stack.admin[i])
		if err != nil {
			return l, err
		}
		if err := l.count(text); err != nil {
			return l, err
		}
		l.goroutines[i] = metricNumber(text, "go_goroutines")
	}
	return l, nil
}

// count adds what a node's metrics say.
func (l *movesLook) count(text string) error {
	results := labelled(text, "edge_moves_total", "result")
	if len(results) == 0 || metricValue(text, "edge_relayed_websockets") == "" {
		return fmt.Errorf("the nodes have no metrics edge_moves_total{result} and edge_relayed_websockets")
	}
	for result, n := range results {
		l.results[result] += n
	}
	for _, n := range labelled(text, "edge_relayed_requests_total", "op") {
		l.relayedRequests += n
	}
	l.relayedFrames += metricNumber(text, "edge_relayed_frames_total")
	l.relayedWebSockets += metricNumber(text, "edge_relayed_websockets")
	l.trunkBytes += metricNumber(text, "edge_trunk_sent_bytes_total")
	return nil
}

// movesBetween is what was counted from one moment to the other.
func movesBetween(from, to movesLook, conns int) *report.Moves {
	f := &report.Moves{
		Conns: conns, Results: map[string]float64{}, Commands: map[string]float64{},
		RedisBytes: float64(to.bytes - from.bytes), TrunkBytes: to.trunkBytes - from.trunkBytes,
		RelayedFrames: to.relayedFrames - from.relayedFrames, RelayedRequests: to.relayedRequests - from.relayedRequests,
	}
	for result, n := range to.results {
		f.Results[result] = n - from.results[result]
	}
	for name, n := range to.commands {
		if n -= from.commands[name]; n > 0 {
			f.Commands[name] = float64(n)
		}
	}
	for i := range to.cpu {
		f.CPU[i] = to.cpu[i] - from.cpu[i]
	}
	return f
}

// liveHeaps returns the bytes of live objects on both nodes, after a collection.
func (m *measurement) liveHeaps(ctx context.Context) (sizes [movesNodes]int64, err error) {
	for i := range sizes {
		if sizes[i], err = liveHeap(ctx, m.stack.admin[i]); err != nil {
			return sizes, err
		}
	}
	return sizes, nil
}

func liveHeap(ctx context.Context, admin string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	url := "http://" + admin + "/debug/pprof/heap?gc=1&debug=1"
	var text []byte
	for range 2 { // what had a finalizer or was in a pool goes with the second one
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, fmt.Errorf("live heap: %w", err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, fmt.Errorf("live heap: %w", err)
		}
		text, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("live heap: status %d, %w", resp.StatusCode, err)
		}
	}
	return heapAlloc(string(text))
}

// heapAlloc reads the figure out of the text form of a heap profile, which ends with the fields of
// runtime.MemStats.
func heapAlloc(profile string) (int64, error) {
	for line := range strings.Lines(profile) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "# HeapAlloc = "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("live heap: no HeapAlloc in the profile")
}
