package state

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	refreshTick  = time.Second // between looks for rooms that stayed behind
	refreshRooms = 16          // read as one pipeline
	checkRooms   = 256         // looked at as one pipeline
)

// refreshLoop reads rooms again whose members here have missed changes, until
// ctx ends: after a gap in a room's events, after the Pub/Sub connection was
// lost, and when an audit finds Redis ahead for longer than events take.
func (p *Presence) refreshLoop(ctx context.Context) {
	u := p.updates
	tick := time.NewTicker(refreshTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.missed:
		case <-tick.C:
		}
		c, err := p.reader()
		if err != nil {
			continue // with the connection comes the next try
		}
		if err := p.checkAgain(ctx, c); err != nil {
			p.log.Debug("rooms cannot be looked at yet", "error", err)
			continue
		}
		u.mu.Lock()
		u.windows.overtake(time.Now())
		u.mu.Unlock()
		for {
			u.mu.Lock()
			rooms := u.windows.missed(time.Now(), refreshRooms)
			u.mu.Unlock()
			if len(rooms) == 0 {
				break
			}
			if err := p.refresh(ctx, c, rooms); err != nil {
				p.log.Debug("rooms cannot be read again yet", "error", err)
				break
			}
		}
	}
}

// checkAgain asks how far the rooms are whose subscriptions are live again, and
// wants those that moved on meanwhile.
func (p *Presence) checkAgain(ctx context.Context, c *client) error {
	u := p.updates
	for {
		u.mu.Lock()
		var rooms []string
		for room := range u.check {
			if rooms = append(rooms, room); len(rooms) == checkRooms {
				break
			}
		}
		u.mu.Unlock()
		if len(rooms) == 0 {
			return nil
		}
		gets := make(rueidis.Commands, len(rooms))
		for i, room := range rooms {
			gets[i] = c.B().Hmget().Key("{"+roomKey(room)+"}:m").Field("e", "s").Build()
		}
		call, cancel := context.WithTimeout(ctx, readTimeout)
		results := c.DoMulti(call, gets...)
		cancel()
		for i, r := range results {
			at, err := parsePosition(r)
			if err != nil {
				return err
			}
			u.mu.Lock()
			delete(u.check, rooms[i])
			// Everything published from before the answer on arrives: being behind is no delay.
			if h := u.windows.rooms[rooms[i]]; h != nil && h.known && (at.epoch != h.at.epoch || at.seq > h.at.seq) {
				u.windows.want(rooms[i], h)
			}
			u.mu.Unlock()
		}
	}
}

// parsePosition reads HMGET e s.
func parsePosition(r rueidis.RedisResult) (position, error) {
	fields, err := r.AsStrSlice()
	if err != nil || len(fields) != 2 {
		return position{}, fmt.Errorf("state: a room's position is %d values: %w", len(fields), err)
	}
	seq, _ := strconv.ParseUint(fields[1], 10, 64) // "" before the first event
	return position{fields[0], seq}, nil
}

// refresh reads the rooms past the cache and hands them to their members. Rooms
// that could not be read are wanted again.
func (p *Presence) refresh(ctx context.Context, c *client, rooms []string) error {
	reads := make(rueidis.Commands, len(rooms))
	for i, room := range rooms {
		reads[i] = p.snapshotCommand(c, room)
	}
	started := time.Now()
	call, cancel := context.WithTimeout(ctx, readTimeout)
	results := c.DoMulti(call, reads...)
	cancel()
	p.metrics.Presence[metrics.PresenceSnapshot].Observe(time.Since(started).Seconds())
	var failed error
	u := p.updates
	for i, r := range results {
		snap, err := parseSnapshot(rooms[i], r)
		u.mu.Lock()
		if err == nil {
			u.windows.replace(rooms[i], position{snap.Epoch, snap.Seq}, snap.Users, snap.Count, time.Now())
			p.metrics.PresenceRefreshes.Inc()
		} else if h := u.windows.rooms[rooms[i]]; h != nil {
			u.windows.want(rooms[i], h)
			failed = err
		}
		u.mu.Unlock()
	}
	notify(u.opened)
	return failed
}
