package engine

// Writable reports whether a volatile event would be sent to the socket now.
func Writable(s *Socket) bool { return s.conn.fan.Backlog() == 0 }

// Kinds of messages between nodes, for tests that stop one.
const (
	MsgTake    = msgTake
	MsgOutput  = msgOutput
	MsgRelay   = msgRelay
	MsgFreeze  = msgFreeze
	MsgOffer   = msgOffer
	MsgEnd     = msgEnd
	MsgSettled = msgSettled
)
