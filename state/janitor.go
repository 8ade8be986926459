package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	reapUsers   = 256                    // of one step
	reapRooms   = 64                     // of one step
	reapMembers = 512                    // of the rooms of one step
	reapPause   = 500 * time.Microsecond // between steps: what clients want comes first
)

// reapKey is held by the node that reaps an incarnation: two would do no harm,
// only work.
func reapKey(incarnation string) string { return "{edge}:reap:" + incarnation }

// janitorLoop claims incarnations whose leases ran out and removes what they
// held, until ctx ends. Every node runs one. It works beside the presence
// goroutine: whatever it does is guarded by the dead incarnation's name in Redis.
func (p *Presence) janitorLoop(ctx context.Context) {
	every := p.term / leaseBeat
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
		err := p.janitor(ctx, c)
		p.failing("janitor", err)
		if lostConnection(err) {
			p.link.suspect()
		}
	}
}

// janitor claims, and reaps all that may be reaped. One that cannot be reaped
// does not keep it from the others.
func (p *Presence) janitor(ctx context.Context, c *clients) error {
	claimed, dead, err := p.claim(ctx, c)
	if err != nil {
		return err
	}
	for _, incarnation := range claimed {
		p.log.Warn("a node has not renewed its lease; it is taken for dead and its presence is removed", "incarnation", incarnation)
	}
	var failed error
	for _, incarnation := range dead {
		err := p.reap(ctx, c, incarnation)
		if lostConnection(err) {
			return err
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("reap %s: %w", incarnation, err))
		}
	}
	return failed
}

