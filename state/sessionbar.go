package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stellara/edge/metrics"
)

// BarUser has the sessions that the user has now refused to whoever claims them,
// on every node: those of sockets that are away, and those that their nodes are
// told to end. Sockets without a user are users of their own, named by their ids.
// It returns when Redis has it, or ErrUnavailable, ErrClosed (without recovery
// there are no sessions), or the error of ctx: then it may be carried out yet.
func (s *Sessions) BarUser(ctx context.Context, user string) error {
	return s.bar(ctx, s.barPrefix()+"user#"+user)
}

// BarSocket is BarUser for the session of one socket.
func (s *Sessions) BarSocket(ctx context.Context, sid string) error {
	return s.bar(ctx, s.barPrefix()+"socket#"+sid)
}

// barPrefix begins the keys of BAR; CLAIM has user#<user> or socket#<sid> follow.
func (s *Sessions) barPrefix() string { return s.key + "-barred#" }

func (s *Sessions) bar(ctx context.Context, key string) error {
	done := make(chan error, 1)
	s.add(&sessionOp{kind: opBar, text: key, impatient: true, done: func(r sessionResult) { done <- r.err }})
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrClosed) {
			return fmt.Errorf("state: bar sessions: %w", err)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// barredKeys is how many sessions BARRED looks at in one call: a script holds Redis up.
const barredKeys = 200

// endBarred disconnects the sockets of open sessions that were barred, if the node may
// not have heard that it is to: Pub/Sub keeps no request for whom it does not reach, and
// who made it counts only the nodes that hear it. Nothing is in flight: what is claimed
// from now on meets the bar itself.
func (s *Sessions) endBarred(ctx context.Context, c *clients) error {
	s.mu.Lock()
	due := s.unheard
	s.unheard = false
	s.mu.Unlock()
	if !due {
		return nil
	}
	keys := make([]string, 0, len(s.open))
	for pid := range s.open {
		keys = append(keys, s.sessionKey(pid))
	}
	for len(keys) > 0 {
		n := min(len(keys), barredKeys)
		if err := s.endBarredOf(ctx, c, keys[:n]); err != nil {
			s.mu.Lock()
			s.unheard = true
			s.mu.Unlock()
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// endBarredOf is endBarred for some sessions.
func (s *Sessions) endBarredOf(ctx context.Context, c *clients, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	barred, err := c.cmd.Do(ctx, s.scripts.call(c.cmd, sessionBarred, keys, []string{s.barPrefix()})).AsStrSlice()
	s.metrics.Journal[metrics.JournalSessionBar].Observe(time.Since(began).Seconds())
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT"):
		return errors.Join(err, s.scripts.load(ctx, c.cmd))
	case err != nil:
		return fmt.Errorf("barred sessions: %w", err)
	case len(barred)%2 != 0:
		return answered("BARRED", len(barred), 0, nil)
	}
	for i := 0; i < len(barred); i += 2 {
		s.log.Debug("a socket was disconnected by a server while that could not be heard", "socket", barred[i+1])
		s.dismiss(barred[i], barred[i+1])
	}
	return nil
}
