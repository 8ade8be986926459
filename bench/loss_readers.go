//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stellara/edge/bench/guest"
	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/bench/report"
)

// readersPerNode clients of each survivor ask ten times a second who is in a room, one that empties
// when the victims die.
const (
	readersPerNode = 1
	askEvery       = 100 * time.Millisecond
)

// readers ask for presence through the survivors, as their clients would.
type readers struct {
	all    []*reader
	cancel context.CancelFunc
	wg     sync.WaitGroup
	now    func() int64 // monotonic nanoseconds
}

// reader is one of them; its answers belong to its goroutine until stop has returned.
type reader struct {
	user    string
	room    string
	guest   *guest.Guest
	answers []answer
}

// answer is one question and how long it took.
type answer struct {
	asked int64 // monotonic nanoseconds
	took  time.Duration
	err   error
}

// newReaders connects one reader after the other to the survivors; the k-th is in the k-th room of the
// victims' connections.
func newReaders(ctx context.Context, m *measurement) (*readers, error) {
	rs := &readers{now: m.clock.Now}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	targets := m.stack.survivorsPlan.Targets
	for k := range readersPerNode * len(targets) {
		r := &reader{user: fmt.Sprintf("%sreader%d", survivorPrefix, k), room: m.stack.plan.RoomName(k % m.stack.plan.Rooms)}
		var err error
		if r.guest, err = guest.Dial(ctx, targets[k%len(targets)], r.user); err == nil {
			rs.all = append(rs.all, r)
			err = r.guest.Join(ctx, r.room)
		}
		if err != nil {
			rs.close()
			return nil, err
		}
	}
	return rs, nil
}

// start lets them ask until stop.
func (rs *readers) start(ctx context.Context) {
	ctx, rs.cancel = context.WithCancel(ctx)
	for _, r := range rs.all {
		rs.wg.Go(func() { r.ask(ctx, rs.now) })
	}
}

// ask asks at fixed times; an answer that takes longer than the time between two delays the next one.
func (r *reader) ask(ctx context.Context, now func() int64) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		call, cancel := context.WithTimeout(ctx, 30*time.Second)
		a := answer{asked: now()}
		_, a.err = r.guest.Presence(call, r.room)
		a.took = time.Duration(now() - a.asked)
		cancel()
		if ctx.Err() != nil {
			return // stopped while it asked
		}
		r.answers = append(r.answers, a)
		select {
		case <-r.guest.Gone():
			return // the failure above says why
		default:
		}
	}
}

// stop ends the questions.
func (rs *readers) stop() {
	rs.cancel()
	rs.wg.Wait()
}

// close ends the connections; a second call does nothing.
func (rs *readers) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, r := range rs.all {
		r.guest.Close(ctx)
	}
	rs.all = nil
}

// between returns how long the answers took to questions asked in a stretch of time.
func (rs *readers) between(from, to int64) report.Latency {
	var sum hist.Histogram
	for _, r := range rs.all {
		for _, a := range r.answers {
			if a.err == nil && a.asked >= from && a.asked < to {
				sum.Record(a.took)
			}
		}
	}
	return report.NewLatency(&sum)
}

// failed returns why questions failed, with their numbers.
func (rs *readers) failed() map[string]int {
	failed := map[string]int{}
	for _, r := range rs.all {
		for _, a := range r.answers {
			if a.err != nil {
				failed[a.err.Error()]++
			}
		}
	}
	return failed
}
