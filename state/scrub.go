package state

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	scrubEvery = 6 * time.Hour
	scrubPage  = 500                   // COUNT of one SCAN
	scrubPause = 50 * time.Millisecond // between pages
	scrubLock  = 10 * time.Minute
	scrubKey   = "{edge}:scrub"
)

// wantScrub says why something may have been left that nobody answers for.
func (p *Presence) wantScrub(why string) {
	p.mu.Lock()
	already := p.scrubWanted
	p.scrubWanted = true
	p.mu.Unlock()
	if !already {
		p.log.Info("presence will be scrubbed for what nobody answers for", "why", why, "in", (2 * p.term).String())
	}
}

// scrubLoop looks through all of Redis, slowly, for holders and owners that are
// neither registered nor dead, until ctx ends: what leases and audits cannot
// find, because two things failed at once (a node died, and Redis lost the list
// of its rooms or its lease). One node does it at a time, every scrubEvery and
// some time after a sign that Redis lost something.
func (p *Presence) scrubLoop(ctx context.Context) {
	s := scrubber{next: time.Now().Add(rand.N(scrubEvery))}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.term / leaseBeat):
		}
		p.mu.Lock()
		sign := p.scrubWanted
		p.scrubWanted = false
		p.mu.Unlock()
		c, _ := p.link.get()
		if !s.due(sign, c != nil, time.Now(), p.term) {
			continue
		}
		alone, err := p.scrubAlone(ctx, c)
		p.failing("scrub", err)
		s.done(alone && err == nil, time.Now(), p.term)
	}
}

// scrubber knows when to scrub: pure state.
type scrubber struct {
	next  time.Time // the regular one
	after time.Time // the one after a sign; zero for none
}

// due reports whether to scrub now, with another sign or not.
func (s *scrubber) due(sign, connected bool, now time.Time, term time.Duration) bool {
	if sign {
		s.after = now.Add(2 * term) // leases and audits first
	}
	return connected && (!now.Before(s.next) || !s.after.IsZero() && !now.Before(s.after))
}

// done says that a scrub came to its end, or must be begun again: it failed, or
// somebody else is at it and may be past what there is to find.
func (s *scrubber) done(complete bool, now time.Time, term time.Duration) {
	if s.next = now.Add(scrubEvery); complete {
		s.after = time.Time{}
	} else {
		s.after = now.Add(2 * term)
	}
}

// scrubAlone scrubs unless somebody else does.
func (p *Presence) scrubAlone(ctx context.Context, c *clients) (alone bool, err error) {
	lock := c.cmd.B().Set().Key(scrubKey).Value(p.link.name).Nx().PxMilliseconds(scrubLock.Milliseconds()).Build()
	if _, err := p.do(ctx, c, lock); rueidis.IsRedisNil(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	found, err := p.scrub(ctx, c, scrubPause)
	if _, errUnlock := p.do(ctx, c, c.cmd.B().Del().Key(scrubKey).Build()); err == nil {
		err = errUnlock
	}
	if found > 0 {
		p.log.Warn("presence without an owner was found and removed", "found", found)
	}
	return true, err
}

// scrub looks through Redis once and returns how much it found.
func (p *Presence) scrub(ctx context.Context, c *clients, pause time.Duration) (found int, err error) {
	for cursor := uint64(0); ; {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := c.cmd.Do(call, c.cmd.B().Scan().Cursor(cursor).Match("{*}:[nor]*").Count(scrubPage).Build()).AsScanEntry()
		cancel()
		if err != nil {
			return found, fmt.Errorf("SCAN: %w", err)
		}
		n, err := p.scrubKeys(ctx, c, page.Elements)
		if found += n; err != nil {
			return found, err
		}
		p.metrics.PresenceScrubbed.Add(float64(n))
		if cursor = page.Cursor; cursor == 0 {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// trace is a name found beside a presence key.
type trace struct {
	incarnation string
	room        string // of a holder; "" is presence:online, or a list of rooms
	user        string // of an owner; "" for others
}

// scrubKeys looks at the holders, owners and lists of rooms that the keys name.
func (p *Presence) scrubKeys(ctx context.Context, c *clients, keys []string) (found int, err error) {
	var commands rueidis.Commands
	var about, traces []trace
	for _, key := range keys {
		end := strings.LastIndex(key, "}:")
		base, kind := key[1:end], key[end+len("}:"):]
		switch {
		case kind == "rooms" && strings.HasPrefix(base, "edge:"):
			traces = append(traces, trace{incarnation: strings.TrimPrefix(base, "edge:")})
			continue
		case kind == "n" && base == onlineKey:
			about = append(about, trace{})
		case kind == "n" && strings.HasPrefix(base, "room:") && strings.HasSuffix(base, ":users"):
			about = append(about, trace{room: base[len("room:") : len(base)-len(":users")]})
		case kind == "o" && strings.HasPrefix(base, "user:") && strings.HasSuffix(base, ":socket"):
			about = append(about, trace{user: base[len("user:") : len(base)-len(":socket")]})
			commands = append(commands, c.cmd.B().Hvals().Key(key).Build())
			continue
		default:
			continue
		}
		commands = append(commands, c.cmd.B().Smembers().Key(key).Build())
	}
	answers, err := p.ask(ctx, c, metrics.PresenceScrub, commands)
	if err != nil {
		return 0, err
	}
	for i, t := range about {
		names, err := answers[i].AsStrSlice()
		if err != nil {
			continue // gone meanwhile, or not ours
		}
		for _, name := range names {
			if t.incarnation = name; t.user != "" {
				if t.incarnation, _, err = parseOwner(name); err != nil {
					continue
				}
			}
			traces = append(traces, t)
		}
	}
	return p.scrubTraces(ctx, c, traces)
}

// scrubTraces removes what nobody answers for. The register is read last: a
// name is registered before it is found anywhere, and dead until nothing of it
// is left.
func (p *Presence) scrubTraces(ctx context.Context, c *clients, traces []trace) (found int, err error) {
	if len(traces) == 0 {
		return 0, nil
	}
	answers, err := p.ask(ctx, c, metrics.PresenceScrub, rueidis.Commands{
		c.cmd.B().Zrange().Key(instKey).Min("0").Max("-1").Build(), c.cmd.B().Zrange().Key(deadKey).Min("0").Max("-1").Build(),
	})
	if err != nil {
		return 0, err
	}
	var known []string
	for _, a := range answers {
		names, err := a.AsStrSlice()
		if err != nil {
			return 0, fmt.Errorf("ZRANGE: %w", err)
		}
		known = append(known, names...)
	}
	for _, t := range traces {
		if slices.Contains(known, t.incarnation) {
			continue
		}
		found++
		if t.user != "" {
			err = p.call(ctx, c, metrics.PresenceReapUser, socketKeys(nil, t.user), []string{t.incarnation}).Error()
		} else {
			var rooms []string
			if t.room != "" {
				rooms = []string{t.room}
			}
			err = p.nominate(ctx, c, t.incarnation, rooms, 0)
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}
