package state

import (
	"slices"
	"time"
)

const (
	behindWait   = 2 * time.Second // for events that a look at Redis says are missing: usually they are under way
	refreshPause = time.Second     // between two snapshots of one room
)

// position is a point in a room's history: after event seq of the epoch, and
// before the next.
type position struct {
	epoch string
	seq   uint64
}

// roomHistory is what this node knows of the events of a room with members
// here: how far they came, and how far the members were told.
type roomHistory struct {
	at      position   // the last event merged; of the open window, if there is one
	told    uint64     // in at's epoch: everything up to here the members know
	closed  uint64     // likewise: windows up to here are closed; what cancelled in them is never told
	known   bool       // at means something
	heard   bool       // at is from an event, not only from a snapshot
	gone    bool       // forgotten, but for snapshots under way
	reading int        // snapshots under way
	reads   []uint64   // snapshots handed out since told, by seq, in at's epoch
	passed  uint64     // likewise: the newest of those that told has reached
	early   []position // snapshots of another epoch, whose events are still to come
	count   int        // users in the room as of at
	window  *roomWindow
	pending pending
	refresh time.Time // when the room was refreshed last
	wanted  bool      // in windows.wanted
}

// lag is where Redis was seen to be, ahead of a room's events, and when first.
type lag struct {
	at    position
	since time.Time
}

// roomWindow merges the events of one room since its window opened.
type roomWindow struct {
	room    string
	ends    time.Time
	from    uint64 // the event before the first merged
	changes map[string]change
	seen    bool // a snapshot from within was handed out to all
}

// change is what happened to a user in a window: it joined (or left) first,
// and last.
type change struct {
	first, last bool
	again       bool   // there was more than one
	seq         uint64 // of the last
	hold        *hold  // if the user left last, with grace
}

// windows merges presence events per room over a fixed time and finds out when
// one is missing: pure state, guarded by its owner. A window opens with the
// first event of a room.
type windows struct {
	length  time.Duration
	grace   time.Duration // how long a left of who may be back in a moment is held
	holds   []*hold       // by due
	rooms   map[string]*roomHistory
	order   []*roomWindow    // by ends
	wanted  []string         // rooms whose members missed something: a snapshot is due
	news    bool             // in wanted, since whoever reads them was told
	lagging map[string]lag   // rooms behind what an audit saw
	full    []PresenceUpdate // snapshots to hand out
}

func newWindows(length, grace time.Duration) windows {
	return windows{length: length, grace: grace, rooms: make(map[string]*roomHistory), lagging: make(map[string]lag)}
}

func (w *windows) history(room string) *roomHistory {
	h := w.rooms[room]
	if h == nil {
		h = &roomHistory{}
		w.rooms[room] = h
	}
	return h
}

// forget drops what is known of a room that has no members here any more.
func (w *windows) forget(room string) {
	h := w.rooms[room]
	if h == nil {
		return
	}
	if h.gone = h.reading > 0; !h.gone {
		delete(w.rooms, room)
		h.pending.clear()
		if h.window != nil {
			w.order = without(w.order, h.window)
		}
	}
}

// beginRead says that a snapshot of the room is being read for a member here,
// who will know of every change up to some event that nobody can tell yet.
func (w *windows) beginRead(room string) {
	h := w.history(room)
	h.reading++
	h.gone = false
}

// endRead says that the snapshot was as of at, or failed. stale says that the
// members here were told more meanwhile: it must be read again.
func (w *windows) endRead(room string, at position, ok bool) (stale bool) {
	h := w.history(room)
	h.reading--
	same := h.known && at.epoch == h.at.epoch
	switch {
	case !ok:
	case !h.known, !h.heard && (!same || at.seq < h.at.seq):
		// Events are awaited from the oldest snapshot on.
		if same {
			h.reads = append(h.reads, h.at.seq)
		}
		h.at, h.told, h.known = at, at.seq, true
	case same && at.seq < max(h.told, h.closed):
		stale = true
	case same && at.seq == h.told:
		h.passed = max(h.passed, at.seq)
	case same && !slices.Contains(h.reads, at.seq):
		h.reads = append(h.reads, at.seq)
	case !same && !slices.Contains(h.early, at):
		h.early = append(h.early, at)
	}
	if h.gone {
		w.forget(room)
	}
	return stale
}

