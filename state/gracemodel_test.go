package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// quiet reports whether the members know, or should, all that has arrived.
func (g *graceWorld) quiet() bool {
	h := g.w.history("r")
	return h.window == nil && h.heard && !h.wanted && g.refresh == nil && len(g.w.full) == 0
}

// check compares every list with the keys as of what has arrived.
func (g *graceWorld) check() {
	if !g.quiet() {
		return
	}
	h := g.w.history("r")
	for _, m := range g.members {
		if m.list == nil || g.reading(m) || m.epoch != h.at.epoch {
			continue
		}
		users := g.history[position{h.at.epoch, max(m.seq, h.at.seq)}]
		for user := range users {
			if !m.list[user] {
				g.fault("%s lacks %s", m.name, user)
			}
		}
		for user := range m.list {
			if _, away := g.away[user]; !users[user] && !away {
				g.fault("%s still has %s", m.name, user)
			}
		}
		if m.seq > h.at.seq {
			continue // a snapshot knows more
		}
		for user, left := range g.away {
			if g.calm && !users[user] && m.read <= left.from && !m.list[user] {
				g.fault("%s was told too early that %s left", m.name, user)
			}
		}
	}
}

// checkCounts wants u's count to be that of the lists with everybody who is away.
func (g *graceWorld) checkCounts(u *PresenceUpdate) {
	for _, m := range g.members {
		if !g.calm || m.list == nil || g.reading(m) || m.epoch != u.Epoch || m.seq != u.Seq {
			continue
		}
		all := true
		for user := range g.away {
			all = all && m.list[user]
		}
		if all && m.count != len(m.list) {
			g.fault("%s counts %d and lists %d", m.name, m.count, len(m.list))
		}
	}
}

// run is one life of a room, and what is wrong in it.
func (g *graceWorld) run() []string {
	for i := range 3 {
		g.members = append(g.members, &graceMember{name: fmt.Sprintf("m%d", i), list: map[string]bool{}, epoch: g.at.epoch})
	}
	g.w.beginRead("r")
	g.w.endRead("r", g.at, true)
	for range 150 {
		switch k := g.r.IntN(20); {
		case k < 4:
			g.change()
		case k < 9:
			g.arrive()
		case k < 12:
			if len(g.reads) > 0 {
				g.step(g.reads[g.r.IntN(len(g.reads))])
			}
		case k < 13:
			g.refreshStep()
		case k < 14:
			g.ask(g.members[1+g.r.IntN(len(g.members)-1)]) // the first never asks without need
		case k < 15 && len(g.members) < 8:
			m := &graceMember{name: fmt.Sprintf("n%d", len(g.members))}
			g.members = append(g.members, m)
			g.ask(m)
		case k < 16 && !g.calm && g.r.IntN(8) == 0:
			g.at = position{g.at.epoch + "x", 0}
			g.history[g.at] = maps.Clone(g.users)
		default:
			g.pass(time.Duration(g.r.IntN(150)) * time.Millisecond)
		}
		if len(g.wrong) > 0 {
			return g.wrong
		}
	}
	g.rest()
	return g.wrong
}

// rest lets everything arrive and end, and compares what is left with the keys.
func (g *graceWorld) rest() {
	g.say("rest")
	for i := range 40 {
		if i == 20 {
			for before := g.at; g.at == before; {
				g.change() // a read that was overtaken too often is shown by the next update
			}
		}
		for range 10 {
			g.arrive()
			for _, read := range slices.Clone(g.reads) {
				g.step(read)
			}
			g.refreshStep()
		}
		g.pass(500 * time.Millisecond)
		if g.at.seq > 0 {
			g.w.watermark("r", g.at, g.now) // as audits do
			g.w.overtake(g.now)
		}
	}
	for _, m := range g.members {
		if (g.at.seq > 0 || g.at.epoch == "e1") && (!maps.Equal(m.list, g.users) || m.count != len(g.users)) {
			g.fault("in the end %s has %d, %v, and the keys %v", m.name, m.count, slices.Sorted(maps.Keys(m.list)), slices.Sorted(maps.Keys(g.users)))
		}
	}
	if h := g.w.history("r"); len(g.w.holds) > 0 || h.pending.holds+len(h.pending.users) > 0 {
		g.fault("in the end lefts are held")
	}
}

func TestGraceModel(t *testing.T) {
	for seed := range uint64(simulations(40) * 50) {
		g := newGraceWorld(seed)
		if wrong := g.run(); len(wrong) > 0 {
			t.Fatalf("seed %d, calm %v, window %v, grace %v:\n%s\n\n%s", seed, g.calm, g.w.length, g.w.grace, strings.Join(wrong, "\n"), strings.Join(g.trace, "\n"))
		}
	}
}

// What the model must notice.
func TestGraceModelNoticesMutations(t *testing.T) {
	for _, mutation := range []graceMutation{
		{name: "lefts are told at once", event: func(e *presenceEvent) { e.Grace = false }},
		{name: "held lefts are never told", before: func(w *windows) { w.holds = nil }},
		{name: "who read meanwhile is not minded", before: func(w *windows) {
			h := w.history("r")
			h.reads, h.passed = nil, 0
		}},
		{name: "who read long before is not minded", before: func(w *windows) { w.history("r").passed = 0 }},
		{name: "a snapshot for all leaves lefts held", full: func(w *windows, replace func()) {
			h := w.history("r")
			held := h.pending
			h.pending = pending{}
			replace()
			h.pending = held
		}},
		{name: "counts are those of the keys", told: func(w *windows, u *PresenceUpdate) { u.Count = w.history("r").count }},
		{name: "held lefts take the number of what was told", told: func(w *windows, u *PresenceUpdate) {
			if h := w.history("r"); len(h.pending.users) == 0 && h.window == nil && len(u.Joined) == 0 {
				u.Seq = u.Prev
				h.told = u.Seq
			}
		}},
	} {
		noticed := false
		for seed := range uint64(2000) {
			g := newGraceWorld(seed)
			g.mutate = mutation
			if wrong := g.run(); len(wrong) > 0 {
				t.Logf("%s: seed %d: %s", mutation.name, seed, wrong[0])
				noticed = true
				break
			}
		}
		if !noticed {
			t.Errorf("%s: the model noticed nothing", mutation.name)
		}
	}
}
