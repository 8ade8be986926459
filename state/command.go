package state

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
)

// call runs one script outside the ledger's batches and tells a Redis that
// forgot the scripts again, once. It may be called from any goroutine.
func (p *Presence) call(ctx context.Context, c *clients, op metrics.PresenceOp, keys, args []string) rueidis.RedisResult {
	return p.calls(ctx, c, op, [][2][]string{{keys, args}})[0]
}

// calls runs one script several times, with keys and arguments of each, as one pipeline.
func (p *Presence) calls(ctx context.Context, c *clients, op metrics.PresenceOp, each [][2][]string) []rueidis.RedisResult {
	for try := 0; ; try++ {
		commands := make(rueidis.Commands, len(each))
		for i, e := range each {
			commands[i] = p.scripts.call(c.cmd, op, e[0], e[1])
		}
		started := time.Now()
		call, cancel := context.WithTimeout(ctx, callTimeout)
		results := c.cmd.DoMulti(call, commands...)
		cancel()
		took := time.Since(started).Seconds()
		forgotten := false
		for _, r := range results {
			p.metrics.Presence[op].Observe(took)
			if err := r.Error(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
				forgotten = true
			}
		}
		if !forgotten || try > 0 || p.scripts.load(ctx, c.cmd) != nil {
			return results
		}
	}
}

// command builds the call of an operation.
func (p *Presence) command(cl *clients, o *operation, epoch string, until int64) rueidis.Completed {
	c := cl.cmd
	incarnation := p.ledger.lives[o.life] // lives are only ever added, by the goroutine that sends
	switch o.op {
	case metrics.PresenceIndex:
		rooms := make([]string, len(o.rooms))
		for i, set := range o.rooms {
			rooms[i] = set.room
		}
		if o.drop {
			return c.B().Srem().Key(indexKey(incarnation)).Member(rooms...).Build()
		}
		ends := []string{strconv.FormatInt(until, 10), strconv.Itoa(int(indexTTL.Seconds()))}
		return p.scripts.call(c, o.op, []string{indexKey(incarnation)}, append(ends, rooms...))
	case metrics.PresenceAttach, metrics.PresenceDetach:
		return p.socketsCommand(c, o, incarnation, until)
	}
	users := make([]string, len(o.members))
	for i, m := range o.members {
		users[i] = m.user
	}
	keys, args := setCall(o.set.room, incarnation, epochs{epoch, cl.run}, o.condition(until), users)
	return p.scripts.call(c, o.op, keys, args)
}

// epochs is how a script that changes a room tells in which epoch it does.
type epochs struct {
	fresh string // begins if there is none, or if the present one was begun in another run of Redis
	run   string
}

// condition is what a HOLD or ASSERT depends on, the end of the lease; and of a
// RELEASE, whether it is told with grace.
func (o *operation) condition(until int64) string {
	switch {
	case o.op != metrics.PresenceRelease:
		return strconv.FormatInt(until, 10)
	case o.grace:
		return "grace"
	}
	return ""
}

// setCall is a HOLD, ASSERT or RELEASE of users in a room, "" being presence:online.
func setCall(room, incarnation string, e epochs, condition string, users []string) (keys, args []string) {
	key, channel := onlineKey, ""
	if room != "" {
		key, channel = roomKey(room), presenceChannel(room)
	}
	aside := "{" + key + "}:"
	keys = []string{key, aside + "i:" + incarnation, aside + "n", aside + "m"}
	args = make([]string, 0, 5+len(users))
	return keys, append(append(args, incarnation, condition, channel, e.fresh, e.run), users...)
}

// socketKeys are the keys of a user's sockets.
func socketKeys(keys []string, user string) []string {
	key := socketKey(user)
	return append(keys, key, "{"+key+"}:z", "{"+key+"}:o")
}

// owner is the record of who has a socket.
func owner(incarnation string, generation uint64) string {
	return incarnation + "." + strconv.FormatUint(generation, 10)
}

func (p *Presence) socketsCommand(c rueidis.CommandClient, o *operation, incarnation string, until int64) rueidis.Completed {
	keys, args := make([]string, 0, 3*len(o.sockets)), make([]string, 0, 2+3*len(o.sockets))
	if o.op == metrics.PresenceAttach {
		args = append(args, incarnation, strconv.FormatInt(until, 10))
	}
	for _, s := range o.calls {
		keys = socketKeys(keys, s.user)
		if o.op == metrics.PresenceDetach {
			args = append(args, s.id, owner(p.ledger.lives[s.life], s.generation))
			continue
		}
		mode := "attach"
		if s.before {
			mode = "assert"
		}
		args = append(args, s.id, strconv.FormatUint(s.generation, 10), mode)
	}
	return p.scripts.call(c, o.op, keys, args)
}
