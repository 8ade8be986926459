package test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// races are scenarios of clients that come back while something else is under way.
func races() map[string]scenario {
	return map[string]scenario{
		"half-open":     {run: halfOpen},
		"twice at once": {run: twiceAtOnce},
		"back at once":  {run: backAtOnce},
		"abandoned":     {run: abandoned},
		"a crowd":       {run: crowd},
	}
}

// halfOpen: a client comes back while its old conn is still open here.
func halfOpen(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	old := g.line
	await(t, "a connection", n.begun)
	g.back(t, n.dial(t))
	if reason := n.gone(t); reason != engine.ReasonForcedServerClose {
		t.Errorf("the old conn ended with %q", reason)
	}
	if sid := await(t, "a connection", n.begun); sid != g.SID {
		t.Errorf("socket %s began", sid)
	}
	if packet, _, err := old.next(); !errors.Is(err, errClosed) {
		t.Errorf("the old conn got %q, %v", packet, err)
	}
	publish(t, n.Of("/").To("r1"), 1)
	g.expect(t, "1")
	if got := n.replaced(); got != 1 {
		t.Errorf("replaced: %v", got)
	}
	g.away(t, n) // the end of the old conn was not the end of the session
	g.back(t, n.dial(t))
}

// twiceAtOnce: two conns ask for a session at the same time. One has the socket
// in the end; the other is closed as replaced, or is told that it was not
// recovered. Nobody has a hole.
func twiceAtOnce(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	room := n.Of("/").To("r1")
	for round := range 8 {
		g.line.cut()
		until(t, "nobody to be here", func() error { return sameCount(n, 0) })
		from := 10 * round
		for i := range 4 {
			publish(t, room, from+i)
		}
		asked, replaced := n.asked(), n.replaced()
		rivals := []*guest{{}, {}}
		for _, r := range rivals {
			*r = *g
			l := n.dial(t)
			if err := r.wish(l, nil); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 {
			publish(t, room, from+4+i)
		}
		until(t, "both wishes to be decided", func() error {
			if now := n.asked(); now < asked+2 {
				return fmt.Errorf("%d are", now-asked)
			}
			return nil
		})
		publish(t, n.everybody(), from+8)
		owner, dropped := settle(t, g, rivals, numbers(from, from+9))
		if owner == nil {
			t.Fatalf("round %d: nobody has the socket", round)
		}
		if got := n.replaced() - replaced; got != dropped {
			t.Fatalf("round %d: %d conns dropped, %d counted as replaced", round, dropped, got)
		}
		*g = *owner
	}
}

// settle reads what rivals for a session get, until the one that has it got all
// of it, and returns that one and how many conns the server closed.
func settle(t *testing.T, before *guest, rivals []*guest, all []string) (owner *guest, dropped int) {
	t.Helper()
	for _, r := range rivals {
		err := r.readUntil(func() bool { return r.answered && (!r.same || len(r.came) >= len(all)) })
		got := r.came
		r.came = nil
		switch {
		case errors.Is(err, errClosed):
			dropped++
			if len(got) > len(all) || !slices.Equal(got, all[:len(got)]) {
				t.Fatalf("the conn that was dropped got %v of %v", got, all)
			}
		case err != nil:
			t.Fatal(err)
		case !r.same: // a new socket
			if r.SID == before.SID {
				t.Fatalf("not recovered, but the same: %+v", r)
			}
			r.line.cut()
		case owner != nil:
			t.Fatal("both have the socket")
		default:
			owner = r
			if !slices.Equal(got, all) {
				t.Fatalf("the conn that has the socket got %v, want %v", got, all)
			}
		}
	}
	return owner, dropped
}

// sameCount is an error unless so many sockets are in the main namespace.
func sameCount(n *recoveryNode, want int) error {
	if got := n.Of("/").Count(); got != want {
		return fmt.Errorf("%d sockets", got)
	}
	return nil
}

// backAtOnce: the server may not even know yet that the conn is gone.
func backAtOnce(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	for i := range 20 {
		g.line.cut()
		publish(t, n.Of("/").To("r1"), i)
		g.back(t, n.dial(t), numbers(i, i+1)...)
	}
	publish(t, n.Of("/").To("r1"), 20)
	g.expect(t, "20")
}

// abandoned: a conn ends right after it asked for the session, before or after
// its answer.
func abandoned(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	g.away(t, n)
	for i := range 20 {
		publish(t, n.Of("/").To("r1"), i)
		asked := n.asked()
		l := n.dial(t)
		if err := g.wish(l, nil); err != nil {
			t.Fatal(err)
		}
		l.cut()
		until(t, "the wish to be decided", func() error {
			if n.asked() == asked {
				return errors.New("it is not")
			}
			return nil
		})
	}
	g.back(t, n.dial(t), numbers(0, 20)...)
	if got := n.asked() - n.recoveries(metrics.RecoveryComplete) - n.recoveries(metrics.RecoveryAbandoned); got != 0 {
		t.Errorf("%d wishes were neither granted nor abandoned", got)
	}
	publish(t, n.Of("/").To("r1"), 20)
	g.expect(t, "20")
}

// crowd: many clients come back while a publisher goes on, which takes a step
// whenever one of them did.
func crowd(t *testing.T, n *recoveryNode) {
	const clients = 200
	room := n.Of("/").To("r1")
	guests := make([]*guest, clients)
	for i := range guests {
		guests[i] = newGuest("/")
		guests[i].connect(t, n.dial(t), nil)
		guests[i].call(t, "join", "r1")
	}
	const first = 10 // published before any is away
	for i := range first {
		publish(t, room, i)
	}
	steps, results := make(chan struct{}, 2*clients), make(chan error, clients+1)
	const all = first + 2*clients
	go func() {
		for i := first; i < all; i++ {
			<-steps
			if err := emit(room, i); err != nil {
				results <- err
				return
			}
		}
		results <- nil
	}()
	var crowd sync.WaitGroup
	for i, g := range guests {
		crowd.Go(func() {
			err := g.comeBack(t, n, i%first, steps, func() bool { return len(g.came) >= all })
			if err != nil {
				err = fmt.Errorf("client %d: %w", i, err)
			} else if !slices.Equal(g.came, numbers(0, all)) {
				err = fmt.Errorf("client %d got %v", i, g.came)
			}
			results <- err
		})
	}
	for range clients + 1 {
		if err := <-results; err != nil { // every read and every emit has a deadline; all of them together take long
			t.Error(err)
		}
	}
	crowd.Wait()
	if got := n.recoveries(metrics.RecoveryComplete); got < clients {
		t.Errorf("%d recoveries", got)
	}
}

// comeBack reads some events, loses the connection, comes back, and reads on
// until done. To have lost the connection and to be there again are steps.
func (g *guest) comeBack(t *testing.T, n *recoveryNode, read int, steps chan<- struct{}, done func() bool) error {
	err := g.readUntil(func() bool { return len(g.came) >= read })
	g.line.cut()
	steps <- struct{}{}
	var there sync.Once
	arrived := func() { there.Do(func() { steps <- struct{}{} }) }
	defer arrived() // whatever came of it, the publisher ends
	if err != nil {
		return err
	}
	return g.resume(t, n, arrived, done)
}

// resume connects once and reads on until done.
func (g *guest) resume(t *testing.T, n *recoveryNode, arrived func(), done func() bool) error {
	sid := g.SID
	l, err := n.tryDial(t)
	if err != nil {
		return err
	}
	if err := g.tryConnect(l, nil); err != nil {
		return err
	}
	if !g.same || g.SID != sid {
		return errors.New("not recovered")
	}
	arrived()
	return g.readUntil(done)
}
