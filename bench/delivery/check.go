package delivery

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Counts is what was found in some histories. Lost to Strange must all be 0.
type Counts struct {
	Received   uint64 `json:"received"`
	Lost       uint64 `json:"lost"` // within sessions
	Duplicated uint64 `json:"duplicated"`
	OutOfOrder uint64 `json:"out_of_order"`
	Stale      uint64 `json:"stale"`   // published before the room was joined, or in an earlier session
	Strange    uint64 `json:"strange"` // of a room that was not joined, or unreadable

	// What was missing when the server ended the connection for it, and told the client at its return; what
	// the client got between the hole and the end is not in order with it.
	Torn uint64 `json:"torn"`

	Missed uint64 `json:"missed"` // between sessions, which the client was told
	Again  uint64 `json:"again"`  // received in an earlier session too
}

// Add adds other counts.
func (c *Counts) Add(o Counts) {
	c.Received += o.Received
	c.Lost += o.Lost
	c.Duplicated += o.Duplicated
	c.OutOfOrder += o.OutOfOrder
	c.Stale += o.Stale
	c.Strange += o.Strange
	c.Torn += o.Torn
	c.Missed += o.Missed
	c.Again += o.Again
}

// Wrong is how many things are there that must not be.
func (c *Counts) Wrong() uint64 {
	return c.Lost + c.Duplicated + c.OutOfOrder + c.Stale + c.Strange
}

// Findings is what Check found out.
type Findings struct {
	Clients  int      `json:"clients"`
	Sessions int      `json:"sessions"`
	Total    Counts   `json:"total"`
	Phases   []Counts `json:"phases"` // by the phase in which it showed
	Examples []string `json:"examples,omitempty"`

	told []bool
}

// maxExamples bounds how many wrong things are named.
const maxExamples = 10

// Check compares histories with what was published. last is, by stream, the number of the last message
// that was acknowledged: what the clients that are there must have in the end. Without it (nil) nothing is
// expected beyond what was received, as while messages flow. told says of each phase whether it ends all
// sessions.
func Check(histories []History, last map[int]uint64, told []bool) *Findings {
	f := &Findings{Clients: len(histories), Phases: make([]Counts, len(told)), told: told}
	for i := range histories {
		f.history(&histories[i], last)
	}
	for _, c := range f.Phases {
		f.Total.Add(c)
	}
	return f
}

func (f *Findings) example(format string, args ...any) {
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, fmt.Sprintf(format, args...))
	}
}

// phase returns the counts of a phase; what shows after the last one shows in it.
func (f *Findings) phase(i int) *Counts { return &f.Phases[min(i, len(f.Phases)-1)] }

// history checks one client.
func (f *Findings) history(h *History, last map[int]uint64) {
	f.Sessions += len(h.Sessions)
	top := map[int]uint64{} // by stream: the highest number of earlier sessions
	for i := range h.Sessions {
		s := &h.Sessions[i]
		final := i == len(h.Sessions)-1
		name := fmt.Sprintf("%s, session %d", h.Client, i+1)
		f.phase(s.Phase).Strange += uint64(s.Strange)
		if s.Strange > 0 {
			f.example("%s: %d messages that are not for it", name, s.Strange)
		}
		streams := map[int]*follower{}
		follow := func(stream int) *follower {
			if streams[stream] == nil {
				streams[stream] = newFollower(f, name, s, stream, top[stream])
			}
			return streams[stream]
		}
		for _, m := range s.Members {
			follow(m.Stream)
		}
		for _, g := range s.Got {
			follow(g.Stream).stretch(g)
		}
		for _, stream := range slices.Sorted(maps.Keys(streams)) {
			w := streams[stream]
			if final && last != nil {
				w.end(last[stream])
			}
			w.close(s, final)
			top[stream] = max(top[stream], w.top)
		}
	}
}

// follower checks one stream in one session.
type follower struct {
	f      *Findings
	name   string
	stream int
	member *Membership // nil if nobody asked to join the room
	latest Stretch     // or the end, as one

	before uint64             // highest number of earlier sessions, 0 if there is none
	first  uint64             // lowest number that is followed, 0 before it is known
	next   uint64             // number that must come next
	top    uint64             // highest number received
	holes  map[uint64]Stretch // numbers that were skipped, and what showed it
	seen   map[uint64]bool
}

