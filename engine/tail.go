package engine

import (
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/socketio"
)

// tailLife is how long a tail is kept after it was used last: clients of a dead
// node come back together.
const tailLife = 10 * time.Second

// tailAge bounds a tail that is used all the time.
const tailAge = 30 * time.Second

// missed is one journal entry as clients may get it.
type missed struct {
	id      fanout.ID
	rooms   []string // none: everybody
	except  []string
	message *fanout.Message // nil: not to be delivered
}

// tail is the end of a namespace's journal, prepared for many clients that missed
// different parts of it: every entry is decoded and encoded once, and found by
// its rooms. Pure state, guarded by its owner.
type tail struct {
	from, to fanout.ID            // it has every entry after from up to to
	entries  []*missed            // in order
	byRoom   map[string][]*missed // likewise; "" those for everybody
	used     time.Time
	begun    time.Time
}

// add takes what a read returned: every entry after `after` up to end. prepare
// turns a new one into what clients get. What is not adjacent to what is there
// replaces it: nothing is ever missing between two entries.
func (t *tail) add(after, end fanout.ID, entries []socketio.JournalEntry, id func(socketio.Offset) fanout.ID, prepare func(*socketio.JournalEntry) *missed) {
	if t.byRoom == nil || after.After(t.to) || t.from.After(end) || end.Epoch != t.to.Epoch {
		*t = tail{from: after, to: after, byRoom: make(map[string][]*missed), used: t.used, begun: t.begun}
	}
	if t.from.After(after) {
		var front []*missed
		for i := range entries {
			if id(entries[i].Offset).After(t.from) {
				break
			}
			front = append(front, prepare(&entries[i]))
		}
		all := append(front, t.entries...)
		t.entries, t.byRoom, t.from = nil, make(map[string][]*missed), after
		for _, m := range all {
			t.append(m)
		}
	}
	if end.After(t.to) {
		from := sort.Search(len(entries), func(i int) bool { return id(entries[i].Offset).After(t.to) })
		for i := from; i < len(entries); i++ {
			t.append(prepare(&entries[i]))
		}
		t.to = end
	}
}

func (t *tail) append(m *missed) {
	t.entries = append(t.entries, m)
	if m.message == nil {
		return
	}
	if len(m.rooms) == 0 {
		t.byRoom[""] = append(t.byRoom[""], m)
	}
	for _, room := range m.rooms {
		if room != "" {
			t.byRoom[room] = append(t.byRoom[room], m)
		}
	}
}

// selectFor returns what a member missed, in order: after `after` up to end, for
// rooms it is in, each from where it joined, and not excluding it. The rooms
// include the socket's own. Whoever goes on after end gets what is later then:
// the tail may know more by a read of somebody else.
func (t *tail) selectFor(after, end fanout.ID, rooms sinceByRoom) []*missed {
	var out []*missed
	take := func(room string, since fanout.ID) {
		if after.After(since) {
			since = after
		}
		list := t.byRoom[room]
		from := sort.Search(len(list), func(i int) bool { return list[i].id.After(since) })
		for _, m := range list[from:] {
			if m.id.After(end) {
				break
			}
			if !slices.ContainsFunc(m.except, func(r string) bool { since, in := rooms[r]; return in && m.id.After(since) }) {
				out = append(out, m)
			}
		}
	}
	take("", fanout.ID{})
	for room, since := range rooms {
		take(room, since)
	}
	slices.SortFunc(out, func(a, b *missed) int {
		switch {
		case b.id.After(a.id):
			return -1
		case a.id.After(b.id):
			return 1
		}
		return 0
	})
	return slices.Compact(out)
}

// tails are the tails in use, by namespace.
type tails struct {
	mu sync.Mutex // taken alone; held while entries are prepared
	m  map[*Namespace]*tail
}

// missedBy prepares entries that were read and returns those for a member.
func (r *recovery) missedBy(n *Namespace, entries []socketio.JournalEntry, after, end fanout.ID, rooms sinceByRoom) []*missed {
	t := &r.tails
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.m == nil {
		t.m = make(map[*Namespace]*tail)
	}
	one := t.m[n]
	if one == nil {
		one = &tail{begun: now}
		t.m[n] = one
		time.AfterFunc(tailLife, func() { r.forgetTail(n) })
	}
	if now.Sub(one.begun) > tailAge { // each client brings what it needs
		*one = tail{begun: now}
	}
	one.used = now
	one.add(after, end, entries, r.epochs.id, n.prepare)
	return one.selectFor(after, end, rooms)
}

// forgetTail drops a tail that was not used lately.
func (r *recovery) forgetTail(n *Namespace) {
	t := &r.tails
	t.mu.Lock()
	defer t.mu.Unlock()
	if idle := time.Since(t.m[n].used); idle < tailLife {
		time.AfterFunc(tailLife-idle, func() { r.forgetTail(n) })
		return
	}
	delete(t.m, n)
}

// prepare decodes an entry and encodes it for clients.
func (n *Namespace) prepare(e *socketio.JournalEntry) *missed {
	m := &missed{id: n.srv.recovery.epochs.id(e.Offset)}
	var b socketio.Broadcast
	if socketio.ParseBroadcast(e.Payload, &b) != nil || b.Namespace != n.name {
		return m
	}
	text, attachments, err := socketio.AppendClientEvent(nil, n.name, b.ID, b.HasID, b.Data, nil)
	if err != nil {
		return m
	}
	message := newMessage(appendOffset(text, e.Offset), attachments)
	if len(message.Frame) > n.srv.maxPacket {
		return m
	}
	message.ID, message.Namespace, message.Plain = m.id, n.number, b.Flags.NoCompress
	m.rooms, m.except, m.message = b.Rooms, b.Except, message
	return m
}
