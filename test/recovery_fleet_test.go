package test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/internal/leak"
)

// TestRecoveryOnAnotherNode is the contract of nodes that share a Redis.
func TestRecoveryOnAnotherNode(t *testing.T) {
	open := inRedis(needRedis(t))
	for name, run := range map[string]func(t *testing.T, first, second *recoveryNode){
		"after a shutdown": afterAShutdown,
		"half-open":        halfOpenElsewhere,
	} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			key := randomText(6)
			run(t, startRecovery(t, scenario{}, open, key), startRecovery(t, scenario{}, open, key))
		})
	}
}

// afterAShutdown: the node that had the socket is gone in order.
func afterAShutdown(t *testing.T, first, second *recoveryNode) {
	g := newGuest("/")
	g.connect(t, first.dial(t), nil)
	g.call(t, "join", "r1")
	g.call(t, "data", "mine")
	publish(t, second.Of("/").To("r1"), 1)
	g.expect(t, "1")
	down := make(chan error, 1)
	go func() { down <- first.end() }()
	if packet, _, err := g.line.next(); !errors.Is(err, errClosed) {
		t.Fatalf("%q, %v from a node that shuts down", packet, err)
	}
	g.line.cut()
	publish(t, second.Of("/").To("r1"), 2)
	if err := await(t, "the end of the node", down); err != nil {
		t.Fatal(err)
	}
	if reason := first.gone(t); reason != engine.ReasonServerShuttingDown {
		t.Errorf("the socket ended with %q", reason)
	}
	publish(t, second.Of("/").To(g.SID), 3)
	g.back(t, second.dial(t), "2", "3")
	if got := g.call(t, "whoami"); got != fmt.Sprintf(`[%q,true,[%q,"r1"]]`, g.SID, g.SID) {
		t.Errorf("whoami: %s", got)
	}
	if got := g.call(t, "getdata"); got != `["mine"]` {
		t.Errorf("data: %s", got)
	}
	publish(t, second.Of("/").To("r1"), 4)
	publish(t, second.Of("/").To(g.SID), 5)
	g.expect(t, "4", "5")
}

// halfOpenElsewhere: the client is back on the other node, and then on the first
// again, while the node it left has its conn open still.
func halfOpenElsewhere(t *testing.T, first, second *recoveryNode) {
	g := newGuest("/")
	g.connect(t, first.dial(t), nil)
	g.call(t, "join", "r1")
	publish(t, first.Of("/").To("r1"), 0)
	g.expect(t, "0")
	from, to, number := first, second, 1
	for range 4 {
		old := *g
		old.line.guests[old.nsp] = &old
		publish(t, from.Of("/").To("r1"), number) // the old conn gets it and nobody reads it
		g.back(t, to.dial(t), numbers(number, number+1)...)
		if reason := from.gone(t); reason != engine.ReasonForcedServerClose {
			t.Errorf("the old conn ended with %q", reason)
		}
		publish(t, from.Of("/").To("r1"), number+1)
		publish(t, to.Of("/").To(g.SID), number+2)
		g.expect(t, numbers(number+1, number+3)...)
		if err := old.readUntil(func() bool { return false }); !errors.Is(err, errClosed) {
			t.Fatal(err)
		}
		old.saw(t, numbers(number, number+1)...)
		old.line.cut()
		from, to, number = to, from, number+3
	}
	if a, b := first.replaced(), second.replaced(); a != 2 || b != 2 {
		t.Errorf("replaced: %d and %d", a, b)
	}
}
