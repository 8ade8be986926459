package state

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

const (
	clientTTL = 10 * time.Second // ceiling of every stale cached read
	smallRoom = 2000             // users up to which a room is read whole, through the cache
	scanPage  = 1000             // COUNT of one SSCAN or HSCAN
	readTries = 4                // of a read that something of ours overtakes
)

// The public keys.
const onlineKey = "presence:online"

func roomKey(room string) string { return "room:" + room + ":users" }

func socketKey(user string) string { return "user:" + user + ":socket" }

// Sockets returns each user's active socket, "" for one that is not online. For
// a user with sockets on this node that is the newest of those, without asking
// Redis; for others it is what user:<user>:socket says, at most 10 s ago and
// normally now.
func (p *Presence) Sockets(ctx context.Context, users []string) ([]string, error) {
	sockets := make([]string, len(users))
	ask := make([]int, len(users))
	for i := range users {
		ask[i] = i
	}
	gone := make([]string, len(users)) // sockets of theirs that this node was seen ending
	for try := 0; ; try++ {
		ask = p.overlay(users, ask, sockets)
		if len(ask) == 0 || try == readTries {
			return sockets, nil
		}
		before := p.written(users, ask)
		if err := p.fetch(ctx, users, ask, sockets); err != nil {
			return nil, err
		}
		ask = p.overtaken(users, ask, sockets, gone, before)
	}
}

// Online tells of each user whether it is online, as Sockets does.
func (p *Presence) Online(ctx context.Context, users []string) ([]bool, error) {
	sockets, err := p.Sockets(ctx, users)
	if err != nil {
		return nil, err
	}
	online := make([]bool, len(users))
	for i := range sockets {
		online[i] = sockets[i] != ""
	}
	return online, nil
}

// overlay answers for users with sockets here and returns the others.
func (p *Presence) overlay(users []string, which []int, sockets []string) (others []int) {
	p.mu.Lock()
	for _, i := range which {
		if u := p.ledger.online.members[users[i]]; u != nil && len(u.sockets) > 0 {
			sockets[i] = u.sockets[len(u.sockets)-1].id
		} else {
			others = append(others, i)
		}
	}
	p.mu.Unlock()
	p.metrics.CacheReads[metrics.CacheOverlay].Add(float64(len(which) - len(others)))
	return others
}

// written returns when sockets of the users were stored by this node last.
func (p *Presence) written(users []string, which []int) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := make([]time.Time, len(which))
	for k, i := range which {
		at[k] = p.users.last[users[i]].at
	}
	return at
}

// overtaken returns the users of whom this node stored something while they
// were read, so that nobody can tell which came first, or is about to: of
// those it notes the socket in gone, and answers "" should nothing else be read
// in the end.
func (p *Presence) overtaken(users []string, which []int, sockets, gone []string, before []time.Time) (again []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, i := range which {
		if s := p.ledger.sockets[sockets[i]]; s != nil && !s.desired {
			gone[i] = sockets[i]
		} else if p.users.last[users[i]].at.Equal(before[k]) {
			continue
		}
		again = append(again, i)
		if sockets[i] == gone[i] {
			sockets[i] = ""
		}
	}
	return again
}

// fetch reads user:<user>:socket of the users whose indexes are given: through
// the cache, but for users whose sockets this node has just changed, as the
// cache may not have heard of it.
func (p *Presence) fetch(ctx context.Context, users []string, which []int, into []string) error {
	c, err := p.reader()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer p.observeRead(metrics.PresenceRead, time.Now())
	var cached []rueidis.CacheableTTL
	var direct rueidis.Commands
	var cachedOf, directOf []int
	now := time.Now()
	p.mu.Lock()
	for _, i := range which {
		if _, fresh := p.users.get(users[i], now); fresh {
			direct, directOf = append(direct, c.B().Get().Key(socketKey(users[i])).Build()), append(directOf, i)
		} else {
			cached = append(cached, rueidis.CT(c.B().Get().Key(socketKey(users[i])).Cache().ToStaticTTL(), clientTTL))
			cachedOf = append(cachedOf, i)
		}
	}
	p.mu.Unlock()
	var results []rueidis.RedisResult
	if len(cached) > 0 {
		results = c.DoMultiCache(ctx, cached...)
	}
	if len(direct) > 0 {
		results = append(results, c.DoMulti(ctx, direct...)...)
	}
	for k, i := range append(cachedOf, directOf...) {
		socket, err := results[k].ToString()
		if err != nil && !rueidis.IsRedisNil(err) {
			return fmt.Errorf("state: read %s: %w", socketKey(users[i]), err)
		}
		into[i] = socket
		p.count(results[k])
	}
	return nil
}

// Snapshot is a room's users after event Seq of Epoch, and before the next.
type Snapshot struct {
	Room  string
	Users []string // sorted; nil if Count is more than 2000
	Count int
	Epoch string // "" for a room that never had anybody in it
	Seq   uint64
}

