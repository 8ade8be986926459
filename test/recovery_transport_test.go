package test

import (
	"strings"
	"testing"
)

// transports are scenarios of clients that poll.
func transports() map[string]scenario {
	return map[string]scenario{
		"polling":                  {run: backByPolling},
		"upgrade":                  {run: backByPollingAndUpgrade},
		"upgrade amid much missed": {run: upgradeAmidMuchMissed},
		"half-open polling":        {run: halfOpenPolling},
	}
}

// backByPolling comes back by polling, and again to another polling session.
func backByPolling(t *testing.T, n *recoveryNode) {
	room, g := n.Of("/").To("r1"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	g.away(t, n)
	publish(t, room, 1)
	publish(t, room, 2)
	g.back(t, n.poll(t), "1", "2")
	publish(t, room, 3)
	g.expect(t, "3")
	g.away(t, n)
	publish(t, room, 4)
	if err := room.Emit("bin", []byte{5}); err != nil {
		t.Fatal(err)
	}
	publish(t, room, 6)
	g.back(t, n.poll(t), "4", "[5]", "6")
}

func backByPollingAndUpgrade(t *testing.T, n *recoveryNode) {
	room, g := n.Of("/").To("r1"), newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	g.away(t, n)
	publish(t, room, 1)
	l := n.poll(t)
	g.back(t, l, "1")
	publish(t, room, 2)
	n.upgrade(t, l)
	publish(t, room, 3)
	g.expect(t, "2", "3")
	g.away(t, n)
	publish(t, room, 4)
	g.back(t, n.dial(t), "4")
}

// upgradeAmidMuchMissed: the transport changes while the client catches up.
func upgradeAmidMuchMissed(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.away(t, n)
	const messages = 600
	body := strings.Repeat("x", 1000)
	for i := range messages {
		publish(t, n.everybody(), i, body)
	}
	l := n.poll(t)
	if !g.connect(t, l, nil) {
		t.Fatal("not recovered")
	}
	n.upgrade(t, l)
	publish(t, n.everybody(), messages)
	g.expect(t, numbers(0, messages+1)...)
}

// halfOpenPolling: the session that polls is open still, without a poll.
func halfOpenPolling(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.poll(t), nil)
	publish(t, n.everybody(), 1) // waits for a poll that does not come
	g.back(t, n.dial(t), "1")
	if got := n.replaced(); got != 1 {
		t.Errorf("replaced: %v", got)
	}
	n.gone(t)
	publish(t, n.everybody(), 2)
	g.expect(t, "2")
}
