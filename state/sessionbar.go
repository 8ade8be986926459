package state

import (
	"context"
	"errors"
	"fmt"
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
