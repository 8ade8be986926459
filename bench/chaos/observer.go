package chaos

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
)

// observer is a socket that stays in one room, keeps the list of its users by the rules of
// docs/protocol.md, and counts who it was told has left. Servers that do not tell where in the room's
// history a list or an update is leave a client only the size of its list to notice a loss.
type observer struct {
	room int

	mu       sync.Mutex
	list     map[string]bool // nil until there is one
	at       position        // in the room's history, of what is known
	asking   bool            // presence was asked for, and not answered yet
	wants    bool            // the list cannot be right
	count    int             // users as of the last update
	heard    bool            // an update came while asking
	missed   position        // of an update that did not fit, while asking
	lefts    map[string]int  // how often a user left since counting began
	unbroken bool            // since counting began the socket was open and in the room
}

// position is a place in the history of a room's changes; without an epoch there is none.
type position struct {
	epoch string
	seq   uint64
}

// before reports whether p is known to be earlier than q.
func (p position) before(q position) bool { return p.epoch == q.epoch && p.seq < q.seq }

// update is the payload of a presence event. Fields that are not known are ignored.
type update struct {
	Joined []string  `json:"joined"`
	Left   []string  `json:"left"`
	Users  *[]string `json:"users"` // replaces the list
	Count  int       `json:"count"`
	Prev   *uint64   `json:"prev"` // the update tells the changes after this one
	Seq    uint64    `json:"seq"`
	Epoch  string    `json:"epoch"`
}

// update applies an event. ask means that the list cannot be right, and that presence must be asked
// for; its acknowledgement goes to answered.
func (o *observer) update(payload []byte) (ask bool, err error) {
	var u update
	if err := json.Unmarshal(payload, &u); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count, o.heard = u.Count, true
	at := position{u.Epoch, u.Seq}
	switch {
	case u.Users != nil:
		return o.snapshot(*u.Users, at, true), nil
	case u.Epoch == "":
		o.apply(&u)
		o.wants = o.list != nil && len(o.list) != o.count
	case o.list == nil:
		o.at = at // nothing to apply it to, but a list from before will not do
		return false, nil
	case u.Prev == nil || u.Epoch != o.at.epoch || *u.Prev > o.at.seq:
		o.wants, o.missed = true, at
	case u.Seq > o.at.seq: // else it is known already
		o.apply(&u)
		o.at = at
	}
	return o.ask(), nil
}

func (o *observer) apply(u *update) {
	for _, user := range u.Left {
		o.saw(user)
		delete(o.list, user)
	}
	for _, user := range u.Joined {
		if o.list != nil {
			o.list[user] = true
		}
	}
}

// snapshot takes a list, unless a later one is known; an update that overtook the first list means
// that it must be asked for again. Who is gone from it was seen to leave, if told.
func (o *observer) snapshot(users []string, at position, told bool) (ask bool) {
	first, older := o.list == nil, at.before(o.at)
	o.wants = first && older
	if older && !first {
		return false
	}
	now := make(map[string]bool, len(users))
	for _, u := range users {
		now[u] = true
	}
	if told {
		for user := range o.list {
			if !now[user] {
				o.saw(user)
			}
		}
	}
	o.list, o.at = now, at
	return o.ask()
}

func (o *observer) saw(user string) {
	if o.lefts != nil {
		o.lefts[user]++
	}
}

// ask decides whether to ask now, and takes it that the caller does.
func (o *observer) ask() bool {
	if !o.wants || o.asking {
		return false
	}
	o.asking, o.heard, o.missed = true, false, position{}
	return true
}

// joined takes the acknowledgement of a join. It has no list if that could not be read.
func (o *observer) joined(a ack) (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.Users == nil {
		o.wants = true
		return o.ask()
	}
	o.count = len(a.Users)
	return o.snapshot(a.Users, position{a.Epoch, a.Seq}, false)
}

// answered takes the answer to presence; ask means to ask again, because something that came meanwhile
// does not fit. After a refusal the caller calls again later.
func (o *observer) answered(a ack) (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = false
	if !a.OK || a.Users == nil {
		return false
	}
	// Without positions an update that is already in this list may still come and tell of a leave again.
	ask = o.snapshot(a.Users, position{a.Epoch, a.Seq}, a.Epoch != "")
	switch {
	case ask:
		return true
	case a.Epoch == "":
		o.wants = o.heard && len(o.list) != o.count
	default:
		o.wants = o.missed.epoch != "" && (o.missed.epoch != o.at.epoch || o.at.before(o.missed))
	}
	return o.ask()
}

// again is for some time after a refusal.
func (o *observer) again() (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ask()
}

// away forgets what is known, because the socket is gone.
func (o *observer) away() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.at, o.asking, o.wants, o.unbroken = nil, position{}, false, false, false
}

// begin counts from now.
func (o *observer) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lefts, o.unbroken = map[string]int{}, o.list != nil
}

// seen returns what was counted, nil if the observer was away in between.
func (o *observer) seen() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.unbroken {
		return nil
	}
	return maps.Clone(o.lefts)
}

// users returns the list, sorted; ok is false if there is none.
func (o *observer) users() (users []string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(maps.Keys(o.list)), o.list != nil
}
