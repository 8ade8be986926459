package main

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Bounds of the log: of each message logBurst lines are written in logInterval, and
// then one that says how many were not. Who makes the node complain, by whatever
// means, fills no disk with it. Messages are constant texts (internal/law sees to
// that), so there are few; those beyond logMessages share one place.
const (
	logBurst    = 10
	logInterval = time.Minute
	logMessages = 256
)

// logBudget says which lines may be written. It has no clock and no lock: its owner has.
type logBudget struct{ windows map[logKey]*logWindow }

// logKey is what is counted: equal messages of one level.
type logKey struct {
	level   slog.Level
	message string
}

// otherMessages stands for all messages that found no place.
const otherMessages = "others"

// logWindow is one interval of a message, from its first line on.
type logWindow struct {
	end                 time.Time
	written, suppressed int
}

// suppression is what a window held back.
type suppression struct {
	logKey
	lines int
}

// take reports whether a line may be written now. If not, ends is when its window does,
// and first whether it is the first one that the window holds back.
func (b *logBudget) take(k logKey, now time.Time) (ok bool, ends time.Time, first bool) {
	w := b.windows[k]
	if w == nil && len(b.windows) >= logMessages {
		k.message = otherMessages
		w = b.windows[k]
	}
	if w == nil {
		w = &logWindow{end: now.Add(logInterval)}
		if b.windows == nil {
			b.windows = map[logKey]*logWindow{}
		}
		b.windows[k] = w
	}
	if w.written < logBurst {
		w.written++
		return true, w.end, false
	}
	w.suppressed++
	return false, w.end, w.suppressed == 1
}

// settle forgets the windows that have ended, and returns what they held back, in the
// order of their messages.
func (b *logBudget) settle(now time.Time) []suppression {
	var held []suppression
	for k, w := range b.windows {
		if now.Before(w.end) {
			continue
		}
		if w.suppressed > 0 {
			held = append(held, suppression{k, w.suppressed})
		}
		delete(b.windows, k)
	}
	slices.SortFunc(held, func(a, b suppression) int {
		return cmp.Or(cmp.Compare(a.message, b.message), cmp.Compare(a.level, b.level))
	})
	return held
}

// limitedHandler passes on what logBudget allows. Debug is exempt: who asks for it
// wants to see what single clients do, every time. It may be used by any goroutine.
type limitedHandler struct {
	next  slog.Handler
	limit *logLimit // shared with all that WithAttrs and WithGroup made
}

// logLimit is the budget of one log.
type logLimit struct {
	out   slog.Handler                // without the attributes of a logger
	after func(time.Duration, func()) // time.AfterFunc; its callbacks find nothing to do after finish

	mu     sync.Mutex // a leaf: nothing is written under it
	budget logBudget
}

func newLimitedHandler(next slog.Handler) *limitedHandler {
	after := func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	return &limitedHandler{next: next, limit: &logLimit{out: next, after: after}}
}

// Enabled implements slog.Handler.
func (h *limitedHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.next.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h *limitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limitedHandler{h.next.WithAttrs(attrs), h.limit}
}

// WithGroup implements slog.Handler.
func (h *limitedHandler) WithGroup(name string) slog.Handler {
	return &limitedHandler{h.next.WithGroup(name), h.limit}
}

// Handle implements slog.Handler.
func (h *limitedHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.next.Handle(ctx, r)
	}
	if !h.limit.take(logKey{r.Level, r.Message}, r.Time) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// take reports whether a line may be written now, having told what windows that are
// over held back. A window that begins to hold back is told at its end, though nothing
// else may be logged then.
func (l *logLimit) take(k logKey, now time.Time) bool {
	l.mu.Lock()
	held := l.budget.settle(now)
	ok, ends, first := l.budget.take(k, now)
	l.mu.Unlock()
	l.tell(held, now)
	if first {
		l.after(ends.Sub(now), func() { l.settle(ends, ends) })
	}
	return ok
}

// finish tells what was held back in windows that have not ended.
func (l *logLimit) finish() {
	now := time.Now()
	l.settle(now.Add(logInterval), now)
}

// settle tells what the windows that end until then held back.
func (l *logLimit) settle(until, now time.Time) {
	l.mu.Lock()
	held := l.budget.settle(until)
	l.mu.Unlock()
	l.tell(held, now)
}

func (l *logLimit) tell(held []suppression, now time.Time) {
	for _, s := range held {
		r := slog.NewRecord(now, s.level, "log lines suppressed", 0)
		r.AddAttrs(slog.String("message", s.message), slog.Int("lines", s.lines))
		_ = l.out.Handle(context.Background(), r) // as slog itself: there is nowhere to complain to
	}
}
