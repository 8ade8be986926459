package engine

import (
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

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

// GatedSessions are sessions in memory of which creations and claims are answered
// when the test says so.
type GatedSessions struct {
	*memory
	Reached chan string   // "create" or "claim": it was carried out, and the answer waits
	Open    chan struct{} // receives once for each that is answered
}

// NewGatedSessions starts them; End ends them.
func NewGatedSessions() *GatedSessions {
	m := newMemory(2*time.Minute, time.Minute)
	go m.run()
	return &GatedSessions{memory: m, Reached: make(chan string, 16), Open: make(chan struct{}, 16)}
}

// End ends them.
func (g *GatedSessions) End() { g.close() }

func (g *GatedSessions) wait(what string) { g.Reached <- what; <-g.Open }

// Create implements Sessions.
func (g *GatedSessions) Create(s *socketio.Session, done func(socketio.Offset, error)) {
	g.memory.Create(s, func(start socketio.Offset, err error) {
		go func() { g.wait("create"); done(start, err) }()
	})
}

// Claim implements Sessions.
func (g *GatedSessions) Claim(c socketio.SessionClaim, done func(*socketio.ClaimedSession, metrics.Recovery)) {
	g.memory.Claim(c, func(s *socketio.ClaimedSession, r metrics.Recovery) {
		go func() { g.wait("claim"); done(s, r) }()
	})
}
