package state

import (
	"slices"
	"time"
)

// hold is the lefts of one event that members are not told of before due: whose
// sockets' connections broke, and may be back.
type hold struct {
	room  string
	due   time.Time
	users []string // held when the event's window closed; of interest are those that still are
	left  int      // of users, those that still are held
}

// pending are the users of a room whose left is held: the keys lack them, and
// so do snapshots; for members who follow the updates they are there.
//
// The members must be told of a left that becomes due in an update with a number
// of its own, greater than what they know, or they take it for known already.
// Only events make numbers. So while lefts are held, updates of other changes
// take smaller numbers than they could, one less for each event with held lefts:
// these events' own numbers, as it were, which their lefts then have (see
// roomHistory.number).
type pending struct {
	users map[string]absence
	holds int     // with users that still are held
	due   []*hold // to be told as soon as may be
}

// absence is why a user is not in the room.
type absence struct {
	hold  *hold
	since uint64 // the first event after which a snapshot may lack the user
}

// since returns when the user left; false if no left is held.
func (p *pending) since(user string) (uint64, bool) {
	a, ok := p.users[user]
	return a.since, ok
}

// hold keeps the left of a user that is not held.
func (p *pending) hold(user string, h *hold, since uint64) {
	if p.users == nil {
		p.users = make(map[string]absence)
	}
	p.users[user] = absence{h, since}
	h.users = append(h.users, user)
	if h.left++; h.left == 1 {
		p.holds++
	}
}

// drop forgets the left of a user, if it is held.
func (p *pending) drop(user string) {
	a, ok := p.users[user]
	if !ok {
		return
	}
	delete(p.users, user)
	if a.hold.left--; a.hold.left == 0 {
		p.holds--
	}
	if len(p.users) == 0 {
		p.users = nil
	}
}

func (p *pending) clear() {
	for user := range p.users {
		p.drop(user)
	}
	p.due = nil
}

// overdue reports whether lefts wait to be told.
func (p *pending) overdue() bool {
	return slices.ContainsFunc(p.due, func(h *hold) bool { return h.left > 0 })
}

// takeOverdue returns those lefts, which are held no more.
func (p *pending) takeOverdue() (users []string) {
	for _, h := range p.due {
		for _, user := range h.users {
			if p.users[user].hold == h {
				p.drop(user)
				users = append(users, user)
			}
		}
	}
	p.due = nil
	return users
}

// expire has the lefts that were held until now told, and returns their rooms.
func (w *windows) expire(now time.Time) (rooms []string) {
	i := 0
	for ; i < len(w.holds) && !w.holds[i].due.After(now); i++ {
		held := w.holds[i]
		if h := w.rooms[held.room]; h != nil && held.left > 0 {
			h.pending.due = append(h.pending.due, held)
			rooms = append(rooms, held.room)
		}
	}
	if w.holds = slices.Delete(w.holds, 0, i); len(w.holds) == 0 {
		w.holds = nil
	}
	return rooms
}

// merge closes the window and adds what it leaves to u: the last change of each
// user. Opposite changes cancel, as nobody has seen the first, unless a snapshot
// from between them was handed out, or may be.
func (h *roomHistory) merge(u *PresenceUpdate, now time.Time) {
	r := h.window
	h.window, h.closed = nil, h.at.seq
	seen := r.seen || h.reading > 0 || h.readWithin(max(h.told, r.from)+1, h.at.seq)
	for user, c := range r.changes {
		since, held := h.pending.since(user)
		there := held || !c.first // for those who follow the updates
		switch {
		case c.last && held:
			// Back in time. Who read since then has never heard of the user.
			h.pending.drop(user)
			if h.passed >= since || h.readWithin(since, c.seq) {
				u.Joined = append(u.Joined, user)
			}
		case c.last && (!there || seen):
			u.Joined = append(u.Joined, user)
		case c.last:
		case there && c.hold != nil && c.hold.due.After(now) && !r.seen:
			switch {
			case held:
				h.pending.drop(user)
			case c.again:
				since = r.from + 1
			default:
				since = c.seq
			}
			h.pending.hold(user, c.hold, since)
		case there || seen:
			h.pending.drop(user)
			u.Left = append(u.Left, user)
		}
	}
}

// readWithin reports whether a snapshot from after event from-1 and before event
// to was handed out, of those that the members were not told of since.
func (h *roomHistory) readWithin(from, to uint64) bool {
	return slices.ContainsFunc(h.reads, func(seq uint64) bool { return from <= seq && seq < to })
}

// number is that of an update now: of the room's last event, less one for each
// event with lefts that are still held. It is greater than what the members were
// told last, and than any snapshot that was handed out and lacks part of the
// update: whoever has that would take the update for known already. Numbers that
// such a snapshot takes away may be missing later (see windows.close).
func (h *roomHistory) number() uint64 {
	least := h.told
	for _, seq := range h.reads {
		if seq < h.at.seq {
			least = max(least, seq)
		}
	}
	return max(least+1, h.at.seq-min(h.at.seq, uint64(h.pending.holds)))
}