// enter begins another epoch.
func (h *roomHistory) enter(epoch string) {
	h.reads, h.passed = nil, 0
	for _, at := range h.early {
		if at.epoch == epoch {
			h.reads = append(h.reads, at.seq)
		}
	}
	h.early = nil
}

// add merges one event that arrived at now. An event that is not newer than
// the last one is ignored; one that is not the next tells of a gap.
func (w *windows) add(room string, e presenceEvent, now time.Time) {
	h := w.history(room)
	gap := false
	switch {
	case !h.known:
		h.told = e.Seq - 1
	case !h.heard && e.Epoch == h.at.epoch && e.Seq <= h.at.seq:
		// A member's snapshot has it already; others may have none.
		h.told, h.reads = e.Seq-1, append(h.reads, h.at.seq)
	case e.Epoch == h.at.epoch && e.Seq <= h.at.seq:
		return
	case e.Epoch != h.at.epoch || e.Seq != h.at.seq+1:
		gap = true
		// What the members know ends before the gap: they see it, too, and those
		// who read since know that whoever left before it is gone.
		if e.Epoch != h.at.epoch {
			h.enter(e.Epoch)
		}
		h.reads = slices.DeleteFunc(h.reads, func(seq uint64) bool { return seq < e.Seq })
		h.told, h.closed = e.Seq-1, 0
		h.pending.clear()
		w.want(room, h)
	}
	h.at, h.known, h.heard = position{e.Epoch, e.Seq}, true, true
	r := h.window
	if r == nil {
		r = &roomWindow{room: room, ends: now.Add(w.length)}
		h.window = r
		w.order = append(w.order, r)
		gap = true
	}
	if gap {
		r.from, r.changes = e.Seq-1, make(map[string]change)
	}
	for _, user := range e.Joined {
		r.change(user, true, e.Seq, nil)
	}
	var held *hold
	if e.Grace && w.grace > 0 && len(e.Left) > 0 {
		held = &hold{room: room, due: now.Add(w.grace)}
		w.holds = append(w.holds, held)
	}
	for _, user := range e.Left {
		r.change(user, false, e.Seq, held)
	}
	h.count = e.Count
}

// change records that user joined or left.
func (r *roomWindow) change(user string, joined bool, seq uint64, held *hold) {
	c, again := r.changes[user]
	if c.again = again; !again {
		c.first = joined
	}
	c.last, c.seq, c.hold = joined, seq, held
	r.changes[user] = c
}

// want has a snapshot read for the members of the room.
func (w *windows) want(room string, h *roomHistory) {
	if !h.wanted {
		h.wanted, w.news = true, true
		w.wanted = append(w.wanted, room)
	}
}

// watermark says that Redis was seen at a position at now. Members who are not
// told of it soon have missed the room's last events, which no later event shows.
func (w *windows) watermark(room string, at position, now time.Time) {
	h := w.rooms[room]
	if h == nil || !h.known || at.epoch == "" {
		return
	}
	if at.epoch == h.at.epoch && at.seq <= h.at.seq {
		delete(w.lagging, room)
	} else if _, already := w.lagging[room]; !already {
		w.lagging[room] = lag{at, now}
	}
}

