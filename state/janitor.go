package state

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	reapUsers = 256                    // of one step
	reapRooms = 8                      // of one step
	reapPause = 500 * time.Microsecond // between steps: what clients want comes first
)

// reapKey is held by the node that reaps an incarnation: two would do no harm,
// only work.
func reapKey(incarnation string) string { return "{edge}:reap:" + incarnation }

// janitorLoop claims incarnations whose leases ran out, removes what they held,
// and now and then looks for what nobody answers for, until ctx ends. Every node
// runs one. It works beside the presence goroutine: whatever it does is guarded
// by the dead incarnation's name in Redis.
func (p *Presence) janitorLoop(ctx context.Context) {
	every := p.term / leaseBeat
	scrub := newScrubber(p)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every*9/10 + rand.N(every/5+1)): // janitors of a fleet spread by themselves
		}
		c, _ := p.link.get()
		if c == nil {
			continue
		}
		if err := p.janitor(ctx, c); err != nil {
			p.log.Debug("janitor failed; it tries again", "error", err)
			if lostConnection(err) {
				p.link.suspect()
			}
			continue
		}
		if err := scrub.run(ctx, c, time.Now()); err != nil {
			p.log.Debug("scrub of presence failed; it begins again", "error", err)
		}
	}
}

// janitor claims, and reaps all that may be reaped.
func (p *Presence) janitor(ctx context.Context, c *clients) error {
	claimed, dead, err := p.claim(ctx, c)
	if err != nil {
		return err
	}
	for _, incarnation := range claimed {
		p.log.Warn("a node has not renewed its lease; it is taken for dead and its presence is removed", "incarnation", incarnation)
	}
	for _, incarnation := range dead {
		if err := p.reap(ctx, c, incarnation); err != nil {
			return fmt.Errorf("reap %s: %w", incarnation, err)
		}
	}
	return nil
}

// claim runs CLAIM and returns those it claimed, and all dead that may be reaped.
func (p *Presence) claim(ctx context.Context, c *clients) (claimed, dead []string, err error) {
	p.mu.Lock()
	self, steady, length, margin := p.ledger.incarnation(), p.lease.steady, p.lease.length, p.lease.margin()
	p.mu.Unlock()
	if steady == 0 {
		return nil, nil, nil
	}
	reply, err := p.call(ctx, c, metrics.PresenceClaim, []string{instKey, deadKey}, []string{
		self, strconv.FormatInt(steady, 10), strconv.FormatInt(length.Milliseconds(), 10), strconv.FormatInt(margin.Milliseconds(), 10),
	}).ToArray()
	if err == nil && len(reply) < 4 {
		err = fmt.Errorf("it answered %d values", len(reply))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("claim: %w", err)
	}
	into := &claimed
	for i := range reply[3:] {
		incarnation, err := reply[3+i].ToString()
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("claim: %w", err)
		case incarnation == "":
			into = &dead
		default:
			*into = append(*into, incarnation)
		}
	}
	return claimed, dead, nil
}

// reap removes whatever a dead incarnation left: its users' sockets, then the
// users from presence:online, then from their rooms. Interrupted at any point,
// by an error or the end of this node, it is begun again by whoever comes next.
func (p *Presence) reap(ctx context.Context, c *clients, incarnation string) error {
	began := time.Now()
	lock := c.cmd.B().Set().Key(reapKey(incarnation)).Value(p.link.name).Nx().PxMilliseconds(p.term.Milliseconds()).Build()
	if _, err := p.do(ctx, c, lock); rueidis.IsRedisNil(err) {
		return nil // somebody else does it
	} else if err != nil {
		return err
	}
	r := reaper{p: p, c: c, incarnation: incarnation}
	if err := r.run(ctx); err != nil {
		return err
	}
	for _, last := range []rueidis.Completed{
		c.cmd.B().Del().Key(indexKey(incarnation)).Build(),
		c.cmd.B().Zrem().Key(deadKey).Member(incarnation).Build(),
		c.cmd.B().Del().Key(reapKey(incarnation)).Build(),
	} {
		if _, err := p.do(ctx, c, last); err != nil {
			return err
		}
	}
	took := time.Since(began)
	p.metrics.PresenceReap.Observe(took.Seconds())
	p.metrics.PresenceReaped.Inc()
	p.log.Info("a dead node's presence is removed", "incarnation", incarnation, "took", took.Round(time.Millisecond).String(),
		"users", r.users, "sockets", r.sockets, "memberships", r.memberships)
	return nil
}

// do runs one command.
func (p *Presence) do(ctx context.Context, c *clients, cmd rueidis.Completed) (rueidis.RedisMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.cmd.Do(ctx, cmd).ToMessage()
}

