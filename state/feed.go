package state

import (
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// track is how far the node has received the journal of one namespace. It is
// open while the node may have missed messages: what arrives then is withheld,
// because the journal has it too, and is read from there in its turn.
type track struct {
	ns, stream string
	last       socketio.Offset // everything up to here was delivered, or is not for this node
	past       string          // the epoch before that of last
	open       bool
	turn       string          // the epoch that opened it, all of the one before having arrived; "" if messages may be missing
	shown      socketio.Offset // the last position that arrived while open, zero if none
	read       int             // entries read from the journal while open
}

// An arrival is what to do with a journalled message from Pub/Sub.
type arrival uint8

const (
	arrivedNew       arrival = iota
	arrivedAgain             // was delivered before
	arrivedWithheld          // the repair delivers it
	arrivedElsewhere         // is of another epoch, which begins with it: a gap opens
)

// arrive takes the position of a message from Pub/Sub, or one that everything has
// arrived up to.
func (t *track) arrive(o socketio.Offset) arrival {
	switch {
	case o.Epoch == t.past:
		return arrivedAgain
	case t.open:
		if o.Epoch != t.shown.Epoch || o.After(t.shown) {
			t.shown = o
		}
		return arrivedWithheld
	case o.Epoch != t.last.Epoch:
		return arrivedElsewhere
	case !o.After(t.last):
		return arrivedAgain
	}
	t.last = o
	return arrivedNew
}

// take says that an entry of the journal was read and delivered.
func (t *track) take(o socketio.Offset) {
	t.last = o
	t.read++
}

// caughtUp says that the journal was read to its end, after shown was seen. It
// reports whether the track is closed now: nothing arrived that was not read.
func (t *track) caughtUp(shown socketio.Offset) bool {
	if shown.After(t.last) {
		t.last = shown // a watermark, of which no entry is left, and none behind the last was removed
	}
	if !t.shown.IsZero() && (t.shown.Epoch != t.last.Epoch || t.shown.After(t.last)) {
		return false
	}
	t.open, t.turn, t.shown, t.read = false, "", socketio.Offset{}, 0
	return true
}

// enter goes on at the beginning of another epoch. That leaves nothing out if it
// is its turn.
func (t *track) enter(epoch string) { t.move(socketio.Offset{Epoch: epoch}) }

// skip leaves out what was missed, and what has arrived since: it goes on behind
// tail, or behind the last that arrived.
func (t *track) skip(tail socketio.Offset) {
	t.move(tail)
	if t.shown.After(t.last) {
		t.last = t.shown
	}
}

func (t *track) move(o socketio.Offset) {
	if o.Epoch != t.last.Epoch {
		t.past = t.last.Epoch
		if t.shown.Epoch == t.past {
			t.shown = socketio.Offset{}
		}
	}
	t.last, t.turn, t.read = o, "", 0
}

// feed is how far the node has received all its journals: pure state, guarded by
// its owner.
type feed struct {
	tracks   []*track
	byName   map[string]*track // the same, by namespace
	byStream map[string]*track // and by stream
	cause    metrics.Gap       // of what is open
}

// follow begins a track behind tail. It is open until the node hears the namespace.
func (f *feed) follow(ns, stream string, tail socketio.Offset) {
	if f.opened() == 0 {
		f.cause = metrics.GapNamespace
		if len(f.tracks) == 0 {
			f.cause = metrics.GapStart
		}
	}
	if f.byName == nil {
		f.byName, f.byStream = make(map[string]*track), make(map[string]*track)
	}
	t := &track{ns: ns, stream: stream, last: tail, open: true}
	f.tracks = append(f.tracks, t)
	f.byName[ns], f.byStream[stream] = t, t
}

// opened counts the open tracks.
func (f *feed) opened() (n int) {
	for _, t := range f.tracks {
		if t.open {
			n++
		}
	}
	return n
}

// gap opens all tracks: messages may be missing; or, with a turn, what arrives
// belongs to that epoch from now on. It reports whether nothing of the kind was
// open before.
func (f *feed) gap(cause metrics.Gap, turn string) (first bool) {
	first = f.opened() == 0
	if first || f.cause == metrics.GapNamespace || f.cause == metrics.GapStart {
		f.cause = cause
	}
	for _, t := range f.tracks {
		if turn == "" || !t.open {
			t.turn = turn
		}
		t.open = true
	}
	return first
}
