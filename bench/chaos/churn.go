package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// What an operation of churn is: one in reconnectOf closes the connection and comes back, the others
// change a room. Half of the closed ones close without a word.
const (
	reconnectOf  = 7
	longestBreak = 3 * time.Second
)

// Churn keeps the crowd moving, with so many operations per second, until the returned function is
// called. Operations under way then go on.
func (c *Crowd) Churn(perSecond float64) (stop func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	var dealer sync.WaitGroup
	dealer.Go(func() {
		ticker := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				c.disturb()
			}
		}
	})
	return func() {
		cancel()
		dealer.Wait()
	}
}

// tries is how often disturb looks for a device that has nothing to do, before it lets a turn go by.
const tries = 20

// disturb starts one operation of a random device.
func (c *Crowd) disturb() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range tries {
		d := c.devices[rand.IntN(len(c.devices))]
		if d.busy || d.phase != online || d.observer != nil || d.person.frozen {
			continue
		}
		if rand.IntN(reconnectOf) == 0 {
			abrupt := rand.IntN(2) == 0
			c.start(d, func() { c.reconnect(d, abrupt, rand.N(longestBreak)) })
		} else {
			c.start(d, func() { c.change(d) })
		}
		return
	}
}

// change takes the device from one room to another that it is not in; sometimes the user has another
// device there.
func (c *Crowd) change(d *device) {
	defer c.settle(d)
	c.mu.Lock()
	k := d.conn
	c.mu.Unlock()
	var others []int
	for _, room := range d.person.choice {
		if !slices.Contains(d.want, room) {
			others = append(others, room)
		}
	}
	if k == nil || len(others) == 0 {
		return
	}
	i := rand.IntN(len(d.want))
	old, next := d.want[i], others[rand.IntN(len(others))]
	err := c.leave(d, k, old)
	d.want[i] = next
	if err == nil {
		err = c.join(d, k, next)
	}
	if err != nil {
		k.Drop()
		c.lost(d, k, err)
	}
}
