package state

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
)

// PresenceUpdate is what changed in a room over one presence window: users
// that came and went meanwhile do not appear, unless this node read the room's
// members about then (Presence.Members) and may have seen them.
type PresenceUpdate struct {
	Room         string
	Joined, Left []string // user ids, sorted
	Count        int      // users in the room after the last change
	Seq          uint64   // counts the room's changes; comparable within an epoch
	Epoch        string
}

// presenceNamespace is the namespace whose rooms have presence.
const presenceNamespace = "/"

// Presence events of room r are published on {room:r:users}:ev.
const (
	presencePrefix  = "{room:"
	presenceSuffix  = ":users}:ev"
	presencePattern = presencePrefix + "*" + presenceSuffix
)

func presenceChannel(room string) string { return presencePrefix + room + presenceSuffix }

func presenceRoom(channel string) (string, bool) {
	room, ok := strings.CutPrefix(channel, presencePrefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(room, presenceSuffix)
}

// presenceEvent is what the hold and release scripts publish: each real
// transition of a user in a room, once.
type presenceEvent struct {
	Epoch  string   `json:"epoch"`
	Seq    uint64   `json:"seq"`
	Joined []string `json:"joined"`
	Left   []string `json:"left"`
	Count  int      `json:"count"`
}

func parsePresenceEvent(payload string) (presenceEvent, error) {
	var e presenceEvent
	if err := json.Unmarshal([]byte(payload), &e); err != nil {
		return presenceEvent{}, err
	}
	if e.Epoch == "" {
		return presenceEvent{}, errors.New("state: presence event without epoch")
	}
	return e, nil
}

// roomWindow merges the events of one room since its window opened.
type roomWindow struct {
	room    string
	ends    time.Time
	changes map[string]change
	read    bool          // its members were read: whoever has them may know of every change
	last    presenceEvent // Epoch, Seq and Count of the newest event
}

// change is what happened to a user in a window: it joined (or left) first,
// and last.
type change struct{ first, last bool }

// readPeriod is how long a read of a room's members counts for windows that
// open after it: longer than a read takes and an event may lag behind it.
const readPeriod = readTimeout + 3*time.Second

// windows merges presence events per room over a fixed time: pure state,
// guarded by its owner. A window opens with the first event of a room.
type windows struct {
	length time.Duration
	rooms  map[string]*roomWindow
	order  []*roomWindow // by ends
	reads  recentRooms   // whose members were read
}

func newWindows(length time.Duration) windows {
	return windows{length: length, rooms: make(map[string]*roomWindow), reads: newRecentRooms(readPeriod)}
}

// readMembers says that the room's members are being read, or were read, at now.
func (w *windows) readMembers(room string, now time.Time) {
	w.reads.mark(room, now)
	if r := w.rooms[room]; r != nil {
		r.read = true
	}
}

// add merges one event that arrived at now. An event that is not newer than
// the window's last one is ignored.
func (w *windows) add(room string, e presenceEvent, now time.Time) {
	r := w.rooms[room]
	switch {
	case r == nil:
		// Redis shows a change before its event is here, so that a read before
		// the window opened may have shown it, too.
		r = &roomWindow{room: room, ends: now.Add(w.length), changes: make(map[string]change), read: w.reads.has(room, now)}
		w.rooms[room] = r
		w.order = append(w.order, r)
	case e.Epoch == r.last.Epoch && e.Seq <= r.last.Seq:
		return
	}
	for _, user := range e.Joined {
		r.change(user, true)
	}
	for _, user := range e.Left {
		r.change(user, false)
	}
	r.last = e
}

// change records that user joined or left.
func (r *roomWindow) change(user string, joined bool) {
	c, again := r.changes[user]
	if !again {
		c.first = joined
	}
	c.last = joined
	r.changes[user] = c
}

// due closes the windows that end by now and returns what is left of them.
func (w *windows) due(now time.Time) []PresenceUpdate {
	var out []PresenceUpdate
	i := 0
	for ; i < len(w.order) && !w.order[i].ends.After(now); i++ {
		r := w.order[i]
		delete(w.rooms, r.room)
		if u, ok := r.update(); ok {
			out = append(out, u)
		}
	}
	if w.order = slices.Delete(w.order, 0, i); len(w.order) == 0 {
		w.order = nil
	}
	return out
}

// update is what the window leaves: the last change of each user. Opposite
// changes cancel, as nobody has seen the first, unless members were read.
func (r *roomWindow) update() (PresenceUpdate, bool) {
	u := PresenceUpdate{Room: r.room, Count: r.last.Count, Seq: r.last.Seq, Epoch: r.last.Epoch}
	for user, c := range r.changes {
		switch {
		case c.first != c.last && !r.read:
		case c.last:
			u.Joined = append(u.Joined, user)
		default:
			u.Left = append(u.Left, user)
		}
	}
	slices.Sort(u.Joined)
	slices.Sort(u.Left)
	return u, len(u.Joined)+len(u.Left) > 0
}

// next is the time to call due; false when nothing is open.
func (w *windows) next() (time.Time, bool) {
	if len(w.order) == 0 {
		return time.Time{}, false
	}
	return w.order[0].ends, true
}

// updates is the shell around windows.
type updates struct {
	opened chan struct{} // capacity 1: a window is open

	mu      sync.Mutex // guards windows; never held across a callback
	windows windows
}

func newUpdates(length time.Duration) *updates {
	return &updates{
		opened:  make(chan struct{}, 1),
		windows: newWindows(length),
	}
}

// readMembers says that the room's members are being read, or were read just now.
func (u *updates) readMembers(room string) {
	u.mu.Lock()
	u.windows.readMembers(room, time.Now())
	u.mu.Unlock()
}

// receivePresence takes one event from the Pub/Sub reader.
func (b *Bus) receivePresence(channel, payload string) {
	room, ok := presenceRoom(channel)
	if !ok {
		return
	}
	if b.pattern { // every room's events arrive
		b.subsMu.Lock()
		wanted := b.subs.wants(presenceNamespace, room)
		b.subsMu.Unlock()
		if !wanted {
			return
		}
	}
	e, err := parsePresenceEvent(payload)
	if err != nil {
		b.metrics.Drops[metrics.DropPresenceUpdate].Inc()
		return
	}
	u := b.updates
	u.mu.Lock()
	u.windows.add(room, e, time.Now())
	u.mu.Unlock()
	notify(u.opened)
}

// updateLoop hands out updates as windows close, until ctx ends.
func (b *Bus) updateLoop(ctx context.Context, hand func(PresenceUpdate)) {
	u := b.updates
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.opened:
		case <-timer.C:
		}
		u.mu.Lock()
		due := u.windows.due(time.Now())
		at, open := u.windows.next()
		u.mu.Unlock()
		if open {
			timer.Reset(time.Until(at))
		}
		for _, update := range due {
			if hand != nil {
				hand(update)
			}
		}
	}
}
