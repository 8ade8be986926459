package state

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	clientTTL    = 10 * time.Second // ceiling of every stale cached read
	smallRoom    = 2000             // users up to which a room is read whole, through the cache
	scanPage     = 1000             // COUNT of one SSCAN
	overlayTries = 4                // of a read that a write of ours overtakes
	writePeriod  = time.Second      // above the time an invalidation takes to arrive
)

// The public keys.
const onlineKey = "presence:online"

func roomKey(room string) string { return "room:" + room + ":users" }

func socketKey(user string) string { return "user:" + user + ":socket" }

// recentRooms remembers for a period what happened to rooms, and when last.
// Pure state, guarded by its owner.
type recentRooms struct {
	period time.Duration
	at     map[string]time.Time
	swept  time.Time
}

func newRecentRooms(period time.Duration) recentRooms {
	return recentRooms{period: period, at: make(map[string]time.Time)}
}

func (r *recentRooms) mark(room string, now time.Time) {
	if now.Sub(r.swept) > r.period {
		r.swept = now
		for room, at := range r.at {
			if now.Sub(at) > r.period {
				delete(r.at, room)
			}
		}
	}
	r.at[room] = now
}

func (r *recentRooms) has(room string, now time.Time) bool {
	at, ok := r.at[room]
	return ok && now.Sub(at) <= r.period
}

// Socket returns the user's active socket. For a user with sockets on this
// node that is the newest of those, without asking Redis; for others it is what
// user:<user>:socket says, at most 10 s ago and normally now.
func (p *Presence) Socket(ctx context.Context, user string) (socket string, online bool, err error) {
	sockets, err := p.lookup(ctx, []string{user})
	if err != nil {
		return "", false, err
	}
	return sockets[0], sockets[0] != "", nil
}

// Online tells of each user whether it is online, as Socket does.
func (p *Presence) Online(ctx context.Context, users []string) ([]bool, error) {
	sockets, err := p.lookup(ctx, users)
	if err != nil {
		return nil, err
	}
	online := make([]bool, len(users))
	for i := range sockets {
		online[i] = sockets[i] != ""
	}
	return online, nil
}

// lookup returns the active socket of each user, "" for none.
func (p *Presence) lookup(ctx context.Context, users []string) ([]string, error) {
	sockets := make([]string, len(users))
	var ask []int
	p.mu.Lock()
	for i, user := range users {
		if u := p.ledger.online.members[user]; u != nil && len(u.sockets) > 0 {
			sockets[i] = u.sockets[len(u.sockets)-1].id
		} else {
			ask = append(ask, i)
		}
	}
	p.mu.Unlock()
	p.metrics.CacheReads[metrics.CacheOverlay].Add(float64(len(users) - len(ask)))
	if len(ask) == 0 {
		return sockets, nil
	}
	if err := p.fetch(ctx, users, ask, sockets, true); err != nil {
		return nil, err
	}
	// A socket of ours that we do not have any more: the cache has not heard of
	// our own DETACH. Only Redis knows what took its place. If the DETACH is
	// stored while we ask, we ask again.
	for stale := p.stale(ask, sockets); len(stale) > 0; {
		before := slices.Clone(sockets)
		detaching := p.detaching(stale, sockets)
		if err := p.fetch(ctx, users, stale, sockets, false); err != nil {
			return nil, err
		}
		still := p.detaching(stale, sockets)
		var again []int
		for k, i := range stale {
			switch {
			case still[k]:
				sockets[i] = "" // as if detached; another device shows when it is
			case detaching[k] && sockets[i] == before[i]:
				again = append(again, i)
			}
		}
		stale = again
	}
	return sockets, nil
}

// stale returns those of the indexes whose socket has an id of this node.
func (p *Presence) stale(which []int, sockets []string) []int {
	var stale []int
	for _, i := range which {
		if strings.HasPrefix(sockets[i], p.node) {
			stale = append(stale, i)
		}
	}
	return stale
}

// detaching tells of each socket whether its DETACH is still to be stored.
func (p *Presence) detaching(which []int, sockets []string) []bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	detaching := make([]bool, len(which))
	for k, i := range which {
		s := p.ledger.sockets[sockets[i]]
		detaching[k] = s != nil && !s.desired
	}
	return detaching
}

// fetch reads user:<user>:socket of the users whose indexes are given.
func (p *Presence) fetch(ctx context.Context, users []string, which []int, into []string, cached bool) error {
	c, err := p.reader()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer p.observeRead(time.Now())
	var results []rueidis.RedisResult
	if cached {
		gets := make([]rueidis.CacheableTTL, len(which))
		for k, i := range which {
			gets[k] = rueidis.CT(c.B().Get().Key(socketKey(users[i])).Cache().ToStaticTTL(), clientTTL)
		}
		results = c.DoMultiCache(ctx, gets...)
	} else {
		gets := make(rueidis.Commands, len(which))
		for k, i := range which {
			gets[k] = c.B().Get().Key(socketKey(users[i])).Build()
		}
		results = c.DoMulti(ctx, gets...)
	}
	for k, r := range results {
		socket, err := r.ToString()
		if err != nil && !rueidis.IsRedisNil(err) {
			return fmt.Errorf("state: read %s: %w", socketKey(users[which[k]]), err)
		}
		into[which[k]] = socket
		p.count(r)
	}
	return nil
}

