package fanout

import "sync"

// Room is one room (or one whole namespace) as the hub sees it. It is made by
// the first join and forgotten after it stayed empty for the linger time; a
// join after that makes a new one.
type Room struct {
	// Set when made, then read-only.
	Key        Key
	generation uint64 // of the subscription

	// Guarded by the lock of the hub's stripe for Key.
	total   int     // joins enqueued minus leaves processed, and reservations; one more while Subscribe is called
	counts  []int32 // the same per shard
	emptied uint32  // times total became 0: names the linger entry that counts
	live    bool
	removed bool     // no longer in the hub's map
	waiters []func() // joins waiting for the subscription

	// members[i] is owned by shard i.
	members [][]place
}

// hasMembers reports whether anybody joined; the caller holds the stripe's lock.
func (r *Room) hasMembers() bool {
	for _, n := range r.counts {
		if n > 0 {
			return true
		}
	}
	return false
}

// place is one membership in a room's share of a shard.
type place struct {
	member *Member
	index  int32 // of the membership in member.places
	since  ID    // journalled messages up to here were before the join
}

// Member is what joins rooms: a Socket.IO socket. It is embedded in the
// engine's socket; Init makes it usable.
type Member struct {
	// Set by Init, then read-only.
	conn  *Conn
	owner any

	// Guarded by mu; mu is taken before a stripe's lock and before a shard's.
	mu     sync.Mutex
	rooms  []*Room // as wanted by the application
	closed bool

	// Owned by the shard of conn.
	gone     bool
	places   []membership
	seen     uint64    // last target that selected or excluded this member
	floor    ID        // has everything up to here: older journalled messages are skipped
	catching *catching // not nil: a replay is under way, and journalled messages wait in the journal
}

// catching is the state of a member that is held.
type catching struct {
	skipped ID         // the last message that passed it by
	kept    []*Message // the last of those, up to Config.Kept
	lost    ID         // the last of those that is not kept
	stopped bool       // it never catches up
}

// keep notes a message that passed m by, which would have been for it: for the
// end of its replay, because in a busy room some always do.
func (m *Member) keep(msg *Message) {
	c, limit := m.catching, m.conn.shard.hub.cfg.Kept
	if n := len(c.kept); n > 0 && !msg.ID.After(c.kept[n-1].ID) {
		return // by another room of the same target
	}
	if msg.Frame == nil { // of a delivery that was lost
		c.lost, c.kept = msg.ID, c.kept[:0]
		return
	}
	if len(c.kept) >= limit {
		c.lost = c.kept[0].ID
		c.kept = append(c.kept[:0], c.kept[1:]...)
	}
	c.kept = append(c.kept, msg)
}

// membership is a member's side of a place.
type membership struct {
	room *Room
	slot int32 // in room.members of the shard
}

// Init binds the member to its conn. owner is returned by Owner.
func (m *Member) Init(c *Conn, owner any) { m.conn, m.owner = c, owner }

// Owner is the value given to Init.
func (m *Member) Owner() any { return m.owner }

// Conn is the conn given to Init.
func (m *Member) Conn() *Conn { return m.conn }

// Rooms appends the names of the member's rooms in namespace order of joining
// to dst, without the namespace's own entry. It may be called from any goroutine.
func (m *Member) Rooms(dst []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rooms {
		if r.Key.Room != "" {
			dst = append(dst, r.Key.Room)
		}
	}
	return dst
}

// In reports whether the member wants to be in the room. Any goroutine.
func (m *Member) In(k Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(k) >= 0
}

// find is the index of k in m.rooms, or -1. The caller holds m.mu.
func (m *Member) find(k Key) int {
	for i, r := range m.rooms {
		if r.Key == k {
			return i
		}
	}
	return -1
}

// enter adds m to shard i's share of r. Called by the shard only.
func (r *Room) enter(i int, m *Member, since ID) {
	r.members[i] = append(r.members[i], place{member: m, index: int32(len(m.places)), since: since})
	m.places = append(m.places, membership{room: r, slot: int32(len(r.members[i]) - 1)})
}

// has reports whether the journalled message id is not for the member now: it
// got it by replay, it will, or it was published before the member joined.
func (p *place) has(id ID) bool {
	return !id.IsZero() && (p.member.has(id) || !id.After(p.since))
}

// has is has for a message to the member itself.
func (m *Member) has(id ID) bool {
	switch {
	case id.IsZero():
		return false
	case !id.After(m.floor):
		return true
	case m.catching != nil:
		if id.After(m.catching.skipped) {
			m.catching.skipped = id
		}
		return true
	}
	return false
}

// in is the index of the membership of r in m.places, or -1. Called by the shard only.
func (m *Member) in(r *Room) int {
	for j := range m.places {
		if m.places[j].room == r {
			return j
		}
	}
	return -1
}

// exit ends membership number at of m, on shard i, and returns its room. Both
// lists are unordered: the last element fills the gap. Emptied lists keep no memory.
func (m *Member) exit(i, at int) *Room {
	r, slot := m.places[at].room, m.places[at].slot
	members := r.members[i]
	last := int32(len(members) - 1)
	if slot != last {
		moved := members[last]
		members[slot] = moved
		moved.member.places[moved.index].slot = slot
	}
	members[last] = place{}
	r.members[i] = members[:last]
	if last == 0 {
		r.members[i] = nil
	}

	end := len(m.places) - 1
	if at != end {
		moved := m.places[end]
		m.places[at] = moved
		moved.room.members[i][moved.slot].index = int32(at)
	}
	m.places[end] = membership{}
	m.places = m.places[:end]
	if end == 0 {
		m.places = nil
	}
	return r
}
