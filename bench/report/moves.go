package report

import (
	"fmt"
	"maps"
	"slices"
)

// Ways in which the connections of the scenario moves come to the node that has their WebSockets.
const (
	WayMoved  = "moved"         // polling at the other node, upgraded here
	WayHere   = "upgraded here" // polling and upgraded here
	WayDirect = "direct"        // WebSocket from the start
)

// Ways returns them in the order in which they are shown; ratios are of the first to the second.
func Ways() []string { return []string{WayMoved, WayHere, WayDirect} }

// Moves is what it takes to get connections to one of two nodes, from the first request until nothing is
// relayed, and what they cost there. Counts are sums of both nodes.
type Moves struct {
	Conns             int                `json:"conns"`
	Answers           Latency            `json:"answers"`          // from the first event, which follows the "5" of an upgrade, to its answer
	Results           map[string]float64 `json:"results"`          // of moves
	RelayedRequests   float64            `json:"relayed_requests"` // HTTP requests, upgrades included
	RelayedFrames     float64            `json:"relayed_frames"`
	RelayedWebSockets float64            `json:"relayed_websockets"` // at the end
	TrunkBytes        float64            `json:"trunk_bytes"`
	Commands          map[string]float64 `json:"redis_commands"` // those that scripts call, too
	RedisBytes        float64            `json:"redis_bytes"`    // in both directions
	CPU               [2]float64         `json:"cpu_seconds"`    // of the other node, and of the one with the WebSockets
	Goroutines        [2]float64         `json:"goroutines"`     // at the end, of the same
	Memory            MovesMemory        `json:"memory"`
}

// MovesMemory is memory in bytes, without and with the connections: of the node with the WebSockets, of
// the other one, and what Redis says that it uses.
type MovesMemory struct {
	RSSBefore   int64 `json:"rss_before"`
	RSS         int64 `json:"rss"`
	HeapBefore  int64 `json:"heap_before"` // live objects, after a collection
	Heap        int64 `json:"heap"`
	LeftBefore  int64 `json:"left_before"` // live objects of the other node
	Left        int64 `json:"left"`
	RedisBefore int64 `json:"redis_before"`
	Redis       int64 `json:"redis"`
}

// PerConn returns what a connection added to something.
func (m *Moves) PerConn(before, loaded int64) float64 { return m.each(float64(loaded - before)) }

func (m *Moves) each(sum float64) float64 { return sum / float64(max(m.Conns, 1)) }

func (m *Moves) rss() float64  { return m.PerConn(m.Memory.RSSBefore, m.Memory.RSS) }
func (m *Moves) heap() float64 { return m.PerConn(m.Memory.HeapBefore, m.Memory.Heap) }

// commands returns all Redis commands of a connection.
func (m *Moves) commands() (sum float64) {
	for _, n := range m.Commands {
		sum += n
	}
	return m.each(sum)
}

// scripts returns the calls of scripts of a connection.
func (m *Moves) scripts() float64 {
	return m.each(m.Commands["eval"] + m.Commands["evalsha"] + m.Commands["fcall"])
}

// moved returns the conns that changed nodes.
func (m *Moves) moved() float64 { return m.Results["moved"] }

// movesRows shows all ways side by side.
func movesRows(t *table) {
	each := func(label string, compare bool, get func(*Moves) figure) {
		t.row(label, compare, func(s *System) figure {
			if s.Moves == nil {
				return missing()
			}
			return get(s.Moves)
		})
	}
	size := func(label string, get func(*Moves) float64) {
		each(label, true, func(m *Moves) figure { return number(get(m), "%.0f B") })
	}
	pair := func(label, format string, get func(*Moves) [2]float64) {
		each(label, false, func(m *Moves) figure {
			two := get(m)
			return figure{0, fmt.Sprintf(format+" / "+format, two[0], two[1])}
		})
	}
	t.section("the node with the WebSockets, and Redis, per connection")
	size("RSS", (*Moves).rss)
	size("live heap", (*Moves).heap)
	size("live heap left on the other node", func(m *Moves) float64 { return m.PerConn(m.Memory.LeftBefore, m.Memory.Left) })
	size("memory used by Redis", func(m *Moves) float64 { return m.PerConn(m.Memory.RedisBefore, m.Memory.Redis) })
	pair("goroutines, other node / this one", "%.0f", func(m *Moves) [2]float64 { return m.Goroutines })
	t.section("getting there, per connection")
	each("first event answered, p50", true, func(m *Moves) figure { return millis(m.Answers.P50) })
	each("first event answered, p99", true, func(m *Moves) figure { return millis(m.Answers.P99) })
	pair("CPU, other node / this one", "%.2f ms", func(m *Moves) [2]float64 {
		return [2]float64{m.each(m.CPU[0]) * 1e3, m.each(m.CPU[1]) * 1e3}
	})
	each("Redis commands, those of scripts too", true, func(m *Moves) figure { return number(m.commands(), "%.1f") })
	each("  scripts called", true, func(m *Moves) figure { return number(m.scripts(), "%.2f") })
	each("bytes to and from Redis", true, func(m *Moves) figure { return count(m.each(m.RedisBytes)) })
	each("bytes on trunks", false, func(m *Moves) figure { return count(m.each(m.TrunkBytes)) })
	each("requests relayed", false, func(m *Moves) figure { return number(m.each(m.RelayedRequests), "%.2f") })
	t.section("moves, in all")
	each("moved", false, func(m *Moves) figure { return count(m.moved()) })
	for _, result := range otherResults(t) {
		each("  "+result, false, func(m *Moves) figure { return count(m.Results[result]) })
	}
	each("frames relayed", false, func(m *Moves) figure { return count(m.RelayedFrames) })
	each("WebSockets relayed at the end", false, func(m *Moves) figure { return count(m.RelayedWebSockets) })
	differenceRows(t)
}

