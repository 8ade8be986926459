package engine

import (
	"encoding/binary"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// away is the owner's side of a WebSocket that another node holds: first a
// candidate, then the transport of its conn, until the conn moves there.
type away struct {
	c  *conn
	d  *candidate
	st Stream

	// Guarded by mu, which is taken before Socket.mu, mailbox.mu and what fan-out takes.
	mu       sync.Mutex
	phase    awayPhase
	unread   int  // bytes sent that are not with the client's kernel yet
	flushing bool // the other node answers for what is sent: it counts as written
	ended    bool // msgEnd was sent
	orderly  bool // the client's connection ended in order
	tries    int  // moves tried
	timer    *time.Timer
	leaving  []*Socket // whose move is offered
	uncut    int       // of those
}

type awayPhase uint8

const (
	awayProbing  awayPhase = iota
	awayRelaying           // its bytes pass through the stream
	awayFreezing           // msgFreeze was sent
	awayFencing            // the client's bytes are kept; what was to be stored is being stored
	awayOffered            // msgOffer was sent, or is about to be
	awayCut                // the conn is the other node's
	awayOver
)

// serveUpgrade is the owner's side of relayUpgrade.
func (s *Server) serveUpgrade(st Stream, c *conn) Receiver {
	refused := socketio.ErrSessionIDUnknown
	if c != nil {
		a := &away{c: c, st: st}
		a.d = &candidate{c: c, away: a}
		a.d.polled.Store(true)
		if a.d.nominate() {
			a.d.timer.Store(time.AfterFunc(upgradeTimeout, a.d.drop))
			st.Send(msgAnswer, appendAnswer(nil, answer{status: http.StatusOK, body: []byte(readsDeflate)}))
			return a
		}
		refused = socketio.ErrBadRequest
	}
	st.Send(msgAnswer, appendAnswer(nil, failure(refused)))
	st.Close()
	return ignored{}
}

// Receive takes a message of the node that holds the WebSocket. It is the
// goroutine that reads the conn.
func (a *away) Receive(kind byte, payload []byte) {
	switch kind {
	case msgProbed:
		if !a.d.probe { // there is one
			a.d.probe = true
			a.d.endPolls()
		}
	case msgTake:
		if len(payload) > 0 && a.is(awayProbing) {
			a.d.deflate = true
			a.d.reader.AcceptDeflate()
		}
		a.take()
	case msgFrames:
		a.mu.Lock()
		ours := a.phase >= awayRelaying && a.phase <= awayOffered // what was kept comes at the end
		a.mu.Unlock()
		if ours {
			a.c.onData(payload)
		}
	case msgWritten:
		if n, size := binary.Uvarint(payload); size > 0 {
			a.written(n)
		}
	case msgFrozen:
		if a.is(awayFreezing) {
			a.move()
		}
	case msgDeclined:
		a.declined(len(payload) > 0)
	case msgSettled:
		a.finish(nil)
	case msgLost:
		a.mu.Lock()
		a.orderly = len(payload) == 1 && payload[0] == 0
		a.mu.Unlock()
	}
}

// Why a conn ends whose WebSocket another node holds.
var (
	errPeerLost      = errors.New("engine: the node that holds the WebSocket is gone, or let it go")
	errMoveLate      = errors.New("engine: the conn's move to another node took too long")
	errMoveUncertain = errors.New("engine: the conn's move to another node cannot be finished without a gap")
)

// Broken says that the WebSocket is gone.
func (a *away) Broken(error) {
	a.mu.Lock()
	probing, orderly := a.phase == awayProbing, a.orderly
	a.mu.Unlock()
	switch {
	case probing:
		a.d.drop() // the session goes on polling
	case orderly:
		a.finish(nil)
	default:
		a.finish(errPeerLost)
	}
}

func (a *away) is(p awayPhase) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.phase == p
}

// take makes the WebSocket the conn's transport, and the conn moves if it can.
func (a *away) take() {
	if !a.is(awayProbing) || !a.d.takeOver() {
		return
	}
	a.mu.Lock()
	over := a.phase == awayOver
	if !over {
		a.phase = awayFreezing // the client's bytes are kept from the first on
	}
	a.mu.Unlock()
	if over { // aborted while it took over
		a.c.transportClosed(errPeerLost)
		return
	}
	a.move()
}

// write sends frames to the client. It is called by the shard.
func (a *away) write(frames []byte) error {
	a.mu.Lock()
	flushing := a.flushing
	if !flushing {
		a.unread += len(frames)
	}
	a.mu.Unlock()
	if err := a.st.Send(msgOutput, frames); err != nil {
		a.finish(err)
		return err
	}
	if flushing {
		a.c.fan.Wrote(len(frames))
	}
	return nil
}

// tell sends a message to the other node; if that is not possible, the conn ends.
// Locks may be held.
func (a *away) tell(kind byte, payload []byte) {
	if err := a.st.Send(kind, payload); err != nil {
		go a.finish(err)
	}
}

// written says that n bytes are with the client's kernel.
func (a *away) written(n uint64) {
	a.mu.Lock()
	some := int(min(n, uint64(a.unread))) // what the other node wrote itself is not counted
	a.unread -= some
	a.mu.Unlock()
	if some > 0 {
		a.c.fan.Wrote(some)
	}
}

// end closes the WebSocket: the conn is over, or its candidate was dropped.
func (a *away) end() {
	a.mu.Lock()
	if a.phase == awayProbing {
		a.phase = awayOver
		a.mu.Unlock()
		a.st.Close()
		return
	}
	a.mu.Unlock()
	a.finish(nil)
}

// finish ends the stream and the conn, whatever is under way. What another node
// has taken over meanwhile is not touched by that.
func (a *away) finish(err error) {
	a.mu.Lock()
	if a.phase == awayOver {
		a.mu.Unlock()
		return
	}
	moved := a.phase == awayCut
	leaving := a.leaving
	a.phase, a.leaving = awayOver, nil
	a.stopTimer()
	a.mu.Unlock()
	reason := metrics.CloseTransportClose
	switch {
	case moved:
		reason = metrics.CloseMoved
	case err != nil:
		reason = metrics.CloseTransportError
	}
	if a.c.state.CompareAndSwap(connOpen, connClosing) {
		a.c.srv.m.Closes[reason].Inc()
	}
	a.c.leaveAll(disconnectReason(reason), fateOf(reason))
	for _, s := range leaving {
		s.endDeparture()
	}
	a.st.Close()
	a.c.transportClosed(err)
}

// over tells the other node that a socket ended while its move was under way, and
// what shall become of its session if it is there; it answers with msgDeclined.
// Locks of the conn may be held.
func (a *away) over(sid id, f fate) { a.tell(msgOver, append([]byte{byte(f)}, sid[:]...)) }

// stopTimer is called with mu held.
func (a *away) stopTimer() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
