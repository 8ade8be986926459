package state

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// sessionKind is what an operation does.
type sessionKind uint8

const (
	opCreate sessionKind = iota
	opJoin
	opLeave
	opData
	opCaughtUp
	opKeep // renews the time to live
	opClose
	opDelete
	opClaim
	opMove
	opFlush     // does nothing, in its turn
	opFence     // the same, and no more than to say so
	opGivenAway // takes note that another node has it
	opBar       // of no session: see Sessions.BarUser
)

// op is the name of the script that carries it out.
func (k sessionKind) op() metrics.JournalOp {
	switch k {
	case opClose:
		return metrics.JournalSessionClose
	case opClaim:
		return metrics.JournalSessionClaim
	case opMove:
		return metrics.JournalSessionMove
	case opBar:
		return metrics.JournalSessionBar
	}
	return metrics.JournalSessionSave
}

// changes are what the script SAVE calls the operations that it carries out.
var changes = map[sessionKind]string{
	opJoin: "join", opLeave: "leave", opData: "data", opCaughtUp: "caught up", opKeep: "keep", opDelete: "delete",
}

// sessionOp is one operation, on its way to Redis until it was answered.
type sessionOp struct {
	kind      sessionKind
	ref       socketio.SessionRef
	session   *socketio.Session     // opCreate
	claim     socketio.SessionClaim // opClaim
	move      socketio.SessionMove  // opMove
	nonce     string                // opClaim, opMove
	text      string                // the room, or the data; opBar: the key
	since     socketio.Offset       // opJoin
	impatient bool                  // it does not wait for Redis for ever
	called    time.Time
	number    uint64              // in the order of the calls
	done      func(sessionResult) // nil if nobody wants to know

	// Owned by run.
	stint uint64 // under which the session is open; 0 until it is known
	ns    string // opJoin: the namespace
	sent  bool   // it may have been carried out
}

// sessionResult is the outcome of an operation.
type sessionResult struct {
	err      error
	refused  error // opMove: what it came to, if it is not moved
	gone     bool
	at       socketio.Offset // opCreate: start; opJoin: since
	claimed  *socketio.ClaimedSession
	moved    *socketio.MovedSession
	recovery metrics.Recovery
	proved   uint64 // opClaim: everything older was received, ms
}

// assign finds out under which stint an operation is carried out; false if
// this node does not have the session open. What follows in the same flight sees
// the session as it will be.
func (s *Sessions) assign(o *sessionOp, stint uint64) bool {
	if s.beat.struck && (o.kind == opCreate || o.kind == opClaim || o.kind == opMove) {
		s.beat.struck = false
	}
	switch o.kind {
	case opGivenAway:
		if held := s.open[o.ref.PID]; held.generation == o.ref.Generation {
			delete(s.open, o.ref.PID)
		}
		return false
	case opFlush, opFence:
		return false
	case opBar:
		return true
	case opCreate:
		o.stint = stint
		s.open[o.ref.PID] = openSession{generation: 1, stint: stint, ns: o.session.Namespace}
		return true
	case opClaim:
		o.stint = stint
		return true
	case opMove:
		if !o.sent { // once it may have been carried out, what was missed since may be missing
			o.stint = stint
		}
		return true
	}
	if o.stint == 0 {
		held, ok := s.open[o.ref.PID]
		if !ok || held.generation != o.ref.Generation {
			return false
		}
		o.stint, o.ns = held.stint, held.ns
		if o.kind == opClose || o.kind == opDelete {
			delete(s.open, o.ref.PID)
		}
	}
	if o.kind == opClose && o.stint != stint {
		o.kind = opDelete // messages were lost for it
	}
	return true
}

