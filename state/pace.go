package state

import "time"

// What is stored again after Redis lost it goes at a pace, so that a fleet that
// comes back does not hold up what clients want now.
const (
	paceFleet = 100_000               // facts per second of all nodes together
	paceNode  = 2_000                 // of one, however many there are
	paceTick  = 10 * time.Millisecond // between looks while there is a backlog
)

// pace is a token bucket without a reserve: pure state.
type pace struct{ last time.Time }

// budget returns how many facts of a backlog may be sent at now.
func (p *pace) budget(now time.Time, nodes, backlog int) int {
	if backlog == 0 {
		p.last = time.Time{}
		return 0
	}
	elapsed := now.Sub(p.last)
	if p.last.IsZero() || elapsed > time.Second {
		elapsed = paceTick
	}
	n := int(elapsed.Seconds() * float64(max(paceNode, paceFleet/max(1, nodes))))
	if n > 0 {
		p.last = now
	} else if p.last.IsZero() {
		p.last = now.Add(-elapsed)
	}
	return n
}
