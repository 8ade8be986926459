package fanout

import (
	"slices"
	"time"
)

// lingering is a room that became empty.
type lingering struct {
	room    *Room
	due     time.Time
	emptied uint32 // room.emptied then; a later one means it filled again since
}

// noShard is the shard of the count that the maker of a room holds while it calls
// Subscribe: however long that takes, the room's Unsubscribe comes after it.
const noShard = -1

// count adds one member of shard i to the room and reports whether the room was
// made; its maker then releases noShard.
func (h *Hub) count(k Key, i int) (r *Room, created bool) {
	s := h.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	r = s.rooms[k]
	if r == nil {
		r = &Room{Key: k, counts: make([]int32, len(h.shards)), members: make([][]place, len(h.shards)), generation: h.gen.Add(1)}
		s.rooms[k] = r
		r.total++
		created = true
	}
	r.total++
	if i != noShard {
		r.counts[i]++
	}
	return r, created
}

// release takes back one count, for a shard after it processed a leave.
func (h *Hub) release(r *Room, i int) {
	s := h.stripe(r.Key)
	s.mu.Lock()
	r.total--
	if i != noShard {
		r.counts[i]--
	}
	empty := r.total == 0
	if empty {
		r.emptied++
	}
	emptied := r.emptied
	s.mu.Unlock()
	if empty {
		h.lingerMu.Lock()
		h.linger = append(h.linger, lingering{room: r, due: time.Now().Add(h.cfg.Linger), emptied: emptied})
		h.lingerMu.Unlock()
	}
}

// whenLive calls live when r's subscription is live, or nobody needs it any more.
func (h *Hub) whenLive(r *Room, live func()) {
	if live == nil {
		return
	}
	s := h.stripe(r.Key)
	s.mu.Lock()
	if !r.live && !r.removed {
		r.waiters = append(r.waiters, live)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	live()
}

// sweep forgets rooms that stayed empty for the linger time.
func (h *Hub) sweep() {
	t := time.NewTicker(min(time.Second, h.cfg.Linger))
	defer t.Stop()
	for {
		select {
		case <-h.stop:
			return
		case now := <-t.C:
			h.sweepOnce(now)
		}
	}
}

// sweepOnce handles every room whose linger time is over at now.
func (h *Hub) sweepOnce(now time.Time) {
	h.lingerMu.Lock()
	n := 0
	for n < len(h.linger) && !h.linger[n].due.After(now) {
		n++
	}
	due := append([]lingering(nil), h.linger[:n]...)
	h.linger = slices.Delete(h.linger, 0, n)
	h.lingerMu.Unlock()

	for _, l := range due {
		r := l.room
		s := h.stripe(r.Key)
		s.mu.Lock()
		// A room that filled again and emptied again has a later entry of its own.
		gone := r.total == 0 && r.emptied == l.emptied
		var waiters []func()
		if gone {
			r.removed = true
			delete(s.rooms, r.Key)
			waiters, r.waiters = r.waiters, nil
		}
		s.mu.Unlock()
		if gone {
			if r.Key.Room != "" {
				h.m.Rooms.Dec()
			}
			h.sub.Unsubscribe(r.Key, r.generation)
			for _, w := range waiters {
				w()
			}
		}
	}
}
