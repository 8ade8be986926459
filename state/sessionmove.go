package state

import (
	"crypto/rand"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/socketio"
)

// Owner is the name of this node as an owner of sessions, for SessionMove.From on
// another node.
func (s *Sessions) Owner() string { return s.incarnation }

// Fence calls done when every operation called before it was answered. It costs
// Redis nothing.
func (s *Sessions) Fence(done func(error)) {
	s.add(&sessionOp{kind: opFence, impatient: true, done: errorOf(done)})
}

// GivenAway says that another node has taken a session over, as Deliverer.Cut
// said. It costs Redis nothing.
func (s *Sessions) GivenAway(ref socketio.SessionRef) {
	s.add(&sessionOp{kind: opGivenAway, ref: ref})
}

// Move takes over the session of a socket whose conn comes to this node while it
// is open, and tells both nodes where the one ends and the other begins; see
// Deliverer.Cut. It is called where the conn comes to, when everything that the
// other node called for the session was answered. The session is open here then,
// under the generation that moved has.
//
// The error is ErrNotOwner if the session is not that node's, or not open, or its
// node missed messages; ErrEpoch if it is of an epoch that is over: nothing is
// changed. It is ErrUnknown if the session moved and the answer was lost, so that
// nobody knows where the cut is: it is open here and must be closed or deleted
// under the next generation. It is ErrUnavailable if Redis was away for 5 s: if it
// moved, it is closed.
//
// A client that was still catching up with what it missed is so until CaughtUp is
// called here.
func (s *Sessions) Move(m socketio.SessionMove, done func(moved *socketio.MovedSession, err error)) {
	s.add(&sessionOp{
		kind: opMove, ref: socketio.SessionRef{PID: m.PID, Generation: m.Generation + 1}, move: m,
		nonce: rand.Text()[:16], impatient: true,
		done: func(r sessionResult) {
			if done == nil {
				return
			}
			if r.err == nil {
				r.err = r.refused
			}
			done(r.moved, r.err)
		},
	})
}

// moveCommand is command for a move.
func (s *Sessions) moveCommand(c *clients, o *sessionOp) rueidis.Completed {
	m, j := &o.move, s.journal
	return s.scripts.call(c.cmd, sessionMove,
		[]string{s.sessionKey(m.PID), j.hashKey(), j.nodesKey(), j.streamKey(m.Namespace)},
		[]string{
			s.owner(o.stint), o.nonce, m.Namespace, m.SID, m.From, strconv.FormatUint(m.Generation, 10),
			milliseconds(s.lag), milliseconds(sessionTTL), j.control(m.From), j.control(s.incarnation),
		})
}

// moveRefusals are the script's reasons against a move.
var moveRefusals = map[string]error{"GONE": ErrNotOwner, "VOID": ErrNotOwner, "EPOCH": ErrEpoch, "AGAIN": ErrUnknown}

func (o *sessionOp) readMove(words []string) sessionResult {
	if why := moveRefusals[words[0]]; why != nil {
		return sessionResult{refused: why}
	}
	if len(words) != 3 {
		return sessionResult{err: answered("MOVE", len(words), 3, nil)}
	}
	generation, err := strconv.ParseUint(words[0], 10, 64)
	if err != nil || generation != o.ref.Generation {
		return sessionResult{err: fmt.Errorf("%w: MOVE says generation %q", errAnswer, words[0])}
	}
	at, err := entryAt(words[1], words[2])
	if err != nil {
		return sessionResult{err: err}
	}
	return sessionResult{moved: &socketio.MovedSession{Generation: generation, At: at}}
}