// replace says that the room was read as of at, for all members here: users is
// the list, nil if there are too many.
func (w *windows) replace(room string, at position, users []string, count int, now time.Time) {
	h := w.rooms[room]
	if h == nil {
		return // nobody is here any more
	}
	h.refresh = now
	if at.epoch == "" {
		return // Redis lost the room: what nodes store again will be told, in another epoch
	}
	switch older := h.known && at.epoch == h.at.epoch && at.seq < h.at.seq; {
	case !older:
		// All that was merged is in the snapshot.
		if at.epoch != h.at.epoch {
			h.enter(at.epoch)
		}
		h.reads = slices.DeleteFunc(h.reads, func(seq uint64) bool { return seq <= at.seq })
		if h.window != nil {
			w.order = without(w.order, h.window)
			h.window = nil
		}
		h.at, h.closed, h.count = at, at.seq, count
		delete(w.lagging, room)
	case h.window != nil && at.seq >= h.window.from:
		h.window.seen = h.window.seen || at.seq > h.window.from // it goes beyond the snapshot, and nothing in it may cancel
	default:
		w.want(room, h) // the members know more already
		return
	}
	h.told, h.known = at.seq, true
	h.pending.clear() // the snapshot lacks them, and tells all members
	w.full = append(w.full, PresenceUpdate{
		Room: room, Full: true, Users: users, Count: count, Epoch: at.epoch, Prev: at.seq, Seq: at.seq,
	})
}

// due closes the windows that end by now and returns what is left of them, the
// lefts that were held long enough, and the snapshots.
func (w *windows) due(now time.Time) []PresenceUpdate {
	out := w.full
	w.full = nil
	over := w.expire(now)
	i := 0
	for ; i < len(w.order) && !w.order[i].ends.After(now); i++ {
		out = w.close(w.order[i].room, now, out)
	}
	if w.order = slices.Delete(w.order, 0, i); len(w.order) == 0 {
		w.order = nil
	}
	for _, room := range over {
		if h := w.rooms[room]; h != nil && h.window == nil { // else they are told with the window
			out = w.close(room, now, out)
		}
	}
	return out
}

// close appends what the room's window leaves, if one is open, and the held
// lefts that are due. Where nothing is left the members are told nothing, and
// know as much as before.
func (w *windows) close(room string, now time.Time, out []PresenceUpdate) []PresenceUpdate {
	h := w.rooms[room]
	u := PresenceUpdate{Room: room, Prev: h.told, Epoch: h.at.epoch}
	if h.window != nil {
		h.merge(&u, now)
	} else if h.told == h.at.seq && h.pending.overdue() {
		w.want(room, h) // no number is left that an update could have
		return out
	}
	u.Left = append(u.Left, h.pending.takeOverdue()...)
	if len(u.Joined)+len(u.Left) == 0 {
		return out
	}
	slices.Sort(u.Joined)
	slices.Sort(u.Left)
	u.Seq, u.Count = h.number(), h.count+len(h.pending.users)
	h.told = u.Seq
	h.reads = slices.DeleteFunc(h.reads, func(seq uint64) bool {
		if seq > h.told {
			return false
		}
		h.passed = max(h.passed, seq)
		return true
	})
	return append(out, u)
}

// missed returns up to limit rooms that are to be read again, and forgets that
// they are: those with a gap, and those behind Redis for behindWait.
func (w *windows) missed(now time.Time, limit int) []string {
	var rooms, later []string
	for _, room := range w.wanted {
		switch h := w.rooms[room]; {
		case h == nil:
		case len(rooms) == limit || now.Sub(h.refresh) < refreshPause:
			later = append(later, room)
		default:
			h.wanted = false
			rooms = append(rooms, room)
		}
	}
	w.wanted = later
	return rooms
}

// overtake wants the rooms that have been behind Redis for behindWait.
func (w *windows) overtake(now time.Time) {
	for room, l := range w.lagging {
		if now.Sub(l.since) < behindWait {
			continue
		}
		delete(w.lagging, room)
		if h := w.rooms[room]; h != nil && (h.at.epoch != l.at.epoch || h.at.seq < l.at.seq) {
			w.want(room, h)
		}
	}
}

// next is the time to call due; false when nothing is open, nor held.
func (w *windows) next() (time.Time, bool) {
	if len(w.full) > 0 {
		return time.Time{}, true
	}
	var at time.Time
	open := len(w.order) > 0
	if open {
		at = w.order[0].ends
	}
	if len(w.holds) > 0 && (!open || w.holds[0].due.Before(at)) {
		at, open = w.holds[0].due, true
	}
	return at, open
}