// command builds the call of an operation; epoch is the journal's.
func (s *Sessions) command(c *clients, o *sessionOp, epoch string) rueidis.Completed {
	key, owner, ttl := s.sessionKey(o.ref.PID), s.owner(o.stint), milliseconds(sessionTTL)
	generation := strconv.FormatUint(o.ref.Generation, 10)
	keys := []string{key}
	switch o.kind {
	case opCreate:
		keys = append(keys, s.journal.hashKey(), s.journal.streamKey(o.session.Namespace))
		args := []string{owner, epoch, ttl, o.session.SID, o.session.Namespace, o.session.User, string(o.session.Data)}
		for _, room := range o.session.Rooms {
			args = append(args, room.Name)
		}
		return s.scripts.call(c.cmd, sessionCreate, keys, args)
	case opClose:
		alive := strconv.FormatInt(s.aliveAt(o.called), 10)
		return s.scripts.call(c.cmd, sessionClose, keys,
			[]string{owner, generation, milliseconds(s.window), alive, milliseconds(s.lag)})
	case opClaim:
		keys = append(keys, s.journal.hashKey(), s.journal.nodesKey(), s.journal.streamKey(o.claim.Namespace))
		id := ""
		if !o.claim.Offset.IsZero() {
			id = string(o.claim.Offset.AppendID(nil))
		}
		return s.scripts.call(c.cmd, sessionClaim, keys, []string{
			owner, o.nonce, o.claim.Namespace, o.claim.User, o.claim.Offset.Epoch, id,
			milliseconds(s.window), milliseconds(s.lag), ttl, s.barPrefix(),
		})
	case opMove:
		return s.moveCommand(c, o)
	case opBar:
		return s.scripts.call(c.cmd, sessionBar, []string{o.text}, []string{milliseconds(s.window + returnTime)})
	}
	args := []string{owner, generation, ttl, changes[o.kind], o.text}
	if o.kind == opJoin {
		keys = append(keys, s.journal.streamKey(o.ns))
		id := ""
		if !o.since.IsZero() {
			id = string(o.since.AppendID(nil))
		}
		args = append(args, id, o.since.Epoch)
	}
	return s.scripts.call(c.cmd, sessionSave, keys, args)
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// read reads the answer to an operation; epoch is what a creation was sent with.
func (o *sessionOp) read(r rueidis.RedisResult, epoch string) (res sessionResult) {
	m, err := r.ToMessage()
	if err != nil {
		return sessionResult{err: err}
	}
	var words []string
	if m.IsArray() {
		words, err = m.AsStrSlice()
	} else {
		words = make([]string, 1)
		words[0], err = m.ToString()
	}
	if err != nil || len(words) == 0 {
		return sessionResult{err: answered("session", len(words), 1, err)}
	}
	switch {
	case o.kind == opClaim:
		return o.readClaim(words)
	case o.kind == opMove:
		return o.readMove(words)
	case words[0] == "GONE":
		return sessionResult{gone: true}
	case words[0] == "EPOCH":
		return sessionResult{err: errSessionEpoch}
	case o.kind == opCreate:
		res.at, err = entryAt(epoch, words[0])
	case o.kind == opJoin && len(words) == 2:
		res.at, err = entryAt(words[0], words[1])
	case words[0] != "OK":
		err = fmt.Errorf("%w: session %q", errAnswer, words[0])
	}
	res.err = err
	return res
}

// refusals are the scripts' reasons against a claim.
var refusals = map[string]metrics.Recovery{
	"UNKNOWN": metrics.RecoveryUnknown, "USER": metrics.RecoveryUser, "EPOCH": metrics.RecoveryEpoch,
	"EXPIRED": metrics.RecoveryExpired, "VOID": metrics.RecoveryVoid, "INCOMPLETE": metrics.RecoveryIncomplete,
	"MALFORMED": metrics.RecoveryMalformed, "BARRED": metrics.RecoveryDisconnected,
}

// claimFields precede the rooms in the answer to a claim that succeeded.
const claimFields = 10

func (o *sessionOp) readClaim(words []string) sessionResult {
	if why, ok := refusals[words[0]]; ok {
		return sessionResult{recovery: why}
	}
	if len(words) < claimFields || len(words)%2 != 0 {
		return sessionResult{err: answered("CLAIM", len(words), claimFields, nil)}
	}
	epoch := words[1]
	var errs [4]error
	c := &socketio.ClaimedSession{Owner: words[9]}
	c.After, errs[0] = entryAt(epoch, words[2])
	proved, err := strconv.ParseUint(words[3], 10, 64)
	errs[1] = err
	c.Start, errs[2] = entryAt(epoch, words[4])
	c.Generation, errs[3] = strconv.ParseUint(words[5], 10, 64)
	c.PID, c.Namespace, c.SID, c.User = o.claim.PID, o.claim.Namespace, words[6], words[7]
	if words[8] != "" {
		c.Data = []byte(words[8])
	}
	for i := claimFields; i < len(words); i += 2 {
		since, err := entryAt(epoch, words[i+1])
		if err != nil {
			return sessionResult{err: err}
		}
		c.Rooms = append(c.Rooms, socketio.SessionRoom{Name: words[i], Since: since})
	}
	for _, err := range errs {
		if err != nil {
			return sessionResult{err: err}
		}
	}
	return sessionResult{claimed: c, recovery: metrics.RecoveryComplete, proved: proved}
}

// entryAt is the position of an entry's id.
func entryAt(epoch, id string) (socketio.Offset, error) {
	at, ok := socketio.ParseEntryID(id)
	if !ok || epoch == "" {
		return at, fmt.Errorf("%w: entry %q of epoch %q", errAnswer, id, epoch)
	}
	at.Epoch = epoch
	return at, nil
}

// passing reports whether an answer of Redis is one that it may not give the next time.
func passing(err error) bool {
	for _, word := range []string{"LOADING", "READONLY", "OOM", "MISCONF", "BUSY", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN", "NOSCRIPT"} {
		if strings.HasPrefix(err.Error(), word) {
			return true
		}
	}
	return lostConnection(err)
}
