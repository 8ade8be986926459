package state

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// What was published before the end reaches Redis: Flush waits for it.
func TestFlushPublishes(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, _ bool) {
		n := b.start(t, "nodeAAAA", recovering)
		if err := n.Bus().Flush(t.Context()); err != nil {
			t.Fatalf("with nothing published: %v", err)
		}
		const count = 300 // more than one batch
		var outcomes []<-chan error
		for i := range count {
			outcomes = append(outcomes, n.journalled(t, "/", "", fmt.Sprint(i)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := n.Bus().Flush(ctx); err != nil {
			t.Fatal(err)
		}
		for i, c := range outcomes {
			select {
			case err := <-c:
				if err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			default:
				t.Fatalf("message %d has no outcome yet", i)
			}
		}
		if got := len(b.stream(t, "/")); got != count {
			t.Errorf("the journal has %d of %d messages", got, count)
		}
	})
}

// Without Redis it says what is left.
func TestFlushEnds(t *testing.T) {
	b := &Bus{settledAll: make(chan struct{}, 1)}
	b.unsettled.Store(3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := b.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) || err.Error()[:len("state: 3 messages")] != "state: 3 messages" {
		t.Errorf("flush: %v", err)
	}
}
