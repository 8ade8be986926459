//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/bench/report"
)

// countEvery is the time between two looks, and so how exact the times after the kill are.
const countEvery = 100 * time.Millisecond

// sampledUsers is how many of the lost users' keys each look asks for; the rest is compared when these
// are gone. Asking for all of them ten times a second would be a load of its own.
const sampledUsers = 1000

// lossWatcher counts what is in the presence keys of the lost connections, ten times a second, with
// commands that cost Redis little. Once the counts are right it compares every key with the truth.
type lossWatcher struct {
	m      *measurement
	after  *truth
	sets   []string // presence:online, and the rooms of the lost
	sample []string // keys of some of the lost users
	want   report.Look
	start  int64 // monotonic nanoseconds that looks count from

	part  *stack // what is looked at for its use of the machine: the survivors and Redis
	looks []report.Look
	use   snapshot // at the latest look

	compared int64    // when the latest comparison began, monotonic nanoseconds
	wrong    []string // what it found
}

// newLossWatcher takes from the two truths what the counts will be.
func newLossWatcher(m *measurement, before, after *truth) *lossWatcher {
	w := &lossWatcher{m: m, after: after, sets: []string{"presence:online"}, start: m.clock.Now()}
	w.part = &stack{redis: m.stack.redis, nodes: m.stack.nodes[m.cfg.loss.victims:]}
	rooms := m.stack.plan.Rooms // the first ones of the truth
	for _, room := range after.rooms[:rooms] {
		w.sets = append(w.sets, "room:"+room+":users")
	}
	var lost []string
	for i, user := range after.users {
		if after.online[i] {
			w.want.Online++
			for _, room := range after.roomsOf[i] {
				if room < rooms {
					w.want.Members++
				}
			}
		} else if before.online[i] {
			lost = append(lost, "user:"+user+":socket")
		}
	}
	for i := range min(sampledUsers, len(lost)) {
		w.sample = append(w.sample, lost[i*len(lost)/min(sampledUsers, len(lost))])
	}
	return w
}

// reset forgets the looks so far; times count from start.
func (w *lossWatcher) reset(start int64) { w.looks, w.start = nil, start }

// until looks until a time. With compare it ends as soon as every key is right, and says whether that
// was so; without, the counts are taken and nothing else.
func (w *lossWatcher) until(ctx context.Context, end int64, compare bool) (right bool, err error) {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	nextCompare := int64(0)
	for {
		look, err := w.look(ctx)
		if err != nil {
			return false, err
		}
		w.looks = append(w.looks, look)
		now := w.m.clock.Now()
		late := now >= end
		if compare && (late || look.Same(w.want) && now >= nextCompare) {
			w.compared = now
			if w.wrong, err = w.m.presence.compare(ctx, w.after); err != nil || len(w.wrong) == 0 {
				return err == nil, err
			}
			nextCompare = w.m.clock.Now() + int64(500*time.Millisecond) // a comparison is a load of its own
		}
		if late {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
	}
}

// look counts once. Its time is when it began: what it finds was true then or later.
func (w *lossWatcher) look(ctx context.Context) (report.Look, error) {
	c := w.m.presence.client
	look := report.Look{At: float64(w.m.clock.Now()-w.start) / 1e9}
	commands := make(rueidis.Commands, 0, len(w.sets)+1)
	for _, key := range w.sets {
		commands = append(commands, c.B().Scard().Key(key).Build())
	}
	if len(w.sample) > 0 {
		commands = append(commands, c.B().Exists().Key(w.sample...).Build())
	}
	for i, r := range c.DoMulti(ctx, commands...) {
		n, err := r.AsInt64()
		switch {
		case err != nil:
			return look, fmt.Errorf("counting presence keys: %w", err)
		case i == 0:
			look.Online = int(n)
		case i < len(w.sets):
			look.Members += int(n)
		default:
			look.Keys = int(n)
		}
	}
	w.use = w.part.snapshot(w.m.clock)
	return look, nil
}
