package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A node that could not hear that it is to disconnect a user finds out when it hears
// again: neither the request nor who made it tells it.
func TestDisconnectsThatWereNotHeard(t *testing.T) {
	b := realRedis(t)
	n := b.sessionNode(t, "nodeAAAA", nil)
	other := b.sessionNode(t, "nodeBBBB", nil)
	ann, bob := newSession("ann"), newSession("bob")
	ann.Namespace = "/other" // any of those it has
	n.Bus().Open("/other")
	n.create(t, ann)
	bob.PID, bob.SID = "pidpidpidpidpidpid34", "nodeAAAAsocket000002"
	n.create(t, bob)
	for i := range 2 * barredKeys { // more than one call
		s := newSession("eve")
		s.PID, s.SID = fmt.Sprintf("pidpidpidpidpid%05d", i), fmt.Sprintf("nodeAAAAsocketx%05d", i)
		n.create(t, s)
	}
	if err := errors.Join(
		other.Sessions().BarUser(context.Background(), "ann"),
		other.Sessions().BarSocket(context.Background(), "nodeAAAAsocketx00007"),
	); err != nil {
		t.Fatal(err)
	}
	b.do(t, "CLIENT", "KILL", "TYPE", "pubsub")
	want := []string{"disconnect / [nodeAAAAsocketx00007] [] true", "disconnect /other [" + testSID + "] [] true"}
	disconnects := func() (all []string) {
		n.recorder.mu.Lock()
		defer n.recorder.mu.Unlock()
		for _, c := range n.calls {
			if strings.HasPrefix(c, "disconnect") {
				all = append(all, c)
			}
		}
		slices.Sort(all)
		return all
	}
	eventually(t, "both are disconnected", func() error {
		if got := disconnects(); len(got) < len(want) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if err := n.Sessions().Flush(context.Background()); err != nil { // the last call is over
		t.Fatal(err)
	}
	if got := disconnects(); !slices.Equal(got, want) {
		t.Errorf("disconnected were %q, want %q", got, want)
	}
}
