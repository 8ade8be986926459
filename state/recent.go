package state

import "time"

// recent remembers what happened last to each key, for a period. Pure state,
// guarded by its owner.
type recent[T any] struct {
	period time.Duration
	last   map[string]happened[T]
	swept  time.Time
}

type happened[T any] struct {
	what T
	at   time.Time
}

func newRecent[T any](period time.Duration) recent[T] {
	return recent[T]{period: period, last: make(map[string]happened[T])}
}

// mark records what happened to key at now.
func (r *recent[T]) mark(key string, what T, now time.Time) {
	r.sweep(now)
	r.last[key] = happened[T]{what, now}
}

// sweep forgets what is older than the period; once in a period it costs
// something. A map keeps the room for all it ever had, so an empty one is replaced:
// after a storm it would be a share of every conn's memory.
func (r *recent[T]) sweep(now time.Time) {
	if now.Sub(r.swept) <= r.period {
		return
	}
	r.swept = now
	if len(r.last) == 0 {
		return
	}
	for key, h := range r.last {
		if now.Sub(h.at) > r.period {
			delete(r.last, key)
		}
	}
	if len(r.last) == 0 {
		r.last = make(map[string]happened[T])
	}
}

// get returns what happened to key within the period before now.
func (r *recent[T]) get(key string, now time.Time) (what T, ok bool) {
	h, ok := r.last[key]
	if !ok || now.Sub(h.at) > r.period {
		return what, false
	}
	return h.what, true
}
