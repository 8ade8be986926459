//go:build linux

package main

import (
	"context"
	"time"

	"github.com/stellara/edge/bench/chaos"
)

// Times of looking at the keys.
const (
	lookEvery = 100 * time.Millisecond
	sayEvery  = 2 * time.Second
	forgiven  = time.Second     // younger changes count as undecided while the crowd moves
	rightFor  = 3 * time.Second // how long the keys must stay right at least

	// toldPatience is how long updates may take once the keys are right: they are merged, and those of
	// sockets that could recover are delayed.
	toldPatience = 10 * time.Second
)

// watch looks at the keys again and again.
type watch struct {
	r     *chaosRun
	name  string
	since time.Time // what healing counts from
	said  time.Time

	worst   chaos.Diff  // without what is under way or young
	last    chaos.Diff  // the last look that was answered
	keys    *chaos.Keys // of that look
	pending int         // operations under way then
	looks   int
	blind   int // looks that were not answered
}

func (r *chaosRun) newWatch(name string) *watch {
	return &watch{r: r, name: name, since: time.Now(), said: time.Now()}
}

// look compares once, and reports whether the keys were right: all of them, while nothing was under way
// and the truth did not change.
func (w *watch) look(ctx context.Context) (right bool) {
	began, version := time.Now(), w.r.crowd.Version()
	w.looks++
	keys, err := w.r.reader.Read(ctx)
	if err != nil {
		w.blind++ // Redis is away, which is one of the faults
		w.tell(true)
		return false
	}
	w.keys = keys
	truth := w.r.crowd.Truth(began.Add(-forgiven))
	w.pending = truth.Pending
	w.last = chaos.Compare(truth, keys)
	w.worst.Worst(w.last)
	exact := false
	if w.pending == 0 {
		if strict := w.r.crowd.Truth(time.Time{}); strict.Version == version {
			w.last, exact = chaos.Compare(strict, keys), true
		}
	}
	w.tell(false)
	return exact && w.last.Right()
}

// tell prints where it stands, now and then.
func (w *watch) tell(blind bool) {
	if time.Since(w.said) < sayEvery {
		return
	}
	w.said = time.Now()
	if blind {
		w.r.say("%s: Redis does not answer", w.name)
		return
	}
	example := ""
	if w.pending == 0 && len(w.last.Examples) > 0 {
		example = ", such as: " + w.last.Examples[0]
	}
	w.r.say("%s: %d ghosts, %d missing, %d operations under way%s", w.name, w.last.Ghosts(), w.last.Missing(), w.pending, example)
}

// during looks for some time.
func (w *watch) during(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		w.look(ctx)
		if err := pause(ctx, min(lookEvery, max(time.Until(end), 0))); err != nil {
			return err
		}
	}
	return nil
}

// untilRight looks until the keys have been right for a while, and at least so long after since, or
// patience has run out. after is the time from since to the first of the looks that were right to the end.
func (w *watch) untilRight(ctx context.Context, atLeast time.Duration) (after time.Duration, right bool, err error) {
	var first time.Time
	for {
		looked := w.look(ctx)
		now := time.Now()
		switch {
		case !looked:
			first = time.Time{}
			if now.Sub(w.since) > w.r.cfg.chaos.patience {
				return 0, false, nil
			}
		case first.IsZero():
			first = now
		case now.Sub(first) >= rightFor && now.Sub(w.since) >= atLeast:
			return first.Sub(w.since), true, nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return 0, false, err
		}
		if err := w.r.stack.died(); err != nil {
			return 0, false, err
		}
	}
}

// untilTold looks until the observers' lists equal the keys and done agrees, or the patience with updates has
// run out.
func (w *watch) untilTold(ctx context.Context, done func() bool) (chaos.Lists, error) {
	for end := time.Now().Add(toldPatience); ; {
		lists := w.r.crowd.Lists(w.keys)
		if done() && lists.Wrong == 0 || time.Now().After(end) {
			return lists, nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return lists, err
		}
		w.look(ctx)
	}
}
