package state

import (
	"errors"
	"fmt"
	"time"
)

// Ready returns nil when Redis answered within the last 3 s and the node hears
// every namespace it serves and misses nothing of its journal; else it says what is missing. It turns by itself,
// both ways: within 4 s of losing Redis, also of a Redis that only hangs.
func (s *State) Ready() error {
	if err := s.link.down(); err != nil {
		return fmt.Errorf("state: redis is not reachable: %w", err)
	}
	if quiet := s.link.quiet(); quiet > staleAfter {
		return fmt.Errorf("state: redis has not answered for %v", quiet.Round(time.Millisecond))
	}
	s.bus.subsMu.Lock()
	open, missing := len(s.bus.subs.namespaces), s.bus.subs.baseDown
	s.bus.subsMu.Unlock()
	switch {
	case open == 0:
		return errors.New("state: no namespace is open")
	case missing > 0:
		return fmt.Errorf("state: %d subscriptions of the node are not live yet", missing)
	case s.bus.gaps.Load() > 0:
		return errors.New("state: messages that were perhaps missed are read from the journal")
	}
	return nil
}
