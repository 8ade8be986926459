package state

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Owner is this node's name to another one that is to Move sessions from it.
func (s *Sessions) Owner() string { return s.incarnation }

// Fence is done when every operation that was called before it has been answered,
// or ErrUnavailable if Redis was away for 5 s. It costs Redis nothing.
func (s *Sessions) Fence(done func(error)) {
	s.add(&sessionOp{kind: opFence, impatient: true, done: errorOf(done)})
}

// Move takes the session of a socket that is open on another node over for this
// one, with its next generation. Deliverer.Cut is called on both nodes then, at one
// place in the order of all deliveries. The error is socketio.ErrNotOwner, and
// nothing has changed, if the session is not that node's any more, or messages for
// it were lost; ErrUnavailable if Redis was away for 5 s, and ErrUnknown if the
// answer was lost: then the session may have moved, without a Cut that this node
// heard, and it is closed here if it has.
func (s *Sessions) Move(m socketio.SessionMove, done func(moved *socketio.MovedSession, err error)) {
	s.add(&sessionOp{
		kind: opMove, ref: m.SessionRef, move: m, nonce: rand.Text()[:16], impatient: true,
		done: func(r sessionResult) {
			switch {
			case r.err == nil && r.gone:
				done(nil, socketio.ErrNotOwner)
			case r.err != nil:
				done(nil, r.err)
			default:
				done(&socketio.MovedSession{Generation: m.Generation + 1, At: r.at}, nil)
			}
		},
	})
}

// moveCommand builds the call of a move.
func (s *Sessions) moveCommand(c *clients, o *sessionOp) rueidis.Completed {
	m := &o.move
	keys := []string{s.sessionKey(m.PID), s.journal.hashKey(), s.journal.nodesKey(), s.journal.streamKey(m.Namespace)}
	return s.scripts.call(c.cmd, sessionMove, keys, []string{
		s.owner(o.stint), o.nonce, m.From, strconv.FormatUint(m.Generation, 10), m.Namespace, m.SID,
		s.journal.control(m.From), s.journal.control(s.incarnation), milliseconds(s.lag), milliseconds(sessionTTL),
	})
}

// readMove reads the answer to a move that is not 'GONE'.
func readMove(words []string) (res sessionResult) {
	switch {
	case words[0] == "AGAIN":
		res.err = ErrUnknown
	case words[0] == "OK" && len(words) == 3:
		res.at, res.err = entryAt(words[1], words[2])
	default:
		res.err = fmt.Errorf("%w: session %q", errAnswer, words[0])
	}
	return res
}

// unsure closes a session that may have moved here, under a stint; 0 if it is open.
func (s *Sessions) unsure(o *sessionOp, stint uint64) {
	s.add(&sessionOp{
		kind: opClose, stint: stint, ns: o.move.Namespace, ref: socketio.SessionRef{PID: o.ref.PID, Generation: o.ref.Generation + 1},
	})
}

// receiveCut takes "<generation> <sid> <epoch> <id> <namespace>". The caller holds ears.
func (b *Bus) receiveCut(text string) {
	words := strings.SplitN(text, " ", 5)
	if len(words) < 5 {
		b.metrics.Drops[metrics.DropMalformed].Inc()
		return
	}
	generation, err := strconv.ParseUint(words[0], 10, 64)
	at, ok := socketio.ParseEntryID(words[3])
	if err != nil || !ok || words[1] == "" || words[2] == "" || words[4] == "" {
		b.metrics.Drops[metrics.DropMalformed].Inc()
		return
	}
	at.Epoch = words[2]
	if t := b.feed.byName[words[4]]; t == nil || t.open || t.last.Epoch != at.Epoch {
		at = socketio.Offset{} // what came before is not all delivered
	}
	b.deliverer.Cut(words[4], words[1], generation, at)
}
