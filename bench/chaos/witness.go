package chaos

import "time"

// Witness is what is known for certain at the moment a node is killed, to judge later what observers
// were told.
type Witness struct {
	crowd   *Crowd
	node    int
	due     bool // those who are gone must be seen to leave
	pairs   []Pair
	devices [][]*device // by pair: those that were in the room on the node
}

// Witness begins counting. Call it after Freeze, at the last moment before the node dies.
func (c *Crowd) Witness(node int, due bool) *Witness {
	w := &Witness{crowd: c, node: node, due: due}
	c.mu.Lock()
	defer c.mu.Unlock()
	type key struct{ room, user int }
	dying := map[key][]*device{}
	elsewhere := map[key]bool{}
	for _, d := range c.devices {
		if d.observer != nil {
			d.observer.begin()
		}
		if d.busy || d.phase != online || !d.person.frozen && d.observer == nil {
			continue
		}
		for room, m := range d.rooms {
			switch {
			case m.state != joined:
			case d.node == node:
				dying[key{room, d.user}] = append(dying[key{room, d.user}], d)
			default:
				elsewhere[key{room, d.user}] = true
			}
		}
	}
	for k, devices := range dying {
		w.pairs = append(w.pairs, Pair{Room: k.room, User: c.Roster.Users[k.user], Elsewhere: elsewhere[k]})
		w.devices = append(w.devices, devices)
	}
	return w
}

// Judge compares what observers on other nodes saw. Where nobody is to be seen to leave, a pair counts
// as late if none of its devices was back in the room by then.
func (w *Witness) Judge(by time.Time) Leaves {
	c := w.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.due {
		for i := range w.pairs {
			p := &w.pairs[i]
			p.Late = !p.Elsewhere
			for _, d := range w.devices[i] {
				if d.phase == online && d.back.Before(by) {
					p.Late = false
				}
			}
		}
	}
	var seen []Seen
	for _, d := range c.devices {
		if o := d.observer; o != nil && d.home != w.node {
			seen = append(seen, Seen{Room: o.room, Name: c.Roster.Users[d.user], Lefts: o.seen()})
		}
	}
	return JudgeLeaves(w.pairs, seen, w.due, c.Roster.Rooms)
}

// Lists compares the lists of all observers whose node is up with the keys of their rooms.
func (c *Crowd) Lists(k *Keys) Lists {
	c.mu.Lock()
	defer c.mu.Unlock()
	var l Lists
	for _, d := range c.devices {
		if d.observer == nil || d.absent {
			continue
		}
		list, ok := d.observer.users()
		room := d.observer.room
		l.compare(c.Roster.Users[d.user], c.Roster.Rooms[room], list, ok, k.Rooms[room])
	}
	return l
}