// reaper removes one dead incarnation, step by step.
type reaper struct {
	p           *Presence
	c           *clients
	incarnation string

	users, sockets, memberships int // removed by this reaper
}

func (r *reaper) run(ctx context.Context) error {
	for done := false; !done; {
		var err error
		if done, err = r.stepUsers(ctx); err != nil {
			return err
		}
	}
	for done := false; !done; {
		var err error
		if done, err = r.stepRooms(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stepUsers takes some users off line; done when none are left. What a user's
// sockets say goes first: a reaper that dies in between finds the user again.
func (r *reaper) stepUsers(ctx context.Context) (done bool, err error) {
	users, err := r.held(ctx, []string{""})
	if err != nil || len(users[0]) == 0 {
		return err == nil, err
	}
	var keys []string
	for _, user := range users[0] {
		keys = socketKeys(keys, user)
	}
	answer := r.p.call(ctx, r.c, metrics.PresenceReapUser, keys, []string{r.incarnation})
	r.p.metrics.PresenceBatch[metrics.PresenceReapUser].Observe(float64(len(users[0])))
	n, err := answer.AsInt64()
	if err != nil {
		return false, fmt.Errorf("REAP_USER: %w", err)
	}
	r.sockets += int(n)
	left, err := r.release(ctx, []string{""}, users)
	r.users += left
	return false, err
}

// stepRooms empties some rooms; done when none are left.
func (r *reaper) stepRooms(ctx context.Context) (done bool, err error) {
	page, err := r.p.do(ctx, r.c, r.c.cmd.B().Srandmember().Key(indexKey(r.incarnation)).Count(reapRooms).Build())
	if err != nil && !rueidis.IsRedisNil(err) {
		return false, err
	}
	rooms, err := page.AsStrSlice()
	if err != nil && !rueidis.IsRedisNil(err) {
		return false, err
	}
	if len(rooms) == 0 {
		return true, nil
	}
	users, err := r.held(ctx, rooms)
	if err != nil {
		return false, err
	}
	left, err := r.release(ctx, rooms, users)
	r.memberships += left
	if err != nil {
		return false, err
	}
	var empty []string
	for i, room := range rooms {
		if len(users[i]) == 0 {
			empty = append(empty, room)
		}
	}
	if len(empty) > 0 {
		_, err = r.p.do(ctx, r.c, r.c.cmd.B().Srem().Key(indexKey(r.incarnation)).Member(empty...).Build())
	}
	return false, err
}

// held returns some of the users that the incarnation holds in each room; none
// only if there are none.
func (r *reaper) held(ctx context.Context, rooms []string) ([][]string, error) {
	var commands rueidis.Commands
	for _, room := range rooms {
		keys, _ := setCall(metrics.PresenceRelease, room, r.incarnation, epochs{}, 0, nil)
		commands = append(commands, r.c.cmd.B().Hrandfield().Key(keys[1]).Count(max(1, int64(reapUsers/len(rooms)))).Build())
	}
	answers, err := r.p.ask(ctx, r.c, metrics.PresenceScrub, commands)
	if err != nil {
		return nil, err
	}
	users := make([][]string, len(rooms))
	for i := range answers {
		if users[i], err = answers[i].AsStrSlice(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, fmt.Errorf("HRANDFIELD: %w", err)
		}
	}
	return users, nil
}

// release releases users of rooms and returns how many really left.
func (r *reaper) release(ctx context.Context, rooms []string, users [][]string) (left int, err error) {
	e := epochs{newEpoch(), r.c.run}
	var each [][2][]string
	for i, room := range rooms {
		if len(users[i]) > 0 {
			keys, args := setCall(metrics.PresenceRelease, room, r.incarnation, e, 0, users[i])
			each = append(each, [2][]string{keys, args})
			r.p.metrics.PresenceBatch[metrics.PresenceRelease].Observe(float64(len(users[i])))
		}
	}
	if len(each) > 0 {
		for _, answer := range r.p.calls(ctx, r.c, metrics.PresenceRelease, each) {
			parts, err := answer.ToArray()
			if err != nil || len(parts) == 0 {
				return left, fmt.Errorf("RELEASE: %w", err)
			}
			n, _ := parts[0].AsInt64()
			left += int(n)
		}
	}
	// The lock lives as long as the work: a step takes far less than a lease.
	_, err = r.p.do(ctx, r.c, r.c.cmd.B().Pexpire().Key(reapKey(r.incarnation)).Milliseconds(r.p.term.Milliseconds()).Build())
	if err != nil {
		return left, err
	}
	select {
	case <-ctx.Done():
		return left, ctx.Err()
	case <-time.After(reapPause):
		return left, nil
	}
}
