package delivery

import "time"

// Stretch is a row of consecutive messages of one stream, received one after another, which is all that
// a client gets that misses nothing: numbers from First to Last.
type Stretch struct {
	Stream int    `json:"stream"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`

	Phase int       `json:"phase"` // in which it began
	Conn  int       `json:"conn"`  // of the session's connections, from 1, the one over which it began
	At    time.Time `json:"at"`    // when it began
}

// Membership is what a session must have of a stream because of when its room was joined. Messages may come
// from when the join was asked for, but nothing is due before it was acknowledged.
type Membership struct {
	Stream int
	Floor  uint64 // nothing up to this number, which was published long before; 0 if that is not known
	Due    uint64 // everything from this number, which was published after the join; 0 if that is not known
	Phase  int    // in which the join was asked for, or acknowledged
	Acked  bool
}

// Session is what a client received from one CONNECT that was not a recovery to the next.
type Session struct {
	Phase   int // in which it began
	Members []Membership
	Got     []Stretch // in the order of arrival
	Strange int       // messages that were not for the client

	Conns   int       // connections so far
	End     time.Time // when the latest one ended
	Dropped bool      // it was the client that dropped the latest one
}

// add takes a message at the end.
func (s *Session) add(stream int, n uint64, phase int, at time.Time) {
	if k := len(s.Got) - 1; k >= 0 && s.Got[k].Stream == stream && s.Got[k].Last+1 == n {
		s.Got[k].Last = n
		return
	}
	s.Got = append(s.Got, Stretch{stream, n, n, phase, s.Conns, at})
}

// membership returns that of a stream, nil if its room was never asked for.
func (s *Session) membership(stream int) *Membership {
	for i := range s.Members {
		if s.Members[i].Stream == stream {
			return &s.Members[i]
		}
	}
	return nil
}

// member reports whether the join of a stream's room was acknowledged in this session.
func (s *Session) member(stream int) bool {
	m := s.membership(stream)
	return m != nil && m.Acked
}

// ask notes that a join is asked for; of several the first one counts.
func (s *Session) ask(stream int, floor uint64, phase int) {
	if s.membership(stream) == nil {
		s.Members = append(s.Members, Membership{Stream: stream, Floor: floor, Phase: phase})
	}
}

// admit notes that a join was acknowledged.
func (s *Session) admit(stream int, due uint64, phase int) {
	if m := s.membership(stream); m != nil && !m.Acked {
		m.Due, m.Phase, m.Acked = due, phase, true
	}
}

// clone is a copy that does not change any more.
func (s *Session) clone() Session {
	c := *s
	c.Members = append([]Membership(nil), s.Members...)
	c.Got = append([]Stretch(nil), s.Got...)
	return c
}

// History is everything that a client received, session by session.
type History struct {
	Client   string
	Sessions []Session
}