// claim runs CLAIM and returns those it claimed, and all dead that may be reaped.
func (p *Presence) claim(ctx context.Context, c *clients) (claimed, dead []string, err error) {
	p.mu.Lock()
	self, l := p.ledger.incarnation(), p.lease
	p.mu.Unlock()
	if l.steady == 0 {
		return nil, nil, nil
	}
	reply, err := p.call(ctx, c, metrics.PresenceClaim, []string{instKey, deadKey}, []string{
		self, strconv.FormatInt(l.steady, 10), strconv.FormatInt(l.last, 10),
		strconv.FormatInt(l.length.Milliseconds(), 10), strconv.FormatInt(l.margin().Milliseconds(), 10),
	}).ToArray()
	if err == nil && len(reply) < 4 {
		err = answered("CLAIM", len(reply), 4, nil)
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
	err := r.run(ctx)
	if err == nil {
		_, err = p.do(ctx, c, c.cmd.B().Del().Key(indexKey(incarnation)).Build())
	}
	if err == nil {
		_, err = p.do(ctx, c, c.cmd.B().Zrem().Key(deadKey).Member(incarnation).Build())
	}
	if _, errUnlock := p.do(ctx, c, c.cmd.B().Del().Key(reapKey(incarnation)).Build()); err == nil {
		err = errUnlock
	}
	if err != nil {
		return err
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
	refused     map[string]error // rooms that Redis lets nobody be released from

	users, sockets, memberships int // removed by this reaper
}

func (r *reaper) run(ctx context.Context) error {
	for done := false; !done; {
		var err error
		if done, err = r.stepUsers(ctx); err != nil {
			return err
		}
	}
	if err := r.lookForIndex(ctx); err != nil {
		return err
	}
	for done := false; !done; {
		var err error
		if done, err = r.stepRooms(ctx); err != nil {
			return err
		}
	}
	for room, err := range r.refused { // any of them
		return fmt.Errorf("%d rooms, such as %q: %w", len(r.refused), room, err)
	}
	return nil
}

// lookForIndex has a scrub look for the rooms of somebody who had users and no
// list of rooms: it ran out, or Redis lost it.
func (r *reaper) lookForIndex(ctx context.Context) error {
	there, err := r.p.do(ctx, r.c, r.c.cmd.B().Exists().Key(indexKey(r.incarnation)).Build())
	if err != nil {
		return err
	}
	if n, _ := there.AsInt64(); n == 0 && r.users > 0 {
		r.p.wantScrub("a dead node had no list of rooms")
	}
	return nil
}

// stepUsers takes some users off line; done when none are left. What a user's
// sockets say goes first: a reaper that dies in between finds the user again.
func (r *reaper) stepUsers(ctx context.Context) (done bool, err error) {
	held, err := r.held(ctx, []string{""}, reapUsers)
	if err != nil {
		return false, err
	}
	users, err := held[0].AsStrSlice()
	if err != nil || len(users) == 0 {
		return err == nil, err
	}
	var keys []string
	for _, user := range users {
		keys = socketKeys(keys, user)
	}
	answer := r.p.call(ctx, r.c, metrics.PresenceReapUser, keys, []string{r.incarnation})
	r.p.metrics.PresenceBatch[metrics.PresenceReapUser].Observe(float64(len(users)))
	n, err := answer.AsInt64()
	if err != nil {
		return false, fmt.Errorf("REAP_USER: %w", err)
	}
	r.sockets += int(n)
	left, err := r.release(ctx, []string{""}, [][]string{users}, nil)
	r.users += left
	if err == nil {
		err = r.refused[""]
	}
	return false, err
}

// stepRooms empties some rooms; done when none are left but those that Redis
// refuses. A room of which fewer users came than were asked for is empty with
// these: nobody adds any for the dead.
func (r *reaper) stepRooms(ctx context.Context) (done bool, err error) {
	page, err := r.p.do(ctx, r.c, r.c.cmd.B().Srandmember().Key(indexKey(r.incarnation)).Count(reapRooms+int64(len(r.refused))).Build())
	if err != nil && !rueidis.IsRedisNil(err) {
		return false, err
	}
	rooms, err := page.AsStrSlice()
	if err != nil && !rueidis.IsRedisNil(err) {
		return false, err
	}
	rooms = slices.DeleteFunc(rooms, func(room string) bool { return r.refused[room] != nil })
	if len(rooms) == 0 {
		return true, nil
	}
	each := max(8, reapMembers/len(rooms))
	held, err := r.held(ctx, rooms, each)
	if err != nil {
		return false, err
	}
	users, over := make([][]string, len(rooms)), make([]string, 0, len(rooms))
	for i := range held {
		if users[i], err = held[i].AsStrSlice(); err != nil && !rueidis.IsRedisNil(err) {
			r.refuse(rooms[i], err)
		} else if len(users[i]) < each {
			over = append(over, rooms[i])
		}
	}
	left, err := r.release(ctx, rooms, users, over)
	r.memberships += left
	return false, err
}

func (r *reaper) refuse(room string, err error) {
	if r.refused == nil {
		r.refused = make(map[string]error)
	}
	r.refused[room] = err
}

// held asks for some of the users that the incarnation holds in each room; for
// none only if there are none.
func (r *reaper) held(ctx context.Context, rooms []string, each int) ([]rueidis.RedisResult, error) {
	var commands rueidis.Commands
	for _, room := range rooms {
		keys, _ := setCall(room, r.incarnation, epochs{}, "", nil)
		commands = append(commands, r.c.cmd.B().Hrandfield().Key(keys[1]).Count(int64(each)).Build())
	}
	return r.p.ask(ctx, r.c, metrics.PresenceScrub, commands)
}

// release releases users of rooms, crosses out the rooms that are over, and
// returns how many users really left.
func (r *reaper) release(ctx context.Context, rooms []string, users [][]string, over []string) (left int, err error) {
	e := epochs{newEpoch(), r.c.run}
	var each [][2][]string
	var which []string
	for i, room := range rooms {
		if len(users[i]) > 0 {
			keys, args := setCall(room, r.incarnation, e, "", users[i]) // without grace: they were away for a lease
			each, which = append(each, [2][]string{keys, args}), append(which, room)
			r.p.metrics.PresenceBatch[metrics.PresenceRelease].Observe(float64(len(users[i])))
		}
	}
	if len(each) > 0 {
		for i, answer := range r.p.calls(ctx, r.c, metrics.PresenceRelease, each) {
			parts, err := answer.ToArray()
			if lostConnection(err) {
				return left, fmt.Errorf("RELEASE: %w", err)
			}
			if err != nil || len(parts) != 4 {
				r.refuse(which[i], answered("RELEASE", len(parts), 4, err))
				continue
			}
			n, _ := parts[0].AsInt64()
			left += int(n)
		}
	}
	over = slices.DeleteFunc(over, func(room string) bool { return r.refused[room] != nil })
	// The lock lives as long as the work: a step takes far less than a lease.
	commands := rueidis.Commands{r.c.cmd.B().Pexpire().Key(reapKey(r.incarnation)).Milliseconds(r.p.term.Milliseconds()).Build()}
	if len(over) > 0 {
		commands = append(commands, r.c.cmd.B().Srem().Key(indexKey(r.incarnation)).Member(over...).Build())
	}
	if _, err := r.p.ask(ctx, r.c, metrics.PresenceScrub, commands); err != nil {
		return left, err
	}
	select {
	case <-ctx.Done():
		return left, ctx.Err()
	case <-time.After(reapPause):
		return left, nil
	}
}