// Members returns up to limit users of the room, all if limit is 0 or less, and
// how many there are. Small rooms are read whole, through the cache, and come
// sorted; of rooms above 2000 users it returns a page. Users this node has just
// added are included.
func (p *Presence) Members(ctx context.Context, room string, limit int) (users []string, count int, err error) {
	if err := ValidID("room", room); err != nil {
		return nil, 0, err
	}
	c, err := p.reader()
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer p.observeRead(time.Now())
	// From now on no change of the room may cancel an earlier one: the reader
	// may know of that. The second time, because the read takes a while.
	p.updates.readMembers(room)
	defer p.updates.readMembers(room)
	for try := 1; ; try++ {
		p.mu.Lock()
		written := p.recent.at[room]
		fresh := p.recent.has(room, time.Now())
		p.mu.Unlock()
		users, count, err = p.membersOnce(ctx, c, room, limit, fresh)
		if err != nil {
			return nil, 0, fmt.Errorf("state: read %s: %w", roomKey(room), err)
		}
		if count > smallRoom {
			return users, count, nil
		}
		users, again := p.overlay(room, users, written)
		if again && try < overlayTries {
			continue
		}
		count = len(users)
		if limit > 0 && count > limit {
			users = users[:limit]
		}
		return users, count, nil
	}
}

// membersOnce reads the room as Redis has it: whole if it is small, else a page.
func (p *Presence) membersOnce(ctx context.Context, c *client, room string, limit int, fresh bool) ([]string, int, error) {
	key := roomKey(room)
	n, err := p.read(ctx, c, c.B().Scard().Key(key).Cache(), fresh).AsInt64()
	if err != nil {
		return nil, 0, err
	}
	if n > smallRoom {
		users, err := scan(ctx, c, key, limit)
		return users, int(n), err
	}
	users, err := p.read(ctx, c, c.B().Smembers().Key(key).Cache(), fresh).AsStrSlice()
	return users, len(users), err
}

// read runs a cacheable command, past the cache if fresh is set.
func (p *Presence) read(ctx context.Context, c *client, cmd rueidis.Cacheable, fresh bool) rueidis.RedisResult {
	var r rueidis.RedisResult
	if fresh {
		r = c.Do(ctx, rueidis.Completed(cmd))
	} else {
		r = c.DoCache(ctx, cmd.ToStaticTTL(), clientTTL)
	}
	p.count(r)
	return r
}

// overlay adds the users this node has in the room, removes those it is about
// to release, and sorts. again says that a change of ours was stored since
// written, so that the read may have come before it and the overlay after it.
func (p *Presence) overlay(room string, users []string, written time.Time) (_ []string, again bool) {
	slices.Sort(users)
	p.mu.Lock()
	defer p.mu.Unlock()
	again = !p.recent.at[room].Equal(written)
	set := p.ledger.rooms[room]
	if set == nil {
		return users, again
	}
	var added []string
	for user, m := range set.members {
		i, found := slices.BinarySearch(users, user)
		switch here := len(m.sockets) > 0; {
		case here && !found:
			added = append(added, user)
		case !here && found:
			// Still to be released: in the room only if another node says so,
			// which it will, if it does, when the release has been stored.
			users = slices.Delete(users, i, i+1)
		}
	}
	if len(added) > 0 {
		users = append(users, added...)
		slices.Sort(users)
	}
	return users, again
}

// scan reads a page of a set: at least limit members if there are, cut to limit.
func scan(ctx context.Context, c *client, key string, limit int) ([]string, error) {
	seen := make(map[string]struct{})
	var users []string
	for cursor := uint64(0); ; {
		page, err := c.Do(ctx, c.B().Sscan().Key(key).Cursor(cursor).Count(scanPage).Build()).AsScanEntry()
		if err != nil {
			return nil, err
		}
		for _, user := range page.Elements {
			if _, again := seen[user]; !again {
				seen[user] = struct{}{}
				users = append(users, user)
			}
			if limit > 0 && len(users) == limit {
				return users, nil
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return users, nil
		}
	}
}

// reader returns the read client.
func (p *Presence) reader() (*client, error) {
	if c, _ := p.link.get(); c != nil {
		return c.read, nil
	}
	return nil, ErrUnavailable
}

func (p *Presence) count(r rueidis.RedisResult) {
	result := metrics.CacheMiss
	if r.IsCacheHit() {
		result = metrics.CacheHit
	}
	p.metrics.CacheReads[result].Inc()
}

func (p *Presence) observeRead(started time.Time) {
	p.metrics.Presence[metrics.PresenceRead].Observe(time.Since(started).Seconds())
}
