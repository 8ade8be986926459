package state

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/socketio"
)

// clock is what Redis's clock was when its answer was read here.
type clock struct {
	redis int64 // milliseconds
	read  time.Time
}

// at is no later than what Redis's clock was at t.
func (c clock) at(t time.Time) int64 { return c.redis + t.Sub(c.read).Milliseconds() - 1 }

// sessionBeat is the state of the node's sign: a time at which the sessions
// that are open had a conn. A beat writes the time that the beat before it was
// answered, after all that was called until then: whatever was closed before
// that time is closed in Redis, too.
type sessionBeat struct {
	due    time.Time
	stint  uint64    // that has a sign
	behind uint64    // with wait: the operations that go first
	wait   bool      // due, but not before those
	time   int64     // Redis's, answered to the beat before; 0 if there was none
	sent   time.Time // when that beat was
	struck bool      // the node has no sign, and no session, any more
}

// sessionRefresh is the pass over open sessions that renews their time to live.
type sessionRefresh struct {
	due  time.Time
	todo []socketio.SessionRef
}

// voided is a stint that is over.
type voided struct {
	stint uint64
	done  chan error // capacity 1
}

// prepare sees that a Redis that is connected anew knows the scripts, and the
// node's sign before there is a session under it. Where there are some, not
// everything called before now is written, and the sign comes with the next beat.
func (s *Sessions) prepare(ctx context.Context, c *clients) error {
	if c.gen == s.prepared {
		return nil
	}
	if err := s.scripts.load(ctx, c.cmd); err != nil {
		return err
	}
	if _, err := s.journal.bind(ctx, c); err != nil {
		return err
	}
	s.beat.time = 0 // the clock may be another one
	if err := s.sendBeat(ctx, c); err != nil {
		return err
	}
	if s.beat.stint != s.presentStint() {
		if err := s.sendBeat(ctx, c); err != nil {
			return err
		}
	}
	s.prepared = c.gen
	return nil
}

// beatDue reports whether a beat is due, and everything called before it was, written.
func (s *Sessions) beatDue(now time.Time) bool {
	b := &s.beat
	if b.struck || now.Before(b.due) && !b.wait {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !b.wait {
		b.wait, b.behind = true, s.count
	}
	if len(s.flight) > 0 && s.flight[0].number <= b.behind {
		return false
	}
	return len(s.flight) > 0 || len(s.queue) == 0 || s.queue[0].number > b.behind
}

// sendBeat writes the node's sign and asks for the next.
func (s *Sessions) sendBeat(ctx context.Context, c *clients) error {
	b := &s.beat
	var commands rueidis.Commands
	stint := b.stint
	if b.time > 0 {
		s.mu.Lock()
		sign := strconv.FormatInt(b.time, 10)
		stint = s.stint
		if s.doubtful(b.sent) {
			sign += " " + strconv.FormatInt(min(b.time, s.clock.at(s.missing)), 10)
		}
		s.mu.Unlock()
		commands = append(commands, c.cmd.B().Hset().Key(s.journal.nodesKey()).FieldValue().FieldValue("@"+s.owner(stint), sign).Build())
	}
	commands = append(commands, c.cmd.B().Time().Build())
	sent := time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	results := c.cmd.DoMulti(call, commands...)
	for _, r := range results {
		if err := r.Error(); err != nil {
			return fmt.Errorf("sign: %w", err)
		}
	}
	now, err := results[len(results)-1].AsIntSlice()
	if err != nil || len(now) != 2 {
		return answered("TIME", len(now), 2, err)
	}
	b.stint = stint
	b.time, b.sent = now[0]*1000+now[1]/1000, sent
	b.wait, b.due = false, sent.Add(s.beatEvery)
	s.mu.Lock()
	if before := s.clock; before.redis > 0 && b.time-before.redis > s.stallAfter.Milliseconds() {
		// This process or Redis stood still: what was delivered meanwhile came late.
		if open := !s.missing.IsZero() && s.proven.IsZero(); !open {
			s.doubt(before.read)
			s.proven = time.Now().Add(s.lag)
		}
	}
	s.clock = clock{redis: b.time, read: time.Now()}
	s.mu.Unlock()
	s.keep(sent)
	return nil
}

// keep has some of the open sessions live longer.
func (s *Sessions) keep(now time.Time) {
	r := &s.refresh
	if r.due.IsZero() {
		r.due = now.Add(s.refreshIn)
	}
	if len(r.todo) == 0 && !now.Before(r.due) {
		r.due = now.Add(s.refreshIn)
		for pid, held := range s.open {
			r.todo = append(r.todo, socketio.SessionRef{PID: pid, Generation: held.generation})
		}
	}
	n := min(len(r.todo), refreshPace)
	for _, ref := range r.todo[:n] {
		s.add(&sessionOp{kind: opKeep, ref: ref})
	}
	if r.todo = r.todo[n:]; len(r.todo) == 0 {
		r.todo = nil
	}
}

// presentStint is the stint under which sessions are opened.
func (s *Sessions) presentStint() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stint
}

