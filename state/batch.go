package state

import (
	"errors"
	"slices"
	"time"

	"github.com/stellara/edge/metrics"
)

const (
	batchMembers = 256  // of one HOLD, ASSERT or RELEASE, and rooms of one index command
	batchSockets = 64   // of one ATTACH or DETACH
	batchFacts   = 4096 // of one batch: some 10 ms of Redis's time
	retryMin     = 100 * time.Millisecond
	retryMax     = 10 * time.Second
)

// errExpired is the answer to an operation that came after the end of the
// node's lease. Nothing was changed.
var errExpired = errors.New("state: the lease is over")

// next returns up to limit operations that may be sent now, none of which
// depends on the outcome of another; nothing is added to Redis unless the node
// has a lease. Sets get at most half of a full batch, so that many rooms cannot
// hold sockets up.
func (l *ledger) next(now time.Time, limit int, leased bool) []operation {
	l.resume(now)
	var ops []operation
	l.taken = 0
	for n := len(l.sets); n > 0 && len(ops)+4 <= max(4, limit/2) && l.taken < batchFacts; n-- {
		set := l.sets[0]
		l.sets = l.sets[1:]
		set.queued = false
		ops = l.takeMembers(set, ops, leased)
		if len(set.dirty) > 0 {
			l.enqueue(set)
		}
	}
	ops = l.takeIndexes(ops, limit, leased) // after the sets that have just asked for it
	ops = l.takeSockets(ops, limit, leased)
	if len(l.sets) == 0 {
		l.sets = nil
	}
	return ops
}

// takeIndexes appends the commands that write rooms down or cross them out.
func (l *ledger) takeIndexes(ops []operation, limit int, leased bool) []operation {
	var kept []*presenceSet
	first, i := len(ops), 0
	for ; i < len(l.indexes) && len(ops) < limit && l.taken < batchFacts; i++ {
		set := l.indexes[i]
		f := &set.index
		if f.desired && !leased || !f.desired && l.gated {
			kept = append(kept, set)
			continue
		}
		f.queued = false
		l.waiting--
		if f.settled() {
			l.touchIndex(set)
			continue
		}
		life := l.life()
		if !f.desired {
			life = f.life
		}
		k := slices.IndexFunc(ops[first:], func(o operation) bool {
			return o.drop == !f.desired && o.life == life && len(o.rooms) < batchMembers
		})
		if k < 0 {
			k = len(ops) - first
			ops = append(ops, operation{op: metrics.PresenceIndex, drop: !f.desired, life: life})
		}
		ops[first+k].rooms = append(ops[first+k].rooms, set)
		l.taken++
		f.inflight, f.stored, f.life = true, unknown, life
	}
	if l.indexes = append(kept, l.indexes[i:]...); len(l.indexes) == 0 {
		l.indexes = nil
	}
	return ops
}

// takeMembers appends at most one operation of each kind, life and grace for the set.
// What cannot be sent now stays dirty.
func (l *ledger) takeMembers(set *presenceSet, ops []operation, leased bool) []operation {
	first := len(ops)
	var kept []*member
	i := 0
	for ; i < len(set.dirty); i++ {
		m := set.dirty[i]
		if m.desired && !m.settled() && !(leased && set.indexed(l.life())) {
			kept = append(kept, m)
			if !set.indexed(l.life()) {
				l.desire(&set.index, true, nil)
				l.touchIndex(set)
			}
			continue
		}
		if !m.desired && !m.settled() && set == l.online && l.gated {
			kept = append(kept, m)
			continue
		}
		op, life := l.operationOf(m)
		grace := op == metrics.PresenceRelease && m.grace
		k := slices.IndexFunc(ops[first:], func(o operation) bool { return o.op == op && o.life == life && o.grace == grace })
		if k >= 0 && len(ops[first+k].members) == batchMembers {
			break
		}
		m.queued = false
		l.waiting--
		if m.settled() {
			l.forgetMember(m)
			continue
		}
		if !m.desired && m.attached > 0 {
			continue // until the last of the user's sockets is detached
		}
		if k < 0 {
			k = len(ops) - first
			ops = append(ops, operation{op: op, life: life, set: set, grace: grace})
		}
		o := &ops[first+k]
		o.members = append(o.members, m)
		l.taken++
		m.inflight, m.stored, m.life = true, unknown, life
	}
	if set.dirty = append(kept, set.dirty[i:]...); len(set.dirty) == 0 {
		set.dirty = nil
	}
	return ops
}

// operationOf is what has to be done for a member, and in which life: it is
// released from the one it was held in.
func (l *ledger) operationOf(m *member) (metrics.PresenceOp, uint32) {
	switch {
	case !m.desired:
		return metrics.PresenceRelease, m.life
	case m.stored == absent:
		return metrics.PresenceHold, l.life()
	default:
		return metrics.PresenceAssert, l.life()
	}
}

// takeSockets appends ATTACH and DETACH operations up to limit, the attaches
// first: a user who changes sockets is online throughout.
func (l *ledger) takeSockets(ops []operation, limit int, leased bool) []operation {
	var attach, detach []operation
	var kept []*socket
	i := 0
	for ; i < len(l.attach) && len(ops)+len(attach)+len(detach) < limit && l.taken < 2*batchFacts; i++ {
		s := l.attach[i]
		if s.desired && !s.settled() && !leased {
			kept = append(kept, s)
			continue
		}
		s.queued = false
		l.waiting--
		switch {
		case s.settled():
			l.forgetSocket(s)
			continue
		case s.desired && !(s.user.stored == held && s.user.life == l.life()):
			continue // until the user is held online
		case s.desired:
			if s.stored == absent {
				s.user.attached++
			}
			s.life = l.life()
			attach = grouped(attach, metrics.PresenceAttach, s)
		default:
			detach = grouped(detach, metrics.PresenceDetach, s)
		}
		l.taken++
		s.inflight, s.stored, s.sent = true, unknown, uint32(s.generation)
	}
	if l.attach = append(kept, l.attach[i:]...); len(l.attach) == 0 {
		l.attach = nil
	}
	return append(append(ops, attach...), detach...)
}

