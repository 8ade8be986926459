package state

import (
	"context"
	"fmt"
)

// Flush waits until every message that was given to Publish before has had its outcome,
// while Run runs. When ctx ends first, the error says how many have not. To be called
// once. Those who publish still, as backends may, do not prolong it.
func (b *Bus) Flush(ctx context.Context) error {
	b.queueMu.Lock()
	b.flushing = true
	b.queueMu.Unlock()
	for {
		n := b.unsettled.Load()
		if n == 0 {
			return nil
		}
		select {
		case <-b.settledAll:
		case <-ctx.Done():
			return fmt.Errorf("state: %d messages are not published: %w", n, ctx.Err())
		}
	}
}
