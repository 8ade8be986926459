package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// graceWorld is one room whose users come and go, and members on one node who
// keep its list by the rules of docs/protocol.md. A test decides when the room's
// events arrive and when reads begin, look and end. Time is virtual.
type graceWorld struct {
	r      *rand.Rand
	w      windows
	now    time.Time
	calm   bool // no event is lost, and no epoch ends
	mutate graceMutation

	at      position
	users   map[string]bool // in the keys
	history map[position]map[string]bool
	wire    []presenceEvent
	heard   string               // epoch of the last event that arrived
	from    uint64               // the event before the open window
	away    map[string]graceLeft // whose left may be told later
	members []*graceMember
	reads   []*graceRead
	refresh *graceRead // of the node, for all
	trace   []string
	wrong   []string
}

// graceLeft is a left with grace that arrived.
type graceLeft struct {
	due  time.Time
	from uint64 // the event before the window in which the user was there last
}

// graceMember is a client and what it knows.
type graceMember struct {
	name  string
	list  map[string]bool // nil: no snapshot yet
	epoch string
	seq   uint64
	count int
	read  uint64 // seq of the last snapshot
	last  PresenceUpdate
}

// graceRead is a snapshot under way.
type graceRead struct {
	for_   *graceMember
	at     position
	looked bool
	ended  bool // the windows know of it, the client does not yet
	tries  int
}

// graceMutation takes one precaution away; nil functions do nothing.
type graceMutation struct {
	name   string
	event  func(*presenceEvent)
	before func(*windows)                   // due
	told   func(*windows, *PresenceUpdate)  // by due
	full   func(w *windows, replace func()) // around replace
}

func newGraceWorld(seed uint64) *graceWorld {
	g := &graceWorld{
		r: rand.New(rand.NewPCG(seed, 5)), now: time.Unix(1000, 0), at: position{"e1", 0},
		users: map[string]bool{}, history: map[position]map[string]bool{}, away: map[string]graceLeft{},
	}
	g.calm = g.r.IntN(2) == 0
	length := []time.Duration{0, 100 * time.Millisecond}[g.r.IntN(2)]
	g.w = newWindows(length, []time.Duration{50 * time.Millisecond, time.Second}[g.r.IntN(2)])
	g.history[g.at] = map[string]bool{}
	return g
}

func (g *graceWorld) say(format string, args ...any) {
	g.trace = append(g.trace, fmt.Sprintf("%5d ", g.now.Sub(time.Unix(1000, 0)).Milliseconds())+fmt.Sprintf(format, args...))
}

func (g *graceWorld) fault(format string, args ...any) {
	g.say(format, args...)
	g.wrong = append(g.wrong, fmt.Sprintf(format, args...))
}

// change is one script call: some users come, or go.
func (g *graceWorld) change() {
	joins, grace := g.r.IntN(2) == 0, g.r.IntN(3) > 0
	e := presenceEvent{Epoch: g.at.epoch, Seq: g.at.seq + 1}
	for range 1 + g.r.IntN(2) {
		user := fmt.Sprintf("u%d", g.r.IntN(5))
		switch {
		case joins && !g.users[user]:
			g.users[user] = true
			e.Joined = append(e.Joined, user)
		case !joins && g.users[user]:
			delete(g.users, user)
			e.Left, e.Grace = append(e.Left, user), grace
		}
	}
	if len(e.Joined)+len(e.Left) == 0 {
		return
	}
	g.at.seq++
	e.Count = len(g.users)
	g.history[g.at] = maps.Clone(g.users)
	g.wire = append(g.wire, e)
	g.say("event %d +%v -%v grace %v", e.Seq, e.Joined, e.Left, e.Grace)
}

// arrive has the first event of the wire heard, or lost.
func (g *graceWorld) arrive() {
	if len(g.wire) == 0 {
		return
	}
	e := g.wire[0]
	g.wire = g.wire[1:]
	if !g.calm && g.r.IntN(25) == 0 {
		g.say("event %d is lost", e.Seq)
		return
	}
	g.say("event %d arrives", e.Seq)
	h := g.w.history("r")
	if h.window == nil {
		g.from = e.Seq - 1
	}
	if e.Epoch != g.heard {
		clear(g.away) // members are told of all
		g.heard = e.Epoch
	}
	there := g.history[position{e.Epoch, g.from}]
	// Who was away before the window may be away once more after it.
	back := func(user string) {
		left, ok := g.away[user]
		if delete(g.away, user); ok && left.from < g.from {
			g.away[user] = graceLeft{time.Time{}, left.from}
		}
	}
	for _, user := range e.Joined {
		back(user)
	}
	for _, user := range e.Left {
		left, held := g.away[user]
		switch {
		case !e.Grace:
			back(user)
		case held:
			g.away[user] = graceLeft{g.now.Add(g.w.grace), left.from}
		case there[user]:
			g.away[user] = graceLeft{g.now.Add(g.w.grace), g.from}
		}
	}
	if g.mutate.event != nil {
		g.mutate.event(&e)
	}
	g.w.add("r", e, g.now)
}

