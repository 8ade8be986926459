package trunk

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneDial: many who want a node at once share a dial, and its failure.
func TestOneDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a, b := testNode(&f, nodeA, nil, nil), testNode(&f, nodeB, echo, nil)
		servePipe(t, &f, &n, a)
		everybody := func(want error) {
			t.Helper()
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					if _, err := a.Open(t.Context(), nodeB, newRecorder()); !errors.Is(err, want) {
						t.Errorf("Open: %v, want %v", err, want)
					}
				})
			}
			all.Wait()
		}
		f.set(nodeB, "of "+nodeB) // where nobody listens yet
		everybody(ErrUnreachable)
		time.Sleep(a.times.failure - time.Millisecond)
		everybody(ErrUnreachable)
		if n.dials != 1 {
			t.Errorf("%d dials within the time of a failure", n.dials)
		}
		servePipe(t, &f, &n, b)
		time.Sleep(2 * time.Millisecond)
		everybody(nil)
		if n.dials != 2 {
			t.Errorf("%d dials", n.dials)
		}
	})
}

// TestUnknownIsNotRemembered: a node is found as soon as it has announced itself.
func TestUnknownIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a, b := testNode(&f, nodeA, nil, nil), testNode(&f, nodeB, echo, nil)
		servePipe(t, &f, &n, a)
		if _, err := a.Open(t.Context(), nodeB, newRecorder()); !errors.Is(err, ErrUnknown) {
			t.Fatalf("Open: %v", err)
		}
		servePipe(t, &f, &n, b)
		open(t, a, nodeB, newRecorder())
		for _, name := range []string{"", "short", "longer than eight"} {
			if _, err := a.Open(t.Context(), name, newRecorder()); !errors.Is(err, ErrUnknown) {
				t.Errorf("Open(%q): %v", name, err)
			}
		}
	})
}

// TestFailuresAreForgotten: nodes that are gone for good leave nothing behind.
func TestFailuresAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a := testNode(&f, nodeA, nil, nil)
		servePipe(t, &f, &n, a)
		for _, node := range []string{"node-1..", "node-2..", "node-3.."} {
			f.set(node, "nowhere")
			if _, err := a.Open(t.Context(), node, newRecorder()); !errors.Is(err, ErrUnreachable) {
				t.Errorf("Open: %v", err)
			}
			time.Sleep(a.times.failure + time.Millisecond)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.peers) > 1 {
			t.Errorf("%d peers are kept", len(a.peers))
		}
	})
}

// TestImpatientOpen: who does not wait does not end the dial for others.
func TestImpatientOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet
		var n network
		a, b := testNode(&f, nodeA, nil, nil), testNode(&f, nodeB, echo, nil)
		proceed := make(chan struct{})
		a.cfg.Resolve = func(ctx context.Context, node string) (string, error) {
			<-proceed
			return f.resolve(ctx, node)
		}
		servePipe(t, &f, &n, a)
		servePipe(t, &f, &n, b)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := a.Open(ctx, nodeB, newRecorder())
			first <- err
		}()
		synctest.Wait()
		go func() {
			_, err := a.Open(t.Context(), nodeB, newRecorder())
			second <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.Canceled) {
			t.Errorf("the impatient one: %v", err)
		}
		close(proceed)
		if err := <-second; err != nil {
			t.Errorf("the patient one: %v", err)
		}
	})
}
