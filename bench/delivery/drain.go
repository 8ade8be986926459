package delivery

import (
	"fmt"
	"time"

	"github.com/stellara/edge/bench/report"
)

// DrainRun is everything that one run of a rolling restart found out.
type DrainRun struct {
	Scenario      string           `json:"scenario"`
	Started       time.Time        `json:"started"`
	Machine       report.Machine   `json:"machine"`
	Nodes         int              `json:"nodes"`
	Clients       int              `json:"clients"`
	Rooms         int              `json:"rooms"`
	Rate          float64          `json:"messages_per_second"`
	DelaySeconds  float64          `json:"drain_delay_seconds"`
	WindowSeconds float64          `json:"drain_window_seconds"`
	GraceSeconds  float64          `json:"shutdown_grace_seconds"`
	MaxConns      int              `json:"max_conns"`
	Restarts      []Restart        `json:"restarts"`
	ServerErrors  int              `json:"server_errors"` // answers 5xx that the balancer had from nodes
	BalancerErrs  int              `json:"balancer_errors"`
	System        System           `json:"system"`
	Verdicts      []report.Verdict `json:"verdicts"`
}

// Restart is one node's end and its new beginning. Times count from the signal.
type Restart struct {
	Node     string          `json:"node"`
	Conns    int             `json:"conns"` // before
	Closed   []time.Duration `json:"-"`     // when its clients lost their connections
	Returned []time.Duration `json:"-"`     // when they were back
	ByClosed []int           `json:"closed_by_second"`
	ByBack   []int           `json:"returned_by_second"`
	Exit     time.Duration   `json:"exit_ns"`
	Code     int             `json:"exit_code"`
	Most     int             `json:"most_conns"` // on any one node
	Full     int             `json:"refused_max_conns"`
	Early    int             `json:"closed_early"`
	Late     int             `json:"closed_late"`
	Peak     float64         `json:"peak"` // the fullest tenth of the window, of an even share
}

// lateBy is how much later than the window a client may see its end: the way through the balancer, on a machine that
// is busy with all of this.
const lateBy = 2 * time.Second

// maxPeak is how many times its even share the fullest tenth of the window may have.
const maxPeak = 2.0

// spreads fills in what Closed and Returned say.
func (s *Restart) spreads(delay, window time.Duration) {
	s.ByClosed, s.ByBack = bySecond(s.Closed), bySecond(s.Returned)
	s.Early, s.Late, s.Peak = 0, 0, 0
	var tenths [10]int
	inside := 0
	for _, at := range s.Closed {
		switch in := at - delay; {
		case in < 0:
			s.Early++
		case in > window+lateBy:
			s.Late++
		default:
			inside++
			tenths[min(int(10*in/max(window, 1)), 9)]++
		}
	}
	for _, n := range tenths {
		s.Peak = max(s.Peak, 10*float64(n)/float64(max(inside, 1)))
	}
}

// bySecond counts times by the second in which they are.
func bySecond(times []time.Duration) (counts []int) {
	for _, t := range times {
		for len(counts) <= int(t/time.Second) {
			counts = append(counts, 0)
		}
		counts[max(int(t/time.Second), 0)]++
	}
	return counts
}

// Judge compares with what is promised of a drain.
func (r *DrainRun) Judge() {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	delay, window := seconds(r.DelaySeconds), seconds(r.WindowSeconds)
	r.Verdicts = nil
	expect := func(what, target string, ok bool, format string, args ...any) {
		v := report.Verdict{What: what, Target: target, Got: fmt.Sprintf(format, args...), Result: report.Pass}
		if !ok {
			v.Result = report.Miss
		}
		r.Verdicts = append(r.Verdicts, v)
	}
	var closed, early, late, most, full, codes int
	var peak float64
	var exit time.Duration
	for i := range r.Restarts {
		s := &r.Restarts[i]
		s.spreads(delay, window)
		closed += len(s.Closed)
		early += s.Early
		late += s.Late
		full += s.Full
		most, peak, exit = max(most, s.Most), max(peak, s.Peak), max(exit, s.Exit)
		if s.Code != 0 {
			codes++
		}
	}
	var t Tally
	for i := range r.System.Phases {
		t.add(r.System.Phases[i].Returns)
	}
	expect("returns that were recovered", "≥ 99 %", t.Returned > 0 && t.share() >= minRecovered, "%.2f %%, %d of %d", t.share()*100, t.Recovered, t.Returned)
	if f := r.System.Findings; f == nil {
		expect("every message once and in order", "a whole run", false, "%s", r.System.Broken)
	} else {
		c := f.Total
		expect("lost within sessions", "0", c.Lost == 0, "%d of %d messages due", c.Lost, c.Received+c.Lost)
		expect("received twice within sessions", "0", c.Duplicated == 0, "%d", c.Duplicated)
		expect("out of order, or not for the client", "0", c.OutOfOrder+c.Stale+c.Strange == 0, "%d", c.OutOfOrder+c.Stale+c.Strange)
	}
	expect("closed before DRAIN_DELAY was over", "0", early == 0, "%d of %d", early, closed)
	expect("closed after DRAIN_WINDOW was over", "0", late == 0, "%d of %d", late, closed)
	expect("fullest tenth of the window, of its even share", fmt.Sprintf("≤ %.1f ×", maxPeak), peak <= maxPeak && closed > 0, "%.2f ×", peak)
	expect("most connections on a node", fmt.Sprintf("≤ %d", r.MaxConns), most <= r.MaxConns && full == 0, "%d, and %d refused", most, full)
	expect("answers 5xx of nodes, and failures of the balancer", "0", r.ServerErrors+r.BalancerErrs == 0, "%d and %d", r.ServerErrors, r.BalancerErrs)
	failed := 0
	for _, n := range r.System.Events.Failed {
		failed += n
	}
	expect("connects of clients that failed", "0", failed == 0, "%d", failed)
	limit := delay + window + seconds(r.GraceSeconds)
	expect("a node's time to its end, with exit code 0", "≤ "+limit.String(), exit <= limit && codes == 0, "%.1f s, %d with another code", exit.Seconds(), codes)
	expect("clients and publishers not there in the end", "0", r.System.Absent+r.System.Unsettled == 0, "%d and %d", r.System.Absent, r.System.Unsettled)
}

// Passed reports whether all is as it must be.
func (r *DrainRun) Passed() bool {
	for _, v := range r.Verdicts {
		if v.Result == report.Miss {
			return false
		}
	}
	return r.System.Broken == "" && len(r.Verdicts) > 0
}
