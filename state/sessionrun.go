package state

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// errSessionEpoch refuses a session of an epoch that is over.
var errSessionEpoch = errors.New("state: the journal has another epoch")

// run carries operations to Redis until ctx ends.
func (s *Sessions) run(ctx context.Context) {
	defer s.end()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var wait backoff
	for {
		c, changed := s.link.get()
		if c != nil {
			worked, err := s.round(ctx, c)
			s.failed(err)
			if err != nil {
				if lostConnection(err) {
					s.link.suspect()
				}
				s.expire(time.Now())
				if !wait.sleep(ctx) {
					return
				}
				continue
			}
			wait = backoff{}
			if worked {
				continue
			}
			timer.Reset(s.pause())
		} else {
			s.expire(time.Now())
			timer.Reset(expiryTick)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
		case <-s.wake:
		}
	}
}

// pause is how long run has nothing to do by itself while Redis is there.
func (s *Sessions) pause() time.Duration {
	if s.beat.struck {
		return time.Hour
	}
	return max(0, time.Until(s.beat.due))
}

// round does what is due; false when that was nothing.
func (s *Sessions) round(ctx context.Context, c *clients) (worked bool, err error) {
	if err := s.unsign(ctx, c); err != nil {
		return false, err
	}
	if err := s.prepare(ctx, c); err != nil {
		return false, err
	}
	s.fill()
	if len(s.flight) > 0 {
		worked = true
		if err := s.fly(ctx, c); err != nil {
			return true, err
		}
	}
	if err := s.endBarred(ctx, c); err != nil {
		return worked, err
	}
	if !s.beatDue(time.Now()) {
		return worked, nil
	}
	return true, s.sendBeat(ctx, c)
}

// fill has operations that wait join the flight.
func (s *Sessions) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.queue), sessionFlight-len(s.flight))
	for _, o := range s.queue[:n] {
		if s.data[o.ref.PID] == o {
			delete(s.data, o.ref.PID)
		}
		s.flight = append(s.flight, o)
	}
	clear(s.queue[:n])
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	s.sent = len(s.flight)
}

// fly sends the flight as one pipeline and reports what was answered. What was
// not, and all behind it, is left for the next time.
func (s *Sessions) fly(ctx context.Context, c *clients) error {
	epoch, err := s.journal.bind(ctx, c)
	if err != nil {
		return err
	}
	if epoch != s.epoch {
		s.epoch = epoch
		s.beat.due = time.Time{} // it began without signs
	}
	stint := s.presentStint()
	commands := make(rueidis.Commands, 0, len(s.flight))
	at := make([]int, len(s.flight)) // which command is an operation's; -1: it needs none
	for i, o := range s.flight {
		at[i] = -1
		if s.assign(o, stint) {
			at[i] = len(commands)
			commands = append(commands, s.command(c, o, epoch))
			o.sent = true
		}
	}
	var results []rueidis.RedisResult
	if len(commands) > 0 {
		started := time.Now()
		call, cancel := context.WithTimeout(ctx, callTimeout)
		results = c.cmd.DoMulti(call, commands...)
		cancel()
		took := time.Since(started).Seconds()
		for i, o := range s.flight {
			if at[i] >= 0 {
				s.metrics.Journal[o.kind.op()].Observe(took)
			}
		}
	}
	for i, o := range s.flight {
		res := sessionResult{gone: o.kind != opFlush && o.kind != opFence}
		if at[i] >= 0 {
			res = o.read(results[at[i]], epoch)
			if res.err != nil && (errors.Is(res.err, errSessionEpoch) || passing(res.err)) {
				s.landed(i)
				return s.again(ctx, c, epoch, res.err)
			}
		}
		s.settle(ctx, c, o, res)
	}
	s.landed(len(s.flight))
	if len(commands) > 0 {
		s.link.sign()
	}
	return nil
}

// landed takes the first n operations out of the flight.
func (s *Sessions) landed(n int) {
	s.flight = slices.Delete(s.flight, 0, n)
	s.mu.Lock()
	s.sent = len(s.flight)
	s.mu.Unlock()
	s.metrics.Sessions.Set(float64(len(s.open)))
}

