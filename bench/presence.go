//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// presenceLimit is how long a key may be wrong.
const presenceLimit = time.Second

// truth is what the presence keys must say.
type truth struct {
	users  []string // user ids that were ever used
	online []bool   // by user
	sids   []string // socket id by user
	rooms  []string

	roomsOf [][]int // indexes of rooms by user
}

// newTruth takes all connections of the plan for open and in their rooms, but those that dropped.
func newTruth(plan *load.Plan, sids []string, dropped []int) *truth {
	t := &truth{sids: sids}
	for i := range plan.Conns {
		t.users = append(t.users, plan.User(i))
		t.online = append(t.online, sids[i] != "")
		t.roomsOf = append(t.roomsOf, plan.RoomsOf(i))
	}
	for r := range plan.Rooms {
		t.rooms = append(t.rooms, plan.RoomName(r))
	}
	for _, i := range dropped {
		t.online[i] = false
	}
	return t
}

// add makes another group's truth part of this one; their users and rooms are different ones.
func (t *truth) add(o *truth) {
	first := len(t.rooms)
	t.users, t.online, t.sids = append(t.users, o.users...), append(t.online, o.online...), append(t.sids, o.sids...)
	t.rooms = append(t.rooms, o.rooms...)
	for _, rooms := range o.roomsOf {
		shifted := make([]int, len(rooms))
		for k, room := range rooms {
			shifted[k] = first + room
		}
		t.roomsOf = append(t.roomsOf, shifted)
	}
}

// addUser adds one user who is online, in rooms that are known by their indexes.
func (t *truth) addUser(user, sid string, rooms ...int) {
	t.users, t.online, t.sids = append(t.users, user), append(t.online, true), append(t.sids, sid)
	t.roomsOf = append(t.roomsOf, rooms)
}

// presenceReader reads the three keys as any other service would.
type presenceReader struct {
	client rueidis.Client
	prefix string // of this benchmark's user ids; others are not its business
}

func newPresenceReader(url, prefix string) (*presenceReader, error) {
	opt, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	opt.DisableCache, opt.ForceSingleClient = true, true
	client, err := rueidis.NewClient(opt)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	return &presenceReader{client, prefix}, nil
}

func (p *presenceReader) close() {
	if p != nil {
		p.client.Close()
	}
}

// check compares all keys with the truth until they agree or have been wrong for too long. since is
// when the truth became true. Keys count, not differences: a set with ten strangers is one wrong key.
func (p *presenceReader) check(ctx context.Context, when string, t *truth, since time.Time) (report.Presence, error) {
	r := report.Presence{When: when, Keys: 1 + len(t.rooms) + len(t.users)}
	for {
		began := time.Now()
		wrong, err := p.compare(ctx, t)
		if err != nil {
			return r, fmt.Errorf("presence: %w", err)
		}
		r.RightMS = float64(time.Since(since)) / 1e6
		// Only a look that began after the limit proves that a key was wrong for longer.
		if len(wrong) == 0 || began.Sub(since) > presenceLimit {
			r.Wrong = len(wrong)
			r.Examples = wrong[:min(len(wrong), 10)]
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// compare reads all keys once and describes each that is wrong.
func (p *presenceReader) compare(ctx context.Context, t *truth) (wrong []string, err error) {
	sets := []string{"presence:online"}
	want := []map[string]bool{{}}
	for _, room := range t.rooms {
		sets = append(sets, "room:"+room+":users")
		want = append(want, map[string]bool{})
	}
	for i, user := range t.users {
		if !t.online[i] {
			continue
		}
		want[0][user] = true
		for _, room := range t.roomsOf[i] {
			want[1+room][user] = true
		}
	}
	wrong, err = p.compareSets(ctx, sets, want)
	if err != nil {
		return nil, err
	}
	w, err := p.compareSockets(ctx, t)
	return append(wrong, w...), err
}

// compareSets reads all sets, 200 at a time: thousands of rooms one by one would take seconds.
func (p *presenceReader) compareSets(ctx context.Context, sets []string, want []map[string]bool) (wrong []string, err error) {
	const chunk = 200
	for from := 0; from < len(sets); from += chunk {
		commands := make(rueidis.Commands, 0, chunk)
		for _, key := range sets[from:min(from+chunk, len(sets))] {
			commands = append(commands, p.client.B().Smembers().Key(key).Build())
		}
		for k, r := range p.client.DoMulti(ctx, commands...) {
			key := sets[from+k]
			have, err := r.AsStrSlice()
			if err != nil {
				return nil, fmt.Errorf("SMEMBERS %s: %w", key, err)
			}
			if d := p.difference(want[from+k], have); d != "" {
				wrong = append(wrong, key+" "+d)
			}
		}
	}
	return wrong, nil
}

// difference says what a set lacks and has too much, naming one of each; empty if nothing.
func (p *presenceReader) difference(want map[string]bool, have []string) string {
	lacks, extra := len(want), 0
	var absent, stranger string
	got := make(map[string]bool, len(have))
	for _, user := range have {
		got[user] = true
		switch {
		case want[user]:
			lacks--
		case strings.HasPrefix(user, p.prefix):
			extra++
			stranger = user
		}
	}
	var parts []string
	if lacks > 0 {
		for user := range want {
			if !got[user] {
				absent = user
				break
			}
		}
		parts = append(parts, fmt.Sprintf("lacks %d (%s)", lacks, absent))
	}
	if extra > 0 {
		parts = append(parts, fmt.Sprintf("has %d too many (%s)", extra, stranger))
	}
	return strings.Join(parts, ", ")
}

// compareSockets reads user:{id}:socket of every user, 500 at a time.
func (p *presenceReader) compareSockets(ctx context.Context, t *truth) (wrong []string, err error) {
	const chunk = 500
	for from := 0; from < len(t.users); from += chunk {
		to := min(from+chunk, len(t.users))
		keys := make([]string, 0, chunk)
		for _, user := range t.users[from:to] {
			keys = append(keys, "user:"+user+":socket")
		}
		values, err := p.client.Do(ctx, p.client.B().Mget().Key(keys...).Build()).ToArray()
		if err != nil {
			return nil, fmt.Errorf("MGET of %d user keys: %w", len(keys), err)
		}
		for k := range values {
			sid, err := values[k].ToString()
			if err != nil && !rueidis.IsRedisNil(err) {
				return nil, fmt.Errorf("GET %s: %w", keys[k], err)
			}
			want := ""
			if t.online[from+k] {
				want = t.sids[from+k]
			}
			if sid != want {
				wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", keys[k], sid, want))
			}
		}
	}
	return wrong, nil
}
