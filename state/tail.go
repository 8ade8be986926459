package state

import (
	"slices"
	"time"

	"github.com/stellara/edge/socketio"
)

// Bounds of what is kept of a namespace's journal, and with it of what one
// caller can be given.
const (
	tailEntries = 200_000
	tailBytes   = 64 << 20
)

// tail is the end of a namespace's journal as far as somebody asked for it of
// late: clients of a dead node come back together, and share one reading. Pure
// state, guarded by its owner.
type tail struct {
	maxEntries, maxBytes int

	epoch    string
	from, to socketio.Offset // it has what Redis had after from, up to to
	entries  []socketio.JournalEntry
	bytes    int // of the payloads
	// whole is the time, in milliseconds, of which nothing that is as old or younger
	// is missing: what is older may have been trimmed before it was read.
	whole uint64
	used  time.Time
}

func newTail(epoch string) *tail {
	return &tail{maxEntries: tailEntries, maxBytes: tailBytes, epoch: epoch}
}

// started reports whether anything was read.
func (t *tail) started() bool { return !t.to.IsZero() }

// start makes t the empty tail at a position.
func (t *tail) start(at socketio.Offset) { t.from, t.to = at, at }

// extend appends what followed, up to a position. Where a bound is exceeded the
// oldest go.
func (t *tail) extend(page []socketio.JournalEntry, to socketio.Offset) {
	t.entries = append(t.entries, page...)
	t.bytes += payloads(page)
	t.to = to
	t.trim()
}

// precede puts in front what went before: page is everything after a position up
// to from, as far as Redis had it; cut is the time from which on it had everything.
func (t *tail) precede(page []socketio.JournalEntry, after socketio.Offset, cut uint64) {
	if cut > after.Ms {
		t.whole = max(t.whole, min(cut, t.from.Ms+1)) // what is after from is here
	}
	t.entries = slices.Concat(page, t.entries)
	t.bytes += payloads(page)
	t.from = after
	t.trim()
}

// trim lets the oldest go until the bounds are kept.
func (t *tail) trim() {
	n := 0
	for n < len(t.entries) && (len(t.entries)-n > t.maxEntries || t.bytes > t.maxBytes) {
		t.from = t.entries[n].Offset
		t.bytes -= len(t.entries[n].Payload)
		n++
	}
	t.entries = t.entries[n:] // others read what was handed out: it must not be written to
}

func payloads(entries []socketio.JournalEntry) (bytes int) {
	for i := range entries {
		bytes += len(entries[i].Payload)
	}
	return bytes
}

// after returns the entries after a position, and where they end. need is the
// time from which on nothing may be missing.
func (t *tail) after(at socketio.Offset, need uint64) (entries []socketio.JournalEntry, end socketio.Offset, err error) {
	switch {
	case at.Epoch != t.epoch:
		end = t.to
		end.Epoch = t.epoch
		return nil, end, nil
	case t.from.After(at):
		return nil, t.to, socketio.ErrTooMuch
	case need < t.whole:
		return nil, t.to, socketio.ErrTrimmed
	case !t.to.After(at):
		return nil, at, nil
	}
	i, _ := slices.BinarySearchFunc(t.entries, at, func(e socketio.JournalEntry, at socketio.Offset) int {
		if e.Offset.After(at) {
			return 1
		}
		return -1
	})
	n := len(t.entries)
	return t.entries[i:n:n], t.to, nil
}

// pageSize is how many entries to read at once.
func (t *tail) pageSize() int {
	const pageBytes = 4 << 20
	if len(t.entries) == 0 {
		return 100
	}
	return min(max(2, pageBytes*len(t.entries)/max(1, t.bytes)), 1000)
}
