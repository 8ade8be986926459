package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/metrics"
)

// keyring has the keys that tokens are verified with. Reading them costs no lock
// and never waits; run is the one goroutine that loads them. Its methods may be
// called from any goroutine.
type keyring struct {
	// Set when it is made, then read-only.
	fixed   []verifyKey // of AUTH_JWT_SECRET
	sources []*keySource
	metrics *metrics.Metrics
	log     *slog.Logger
	now     func() time.Time
	wanted  chan struct{} // a token waits for a load; holds one

	keys atomic.Pointer[[]verifyKey]

	mu      sync.Mutex // guards the rest, and the schedules of sources; taken alone
	waiting []func()
	loading bool      // a step is under way
	asked   time.Time // when the last load for a token that waits was begun
}

// keySource is one place where keys come from.
type keySource struct {
	variable string // for operators
	load     func(context.Context) ([]verifyKey, error)
	changed  func() bool // whether a file has to be read again; nil: loading is the only way to know

	// Owned by the goroutine of run, but before it.
	keys []verifyKey

	// Guarded by keyring.mu.
	schedule loadSchedule
}

const (
	// loadTime bounds one load.
	loadTime = 10 * time.Second
	// askInterval is the least time between two loads for the sake of tokens that name
	// an unknown key: made-up ones must not hammer the issuer.
	askInterval = 10 * time.Second
	// maxWaiting bounds the tokens that wait for a load.
	maxWaiting = 1_000
	// lookInterval is the time between two looks at files.
	lookInterval = 5 * time.Second
	// refreshInterval is the time after which a set is fetched again though nobody asked:
	// so long is a key good that its issuer withdrew.
	refreshInterval = 10 * time.Minute
	// A load that failed is repeated after retryFirst, then twice as long each time, at
	// most retryMost.
	retryFirst, retryMost = time.Second, time.Minute
)

// loadSchedule says when a source is loaded next.
type loadSchedule struct {
	failures int
	loaded   bool // ever
	next     time.Time
}

// after is the schedule after a load that ended at a time, with or without success.
func (s loadSchedule) after(ok bool, every time.Duration, at time.Time) loadSchedule {
	if ok {
		return loadSchedule{loaded: true, next: at.Add(every)}
	}
	s.failures++
	s.next = at.Add(min(retryFirst<<min(s.failures-1, 16), retryMost))
	return s
}

// every is how often the source is looked at.
func (s *keySource) every() time.Duration {
	if s.changed != nil {
		return lookInterval
	}
	return refreshInterval
}

// loadFiles loads what is on this machine, before anybody is served: what is wrong
// with it is for the operator to mend first. What is elsewhere is run's.
func (k *keyring) loadFiles() error {
	for _, s := range k.sources {
		if s.changed == nil {
			continue
		}
		if err := k.load(context.Background(), s); err != nil {
			return fmt.Errorf("%s: %w", s.variable, err)
		}
	}
	k.publish()
	return nil
}

// load loads one source and notes how it went. It is called by one goroutine at a time.
func (k *keyring) load(ctx context.Context, s *keySource) error {
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	keys, err := s.load(ctx)
	now := k.now()
	if err == nil {
		s.keys = keys
		k.metrics.KeyLoads[metrics.KeyLoadDone].Inc()
		k.metrics.KeysTime.Set(float64(now.Unix()))
	} else {
		k.metrics.KeyLoads[metrics.KeyLoadFailed].Inc()
	}
	k.mu.Lock()
	was := s.schedule
	s.schedule = was.after(err == nil, s.every(), now)
	k.mu.Unlock()
	switch {
	case err == nil && was.failures > 0:
		k.log.Info("keys for tokens loaded again", "from", s.variable)
	case err != nil && was.failures == 0 && !was.loaded:
		k.log.Error("keys for tokens cannot be loaded; tokens that need them are refused until they can", "from", s.variable, "error", err)
	case err != nil && was.failures == 0:
		k.log.Error("keys for tokens cannot be loaded; those loaded before are used", "from", s.variable, "error", err)
	}
	return err
}