// aliveAt is no later than Redis's time when a conn ended, as far as that proves
// that what is older was sent to it.
func (s *Sessions) aliveAt(ended time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubtful(ended) {
		ended = s.missing
	}
	if known := s.clock.read.Add(s.stallAfter); ended.After(known) {
		ended = known
	}
	return s.clock.at(ended)
}

// doubtful reports whether a conn that was open at t may have missed what was
// published after s.missing, or may not have received it yet. Under mu.
func (s *Sessions) doubtful(t time.Time) bool {
	return t.After(s.missing) && !s.missing.IsZero() && (s.proven.IsZero() || t.Before(s.proven))
}

// missingSince says that messages published from then on may not have been
// delivered to the conns of this node: until repaired, or void, they prove
// nothing. It may be called from any goroutine.
func (s *Sessions) missingSince(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubt(t)
	s.proven = time.Time{}
}

// doubt has doubtful begin at t, or earlier if what was before t is not proven. Under mu.
func (s *Sessions) doubt(t time.Time) {
	if s.missing.IsZero() || !s.proven.IsZero() && t.After(s.proven) {
		s.missing = t
	}
}

// repaired says that they have been delivered. Requests of other nodes have not:
// disconnects among them are read from Redis. It may be called from any goroutine.
func (s *Sessions) repaired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unheard = true
	notify(s.wake)
	if s.proven.IsZero() {
		s.proven = time.Now().Add(s.lag)
	}
}

// void ends the present stint, before anything is delivered behind a hole that
// was not repaired: no session that is open can be recovered any more. It waits
// until Redis knows that. It may be called from any goroutine.
func (s *Sessions) void(ctx context.Context, _ *clients) error {
	v := voided{done: make(chan error, 1)}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return ErrClosed
	}
	v.stint = s.stint
	s.stint++
	s.missing, s.proven = time.Time{}, time.Time{}
	s.voided = append(s.voided, v)
	s.mu.Unlock()
	notify(s.wake)
	select {
	case err := <-v.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("state: sessions are not void: %w", ctx.Err())
	}
}

// unsign deletes the signs of stints that are over.
func (s *Sessions) unsign(ctx context.Context, c *clients) error {
	s.mu.Lock()
	todo := s.voided
	s.mu.Unlock()
	if len(todo) == 0 {
		return nil
	}
	fields := make([]string, len(todo))
	for i, v := range todo {
		fields[i] = "@" + s.owner(v.stint)
	}
	if err := s.deleteSigns(ctx, c, fields); err != nil {
		return err
	}
	s.mu.Lock()
	s.voided = s.voided[len(todo):]
	s.mu.Unlock()
	for _, v := range todo {
		v.done <- nil
	}
	if c.gen != s.prepared || s.beat.struck {
		return nil
	}
	return s.sendBeat(ctx, c) // the new stint's sign: it has no session yet
}

func (s *Sessions) deleteSigns(ctx context.Context, c *clients, fields []string) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.cmd.Do(call, c.cmd.B().Hdel().Key(s.journal.nodesKey()).Field(fields...).Build()).Error(); err != nil {
		return fmt.Errorf("void: %w", err)
	}
	return nil
}

// strike takes the sign away where no session is open: nothing depends on it.
func (s *Sessions) strike(ctx context.Context, c *clients) {
	if len(s.open) > 0 || s.beat.struck {
		return
	}
	if err := s.deleteSigns(ctx, c, []string{"@" + s.owner(s.presentStint())}); err != nil {
		s.log.Debug("sessions: the node's sign is not taken away; it will be old soon", "error", err)
		return
	}
	s.beat.struck = true
}
