package socketio

import "errors"

// Errors that end a read of a journal.
var (
	ErrTooMuch = errors.New("socketio: more of the journal than is replayed")
	ErrTrimmed = errors.New("socketio: the journal does not reach back so far")
)

// ErrNotOwner says that a session is not, or no more, that of the node that would
// give it away: nothing has changed.
var ErrNotOwner = errors.New("socketio: the session is not the node's that gives it away")

// Session is what is stored of a socket so that its client gets it back on any node: Socket.IO's connection state
// recovery. It is named by PID, the private session id that only the client is told.
type Session struct {
	PID       string // 20 characters, secret
	SID       string // the socket's id
	Namespace string
	User      string // who the client was when it connected, "" if it did not say; nobody else gets the session
	Data      []byte // the socket's data as JSON, nil if it has none
	Rooms     []SessionRoom
	// Start is where the journal was when the session began: journalled messages up to there are not for it.
	Start Offset
	// Generation counts the nodes that had the socket, from 1.
	Generation uint64
}

// SessionRef names a session as one of its owners knows it: after another one took it over, it names nothing.
type SessionRef struct {
	PID        string
	Generation uint64
}

// SessionRoom is a room of a session, and where the journal was when the socket joined it.
type SessionRoom struct {
	Name  string
	Since Offset
}

// SessionClaim is a client's wish to have its session back.
type SessionClaim struct {
	PID       string
	Namespace string
	User      string
	Offset    Offset // the last the client got, zero if it got none
}

// ClaimedSession is a session that a node took over.
type ClaimedSession struct {
	Session
	After Offset // the client has everything up to here
	Owner string // the node's owner name that still has the socket open, "" if it was closed
}

// SessionMove is a session whose conn another node takes over without a break.
type SessionMove struct {
	SessionRef        // PID and the generation that the session has at the node that gives it away
	SID        string // the socket's id
	Namespace  string
	From       string // that node's owner name
}

// MovedSession is what came of a move.
type MovedSession struct {
	Generation uint64 // that the session has now
	At         Offset // where the namespace's journal was at the cut
}

// JournalEntry is one journalled message.
type JournalEntry struct {
	Offset  Offset
	Payload []byte // as AppendBroadcast wrote it, with nil for the position; must not be written to
}