// Snapshot returns the room's users for a member on this node: every update with
// a higher Seq that the node hands out goes on from it. What this node has stored
// of the room is in it.
func (p *Presence) Snapshot(ctx context.Context, room string) (Snapshot, error) {
	if err := ValidID("room", room); err != nil {
		return Snapshot{}, err
	}
	for try := 0; ; try++ {
		p.updates.beginRead(room)
		snap, err := p.snapshot(ctx, room, try > 0)
		stale := p.updates.endRead(room, position{snap.Epoch, snap.Seq}, err == nil)
		if err != nil || !stale {
			return snap, err
		}
		if try == readTries {
			p.updates.want(room) // this member has missed something, and no update need show it
			return snap, nil
		}
	}
}

// Room returns a room's users to somebody who is not a member: as Snapshot, but
// nothing goes on from it, and it may be up to 10 s old.
func (p *Presence) Room(ctx context.Context, room string) (Snapshot, error) {
	if err := ValidID("room", room); err != nil {
		return Snapshot{}, err
	}
	return p.snapshot(ctx, room, false)
}

// snapshot reads a room through the cache, or past it: if fresh is set, or if
// the cached answer lacks what this node stored.
func (p *Presence) snapshot(ctx context.Context, room string, fresh bool) (Snapshot, error) {
	c, _ := p.link.get()
	if c == nil {
		return Snapshot{}, ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	defer p.observeRead(metrics.PresenceSnapshot, time.Now())
	if !fresh && p.link.caches() {
		args := c.read.B().EvalshaRo().Sha1(p.scripts[metrics.PresenceSnapshot].sha).Numkeys(1).Key(roomKey(room)).Arg(strconv.Itoa(smallRoom), c.run)
		r := c.read.DoCache(ctx, args.Cache().ToStaticTTL(), clientTTL)
		snap, err := parseSnapshot(room, r)
		if err == nil && p.current(snap) {
			p.count(r)
			return snap, nil
		}
	}
	r := c.read.Do(ctx, c.read.B().EvalshaRo().Sha1(p.scripts[metrics.PresenceSnapshot].sha).Numkeys(1).Key(roomKey(room)).
		Arg(strconv.Itoa(smallRoom), c.run).Build())
	if err := r.Error(); err != nil && !lostConnection(err) {
		// Redis forgot the scripts, or never knew EVALSHA_RO: the source goes along.
		r = c.read.Do(ctx, p.snapshotCommand(c, room))
	}
	p.metrics.CacheReads[metrics.CacheMiss].Inc()
	return parseSnapshot(room, r)
}

// current reports whether a snapshot has what this node stored of the room.
func (p *Presence) current(snap Snapshot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.rooms.get(snap.Room, time.Now())
	return !ok || w.epoch == snap.Epoch && w.seq <= snap.Seq
}

// snapshotCommand reads a room past the cache, whatever Redis knows.
func (p *Presence) snapshotCommand(c *clients, room string) rueidis.Completed {
	return c.read.B().Eval().Script(p.scripts[metrics.PresenceSnapshot].source).Numkeys(1).Key(roomKey(room)).Arg(strconv.Itoa(smallRoom), c.run).Build()
}

func parseSnapshot(room string, r rueidis.RedisResult) (Snapshot, error) {
	parts, err := r.ToArray()
	if err == nil && len(parts) < 3 {
		err = fmt.Errorf("it has %d values", len(parts))
	}
	snap := Snapshot{Room: room}
	var seq, count int64
	if err == nil {
		snap.Epoch, err = parts[0].ToString()
	}
	if err == nil {
		seq, err = parts[1].AsInt64()
	}
	if err == nil {
		count, err = parts[2].AsInt64()
	}
	if listed := int64(len(parts) - 3); err == nil && (seq < 0 || count < 0 || count <= smallRoom && listed != count) {
		err = fmt.Errorf("%w: %d users and event %d with %d names", errAnswer, count, seq, listed)
	}
	if err != nil {
		return Snapshot{Room: room}, fmt.Errorf("state: read %s: %w", roomKey(room), err)
	}
	snap.Seq, snap.Count = uint64(seq), int(count)
	if snap.Count <= smallRoom {
		snap.Users = make([]string, 0, snap.Count)
		for i := range parts[3:] {
			user, err := parts[3+i].ToString()
			if err != nil {
				return Snapshot{Room: room}, fmt.Errorf("state: read %s: %w", roomKey(room), err)
			}
			snap.Users = append(snap.Users, user)
		}
		slices.Sort(snap.Users)
	}
	return snap, nil
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

func (p *Presence) observeRead(op metrics.PresenceOp, started time.Time) {
	p.metrics.Presence[op].Observe(time.Since(started).Seconds())
}
