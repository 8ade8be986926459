package engine

import "time"

// Writable reports whether a volatile event would be sent to the socket now.
func Writable(s *Socket) bool { return s.conn.fan.Backlog() == 0 }

// WithoutMoveBounds lets a move wait for ever: what ends it then is no timer. It
// is to be called before the server serves.
func (s *Server) WithoutMoveBounds() {
	s.bounds = moveBounds{fence: time.Hour, listen: time.Hour, claim: time.Hour, offer: time.Hour}
}

// Kinds of messages between nodes, for tests that stop one.
const (
	MsgUpgrade = msgUpgrade
	MsgAnswer  = msgAnswer
	MsgTake    = msgTake
	MsgOutput  = msgOutput
	MsgRelay   = msgRelay
	MsgFreeze  = msgFreeze
	MsgOffer   = msgOffer
	MsgEnd     = msgEnd
	MsgSettled = msgSettled
)
