package state

import (
	"context"
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
		case now := <-tick.C:
			u.mu.Lock()
			u.windows.overtake(now)
			u.mu.Unlock()
		}
		c, _ := p.link.get()
		if c == nil {
			continue // with the connection comes the next try
		}
		if err := p.checkAgain(ctx, c); err != nil {
			p.log.Debug("rooms cannot be looked at yet", "error", err)
			continue
		}
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
func (p *Presence) checkAgain(ctx context.Context, c *clients) error {
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
			gets[i] = c.read.B().Hmget().Key("{"+roomKey(room)+"}:m").Field("e", "s", "r").Build()
		}
		call, cancel := context.WithTimeout(ctx, readTimeout)
		results := c.read.DoMulti(call, gets...)
		cancel()
		for i, r := range results {
			fields, err := r.AsStrSlice()
			at, err := parsePosition(fields, err, c.run)
			if err != nil {
				return err
			}
			u.mu.Lock()
			delete(u.check, rooms[i])
			// Nothing that the answer counts is still to come: being elsewhere is no delay.
			if h := u.windows.rooms[rooms[i]]; h != nil && h.known && (at.epoch != h.at.epoch || at.seq > h.at.seq) {
				u.windows.want(rooms[i], h)
			}
			u.mu.Unlock()
		}
	}
}

// parsePosition reads HMGET e s r as snapshot.lua does.
func parsePosition(fields []string, err error, run string) (position, error) {
	if err != nil || len(fields) != 3 {
		return position{}, answered("HMGET of a room's position", len(fields), 3, err)
	}
	at := position{epoch: fields[0]}
	at.seq, _ = strconv.ParseUint(fields[1], 10, 64) // "" before the first event
	if at.epoch != "" && fields[2] != run {
		at.epoch += "~" + run[:min(8, len(run))]
	}
	return at, nil
}

// refresh reads the rooms past the cache and hands them to their members. Rooms
// that could not be read are wanted again.
func (p *Presence) refresh(ctx context.Context, c *clients, rooms []string) error {
	reads := make(rueidis.Commands, len(rooms))
	for i, room := range rooms {
		reads[i] = p.snapshotCommand(c, room)
	}
	started := time.Now()
	call, cancel := context.WithTimeout(ctx, readTimeout)
	results := c.read.DoMulti(call, reads...)
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
