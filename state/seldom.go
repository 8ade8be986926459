package state

import "time"

// seldomInterval is the least time between two lines of the log about the same
// trouble, where every attempt of many would write one.
const seldomInterval = 10 * time.Second

// seldom counts what goes wrong and says when to write a line about it: pure
// state. The zero value writes the first one at once.
type seldom struct {
	next time.Time
	held int // went wrong since the last line
}

// pass takes note of n more at now. write says that it is time for a line, and
// total how many there were since the last one.
func (s *seldom) pass(n int, now time.Time) (total int, write bool) {
	s.held += n
	if n == 0 || now.Before(s.next) {
		return 0, false
	}
	total, s.held, s.next = s.held, 0, now.Add(seldomInterval)
	return total, true
}
