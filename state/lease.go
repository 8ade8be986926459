package state

import "time"

// defaultLease is how long an incarnation counts as alive after a heartbeat.
const defaultLease = 10 * time.Second

// A lease is renewed every leaseBeat-th part of its length. It counts as over
// for others a leaseMargin-th part later: as much may the clocks of a Redis and
// its replica differ.
const (
	leaseBeat   = 4
	leaseMargin = 10
	beatRetry   = 500 * time.Millisecond // after a heartbeat that failed
)

// lease is what a node knows of its own lease: pure state, guarded by its
// owner. Times in milliseconds are Redis's; this node's clock decides only when
// to send the next heartbeat.
type lease struct {
	length time.Duration
	known  bool      // a heartbeat of the present incarnation was answered
	over   bool      // an operation was refused: until is over, whatever this node thinks
	until  int64     // end of the lease, 0 for none yet
	last   int64     // when the last heartbeat was answered
	steady int64     // when the unbroken row of heartbeats began, 0 if it is broken
	next   time.Time // when to send the next one
}

func newLease(length time.Duration) lease { return lease{length: length} }

// margin is how much later than its end the lease counts as over for others.
func (l *lease) margin() time.Duration { return l.length / leaseMargin }

// valid reports whether it makes sense to add something to Redis.
func (l *lease) valid() bool { return l.until > 0 && !l.over }

// renewed records the answer to a heartbeat and returns what the lease before
// still had; 0 if there was none.
func (l *lease) renewed(until, redis int64, now time.Time) (left time.Duration) {
	if l.until > 0 {
		left = time.Duration(l.until-redis) * time.Millisecond
	}
	// A row with a hole as long as a lease is none: others may have been cut off as well.
	if l.steady == 0 || redis-l.last > l.length.Milliseconds() || redis < l.last {
		l.steady = redis
	}
	l.known, l.over, l.until, l.last = true, false, until, redis
	l.next = now.Add(l.length / leaseBeat)
	return left
}

// broken records that a heartbeat, or the connection, failed.
func (l *lease) broken(now time.Time) {
	l.steady = 0
	l.next = now.Add(min(beatRetry, l.length/leaseBeat))
}

// refused records that Redis found the lease over.
func (l *lease) refused() {
	l.over = true
	l.next = time.Time{}
}

// renounce begins the lease of another incarnation and returns the earliest
// time at which the one before may be reaped.
func (l *lease) renounce(redis int64) (reapable int64) {
	reapable = redis
	if l.until > 0 {
		reapable = max(redis, l.until+l.margin().Milliseconds())
	}
	*l = newLease(l.length)
	return reapable
}
