package state

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	auditPeriod  = 40 * time.Second // of one pass over everything held; foreign removals are repaired within 60 s
	auditDeep    = 8                // every so many passes is a deep one
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
// auditDeep-th light pass.
type audit struct {
	deep   bool
	again  bool           // a deep pass is wanted as soon as the lease is valid
	sets   []*presenceSet // that the pass still has to look at
	chunks []auditChunk   // of the set before them
	every  time.Duration  // between steps
	next   time.Time      // when the next step is due
	count  int            // passes begun
	found  int            // differences in this pass
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
	a.sets, a.chunks, a.next = nil, nil, now
}

// over reports whether the pass has looked at everything.
func (a *audit) over() bool { return len(a.sets)+len(a.chunks) == 0 }

// start begins a pass over everything in the ledger.
func (a *audit) start(l *ledger, now time.Time) {
	a.deep = a.again || a.count%auditDeep == auditDeep-1
	a.again = false
	a.count++
	a.found = 0
	steps := 1 + len(l.online.members)/auditMembers
	a.sets = append(a.sets, l.online)
	members := 0
	for _, set := range l.rooms {
		a.sets = append(a.sets, set)
		members += len(set.members)
	}
	steps += max(members/auditMembers, len(l.rooms)/auditChunks)
	if a.every = 0; !a.deep {
		a.every = auditPeriod / time.Duration(steps+1)
	}
	a.next = now
}

// step returns what is to be looked at next: auditChunks chunks or auditMembers
// members. Sets are taken apart as their turn comes, so that the ledger is
// never held up for all of them.
func (a *audit) step() (step []auditChunk) {
	for size := 0; len(step) < auditChunks && !a.over(); {
		if len(a.chunks) == 0 {
			a.chunks = a.split(a.sets[0])
			a.sets = a.sets[1:]
			continue
		}
		c := a.chunks[0]
		if size += len(c.members); size > auditMembers && len(step) > 0 {
			break
		}
		step, a.chunks = append(step, c), a.chunks[1:]
	}
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
		p.ledger.prune()
	}
	step := a.step()
	incarnation := p.ledger.incarnation()
	p.mu.Unlock()

	err := p.auditChunks(ctx, c, step, incarnation)
	if err == nil && begun {
		err = p.auditIndex(ctx, c, incarnation)
	}
	if err != nil {
		p.log.Debug("audit of presence failed; it begins again", "error", err)
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
	if a.found > 0 {
		p.log.Warn("redis had lost or kept presence against this node's word; repaired", "differences", a.found, "deep", a.deep)
	}
	if a.deep || a.every == 0 {
		a.next = now.Add(auditPeriod)
	}
	if a.again {
		a.next = now
		return
	}
	if a.deep {
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

// ask runs reads of an audit as one pipeline.
func (p *Presence) ask(ctx context.Context, c *clients, op metrics.PresenceOp, commands rueidis.Commands) ([]rueidis.RedisMessage, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	started := time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	results := c.cmd.DoMulti(call, commands...)
	p.metrics.Presence[op].Observe(time.Since(started).Seconds())
	messages := make([]rueidis.RedisMessage, len(results))
	for i, r := range results {
		m, err := r.ToMessage()
		if err != nil && !rueidis.IsRedisNil(err) {
			return nil, err
		}
		messages[i] = m
	}
	return messages, nil
}
