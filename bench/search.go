//go:build linux

package main

import (
	"math"

	"github.com/stellara/edge/bench/report"
)

// search looks for the highest rate that a system holds: up by a factor from a first guess (or down, if
// that was too much) until one rate held and a higher one did not, then between the two. It keeps nothing;
// what comes next follows from what was tried.
type search struct {
	start  float64 // first rate
	factor float64 // of the steps up and down, above 1
	within float64 // ratio of the lowest rate that failed to the highest that held at which it is over, above 1
}

// try is one rate and what came of it.
type try struct {
	rate    float64
	outcome report.Outcome
}

// maxTries ends a search that does not come to an end; maxDown is by how much a rate may fall below the
// first before it gives up.
const (
	maxTries = 24
	maxDown  = 200.0
)

// next returns the rate to try after those; more is false when the search is over. A rate whose failure
// may not be the server's is tried once more.
func (s search) next(tries []try) (rate float64, more bool) {
	if len(tries) == 0 {
		return s.start, true
	}
	if len(tries) >= maxTries {
		return 0, false
	}
	last := tries[len(tries)-1]
	if last.outcome.Doubtful() && (len(tries) == 1 || tries[len(tries)-2].rate != last.rate) {
		return last.rate, true
	}
	low, high := bounds(tries)
	switch {
	case math.IsInf(high, 1):
		return low * s.factor, true
	case low == 0:
		rate = high / s.factor
		return rate, rate >= s.start/maxDown
	case high/low <= s.within:
		return 0, false
	default:
		return math.Sqrt(low * high), true
	}
}

// bounds returns the highest rate that held, 0 if none did, and the lowest that did not, infinite if all
// did. Of a rate that was tried twice the second try counts.
func bounds(tries []try) (low, high float64) {
	high = math.Inf(1)
	for i, t := range tries {
		switch {
		case i+1 < len(tries) && tries[i+1].rate == t.rate:
		case t.outcome == report.Held:
			low = max(low, t.rate)
		default:
			high = min(high, t.rate)
		}
	}
	return low, high
}

// judge says whether a step was held, and if not, why. Where the machine stood still, or the clients were
// late themselves, the failure may not be the server's.
func judge(s *report.Step, seconds float64) report.Outcome {
	failed := report.Held
	switch {
	case s.Refused > 0:
		failed = report.RefusedSome
	case s.Dropped > 0:
		failed = report.DroppedSome
	case s.Lost > 0:
		failed = report.LostSome
	case s.Duplicated > 0 || s.Reordered > 0 || s.Misrouted > 0: // one order for all members is not asked for: Node.js has none
		failed = report.Disordered
	case s.Latency.P99 >= report.LimitP99MS:
		failed = report.TooSlow
	case float64(s.Delivered) < report.KeepsUp*s.Nominal*seconds:
		failed = report.FellBehind
	}
	switch {
	case failed == report.Held:
		return report.Held
	case s.Stall.Max > report.LimitStallMS:
		return report.MachineStalled
	case s.SendLag.P99 > report.LimitLagMS || s.ReadLag.P99 > report.LimitLagMS:
		return report.ClientLate
	}
	return failed
}
