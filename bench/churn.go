//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stellara/edge/bench/guest"
	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// churn changes presence while messages flow: users of its own connect, join shared rooms, leave them,
// move to another node and disconnect, so many changes a second in all. They get the messages of their
// rooms, but nobody counts them; a change of a room is an update to all its members, and so are what
// the default rate costs.
type churn struct {
	plan     *load.Plan
	rate     float64   // changes per second
	observer *observer // nil if nobody looks
	users    []*churner
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu   sync.Mutex // guards the rest, and the churners' busy
	done report.Churn
}

// churner is one user. But for busy, it belongs to the change under way.
type churner struct {
	name  string
	node  int // index of the next node
	guest *guest.Guest
	rooms []string
	busy  bool
}

// changeTimeout is how long a change may take; nothing takes that long but a server that hangs.
const changeTimeout = 20 * time.Second

// usersPerChange is how many churners there are for each change per second: a user's next change comes
// after that many seconds on average, so that most of the keys have a second to be right.
const usersPerChange = 4

// newChurn prepares users without connections. A rate of 0 makes one that does nothing.
func newChurn(plan *load.Plan, rate float64, o *observer) *churn {
	c := &churn{plan: plan, rate: rate, observer: o, done: report.Churn{Reasons: map[string]int{}}}
	if rate == 0 {
		return c
	}
	for i := range max(int(rate*usersPerChange), 2) {
		u := &churner{name: fmt.Sprintf("%sc%d", plan.Prefix, i), node: i % len(plan.Targets)}
		c.users = append(c.users, u)
		o.truth(u.name, "")
	}
	return c
}

// start begins with the changes.
func (c *churn) start(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(ctx)
	if c.rate == 0 {
		return
	}
	c.wg.Go(func() {
		tick := time.NewTicker(time.Duration(float64(time.Second) / c.rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if u := c.pick(); u != nil {
				c.wg.Go(func() { c.change(u) })
			}
		}
	})
}

// stop ends the changes, disconnects all users, and returns when all that is done.
func (c *churn) stop() {
	c.cancel()
	c.wg.Wait()
	for _, u := range c.users {
		if u.guest != nil {
			c.wg.Go(func() { c.disconnect(u) })
		}
	}
	c.wg.Wait()
}

// result returns what was done so far, nil if nothing was to be done.
func (c *churn) result() *report.Churn {
	if len(c.users) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	done := c.done
	done.Reasons = maps.Clone(done.Reasons)
	return &done
}

// pick returns a user without a change under way, nil if there is none.
func (c *churn) pick() *churner {
	c.mu.Lock()
	defer c.mu.Unlock()
	free := slices.DeleteFunc(slices.Clone(c.users), func(u *churner) bool { return u.busy })
	if len(free) == 0 {
		return nil
	}
	u := free[rand.IntN(len(free))]
	u.busy = true
	return u
}

// deed is a kind of change.
type deed string

const (
	deedConnect    deed = "connect"
	deedJoin       deed = "join"
	deedLeave      deed = "leave"
	deedMove       deed = "move"
	deedDisconnect deed = "disconnect"
)

// nextDeed chooses what a user in so many rooms does next; dice is a number from 0 to 99.
func nextDeed(connected bool, rooms, dice int) deed {
	switch {
	case !connected:
		return deedConnect
	case dice < 15:
		return deedMove
	case rooms == 0 && dice < 85, rooms == 1 && dice < 35:
		return deedJoin
	case rooms > 0 && dice < 70:
		return deedLeave
	default:
		return deedDisconnect
	}
}

// change does one change and tells the observer what is true after it.
func (c *churn) change(u *churner) {
	// Not the context of start: a change that was begun is finished, or nobody knows how it ended.
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	defer func() {
		c.mu.Lock()
		u.busy = false
		c.mu.Unlock()
	}()
	deed := nextDeed(u.guest != nil, len(u.rooms), rand.IntN(100))
	if deed == deedDisconnect {
		c.disconnect(u)
		return
	}
	c.observer.flux(u.name)
	var err error
	switch deed {
	case deedConnect:
		u.guest, err = guest.Dial(ctx, c.target(u), u.name)
	case deedJoin:
		room := c.plan.RoomName(rand.IntN(c.plan.Rooms))
		if err = u.guest.Join(ctx, room); err == nil && !slices.Contains(u.rooms, room) {
			u.rooms = append(u.rooms, room)
		}
	case deedLeave:
		if err = u.guest.Leave(ctx, u.rooms[0]); err == nil {
			u.rooms = u.rooms[1:]
		}
	case deedMove:
		err = c.move(ctx, u)
	}
	if err != nil {
		c.fail(u, err)
		return
	}
	c.truth(u, deed)
}

// target returns the address of the user's next node.
func (c *churn) target(u *churner) string {
	u.node = (u.node + 1) % len(c.plan.Targets)
	return c.plan.Targets[u.node]
}

// move makes a second device of the user's on another node, in the same rooms, and then closes the first.
func (c *churn) move(ctx context.Context, u *churner) error {
	second, err := guest.Dial(ctx, c.target(u), u.name)
	if err != nil {
		return err
	}
	first := u.guest
	u.guest = second
	for _, room := range u.rooms {
		if err = second.Join(ctx, room); err != nil {
			break
		}
	}
	first.Close(ctx)
	return err
}

// disconnect ends the user's connection.
func (c *churn) disconnect(u *churner) {
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	c.observer.flux(u.name)
	u.guest.Close(ctx)
	u.guest, u.rooms = nil, nil
	c.truth(u, deedDisconnect)
}

// truth tells what is true about a user, and counts what made it so.
func (c *churn) truth(u *churner, deed deed) {
	sid := ""
	if u.guest != nil {
		sid = u.guest.SID()
	}
	c.observer.truth(u.name, sid, u.rooms...)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch deed {
	case deedConnect:
		c.done.Connects++
	case deedJoin:
		c.done.Joins++
	case deedLeave:
		c.done.Leaves++
	case deedMove:
		c.done.Moves++
	case deedDisconnect:
		c.done.Disconnects++
	}
}

// fail ends a user whose change failed: what its keys should say is known again once it is gone.
func (c *churn) fail(u *churner, err error) {
	text := strings.ReplaceAll(err.Error(), u.name, "<user>")
	c.mu.Lock()
	c.done.Failures++
	if _, known := c.done.Reasons[text]; !known && len(c.done.Reasons) >= 20 {
		text = "others"
	}
	c.done.Reasons[text]++
	c.mu.Unlock()
	if u.guest != nil {
		c.disconnect(u)
		return
	}
	u.rooms = nil
	c.observer.truth(u.name, "")
}
