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
func (p *Presence) wantScrub(sign string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.signs == nil {
		p.signs = make(map[string]struct{})
	}
	p.signs[sign] = struct{}{}
}

// scrubber looks through all of Redis, slowly, for holders and owners that are
// neither registered nor dead: what leases and audits cannot find, because two
// things failed at once (a node died, and Redis lost the list of its rooms or
// its lease). One node does it at a time, every scrubEvery and some time after
// a sign that Redis lost something.
type scrubber struct {
	p     *Presence
	next  time.Time // the regular one
	after time.Time // the one after a sign; zero for none
}

func newScrubber(p *Presence) *scrubber {
	return &scrubber{p: p, next: time.Now().Add(rand.N(scrubEvery))}
}

// run scrubs if it is time.
func (s *scrubber) run(ctx context.Context, c *clients, now time.Time) error {
	s.p.mu.Lock()
	signs := len(s.p.signs) > 0
	s.p.signs = nil
	s.p.mu.Unlock()
	if signs {
		s.after = now.Add(2 * s.p.term) // leases and audits first
	}
	due := !now.Before(s.next) || !s.after.IsZero() && !now.Before(s.after)
	if !due {
		return nil
	}
	s.next, s.after = now.Add(scrubEvery), time.Time{}
	lock := c.cmd.B().Set().Key(scrubKey).Value(s.p.link.name).Nx().PxMilliseconds(scrubLock.Milliseconds()).Build()
	if _, err := s.p.do(ctx, c, lock); rueidis.IsRedisNil(err) {
		return nil // somebody else does it
	} else if err != nil {
		return err
	}
	found, err := s.p.scrub(ctx, c, scrubPause)
	if _, errUnlock := s.p.do(ctx, c, c.cmd.B().Del().Key(scrubKey).Build()); err == nil {
		err = errUnlock
	}
	if found > 0 {
		s.p.log.Warn("presence without an owner was found and removed", "found", found)
	}
	return err
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
