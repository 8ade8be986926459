package state

import (
	"strconv"
	"strings"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// cutMessage is the message that a socket moved; see scripts/session_move.lua.
type cutMessage struct {
	generation uint64
	sid, ns    string
	at         socketio.Offset // where the namespace's journal was
}

// parseCut reads "<generation> <sid> <epoch> <id> <namespace>".
func parseCut(text string) (c cutMessage, ok bool) {
	f := strings.SplitN(text, " ", 5)
	if len(f) != 5 || f[1] == "" || f[2] == "" || f[4] == "" {
		return c, false
	}
	generation, err := strconv.ParseUint(f[0], 10, 64)
	at, ok := socketio.ParseEntryID(f[3])
	if err != nil || !ok {
		return c, false
	}
	at.Epoch = f[2]
	return cutMessage{generation: generation, sid: f[1], ns: f[4], at: at}, true
}

// receiveCut takes the message that a socket moved. The caller holds ears.
func (b *Bus) receiveCut(text string) {
	c, ok := parseCut(text)
	if !ok {
		b.metrics.Drops[metrics.DropMalformed].Inc()
		return
	}
	b.deliverer.Cut(c.ns, c.sid, c.generation, b.cutAt(c.ns, c.at))
}

// cutAt is the position of a cut if this node is there in the journal, and zero if
// it is not: a repair is behind it still, or was ahead of it and has delivered what
// arrives only now. The caller holds ears.
func (b *Bus) cutAt(ns string, at socketio.Offset) socketio.Offset {
	t := b.feed.byName[ns]
	if t == nil {
		return socketio.Offset{}
	}
	b.hearsTail(t.stream, at)
	if t.open || t.last != at {
		return socketio.Offset{}
	}
	return at
}
