package chaos

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
)

// observer is a socket that stays in one room, keeps the list of its users by the rules of
// docs/protocol.md, and counts who it was told has left.
type observer struct {
	room int

	mu       sync.Mutex
	list     map[string]bool // nil until the join is acknowledged
	asking   bool            // presence was asked for
	heard    bool            // an update came while asking
	count    int             // of the last update
	lefts    map[string]int  // how often a user left since counting began
	unbroken bool            // since counting began the socket was open and in the room
}

// update is the payload of a presence event. Fields that are not known are ignored.
type update struct {
	Joined []string  `json:"joined"`
	Left   []string  `json:"left"`
	Users  *[]string `json:"users"` // replaces the list
	Count  int       `json:"count"`
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
	if u.Users != nil {
		now := listed(*u.Users)
		for user := range o.list {
			if !now[user] {
				o.saw(user)
			}
		}
		if o.list != nil {
			o.list = now
		}
	}
	for _, user := range u.Left {
		o.saw(user)
		delete(o.list, user)
	}
	for _, user := range u.Joined {
		if o.list != nil {
			o.list[user] = true
		}
	}
	o.count, o.heard = u.Count, true
	return o.wantsList(), nil
}

func (o *observer) saw(user string) {
	if o.lefts != nil {
		o.lefts[user]++
	}
}

// wantsList decides whether to ask, and takes it that the caller does.
func (o *observer) wantsList() bool {
	if o.list == nil || o.asking || len(o.list) == o.count {
		return false
	}
	o.asking, o.heard = true, false
	return true
}

// joined takes the list of an acknowledged join.
func (o *observer) joined(users []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.count = listed(users), len(users)
}

// answered takes the answer to presence; ask means to ask again, because an update that came meanwhile
// does not fit. A refusal changes nothing: the caller asks again later.
func (o *observer) answered(a ack) (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = false
	if !a.OK || o.list == nil {
		return false
	}
	o.list = listed(a.Users)
	if !o.heard {
		o.count = len(o.list)
	}
	return o.wantsList()
}

// again is for after a refusal.
func (o *observer) again() (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wantsList()
}

// away forgets the list, because the socket is gone.
func (o *observer) away() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.asking, o.unbroken = nil, false, false
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

func listed(users []string) map[string]bool {
	m := make(map[string]bool, len(users))
	for _, u := range users {
		m[u] = true
	}
	return m
}
