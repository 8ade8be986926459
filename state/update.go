package state

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
)

// PresenceUpdate is what the members of a room are told: what changed over one
// presence window, or, with Full, who is there, because changes were missed.
//
// Users that came and went within a window do not appear, unless a snapshot
// from between was handed out. An update follows on the one before, or on a
// snapshot, if their Seq reaches its Prev in the same Epoch; one whose Seq is
// reached already says nothing new.
//
// Who left with grace (see Presence.Disconnect) is still there for those who
// follow the updates until Config.PresenceGrace is over, and is then in Left; who
// is back before appears in neither list, or in Joined if a snapshot without
// them was handed out. A snapshot never has them. An update of other changes
// meanwhile tells all of these, and has the Seq of an earlier one, so that a
// number is left for what is still to come.
type PresenceUpdate struct {
	Room         string
	Joined, Left []string // user ids, sorted; sets to add and to remove
	Full         bool     // Users replaces what was known
	Users        []string // with Full: sorted; nil if there are too many to list
	Count        int      // users in the room after the last change; without Full, with those whose left is still to come
	Prev, Seq    uint64   // the room's changes after Prev, up to Seq
	Epoch        string   // within which they are counted
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

// presenceEvent is what the hold, assert and release scripts publish: each real
// transition of a user in a room, once. Grace, which events of other versions
// lack, says that those who left may be back in a moment.
type presenceEvent struct {
	Epoch  string   `json:"epoch"`
	Seq    uint64   `json:"seq"`
	Joined []string `json:"joined"`
	Left   []string `json:"left"`
	Count  int      `json:"count"`
	Grace  bool     `json:"grace"`
}

func parsePresenceEvent(payload string) (presenceEvent, error) {
	var e presenceEvent
	if err := json.Unmarshal([]byte(payload), &e); err != nil {
		return presenceEvent{}, err
	}
	if e.Epoch == "" || e.Seq == 0 {
		return presenceEvent{}, errors.New("state: presence event without epoch or seq")
	}
	return e, nil
}

// updates is the shell around windows. Its methods may be called from any
// goroutine and return at once.
type updates struct {
	opened chan struct{} // capacity 1: a window is open, or a snapshot is there
	missed chan struct{} // capacity 1: rooms are to be read again, or looked at

	mu      sync.Mutex // guards the rest; never held across a callback
	windows windows
	check   map[string]struct{} // rooms whose subscription is live again
}

func newUpdates(length, grace time.Duration) *updates {
	return &updates{
		opened: make(chan struct{}, 1), missed: make(chan struct{}, 1),
		windows: newWindows(length, grace), check: make(map[string]struct{}),
	}
}

// beginRead and endRead are those of windows.
func (u *updates) beginRead(room string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.windows.beginRead(room)
}

func (u *updates) endRead(room string, at position, ok bool) (stale bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.windows.endRead(room, at, ok)
}

// want has a snapshot of the room read for all its members here.
func (u *updates) want(room string) {
	u.mu.Lock()
	if h := u.windows.rooms[room]; h != nil {
		u.windows.want(room, h)
	}
	u.mu.Unlock()
	notify(u.missed)
}

// watermark says that Redis was seen at a position of the room.
func (u *updates) watermark(room string, at position, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.windows.watermark(room, at, now)
}

// forget says that the room is not subscribed any more.
func (u *updates) forget(room string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.windows.forget(room)
}

// subscribed says that the room's events arrive from now on. If they did
// before, what came between was missed.
func (u *updates) subscribed(room string) {
	u.mu.Lock()
	h := u.windows.rooms[room]
	again := h != nil && h.known
	if again {
		u.check[room] = struct{}{}
	}
	u.mu.Unlock()
	if again {
		notify(u.missed)
	}
}

// receivePresence takes one event from the Pub/Sub reader.
func (b *Bus) receivePresence(channel, payload string) {
	room, ok := presenceRoom(channel)
	if !ok {
		return
	}
	// By pattern every room's events arrive; else some after the room was given up.
	b.subsMu.Lock()
	wanted := b.subs.wants(presenceNamespace, room)
	b.subsMu.Unlock()
	if !wanted {
		return
	}
	e, err := parsePresenceEvent(payload)
	if err != nil {
		b.metrics.Drops[metrics.DropPresenceUpdate].Inc()
		return
	}
	u := b.updates
	u.mu.Lock()
	u.windows.add(room, e, time.Now())
	missed := u.windows.news
	u.windows.news = false
	u.mu.Unlock()
	notify(u.opened)
	if missed {
		notify(u.missed)
	}
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
		missed := u.windows.news
		u.windows.news = false
		u.mu.Unlock()
		if missed {
			notify(u.missed)
		}
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
