package engine

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// gcra is the generic cell rate algorithm (ITU-T I.371, annex A), a token bucket
// without a bucket: all it keeps is the time at which an arrival would be exactly on
// schedule, and an arrival may be early by tolerance. Times are nanoseconds on any
// clock that does not go back and is not negative; a schedule of 0 is nobody's.
type gcra struct {
	interval  int64 // between two arrivals on schedule
	tolerance int64 // what an arrival may be early: interval × (burst − 1)
}

// newGCRA lets perSecond arrivals in, and burst of them at once.
func newGCRA(perSecond float64, burst int) gcra {
	interval := max(int64(float64(time.Second)/perSecond), 1)
	return gcra{interval: interval, tolerance: interval * int64(burst-1)}
}

// admit decides about an arrival at now. next is the schedule after it, to be kept
// if it is let in; wait is how long it came too early, 0 if it is let in.
func (g gcra) admit(schedule, now int64) (next, wait int64) {
	if early := schedule - now - g.tolerance; early > 0 {
		return schedule, early
	}
	return max(schedule, now) + g.interval, 0
}

// Size of the table of sources: 65,536 of them in 1 MiB.
const (
	sourceSetSize = 8 // entries of a set: 128 bytes, two cache lines
	sourceSets    = 8192
	sourceLocks   = 64
)

// source names where a connection comes from: an IPv4 address, or the /64 of an
// IPv6 address, which is what one customer has. They share a space without getting in
// each other's way: IPv4 addresses are where the reserved ::ffff:0:0/96 would be.
type source uint64

// sourceOf is the source of a valid address.
func sourceOf(a netip.Addr) (s source) {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return 0xffff<<32 | source(b[0])<<24 | source(b[1])<<16 | source(b[2])<<8 | source(b[3])
	}
	b := a.As16()
	for _, c := range b[:8] {
		s = s<<8 | source(c)
	}
	return s
}

// sourceEntry is the schedule of one source.
type sourceEntry struct {
	of       source
	schedule int64 // 0: nobody's
}

// sourceSet is the entries among which a source is looked for. An entry whose schedule
// is past says no more than none would, so that forgetting it changes nothing, and
// nobody needs to go round and do it.
type sourceSet [sourceSetSize]sourceEntry

// find returns the place of a source and its schedule: its entry, else one that may be
// forgotten, else the one that comes closest to that. Only the last loses something when
// it is overwritten: more sources than fit have just connected, and one of them gets
// its burst again.
func (set *sourceSet) find(of source) (place *sourceEntry, schedule int64) {
	place = &set[0]
	for i := range set {
		e := &set[i]
		if e.of == of && e.schedule != 0 {
			return e, e.schedule
		}
		if e.schedule < place.schedule {
			place = e
		}
	}
	return place, 0
}

// connectLimiter bounds how often sessions are opened, in all and by source. Any
// goroutine may use it; it has none of its own, no timer, and does not grow.
type connectLimiter struct {
	global, perSource gcra
	limited, bySource bool // which of the two are in force
	publicOnly        bool // bySource spares addresses that are not public
	trusted           []netip.Prefix
	seed              maphash.Seed
	sets              []sourceSet              // by hash; an entry is guarded by its set's lock
	locks             [sourceLocks]paddedMutex // by hash; taken alone
	schedule          atomic.Int64             // of all sources together
	warned            warned
}

// paddedMutex has a cache line of its own.
type paddedMutex struct {
	sync.Mutex
	_ [56]byte
}

// newConnectLimiter returns nil where nothing is limited.
func newConnectLimiter(cfg *Config) *connectLimiter {
	l := &connectLimiter{
		limited: cfg.ConnectRate > 0, bySource: cfg.ConnectRatePerSource > 0,
		publicOnly: cfg.ConnectRatePublicOnly, trusted: cfg.TrustedProxies,
	}
	if l.limited {
		l.global = newGCRA(cfg.ConnectRate, cfg.ConnectBurst)
	}
	if l.bySource {
		l.perSource = newGCRA(cfg.ConnectRatePerSource, cfg.ConnectBurstPerSource)
		l.seed = maphash.MakeSeed() // or clients could choose whom they push out
		l.sets = make([]sourceSet, sourceSets)
	}
	if !l.limited && !l.bySource {
		return nil
	}
	return l
}

// verdict is what a limiter says.
type verdict uint8

const (
	letIn   verdict = iota
	overall         // too many in all
	tooMany         // too many from this source
)

// decide lets one session from an address in or says what forbids it, and for how long still. What
// one limit refuses does not count for the other: nobody loses a turn to the crowd. The zero
// Addr, such as that of a Unix socket, has no limit of its own.
func (l *connectLimiter) decide(from netip.Addr, now int64) (v verdict, wait int64) {
	if !l.bySource || !from.IsValid() {
		return l.decideGlobal(now)
	}
	if from = plainAddress(from); isSpared(from, l.publicOnly, l.trusted) {
		return l.decideGlobal(now)
	}
	of := sourceOf(from)
	hash := maphash.Comparable(l.seed, of)
	lock := &l.locks[hash%sourceLocks]
	lock.Lock()
	defer lock.Unlock()
	place, schedule := l.sets[hash%sourceSets].find(of)
	next, wait := l.perSource.admit(schedule, now)
	if wait > 0 {
		return tooMany, wait
	}
	if v, wait = l.decideGlobal(now); v == letIn {
		*place = sourceEntry{of, next}
	}
	return v, wait
}

// decideGlobal is decide for all sources together.
func (l *connectLimiter) decideGlobal(now int64) (verdict, int64) {
	if !l.limited {
		return letIn, 0
	}
	for {
		schedule := l.schedule.Load()
		next, wait := l.global.admit(schedule, now)
		if wait > 0 {
			return overall, wait
		}
		if l.schedule.CompareAndSwap(schedule, next) {
			return letIn, 0
		}
	}
}

// defaultBurst is what a limit lets in at once unless told otherwise: a second's worth.
func defaultBurst(perSecond float64) int { return max(int(math.Ceil(perSecond)), 1) }

// retrySpread is over how many seconds those who were refused together are spread, so
// that they do not come back together: what Socket.IO's clients wait at most by themselves.
const retrySpread = 5

// comeBackAfter is the seconds of a Retry-After header (RFC 9110, section 10.2.3) for
// who came too early by wait; spread returns a number from 0 up to below its argument.
func comeBackAfter(wait time.Duration, spread func(int64) int64) int64 {
	return int64((wait+time.Second-1)/time.Second) + spread(retrySpread)
}
