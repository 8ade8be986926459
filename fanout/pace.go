package fanout

import "time"

// pace decides how long a shard waits between two passes, so that under load the
// messages of one conn are merged into one write. It is a rule of what a shard
// measures anyway and knows no clock.
//
// A shard that was idle writes at once: nothing is gained by waiting when hardly any
// conn gets a second message meanwhile. The busier a shard is, the longer a pass
// would wait anyway, behind others for a core; then the wait is spent before the pass
// instead of within it.
type pace struct {
	max time.Duration // longest wait; 0 is none

	busy float64   // part of the last paceMemory that was spent in passes, 0 to 1
	last time.Time // end of the last pass
}

// The share of time in passes from which a shard waits, and from which it waits as
// long as it may.
const (
	paceFrom = 0.15
	paceFull = 0.4
)

// paceMemory is for how long a pass counts.
const paceMemory = 200 * time.Millisecond

// after takes note of a pass and returns how long the next one is to wait.
func (p *pace) after(start, end time.Time) time.Duration {
	if p.max <= 0 {
		return 0
	}
	elapsed := end.Sub(p.last)
	if p.last.IsZero() || elapsed > paceMemory {
		elapsed = paceMemory
	}
	p.last = end
	worked := min(end.Sub(start), elapsed)
	p.busy += (float64(worked) - p.busy*float64(elapsed)) / float64(paceMemory)
	if p.busy <= paceFrom {
		return 0
	}
	return time.Duration(float64(p.max) * min(1, (p.busy-paceFrom)/(paceFull-paceFrom)))
}