func newFollower(f *Findings, name string, s *Session, stream int, before uint64) *follower {
	w := &follower{f: f, name: name, stream: stream, before: before, latest: Stretch{Phase: s.Phase}, holes: map[uint64]Stretch{}, seen: map[uint64]bool{}}
	w.member = s.membership(stream)
	return w
}

// stretch takes consecutive messages.
func (w *follower) stretch(g Stretch) {
	w.latest = g
	c := w.f.phase(g.Phase)
	c.Received += g.Last - g.First + 1
	if g.First <= w.before {
		c.Again += min(g.Last, w.before) - g.First + 1
	}
	if w.member == nil {
		c.Strange += g.Last - g.First + 1
		w.f.example("%s: got %d of stream %d, whose room it did not join", w.name, g.First, w.stream)
	} else if g.First <= w.member.Floor {
		c.Stale += min(g.Last, w.member.Floor) - g.First + 1
		w.f.example("%s: got %d of stream %d, which was published before it joined (up to %d)", w.name, g.First, w.stream, w.member.Floor)
	}
	if w.first == 0 {
		w.begin(g)
	}
	if g.First > w.next {
		w.skip(w.next, g.First)
	}
	for n := g.First; n < w.next && n <= g.Last; n++ {
		w.late(c, n)
	}
	w.next = max(w.next, g.Last+1)
	w.top = max(w.top, g.Last)
}

// begin sets what is followed from: the first message, or what was due before it.
func (w *follower) begin(g Stretch) {
	w.first, w.next = g.First, g.First
	if w.member == nil {
		return
	}
	if w.before > 0 && g.First > w.before+1 {
		// What was published before the join was told to be missing, the rest is due.
		to := g.First
		if w.member.Due > 0 {
			to = min(to, w.member.Due)
		}
		if to > w.before+1 {
			w.f.phase(w.member.Phase).Missed += to - w.before - 1
		}
	}
	if w.member.Due > 0 && w.member.Due < g.First {
		w.first, w.next = w.member.Due, w.member.Due
	}
}

// skip notes numbers that did not come when they should have.
func (w *follower) skip(from, to uint64) {
	for n := from; n < to; n++ {
		w.holes[n] = w.latest
	}
}

// late takes a message whose turn is over: it fills a hole out of order, or has come before.
func (w *follower) late(c *Counts, n uint64) {
	_, hole := w.holes[n]
	switch {
	case hole:
		delete(w.holes, n)
	case n < w.first && !w.seen[n]:
		w.seen[n] = true
	default:
		c.Duplicated++
		w.f.example("%s: got %d of stream %d twice", w.name, n, w.stream)
		return
	}
	c.OutOfOrder++
	w.f.example("%s: got %d of stream %d after %d", w.name, n, w.stream, w.next-1)
}

// end says what must have come in the end.
func (w *follower) end(last uint64) {
	if w.member == nil || !w.member.Acked || last == 0 {
		return
	}
	w.latest = Stretch{Phase: len(w.f.Phases) - 1}
	if w.first == 0 {
		if w.member.Due == 0 || w.member.Due > last {
			return
		}
		w.begin(Stretch{First: w.member.Due})
	}
	if w.next <= last {
		w.skip(w.next, last+1)
		w.next = last + 1
	}
}

// tornFor is how soon after a hole the server must end the connection for it.
const tornFor = 10 * time.Second

// torn reports whether the client was told of a hole: the connection on which it showed was the last one of
// its session, and ended soon after. Whether the server ended it because of the hole cannot be seen where
// the client itself dropped it, unless everybody is told in that phase.
func (w *follower) torn(s *Session, final bool, g Stretch) bool {
	return !final && g.Conn == s.Conns && s.End.Sub(g.At) <= tornFor && (!s.Dropped || w.f.told[min(g.Phase, len(w.f.told)-1)])
}

// close counts what never came.
func (w *follower) close(s *Session, final bool) {
	var lost []uint64
	for _, n := range slices.Sorted(maps.Keys(w.holes)) {
		g := w.holes[n]
		if w.torn(s, final, g) {
			w.f.phase(g.Phase).Torn++
			continue
		}
		w.f.phase(g.Phase).Lost++
		lost = append(lost, n)
	}
	if len(lost) > 0 {
		w.f.example("%s: lost %d of stream %d, from %d to %d", w.name, len(lost), w.stream, lost[0], lost[len(lost)-1])
	}
}
