package state

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// Page is part of a set, as SSCAN gives it: every member that stays from the
// first page to the last is in one of them; some may be in two.
type Page struct {
	Users []string
	Count int    // of the whole set, now
	Next  uint64 // cursor of the next page, 0 after the last
}

// OnlinePage returns about limit users that are online, from a cursor on, 0 at
// first. It never reads presence:online whole.
func (p *Presence) OnlinePage(ctx context.Context, cursor uint64, limit int) (Page, error) {
	return p.page(ctx, onlineKey, cursor, limit)
}

// RoomPage returns about limit users of the room, likewise.
func (p *Presence) RoomPage(ctx context.Context, room string, cursor uint64, limit int) (Page, error) {
	if err := ValidID("room", room); err != nil {
		return Page{}, err
	}
	return p.page(ctx, roomKey(room), cursor, limit)
}

func (p *Presence) page(ctx context.Context, key string, cursor uint64, limit int) (Page, error) {
	c, err := p.reader()
	if err != nil {
		return Page{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer p.observeRead(metrics.PresenceRead, time.Now())
	results := c.DoMulti(ctx, c.B().Scard().Key(key).Build(),
		c.B().Sscan().Key(key).Cursor(cursor).Count(int64(min(max(1, limit), scanPage))).Build())
	count, err := results[0].AsInt64()
	if err != nil {
		return Page{}, fmt.Errorf("state: read %s: %w", key, err)
	}
	entry, err := results[1].AsScanEntry()
	if err != nil {
		return Page{}, fmt.Errorf("state: read %s: %w", key, err)
	}
	return Page{Users: entry.Elements, Count: int(count), Next: entry.Cursor}, nil
}

// Counts returns how many users are online, and how many are in each room.
func (p *Presence) Counts(ctx context.Context, rooms []string) (online int, inRooms []int, err error) {
	c, err := p.reader()
	if err != nil {
		return 0, nil, err
	}
	commands := rueidis.Commands{c.B().Scard().Key(onlineKey).Build()}
	for _, room := range rooms {
		if err := ValidID("room", room); err != nil {
			return 0, nil, err
		}
		commands = append(commands, c.B().Scard().Key(roomKey(room)).Build())
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer p.observeRead(metrics.PresenceRead, time.Now())
	counts := make([]int, len(commands))
	for i, r := range c.DoMulti(ctx, commands...) {
		n, err := r.AsInt64()
		if err != nil {
			return 0, nil, fmt.Errorf("state: counts: %w", err)
		}
		counts[i] = int(n)
	}
	return counts[0], counts[1:], nil
}