// pass lets time go by, and the node do what is due.
func (g *graceWorld) pass(d time.Duration) {
	for end := g.now.Add(d); ; {
		at, open := g.w.next()
		if !open || at.After(end) {
			g.now = end
			break
		}
		if at.After(g.now) {
			g.now = at
		}
		g.due()
	}
	g.due()
}

func (g *graceWorld) due() {
	if g.mutate.before != nil {
		g.mutate.before(&g.w)
	}
	updates := g.w.due(g.now)
	for user, left := range g.away {
		if !left.due.After(g.now) && g.w.history("r").window == nil {
			delete(g.away, user)
		}
	}
	for i := range updates {
		u := &updates[i]
		if g.mutate.told != nil && !u.Full {
			g.mutate.told(&g.w, u)
		}
		g.say("told +%v -%v full %v %v, %d in %s %d-%d", u.Joined, u.Left, u.Full, u.Users, u.Count, u.Epoch, u.Prev, u.Seq)
		for _, m := range g.members {
			m.last = *u
			if m.follow(u) {
				g.ask(m)
			}
		}
		for _, read := range g.reads {
			if read.for_ != nil {
				read.for_.last = *u
			}
		}
		if i == len(updates)-1 && !u.Full && g.quiet() {
			g.checkCounts(u)
		}
	}
	g.check()
}

// follow is the function of that name in docs/protocol.md.
func (m *graceMember) follow(u *PresenceUpdate) (ask bool) {
	first := m.list == nil
	switch {
	case u.Full:
		older := u.Epoch == m.epoch && u.Seq < m.seq
		if first || !older {
			m.list = map[string]bool{}
			for _, user := range u.Users {
				m.list[user] = true
			}
			m.epoch, m.seq, m.count, m.read = u.Epoch, u.Seq, u.Count, u.Seq
		}
		return first && older
	case first:
		m.epoch, m.seq = u.Epoch, u.Seq
		return false
	case u.Epoch != m.epoch || u.Prev > m.seq:
		return true
	case u.Seq <= m.seq:
		return false
	}
	m.seq, m.count = u.Seq, u.Count
	for _, user := range u.Joined {
		m.list[user] = true
	}
	for _, user := range u.Left {
		delete(m.list, user)
	}
	return false
}

// ask begins a read for a member, one at a time.
func (g *graceWorld) ask(m *graceMember) {
	if g.reading(m) {
		return
	}
	g.say("%s asks", m.name)
	g.w.beginRead("r")
	m.last = PresenceUpdate{}
	g.reads = append(g.reads, &graceRead{for_: m})
}

func (g *graceWorld) reading(m *graceMember) bool {
	return slices.ContainsFunc(g.reads, func(r *graceRead) bool { return r.for_ == m })
}

// look is where a read finds the room: now, or through a cache a little earlier.
func (g *graceWorld) look(cached bool) position {
	at := g.at
	if cached {
		at.seq -= min(at.seq, uint64(g.r.IntN(3)))
	}
	return at
}

// step takes a read one step further: Redis looks, the windows are told, the
// client gets it.
func (g *graceWorld) step(read *graceRead) {
	m := read.for_
	again := func() {
		read.looked, read.ended = false, false
		read.tries++
		g.w.beginRead("r")
	}
	switch {
	case !read.looked:
		read.at, read.looked = g.look(read.tries == 0), true
	case !read.ended:
		stale := g.w.endRead("r", read.at, true)
		read.ended = true
		if stale && read.tries < readTries {
			again()
		} else if stale {
			g.w.want("r", g.w.history("r"))
		}
	case m.last.Room != "" && (m.last.Epoch != read.at.epoch || m.last.Seq > read.at.seq) && read.tries < readTries:
		again() // as cmd/edge does: an update has left that is newer
		m.last = PresenceUpdate{}
	default:
		g.reads = slices.DeleteFunc(g.reads, func(r *graceRead) bool { return r == read })
		g.say("%s is answered %v as of %s %d", m.name, slices.Sorted(maps.Keys(g.history[read.at])), read.at.epoch, read.at.seq)
		if m.follow(g.snapshot(read.at)) {
			g.ask(m)
		}
	}
}

func (g *graceWorld) snapshot(at position) *PresenceUpdate {
	users := slices.Sorted(maps.Keys(g.history[at]))
	return &PresenceUpdate{Room: "r", Full: true, Users: users, Count: len(users), Epoch: at.epoch, Prev: at.seq, Seq: at.seq}
}

// refreshStep is what refreshLoop does.
func (g *graceWorld) refreshStep() {
	if read := g.refresh; read != nil {
		g.refresh = nil
		replace := func() {
			s := g.snapshot(read.at)
			g.w.replace("r", read.at, s.Users, s.Count, g.now)
		}
		g.say("read again as of %s %d", read.at.epoch, read.at.seq)
		if g.mutate.full != nil {
			g.mutate.full(&g.w, replace)
		} else {
			replace()
		}
		g.due()
	} else if len(g.w.missed(g.now, 1)) > 0 {
		g.refresh = &graceRead{at: g.look(false)}
	}
}
