package report

import (
	"strings"
	"testing"
)

// movesReport is one in which a moved conn weighs what the others do, plus more bytes.
func movesReport(more int64) *Report {
	run := func(way string, heap int64, m Moves) System {
		m.Conns, m.Goroutines = 100, [2]float64{40, 44}
		m.Memory = MovesMemory{RSSBefore: 1000, RSS: 1000 + 2*heap, HeapBefore: 500, Heap: 500 + heap, RedisBefore: 10, Redis: 110}
		return System{
			Name: "edge", Title: way, Nodes: 2, Connect: Connect{Done: 100, CPU: &CPU{Nodes: 0.01 * float64(len(m.Commands)), Redis: 0.002}},
			Moves: &m, Presence: []Presence{{Keys: 1}},
		}
	}
	return &Report{Scenario: "moves", Load: Load{Conns: 100}, Systems: []System{
		run(WayMoved, 100_000+more, Moves{
			Results: map[string]float64{"moved": 100, "postponed": 7, "failed": 0}, TrunkBytes: 47_500, RelayedRequests: 100,
			Commands: map[string]float64{"evalsha": 200, "hset": 300}, RedisBytes: 100_000,
		}),
		run(WayHere, 100_000, Moves{Results: map[string]float64{"moved": 0}, Commands: map[string]float64{"evalsha": 100}, RedisBytes: 50_000}),
		run(WayDirect, 90_000, Moves{}),
	}}
}

func TestJudgeMoves(t *testing.T) {
	const (
		all     = "conns moved"
		relayed = "WebSockets relayed at the end"
		rss     = "RSS of a moved conn to one upgraded here"
		heap    = "live heap of a moved conn to one upgraded here"
		wrong   = "moved: presence keys wrong for over 1 s"
	)
	for what, got := range results(movesReport(15_000)) {
		if got != Pass {
			t.Errorf("%s: %q at the target, want pass", what, got)
		}
	}
	for what, spoil := range map[string]func(s *System){
		all:     func(s *System) { s.Moves.Results["moved"]-- },
		relayed: func(s *System) { s.Moves.RelayedWebSockets = 1 },
		rss:     func(s *System) { s.Moves.Memory.RSS += 40_000 },
		heap:    func(s *System) { s.Moves.Memory.Heap += 20_000 },
		wrong:   func(s *System) { s.Presence[0].Wrong = 1 },
	} {
		r := movesReport(0)
		spoil(&r.Systems[0])
		for judged, got := range results(r) {
			if (got == Miss) != (judged == what) {
				t.Errorf("%s spoilt: %s is %q", what, judged, got)
			}
		}
	}
	r := movesReport(0)
	r.Systems[1].Moves.Memory.RSS = 0
	if got := results(r)[rss]; got != Unknown {
		t.Errorf("a node that shrank: %q", got)
	}
	r.Systems = r.Systems[:1]
	if got := results(r)["memory of a moved conn"]; got != Unknown {
		t.Errorf("one run: %q", got)
	}
}

func TestMovesAreShown(t *testing.T) {
	r := movesReport(50_000)
	r.Verdicts = Judge(r)
	text, page := Text(r), string(HTML(r))
	for _, want := range []string{
		WayMoved, WayHere, WayDirect, "1500 B", "1000 B", "900 B", "1.50 ×", "40 / 44", "475", "postponed", "5.0", "2.00", "0.100 ms", "4.00",
	} {
		if !strings.Contains(text, want) || !strings.Contains(page, want) {
			t.Errorf("the text or the page lacks %q:\n%s", want, text)
		}
	}
	for _, never := range []string{"NaN", "  failed"} {
		if strings.Contains(text, never) {
			t.Errorf("what did not happen is shown: %q", never)
		}
	}
}