// again prepares for sending the rest of a flight again, which err ended.
func (s *Sessions) again(ctx context.Context, c *clients, epoch string, err error) error {
	switch {
	case errors.Is(err, errSessionEpoch):
		_, err = s.journal.rebind(ctx, c, epoch)
		return err
	case strings.HasPrefix(err.Error(), "NOSCRIPT"):
		return s.scripts.load(ctx, c.cmd)
	}
	return err
}

// settle takes the outcome of an operation.
func (s *Sessions) settle(ctx context.Context, c *clients, o *sessionOp, res sessionResult) {
	held, ok := s.open[o.ref.PID]
	switch {
	case o.kind == opFlush:
		s.strike(ctx, c)
	case o.kind == opClaim && res.claimed != nil:
		s.open[o.ref.PID] = openSession{generation: res.claimed.Generation, stint: o.stint, ns: o.claim.Namespace}
		s.tails.vouch(o.claim.Namespace, res.claimed.After, res.proved)
	case o.kind == opMove && (res.moved != nil || errors.Is(res.refused, ErrUnknown)):
		s.open[o.ref.PID] = openSession{generation: o.ref.Generation, stint: o.stint, ns: o.move.Namespace}
	case o.kind == opClaim, o.kind == opMove:
	case (res.gone || o.kind == opCreate && res.err != nil) && ok && held.generation == o.ref.Generation:
		delete(s.open, o.ref.PID)
	}
	if res.err != nil {
		s.failed(res.err)
	}
	if o.done != nil {
		o.done(res)
	}
}

// expire fails the operations that wait for Redis no longer.
func (s *Sessions) expire(now time.Time) {
	late := func(o *sessionOp) bool { return o.impatient && now.Sub(o.called) >= s.patience }
	var failed []*sessionOp
	s.flight = slices.DeleteFunc(s.flight, func(o *sessionOp) bool {
		if !late(o) {
			return false
		}
		failed = append(failed, o)
		return true
	})
	s.mu.Lock()
	s.queue = slices.DeleteFunc(s.queue, func(o *sessionOp) bool {
		if !late(o) {
			return false
		}
		failed = append(failed, o)
		return true
	})
	s.sent = len(s.flight)
	s.mu.Unlock()
	for _, o := range failed {
		switch {
		case o.kind == opCreate:
			delete(s.open, o.ref.PID)
			if o.sent { // it may be stored
				s.add(&sessionOp{kind: opDelete, ref: o.ref, stint: o.stint})
			}
		case o.kind == opMove && o.sent: // it may be here: its client shall get it back
			s.add(&sessionOp{kind: opClose, ref: o.ref, stint: o.stint, called: o.called})
		}
		if o.done != nil {
			o.done(sessionResult{err: ErrUnavailable})
		}
	}
	s.metrics.Sessions.Set(float64(len(s.open)))
}

// failed logs that Redis refuses, and that it does so no more; a lost
// connection is neither: the link tells of it.
func (s *Sessions) failed(err error) {
	if lostConnection(err) || errors.Is(err, errSessionEpoch) {
		return
	}
	switch was := s.refused; {
	case err != nil && !was:
		s.log.Warn("sessions: redis refuses", "error", err)
	case err == nil && was:
		s.log.Info("sessions: it works again")
	}
	s.refused = err != nil
}

// close is end, where run does not run.
func (s *Sessions) close() {
	s.end()
	s.tails.end()
}

// end fails what is left, and everything from now on.
func (s *Sessions) end() {
	s.mu.Lock()
	s.ended = true
	rest := append(s.flight, s.queue...)
	s.flight, s.queue, s.sent = nil, nil, 0
	waiting := s.voided
	s.voided = nil
	s.mu.Unlock()
	for _, o := range rest {
		if o.done != nil {
			o.done(sessionResult{err: ErrClosed})
		}
	}
	for _, v := range waiting {
		v.done <- ErrClosed
	}
}
