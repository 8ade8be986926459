package state

import (
	"slices"
	"time"

	"github.com/stellara/edge/metrics"
)

// next returns up to limit operations that may be sent now, none of which
// depends on the outcome of another. Sets get at most half of a full batch, so
// that many rooms cannot hold sockets up.
func (l *ledger) next(now time.Time, limit int) []operation {
	l.resume(now)
	var ops []operation
	for n := len(l.sets); n > 0 && len(ops)+2 <= limit/2; n-- {
		set := l.sets[0]
		l.sets = l.sets[1:]
		set.queued = false
		ops = l.takeMembers(set, ops)
		if len(set.dirty) > 0 {
			l.enqueue(set)
		}
	}
	ops = l.takeSockets(ops, limit)
	if len(l.sets) == 0 {
		l.sets = nil
	}
	return ops
}

// takeMembers appends at most one HOLD and one RELEASE for the set.
func (l *ledger) takeMembers(set *presenceSet, ops []operation) []operation {
	hold := operation{op: metrics.PresenceHold, set: set}
	release := operation{op: metrics.PresenceRelease, set: set}
	i := 0
	for ; i < len(set.dirty) && len(hold.members) < batchMembers && len(release.members) < batchMembers; i++ {
		m := set.dirty[i]
		m.queued = false
		l.waiting--
		switch {
		case m.settled():
			l.forgetMember(m)
			continue
		case m.desired:
			hold.members = append(hold.members, m)
		case m.attached > 0:
			continue // until the last of the user's sockets is detached
		default:
			release.members = append(release.members, m)
		}
		m.inflight, m.stored = true, unknown
	}
	if set.dirty = set.dirty[i:]; len(set.dirty) == 0 {
		set.dirty = nil
	}
	for _, o := range []operation{hold, release} {
		if len(o.members) > 0 {
			ops = append(ops, o)
		}
	}
	return ops
}

// takeSockets appends ATTACH and DETACH operations up to limit, the attaches
// first: a user who changes sockets is online throughout.
func (l *ledger) takeSockets(ops []operation, limit int) []operation {
	var attach, detach []operation
	i := 0
	for ; i < len(l.attach) && len(ops)+len(attach)+len(detach) < limit; i++ {
		s := l.attach[i]
		s.queued = false
		l.waiting--
		switch {
		case s.settled():
			l.forgetSocket(s)
			continue
		case s.desired && s.user.stored != held:
			continue // until the user is held online
		case s.desired:
			if s.stored == absent {
				s.user.attached++
			}
			attach = grouped(attach, metrics.PresenceAttach, s)
		default:
			detach = grouped(detach, metrics.PresenceDetach, s)
		}
		s.inflight, s.stored = true, unknown
	}
	if l.attach = l.attach[i:]; len(l.attach) == 0 {
		l.attach = nil
	}
	return append(append(ops, attach...), detach...)
}

// grouped adds a socket to the last operation, or to a new one. A socket that
// failed before goes alone: its user's key may be what Redis refuses.
func grouped(ops []operation, op metrics.PresenceOp, s *socket) []operation {
	if n := len(ops); n > 0 && s.backoff == 0 {
		if last := &ops[n-1]; len(last.sockets) < batchSockets && last.sockets[0].backoff == 0 {
			last.sockets = append(last.sockets, s)
			return ops
		}
	}
	return append(ops, operation{op: op, sockets: []*socket{s}})
}

// settle records the outcome of one operation that next returned. After an
// error the operation may or may not have happened; it is tried again after a
// growing wait of its own, so that one key Redis refuses holds nobody up.
func (l *ledger) settle(o operation, err error, now time.Time) {
	if o.set != nil {
		l.settleMembers(o, err, now)
		return
	}
	for _, s := range o.sockets {
		l.settleSocket(s, o.op, err, now)
	}
}

func (l *ledger) settleSocket(s *socket, op metrics.PresenceOp, err error, now time.Time) {
	s.inflight = false
	if err != nil {
		s.backoff = min(max(2*s.backoff, retryMin), retryMax)
		s.queued = true
		l.waiting++
		l.delay(delayed{at: now.Add(s.backoff), socket: s})
		l.account(&s.fact)
		return
	}
	s.backoff = 0
	u := s.user
	if op == metrics.PresenceAttach {
		s.stored, s.before = held, true
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
		set.backoff = min(max(2*set.backoff, retryMin), retryMax)
		for _, m := range o.members {
			m.inflight, m.queued = false, true
			l.waiting++
			set.dirty = append(set.dirty, m)
			l.account(&m.fact)
		}
		l.postpone(set, now)
		return
	}
	set.backoff = 0
	for _, m := range o.members {
		m.inflight = false
		if o.op == metrics.PresenceHold {
			m.stored = held
		} else {
			m.stored = absent
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
		if d.set != nil {
			l.sets = append(l.sets, d.set)
		} else {
			l.attach = append(l.attach, d.socket)
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

// reassert takes nothing for granted any more: the connection was lost, and
// with it perhaps what Redis had. Everything wanted is stored again.
func (l *ledger) reassert() {
	for i := range l.delayed {
		l.delayed[i].at = time.Time{}
	}
	doubt := func(f *fact) {
		if f.stored == held {
			f.stored = unknown
		}
	}
	for _, m := range l.online.members {
		doubt(&m.fact)
		l.touchMember(m)
	}
	for _, set := range l.rooms {
		for _, m := range set.members {
			doubt(&m.fact)
			l.touchMember(m)
		}
	}
	for _, s := range l.sockets {
		doubt(&s.fact)
		l.touchSocket(s)
	}
}
