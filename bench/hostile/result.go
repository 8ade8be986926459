package hostile

import (
	"fmt"
	"time"

	"github.com/stellara/edge/bench/delivery"
	"github.com/stellara/edge/bench/report"
)

// Result is everything one run found out.
type Result struct {
	Started      time.Time          `json:"started"`
	Machine      report.Machine     `json:"machine"`
	Staying      int                `json:"clients_that_stay"`
	Returning    int                `json:"clients_that_return"`
	Rooms        int                `json:"rooms"`
	Rate         float64            `json:"messages_per_second"`
	QuietSeconds float64            `json:"quiet_s"`
	Seconds      float64            `json:"hostile_s"`
	Plan         Plan               `json:"plan"`
	Phases       []Phase            `json:"phases"`
	Tally        Tally              `json:"attacks"`
	Published    uint64             `json:"published"`
	Findings     *delivery.Findings `json:"findings,omitempty"`
	Absent       int                `json:"absent"` // clients that were not there in the end
	Unsettled    int                `json:"publishers_unsettled"`
	Left         int                `json:"attackers_conns_left"`
	LeftPending  int                `json:"attackers_pending_left"`
	Verdicts     []report.Verdict   `json:"verdicts"`
	Pass         bool               `json:"pass"`
	Broken       string             `json:"broken,omitempty"` // what ended it early
}

// Phase is a stretch of the run: without attackers, then with them.
type Phase struct {
	Use     Use                           `json:"use"`
	Latency report.Latency                `json:"latency"`        // of messages at the clients that stay
	Lost    map[string]int                `json:"lost,omitempty"` // connections of clients, by what ended them, those they dropped themselves left out
	Returns delivery.Tally                `json:"returns"`
	Reasons map[string]map[string]float64 `json:"reasons"` // what the node refused, closed and dropped, by its reasons
}

// Disconnected is how many connections of clients ended that they did not end.
func (p *Phase) Disconnected() (n int) {
	for _, k := range p.Lost {
		n += k
	}
	return n
}

// Use is what the node used, as seen once a second.
type Use struct {
	LeastRSS, MostRSS               int64   // bytes
	LeastGoroutines, MostGoroutines float64 // 0: never told
	LeastFiles, MostFiles           float64 // descriptors
	FirstCPU, LastCPU               float64 // seconds of the process since it began
	Looks                           int
}

// Seen takes into account what was seen; goroutines and files may be 0 where the node did not tell.
func (u *Use) Seen(rss int64, cpu, goroutines, files float64) {
	if u.Looks == 0 {
		u.LeastRSS, u.FirstCPU = rss, cpu
	}
	u.Looks++
	u.LeastRSS, u.MostRSS, u.LastCPU = min(u.LeastRSS, rss), max(u.MostRSS, rss), cpu
	if goroutines == 0 || files == 0 {
		return
	}
	if u.LeastFiles == 0 {
		u.LeastGoroutines, u.LeastFiles = goroutines, files
	}
	u.LeastGoroutines, u.MostGoroutines = min(u.LeastGoroutines, goroutines), max(u.MostGoroutines, goroutines)
	u.LeastFiles, u.MostFiles = min(u.LeastFiles, files), max(u.MostFiles, files)
}

// PhaseName names a phase.
func PhaseName(i int) string { return [...]string{"quiet", "under attack"}[i] }

// garbage is by how much the memory of a node may exceed what is in use: half as much again is collected only then
// (GOGC=50, its default), and what was collected is not given back at once.
const garbage = 2

// MemoryBound is the RSS that the node must not exceed under attack: what it had in quiet, and what all attackers
// that were there at once can make it keep, with garbage.
func (r *Result) MemoryBound() int64 {
	if len(r.Phases) == 0 {
		return 0
	}
	return r.Phases[0].Use.MostRSS + garbage*r.Tally.Bound()
}

// Judge fills in the verdicts.
func (r *Result) Judge() {
	r.Verdicts, r.Pass = nil, true
	none := func(what string, n uint64, got string) {
		v := report.Verdict{What: what, Target: "0", Got: got, Result: report.Pass}
		if n > 0 {
			v.Result, r.Pass = report.Miss, false
		}
		r.Verdicts = append(r.Verdicts, v)
	}
	if len(r.Phases) < 2 || r.Findings == nil {
		r.Verdicts, r.Pass = []report.Verdict{{What: "everything", Target: "a whole run", Got: r.Broken, Result: report.Miss}}, false
		return
	}
	c, under := r.Findings.Total, &r.Phases[1]
	none("messages lost", c.Lost, fmt.Sprintf("%d of %d due", c.Lost, c.Received+c.Lost))
	none("twice, out of order, or not for the client", c.Duplicated+c.OutOfOrder+c.Stale+c.Strange, fmt.Sprintf("%d, %d, %d", c.Duplicated, c.OutOfOrder, c.Stale+c.Strange))
	none("clients disconnected", uint64(under.Disconnected()), fmt.Sprint(under.Disconnected()))
	back := r.Phases[0].Returns.Returned + under.Returns.Returned
	lost := back - r.Phases[0].Returns.Recovered - under.Returns.Recovered
	none("returns that were not recovered", uint64(lost), fmt.Sprintf("%d of %d", lost, back))
	none("clients and publishers not there in the end", uint64(r.Absent+r.Unsettled), fmt.Sprintf("%d and %d", r.Absent, r.Unsettled))
	none("conns and connections of attackers that stayed", uint64(max(r.Left, 0)+r.LeftPending), fmt.Sprintf("%d and %d", max(r.Left, 0), r.LeftPending))
	panics := uint64(under.Reasons["closed"]["panic"])
	none("conns closed after a panic", panics, fmt.Sprint(panics))
	memory := report.Verdict{
		What: "most memory under attack", Target: fmt.Sprintf("≤ %.0f MB", float64(r.MemoryBound())/1e6),
		Got: fmt.Sprintf("%.0f MB", float64(under.Use.MostRSS)/1e6), Result: report.Pass,
	}
	if under.Use.MostRSS > r.MemoryBound() {
		memory.Result, r.Pass = report.Miss, false
	}
	r.Verdicts = append(r.Verdicts, memory)
	if r.Tally.Begun() == 0 {
		r.Verdicts, r.Pass = append(r.Verdicts, report.Verdict{What: "attacks", Target: "some", Got: "none", Result: report.Miss}), false
	}
}
