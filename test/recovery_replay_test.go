package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// replays are scenarios of what was missed.
func replays() map[string]scenario {
	return map[string]scenario{
		"much": {run: muchWasMissed},
		"too much": {
			config: engine.Config{OutboxBytes: 64 << 10, MaxPayload: 16 << 10},
			run:    tooMuchWasMissed,
		},
		"binary":           {run: binaryWasMissed},
		"once":             {run: onceWasMissed},
		"acknowledgements": {run: acknowledgementsAreNotReplayed},
		"without a journal": {
			config: engine.Config{Recovery: &engine.Recovery{Journal: func(_ string, rooms []string) bool { return !slices.Contains(rooms, "quiet") }}},
			run:    roomWithoutJournal,
		},
	}
}

// muchWasMissed, more than one write: a part comes before the answer, the rest
// after it, all of it in order and before what is new.
func muchWasMissed(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.away(t, n)
	const messages = 600
	body := strings.Repeat("x", 1000)
	for i := range messages {
		publish(t, n.everybody(), i, body)
	}
	if !g.connect(t, n.dial(t), nil) {
		t.Fatal("not recovered")
	}
	if first := len(g.came); first < 20 || first > 64 {
		t.Errorf("%d messages of 1 kB before the answer, want a write of up to 64 KiB", first)
	}
	for i := range 50 {
		publish(t, n.everybody(), messages+i, body)
	}
	g.expect(t, numbers(0, messages+50)...)
}

func tooMuchWasMissed(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.away(t, n)
	for i := range 8 {
		publish(t, n.everybody(), i, strings.Repeat("x", 10000))
	}
	if g.connect(t, n.dial(t), nil) || len(g.came) > 0 {
		t.Fatalf("recovered: %d", len(g.came))
	}
	if got := n.recoveries(metrics.RecoveryTooMuch); got != 1 {
		t.Errorf("too much: %v", got)
	}
}

func binaryWasMissed(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	g.away(t, n)
	room := n.Of("/").To("r1")
	publish(t, room, 1)
	if err := room.Emit("bin", []byte{1, 2, 3}, "text"); err != nil {
		t.Fatal(err)
	}
	publish(t, room, 2)
	g.back(t, n.dial(t), "1", "[1 2 3]", "2")
}

// onceWasMissed: what is published again, in whatever time, is missed once or not at all.
func onceWasMissed(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	publish(t, n.everybody().Once("bob 1"), 1)
	publish(t, n.everybody().Once("bob 1"), 10)
	publish(t, n.everybody(), 2)
	g.expect(t, "1", "2")
	g.away(t, n)
	publish(t, n.everybody().Once("bob 1"), 11)
	publish(t, n.everybody().Once("bob 2"), 3)
	publish(t, n.everybody().Once("bob 2"), 12)
	publish(t, n.everybody().Once("ann 2"), 4)
	g.back(t, n.dial(t), "3", "4")
	publish(t, n.everybody().Once("bob 2"), 13)
	publish(t, n.everybody(), 5)
	g.expect(t, "5")
}

// acknowledgementsAreNotReplayed: nobody waits for them any more.
func acknowledgementsAreNotReplayed(t *testing.T, n *recoveryNode) {
	ask := func() []*engine.Ack {
		t.Helper()
		got := make(chan []*engine.Ack, 1)
		err := n.Of("/").To("r1").EmitWithAck(time.Second, func(answers []*engine.Ack, _ error) { got <- answers }, "ask", 1)
		if err != nil {
			t.Fatal(err)
		}
		return await(t, "the end of a question", got)
	}
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "r1")
	g.away(t, n)
	if answers := ask(); len(answers) > 0 {
		t.Errorf("%d answers", len(answers))
	}
	publish(t, n.Of("/").To("r1"), 1)
	g.back(t, n.dial(t), "1")
	publish(t, n.Of("/").To("r1"), 2)
	g.expect(t, "2")
	if g.asked {
		t.Error("a question was replayed")
	}
}

// roomWithoutJournal: nothing of it is replayed, and what comes of it live has
// the offset of what was before.
func roomWithoutJournal(t *testing.T, n *recoveryNode) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	g.call(t, "join", "quiet")
	g.call(t, "join", "r1")
	witness := newGuest("/")
	witness.connect(t, n.dial(t), nil)
	witness.call(t, "join", "r1")
	publish(t, n.Of("/").To("r1"), 1)
	g.expect(t, "1")
	at := g.offset
	publish(t, n.Of("/").To("quiet"), 2)
	g.expect(t, "2")
	if g.offset != at {
		t.Errorf("offset %q after %q without a journalled message", g.offset, at)
	}
	g.away(t, n)
	publish(t, n.Of("/").To("quiet"), 3)
	publish(t, n.Of("/").To("r1"), 4)
	publish(t, n.Of("/").To("r1", "quiet"), 5) // the rule is asked for both
	witness.expect(t, "1", "4", "5")           // what has come to the node does not come again
	g.back(t, n.dial(t), "4")
	publish(t, n.Of("/").To("quiet"), 6)
	publish(t, n.Of("/").To("r1"), 7)
	g.expect(t, "6", "7")
}
