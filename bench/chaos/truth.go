package chaos

import (
	"fmt"
	"slices"
)

// Claim is what the truth says of an entry of a key.
type Claim uint8

// Claims, in the order in which one device overrules another of the same user: a user with one
// device in a room is in the room, whatever the other devices are about to do.
const (
	Absent Claim = iota
	Undecided
	Present
)

// Roster names everybody and everything the test knows; it does not change.
type Roster struct {
	Users []string
	Rooms []string
	index map[string]int // of users
}

// NewRoster numbers users and rooms in the order given.
func NewRoster(users, rooms []string) *Roster {
	r := &Roster{Users: users, Rooms: rooms, index: make(map[string]int, len(users))}
	for i, u := range users {
		r.index[u] = i
	}
	return r
}

// Truth is what the three keys must say. Users and rooms go by their numbers in the roster.
type Truth struct {
	Roster  *Roster
	Online  []Claim    // by user
	InRoom  [][]Claim  // by room and user
	Sockets [][]string // by user: the ids of the open sockets
	Moving  []bool     // by user: a socket is coming or going, so that any id may be the active one
	Pending int        // operations under way
	Version uint64     // of the crowd: the same version is the same truth
}

// NewTruth claims that everybody is absent.
func NewTruth(r *Roster) *Truth {
	n := len(r.Users)
	t := &Truth{Roster: r, Online: make([]Claim, n), Sockets: make([][]string, n), Moving: make([]bool, n)}
	for range r.Rooms {
		t.InRoom = append(t.InRoom, make([]Claim, n))
	}
	return t
}

// Keys is what Redis has.
type Keys struct {
	Online  []string   // presence:online
	Rooms   [][]string // room:{r}:users, by room
	Sockets []string   // user:{u}:socket, by user; "" where there is none
}

// Count is how many entries are wrong.
type Count struct {
	Ghosts  int `json:"ghosts"`  // in Redis, but not in truth
	Missing int `json:"missing"` // in truth, but not in Redis
}

// Diff is how the keys differ from the truth, by key kind.
type Diff struct {
	Online   Count    `json:"presence_online"`
	Rooms    Count    `json:"room_users"`
	Sockets  Count    `json:"user_socket"`
	Examples []string `json:"examples,omitempty"`
}

// Ghosts returns the number of ghosts of all kinds.
func (d *Diff) Ghosts() int { return d.Online.Ghosts + d.Rooms.Ghosts + d.Sockets.Ghosts }

// Missing returns the number of missing entries of all kinds.
func (d *Diff) Missing() int { return d.Online.Missing + d.Rooms.Missing + d.Sockets.Missing }

// Right reports whether nothing is wrong.
func (d *Diff) Right() bool { return d.Ghosts() == 0 && d.Missing() == 0 }

// Worst keeps the larger of each number; examples stay with the largest sum.
func (d *Diff) Worst(o Diff) {
	if o.Ghosts()+o.Missing() > d.Ghosts()+d.Missing() {
		d.Examples = o.Examples
	}
	for _, c := range []struct{ have, other *Count }{{&d.Online, &o.Online}, {&d.Rooms, &o.Rooms}, {&d.Sockets, &o.Sockets}} {
		c.have.Ghosts = max(c.have.Ghosts, c.other.Ghosts)
		c.have.Missing = max(c.have.Missing, c.other.Missing)
	}
}

// Bounds of how many wrong things are named, of one kind and in all.
const (
	kindExamples = 4
	maxExamples  = 10
)

// example names a wrong entry; before is how many of its kind there were before.
func (d *Diff) example(before int, format string, args ...any) {
	if before < kindExamples {
		d.Examples = append(d.Examples, fmt.Sprintf(format, args...))
	}
}

// Compare finds what is wrong in the keys. An entry that is undecided is right either way.
func Compare(t *Truth, k *Keys) Diff {
	var d Diff
	seen := make([]bool, len(t.Roster.Users))
	d.set(&d.Online, t.Roster, "presence:online", t.Online, k.Online, seen)
	for r, name := range t.Roster.Rooms {
		d.set(&d.Rooms, t.Roster, "room:"+name+":users", t.InRoom[r], k.Rooms[r], seen)
	}
	for u, sid := range k.Sockets {
		name := t.Roster.Users[u]
		switch {
		case t.Moving[u]:
		case sid == "" && len(t.Sockets[u]) > 0:
			d.example(d.Sockets.Missing, "user:%s:socket is missing, open is %v", name, t.Sockets[u])
			d.Sockets.Missing++
		case sid != "" && !slices.Contains(t.Sockets[u], sid):
			d.example(d.Sockets.Ghosts, "user:%s:socket is %s, open is %v", name, sid, t.Sockets[u])
			d.Sockets.Ghosts++
		}
	}
	return d
}

// set compares one set and adds what is wrong to the count of its kind; seen is scratch.
func (d *Diff) set(c *Count, r *Roster, key string, want []Claim, have []string, seen []bool) {
	clear(seen)
	for _, name := range have {
		u, known := r.index[name]
		if known {
			seen[u] = true
		}
		if !known || want[u] == Absent {
			d.example(c.Ghosts, "%s has %s, who is not there", key, name)
			c.Ghosts++
		}
	}
	for u, claim := range want {
		if claim == Present && !seen[u] {
			d.example(c.Missing, "%s lacks %s", key, r.Users[u])
			c.Missing++
		}
	}
}
