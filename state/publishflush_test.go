package state

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stellara/edge/socketio"
)

// What was published before the end reaches Redis: Flush waits for it.
func TestFlushPublishes(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, _ bool) {
		n := b.start(t, "nodeAAAA", recovering)
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

// Who goes on publishing does not keep the node from its end.
func TestFlushEndsAmongPublishers(t *testing.T) {
	modes(t, func(t *testing.T, b *backend, _ bool) {
		n := b.start(t, "nodeAAAA", recovering)
		var goOn func(error) // there is always one more than has its outcome
		ended := make(chan struct{})
		goOn = func(err error) {
			if err != nil || n.Bus().Publish(socketio.Publication{Namespace: "/", Payload: entry("/", "", "more"), Journal: true, Done: goOn}) != nil {
				close(ended)
			}
		}
		go goOn(nil)
		first := n.journalled(t, "/", "", "before")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := n.Bus().Flush(ctx); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-first:
			if err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatal("what was published before has no outcome")
		}
		n.stop(t)
		<-ended
	})
}

// Without Redis it says what is left.
func TestFlushEnds(t *testing.T) {
	b := &Bus{settledAll: make(chan struct{}, 1)}
	if err := b.Flush(t.Context()); err != nil {
		t.Errorf("with nothing published: %v", err)
	}
	b.unsettled.Store(3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := b.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) || err.Error()[:len("state: 3 messages")] != "state: 3 messages" {
		t.Errorf("flush: %v", err)
	}
}