// otherResults are the results of moves that came about, but for the usual one.
func otherResults(t *table) []string {
	seen := map[string]bool{}
	for i := range t.systems {
		if m := t.systems[i].Moves; m != nil {
			for result, n := range m.Results {
				if n > 0 && result != "moved" {
					seen[result] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// differenceRows shows what a move costs: what moved connections took beyond those upgraded here.
func differenceRows(t *table) {
	here := way(t.systems, WayHere)
	t.section("a move: moved less upgraded here, per connection")
	beyond := func(label, format string, get func(*System) float64) {
		t.row(label, false, func(s *System) figure {
			if s.Title != WayMoved || s.Moves == nil || here == nil {
				return missing()
			}
			return number(get(s)-get(here), format)
		})
	}
	cpu := func(get func(*CPU) float64) func(*System) float64 {
		return func(s *System) float64 {
			if s.Connect.CPU == nil {
				return 0
			}
			return s.Moves.each(get(s.Connect.CPU)) * 1e3
		}
	}
	beyond("CPU of both nodes", "%.3f ms", cpu(func(c *CPU) float64 { return c.Nodes }))
	beyond("CPU of Redis", "%.3f ms", cpu(func(c *CPU) float64 { return c.Redis }))
	beyond("Redis commands, those of scripts too", "%.2f", func(s *System) float64 { return s.Moves.commands() })
	beyond("  scripts called", "%.2f", func(s *System) float64 { return s.Moves.scripts() })
	beyond("bytes to and from Redis", "%.0f", func(s *System) float64 { return s.Moves.each(s.Moves.RedisBytes) })
	beyond("bytes on trunks", "%.0f", func(s *System) float64 { return s.Moves.each(s.Moves.TrunkBytes) })
}

// way returns the run of that title, nil if there is none with figures.
func way(systems []System, title string) *System {
	for i := range systems {
		if systems[i].Title == title && systems[i].Moves != nil {
			return &systems[i]
		}
	}
	return nil
}

// maxMovedMemory is how much more than one upgraded here a moved conn may weigh.
const maxMovedMemory = 1.15

func judgeMoves(r *Report) []Verdict {
	moved, here := way(r.Systems, WayMoved), way(r.Systems, WayHere)
	if moved == nil || here == nil {
		return []Verdict{unknown("memory of a moved conn", "≤ 1.15 ×", "needs both runs")}
	}
	m, h := moved.Moves, here.Moves
	all := Verdict{What: "conns moved", Target: thousands(float64(r.Load.Conns)), Got: thousands(m.moved()), Result: Miss}
	if m.moved() == float64(r.Load.Conns) && moved.Connect.Failed == 0 {
		all.Result = Pass
	}
	v := []Verdict{all, atMost("WebSockets relayed at the end", m.RelayedWebSockets, 0, "%.0f")}
	compare := func(what string, of func(*Moves) float64) {
		if of(h) <= 0 {
			v = append(v, unknown(what, "≤ 1.15 ×", "the nodes did not grow"))
			return
		}
		v = append(v, atMost(what, of(m)/of(h), maxMovedMemory, "%.2f ×"))
	}
	compare("RSS of a moved conn to one upgraded here", (*Moves).rss)
	compare("live heap of a moved conn to one upgraded here", (*Moves).heap)
	for i := range r.Systems {
		v = append(v, titled(judgePresence(&r.Systems[i]), &r.Systems[i]))
	}
	return v
}
