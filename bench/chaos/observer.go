package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/stellara/edge/bench/guest"
)

// observer is a socket that stays in one room, keeps the list of its users by the rules of
// docs/protocol.md and no better, and counts who it was told has left.
type observer struct {
	room int

	mu       sync.Mutex
	list     map[string]bool // nil until there is one
	epoch    string          // with seq: where in the room's history the list is
	seq      uint64
	asking   bool           // presence was asked for, and not answered yet
	lefts    map[string]int // how often a user left since counting began
	unbroken bool           // since counting began the socket was open and in the room
}

// told is what a client is told of a room: the payload of a presence event, and the acknowledgement of
// join and presence. Fields that are not known are ignored.
type told struct {
	Joined []string `json:"joined"`
	Left   []string `json:"left"`
	Users  []string `json:"users"` // in a snapshot; nil if they are too many to list
	Prev   *uint64  `json:"prev"`  // in an update: it tells the changes after this one
	Seq    uint64   `json:"seq"`
	Epoch  string   `json:"epoch"`
}

// toldBy is what an acknowledgement tells; nothing if it is of another shape, which it says itself.
func toldBy(a guest.Ack) (t told) {
	_ = json.Unmarshal(a.Raw, &t)
	return t
}

// presencePayload returns the argument of a presence event, which may have an offset behind it.
func presencePayload(event []byte) (payload []byte, ok bool) {
	if !bytes.HasPrefix(event, []byte(`["presence",`)) {
		return nil, false
	}
	var args [2]json.RawMessage
	if json.Unmarshal(event, &args) != nil {
		return event, true // whose reading will fail
	}
	return args[1], true
}

// event applies the payload of an event. ask means that something was missed and that presence must be
// asked for; its acknowledgement goes to answered.
func (o *observer) event(payload []byte) (ask bool, err error) {
	var t told
	if err := json.Unmarshal(payload, &t); err != nil {
		return false, err
	}
	if t.Epoch == "" {
		return false, fmt.Errorf("no epoch in %s", payload)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ask(o.follow(&t)), nil
}

// joined takes the acknowledgement of a join, which has no list if that could not be read.
func (o *observer) joined(t told) (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ask(o.follow(&t))
}

// answered takes the answer to presence. After a refusal the next update shows again that something
// was missed.
func (o *observer) answered(t told, ok bool) (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = false
	return ok && o.ask(o.follow(&t))
}

// ask keeps to one question at a time.
func (o *observer) ask(needed bool) bool {
	if !needed || o.asking {
		return false
	}
	o.asking = true
	return true
}

// follow is the function of that name in docs/protocol.md.
func (o *observer) follow(t *told) (ask bool) {
	first := o.list == nil
	switch {
	case t.Epoch == "":
		return first
	case t.Prev == nil:
		older := t.Epoch == o.epoch && t.Seq < o.seq
		if first || !older {
			o.replace(t.Users)
			o.epoch, o.seq = t.Epoch, t.Seq
		}
		return first && older
	case first:
		o.epoch, o.seq = t.Epoch, t.Seq // nothing to add it to
		return false
	case t.Epoch != o.epoch || *t.Prev > o.seq:
		return true
	case t.Seq <= o.seq:
		return false
	}
	o.seq = t.Seq
	for _, user := range t.Joined {
		o.list[user] = true
	}
	for _, user := range t.Left {
		o.saw(user)
		delete(o.list, user)
	}
	return false
}

// replace takes a new list. Who is not in it any more was seen to leave.
func (o *observer) replace(users []string) {
	now := make(map[string]bool, len(users))
	for _, u := range users {
		now[u] = true
	}
	for user := range o.list {
		if !now[user] {
			o.saw(user)
		}
	}
	o.list = now
}

func (o *observer) saw(user string) {
	if o.lefts != nil {
		o.lefts[user]++
	}
}

// away forgets what is known, because the socket is gone.
func (o *observer) away() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.epoch, o.seq, o.asking, o.unbroken = nil, "", 0, false, false
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