// grouped adds a socket to the last operation, or to a new one. A socket that
// failed before goes alone: its user's key may be what Redis refuses.
func grouped(ops []operation, op metrics.PresenceOp, s *socket) []operation {
	if n := len(ops); n > 0 && s.backoff == 0 {
		last := &ops[n-1]
		if len(last.sockets) < batchSockets && last.sockets[0].backoff == 0 {
			last.sockets, last.calls = append(last.sockets, s), append(last.calls, s.call())
			return ops
		}
	}
	return append(ops, operation{op: op, life: s.life, sockets: []*socket{s}, calls: []socketCall{s.call()}})
}

// settle records the outcome of one operation that next returned. After an
// error the operation may or may not have happened; it is tried again after a
// wait of its own, which grows but for indexes, so that one key Redis refuses
// holds nobody up. After errExpired it waits for the lease only.
func (l *ledger) settle(o operation, err error, now time.Time) {
	for _, set := range o.rooms {
		l.settleIndex(set, o.drop, err, now)
	}
	if o.set != nil {
		l.settleMembers(o, err, now)
	}
	for _, s := range o.sockets {
		l.settleSocket(s, o.op, err, now)
	}
}

// wait is how long what failed waits before its next try.
func (l *ledger) wait(last time.Duration) time.Duration {
	if l.ending {
		return retryMin
	}
	return min(max(2*last, retryMin), retryMax)
}

func (l *ledger) settleIndex(set *presenceSet, dropped bool, err error, now time.Time) {
	f := &set.index
	f.inflight = false
	if errors.Is(err, errExpired) {
		l.touchIndex(set)
		return
	}
	if err != nil {
		f.queued = true
		l.waiting++
		l.account(f)
		l.delay(delayed{at: now.Add(retryMin), set: set, index: true})
		return
	}
	if f.stored = held; dropped {
		f.stored = absent
	}
	if len(set.members) > 0 {
		l.desire(f, true, nil)
	}
	l.touchIndex(set)
}

func (l *ledger) settleSocket(s *socket, op metrics.PresenceOp, err error, now time.Time) {
	s.inflight = false
	if errors.Is(err, errExpired) {
		l.touchSocket(s)
		return
	}
	if err != nil {
		s.backoff = l.wait(s.backoff)
		s.queued = true
		l.waiting++
		l.delay(delayed{at: now.Add(s.backoff), socket: s})
		l.account(&s.fact)
		return
	}
	s.backoff = 0
	u := s.user
	if op == metrics.PresenceAttach {
		if s.stored, s.before = held, true; s.sent != uint32(s.generation) {
			s.stored, s.before = unknown, false // it moved meanwhile: once more, as the present generation
		}
	} else {
		s.stored, s.before = absent, false
		u.attached--
	}
	l.touchSocket(s)
	if u.attached == 0 {
		l.touchMember(u) // may be released now
	}
}

func (l *ledger) settleMembers(o operation, err error, now time.Time) {
	set := o.set
	if err != nil {
		for _, m := range o.members {
			m.inflight, m.queued = false, true
			l.waiting++
			set.dirty = append(set.dirty, m)
			l.account(&m.fact)
		}
		if errors.Is(err, errExpired) {
			l.enqueue(set)
			return
		}
		set.backoff = l.wait(set.backoff)
		l.postpone(set, now)
		return
	}
	set.backoff = 0
	for _, m := range o.members {
		m.inflight = false
		if o.op == metrics.PresenceRelease {
			m.stored = absent
		} else {
			m.stored = held
		}
		if set == l.online && m.stored == held {
			for _, s := range m.sockets {
				l.touchSocket(s)
			}
		}
		l.touchMember(m)
	}
}

// postpone takes the set out of turn until its wait is over.
func (l *ledger) postpone(set *presenceSet, now time.Time) {
	if set.queued {
		i := slices.Index(l.sets, set)
		if i < 0 {
			return // delayed already
		}
		l.sets = slices.Delete(l.sets, i, i+1)
	}
	set.queued = true
	l.delay(delayed{at: now.Add(set.backoff), set: set})
}

func (l *ledger) delay(d delayed) { l.delayed = append(l.delayed, d) }

// resume puts back in turn what has waited long enough.
func (l *ledger) resume(now time.Time) {
	l.delayed = slices.DeleteFunc(l.delayed, func(d delayed) bool {
		if d.at.After(now) {
			return false
		}
		switch {
		case d.socket != nil:
			l.attach = append(l.attach, d.socket)
		case d.index:
			l.indexes = append(l.indexes, d.set)
		default:
			l.sets = append(l.sets, d.set)
		}
		return true
	})
	if len(l.delayed) == 0 {
		l.delayed = nil
	}
}

// retryAt is when the first delayed set or socket is due; false when none waits.
func (l *ledger) retryAt() (time.Time, bool) {
	if len(l.delayed) == 0 {
		return time.Time{}, false
	}
	first := l.delayed[0].at
	for _, d := range l.delayed[1:] {
		if d.at.Before(first) {
			first = d.at
		}
	}
	return first, true
}
