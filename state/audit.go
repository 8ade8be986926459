package state

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	auditPeriod  = 30 * time.Second // of one pass over everything held; foreign removals are repaired within 60 s
	auditDeep    = 10               // every so many passes is a deep one
	auditMembers = 1024             // of one step
	auditChunks  = 64
	auditWait    = time.Second // before the next try when Redis does not answer
)

// An audit compares what the ledger takes for stored with what Redis has. It
// runs on the goroutine that sends the batches, between them, so that nothing
// is under way: every difference is one.
//
// A light pass looks at the public keys only, for others may write them, and
// goes on for ever, spread over auditPeriod. A deep pass also looks at the
// holders and owners. It follows every sign that Redis may have lost something
// or gone back in time (a lost connection, a flushed cache), at once, and every
// auditDeep-th light pass. A key that Redis refuses to look at is passed over.
type audit struct {
	deep    bool
	again   bool         // a deep pass is wanted as soon as the lease is valid
	online  bool         // presence:online is still to be looked at
	rooms   int          // so many of ledger.list are still to be looked at
	chunks  []auditChunk // of the set before them
	every   time.Duration
	next    time.Time // when the next step is due
	count   int       // passes begun
	steps   int       // in this pass
	before  int       // in the pass before
	found   int       // differences in this pass
	refused int       // keys passed over in this pass
	why     error     // the first of them
}

// auditChunk is up to batchMembers members of a set.
type auditChunk struct {
	set     *presenceSet
	members []*member
	all     []string // the users of members, before those were left out that are under way
	first   bool     // of the set
}

// begin wants a pass at once.
func (a *audit) begin(deep bool, now time.Time) {
	a.again = a.again || deep
	a.online, a.rooms, a.chunks, a.next = false, 0, nil, now
}

// over reports whether the pass has looked at everything.
func (a *audit) over() bool { return !a.online && a.rooms <= 0 && len(a.chunks) == 0 }

// start begins a pass over everything in the ledger.
func (a *audit) start(l *ledger, now time.Time) {
	a.deep = a.again || a.count%auditDeep == auditDeep-1
	a.again = false
	a.count++
	a.before, a.steps, a.found, a.refused, a.why = a.steps, 0, 0, 0, nil
	a.online, a.rooms = true, len(l.list)
	// As many steps as last time, or as there must be at least.
	steps := max(a.before, 1+len(l.online.members)/auditMembers+len(l.list)/auditChunks)
	if a.every = 0; !a.deep {
		a.every = auditPeriod / time.Duration(steps+1)
	}
	a.next = now
}

// step returns what is to be looked at next: auditChunks chunks or auditMembers
// members. Sets are taken as their turn comes, so that the ledger is never held
// up for all of them: from the end of its list, where new ones are added, and
// the last takes the place of one that goes, so that none is missed. Rooms that
// are empty are crossed out by the way.
func (a *audit) step(l *ledger) (step []auditChunk) {
	for size := 0; len(step) < auditChunks && !a.over(); {
		if len(a.chunks) > 0 {
			c := a.chunks[0]
			if size += len(c.members); size > auditMembers && len(step) > 0 {
				break
			}
			step, a.chunks = append(step, c), a.chunks[1:]
			continue
		}
		if a.online {
			a.online = false
			a.chunks = a.split(l.online)
			continue
		}
		if a.rooms = min(a.rooms, len(l.list)) - 1; a.rooms >= 0 {
			set := l.list[a.rooms]
			a.chunks = a.split(set)
			l.prune(set)
		}
	}
	a.steps++
	return step
}

// split takes a set apart. An empty one is of interest to a deep pass only.
func (a *audit) split(set *presenceSet) (chunks []auditChunk) {
	chunk := auditChunk{set: set, first: true}
	for _, m := range set.members {
		if chunk.members = append(chunk.members, m); len(chunk.members) == batchMembers {
			chunks = append(chunks, chunk)
			chunk = auditChunk{set: set}
		}
	}
	if len(chunk.members) > 0 || chunk.first && a.deep {
		chunks = append(chunks, chunk)
	}
	return chunks
}

// refuse notes a key that Redis refuses to look at.
func (a *audit) refuse(err error) {
	if a.refused++; a.why == nil {
		a.why = err
	}
}

// auditDue reports whether a step is due.
func (p *Presence) auditDue(now time.Time) bool { return !now.Before(p.audit.next) }

// auditStep does one step of an audit; false when there was nothing to do.
func (p *Presence) auditStep(ctx context.Context, c *clients) bool {
	a, now := &p.audit, time.Now()
	p.mu.Lock()
	if !p.lease.valid() || p.ending && !p.ledger.gated {
		p.mu.Unlock()
		a.next = now.Add(auditWait)
		return false
	}
	begun := a.over()
	if begun {
		a.start(p.ledger, now)
	}
	step := a.step(p.ledger)
	incarnation := p.ledger.incarnation()
	p.mu.Unlock()

	err := p.auditChunks(ctx, c, step, incarnation)
	if err == nil && begun {
		err = p.auditIndex(ctx, c, incarnation)
	}
	if err != nil {
		p.failing("audit", err)
		if lostConnection(err) {
			p.link.suspect()
		}
		a.begin(a.deep, now.Add(auditWait))
		return false
	}
	if a.next = now.Add(a.every); a.over() {
		p.auditDone(now)
	}
	return len(step) > 0
}

// auditDone ends a pass.
func (p *Presence) auditDone(now time.Time) {
	a := &p.audit
	p.failing("audit", a.why)
	if a.found > 0 {
		p.log.Warn("redis had lost or kept presence against this node's word; repaired", "differences", a.found, "deep", a.deep)
	}
	if a.deep {
		a.next = now.Add(auditPeriod)
		p.mu.Lock()
		p.ledger.gated = false
		p.mu.Unlock()
	}
}

// drift counts differences.
func (p *Presence) drift(d metrics.Drift, n int) {
	p.audit.found += n
	p.metrics.PresenceDrift[d].Add(float64(n))
}

// ask runs reads as one pipeline. Errors of single reads are in the results; the
// error is that of the connection.
func (p *Presence) ask(ctx context.Context, c *clients, op metrics.PresenceOp, commands rueidis.Commands) ([]rueidis.RedisResult, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	started := time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	results := c.cmd.DoMulti(call, commands...)
	p.metrics.Presence[op].Observe(time.Since(started).Seconds())
	for i := range results {
		if err := results[i].Error(); lostConnection(err) {
			return nil, err
		}
	}
	return results, nil
}