// publish has tokens verified with what is loaded now.
func (k *keyring) publish() {
	all := slices.Clone(k.fixed)
	for _, s := range k.sources {
		all = append(all, s.keys...)
	}
	k.keys.Store(&all)
	k.metrics.Keys.Set(float64(len(all)))
}

// current are the keys loaded so far. What it points to is not changed, but replaced.
func (k *keyring) current() *[]verifyKey { return k.keys.Load() }

var errNoKeys = errors.New("the keys that tokens are verified with could not be loaded yet")

// ready is nil unless there is no key at all.
func (k *keyring) ready() error {
	if len(*k.current()) == 0 {
		return errNoKeys
	}
	return nil
}

// asking is what becomes of a token for which there is no key.
type asking uint8

const (
	askWaits       asking = iota // for a load, after which it is tried again
	askChanged                   // for nothing: there are other keys than those it was tried with
	askRefused                   // keys were loaded a moment ago, and its own was not among them
	askUnavailable               // its key may be where keys cannot be loaded from now
)

// ask has again called after the next load, on run's goroutine, if the answer is
// askWaits; it must not block. tried are the keys that did not fit.
func (k *keyring) ask(tried *[]verifyKey, again func()) asking {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, first := k.now(), len(k.waiting) == 0 && !k.loading
	switch {
	case k.current() != tried:
		return askChanged
	case len(k.sources) == 0, first && !k.asked.IsZero() && now.Sub(k.asked) < askInterval:
		return k.withoutLoad()
	case len(k.waiting) >= maxWaiting:
		return askUnavailable
	case first:
		k.asked = now
	}
	k.waiting = append(k.waiting, again)
	select {
	case k.wanted <- struct{}{}:
	default: // it is told already
	}
	return askWaits
}

// answer is what becomes of a token that waited, and for which there is no key still.
func (k *keyring) answer() asking {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.withoutLoad()
}

// withoutLoad is the answer when nothing is loaded for a token. The caller holds k.mu.
func (k *keyring) withoutLoad() asking {
	for _, s := range k.sources {
		if !s.schedule.loaded || s.schedule.failures > 0 {
			return askUnavailable
		}
	}
	return askRefused
}

// run loads keys when it is time, when a file has changed, and when a token asks,
// until ctx ends.
func (k *keyring) run(ctx context.Context) {
	if len(k.sources) == 0 {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.wanted:
		}
		timer.Reset(max(0, k.step(ctx).Sub(k.now())))
	}
}

// step loads what is due, or all if a token waits for it, wakes who waits, and says
// when to come again.
func (k *keyring) step(ctx context.Context) (next time.Time) {
	k.mu.Lock()
	asked := len(k.waiting) > 0
	k.loading = true
	k.mu.Unlock()
	all := true
	for _, s := range k.sources {
		if k.due(s, asked) {
			_ = k.load(ctx, s) // logged
		} else {
			all = false
		}
	}
	k.publish()
	k.mu.Lock()
	k.loading = false
	var waiting []func()
	if all { // else who came meanwhile has wanted another step
		waiting, k.waiting = k.waiting, nil
		select {
		case <-k.wanted:
		default:
		}
	}
	next = k.sources[0].schedule.next
	for _, s := range k.sources[1:] {
		if s.schedule.next.Before(next) {
			next = s.schedule.next
		}
	}
	k.mu.Unlock()
	for _, again := range waiting {
		again()
	}
	return next
}

// due reports whether a source is to be loaded now, after a look at its file if that
// is all there is to do.
func (k *keyring) due(s *keySource, asked bool) bool {
	now := k.now()
	k.mu.Lock()
	at := s.schedule
	k.mu.Unlock()
	switch {
	case asked:
		return true
	case now.Before(at.next):
		return false
	case s.changed == nil || at.failures > 0 || !at.loaded || s.changed():
		return true
	}
	k.mu.Lock()
	s.schedule.next = now.Add(s.every())
	k.mu.Unlock()
	return false
}
