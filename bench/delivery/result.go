package delivery

import (
	"fmt"
	"time"

	"github.com/stellara/edge/bench/report"
)

// Run is everything one run of the fault test found out.
type Run struct {
	Scenario     string         `json:"scenario"`
	Started      time.Time      `json:"started"`
	Machine      report.Machine `json:"machine"`
	Nodes        int            `json:"nodes"`
	Clients      int            `json:"clients"`
	Rooms        int            `json:"rooms"`
	Rate         float64        `json:"messages_per_second"`
	EverySeconds float64        `json:"drop_every_seconds"`
	AwaySeconds  float64        `json:"away_seconds"`
	Systems      []System       `json:"systems"`
	Pass         bool           `json:"pass"` // of the edge
}

// System is one server system under the faults.
type System struct {
	Name       string           `json:"name"` // edge or node
	IDs        bool             `json:"message_ids"`
	Phases     []Phase          `json:"phases"`
	Findings   *Findings        `json:"findings,omitempty"` // of the crowd
	Absent     int              `json:"absent"`             // clients that were not there in the end
	Unsettled  int              `json:"publishers_unsettled"`
	Publishers PublisherStats   `json:"publishers"`
	Events     Events           `json:"events"`
	Verdicts   []report.Verdict `json:"verdicts,omitempty"`
	Broken     string           `json:"broken,omitempty"` // what ended it early
}

// Phase is one fault with the time until everything was well again, and the quiet time after it.
type Phase struct {
	Name     string                    `json:"name"`
	What     string                    `json:"what"`
	Told     bool                      `json:"told"` // no session outlives it: everybody must be told once
	Seconds  float64                   `json:"seconds"`
	WellIn   float64                   `json:"well_in_seconds"` // from its end until every client had a newer message; -1: never
	Returns  Tally                     `json:"returns"`
	Counts   Counts                    `json:"counts"`
	Metrics  map[string]map[string]int `json:"metrics,omitempty"` // of the nodes, by name, then by label
	Group    *Group                    `json:"group,omitempty"`
	Failures []string                  `json:"failures,omitempty"`
	Examples []string                  `json:"examples,omitempty"` // of returns that ended the other way than they must
}

// Group is clients of a phase's own, besides the crowd, that do the same all together.
type Group struct {
	Clients       int       `json:"clients"`
	Returns       Tally     `json:"returns"`
	WantRecovered int       `json:"want_recovered"`
	WantTold      int       `json:"want_told"`
	Findings      *Findings `json:"findings"`
	Events        Events    `json:"events"`
}

// inTime is how long a client may be away and must still get its session back.
const inTime = 2 * time.Minute

// Tally counts returns.
type Tally struct {
	Returned  int `json:"returned"`
	Recovered int `json:"recovered"`
	Told      int `json:"told"`
	Late      int `json:"late"`           // after more than 2 minutes, of those that were told
	Replayed  int `json:"replayed_early"` // events before the answer to CONNECT

	// Of a fault that no session outlives.
	Claimed   int `json:"claimed"`    // sessions from before it that were given back all the same
	ToldAgain int `json:"told_again"` // sessions from after it that were not
}

// TallyOf counts returns; harmed is when all sessions ended, zero if they did not.
func TallyOf(returns []Return, harmed time.Time) (t Tally) {
	for _, r := range returns {
		t.Returned++
		t.Replayed += r.Missed
		old := r.Session.Before(harmed)
		after := !harmed.IsZero() && r.At.After(harmed)
		if r.Recovered {
			t.Recovered++
			if after && old {
				t.Claimed++
			}
			continue
		}
		t.Told++
		if r.Away > inTime {
			t.Late++
		}
		if after && !old {
			t.ToldAgain++
		}
	}
	return t
}

// Unexpected describes returns after a fault that no session outlives which ended the other way than they
// must: some of those that were given back all the same, and of those that were told again.
func Unexpected(returns []Return, harmed time.Time) (lines []string) {
	claimed, again := 0, 0
	for _, r := range returns {
		if harmed.IsZero() || !r.At.After(harmed) {
			continue
		}
		after := func(t time.Time) float64 { return t.Sub(harmed).Seconds() }
		switch old := r.Session.Before(harmed); {
		case old && r.Recovered && claimed < maxExamples/2:
			claimed++
			lines = append(lines, fmt.Sprintf("a session from %.2f s before it was given back %.2f s after it", -after(r.Session), after(r.At)))
		case !old && !r.Recovered && again < maxExamples/2:
			again++
			lines = append(lines, fmt.Sprintf("a session begun %.2f s after it was lost: away from %.2f s to %.2f s after it",
				after(r.Session), after(r.At)-r.Away.Seconds(), after(r.At)))
		}
	}
	return lines
}

// add adds other tallies.
func (t *Tally) add(o Tally) {
	t.Returned += o.Returned
	t.Recovered += o.Recovered
	t.Told += o.Told
	t.Late += o.Late
	t.Replayed += o.Replayed
	t.Claimed += o.Claimed
	t.ToldAgain += o.ToldAgain
}

// share is how many of the returns in time were recovered; 1 without any.
func (t *Tally) share() float64 {
	if n := t.Returned - t.Late; n > 0 {
		return float64(t.Recovered) / float64(n)
	}
	return 1
}

// minRecovered is the share of returns within 2 minutes that must be recovered.
const minRecovered = 0.99

// Judge fills in what failed in each phase, and the verdicts.
func (s *System) Judge() {
	for i := range s.Phases {
		if s.Findings != nil {
			s.Phases[i].Counts = s.Findings.Phases[i]
		}
		s.Phases[i].judge()
	}
	s.Verdicts = s.verdicts()
}

func (p *Phase) judge() {
	fail := func(format string, args ...any) { p.Failures = append(p.Failures, fmt.Sprintf(format, args...)) }
	if c := p.Counts; c.Wrong() > 0 {
		fail("within sessions: %s", c.wrongs())
	}
	if p.WellIn < 0 {
		fail("not every client got new messages again")
	}
	if p.Returns.Claimed > 0 {
		fail("%d sessions from before were given back, though what they missed cannot be known", p.Returns.Claimed)
	}
	if p.Returns.ToldAgain > 0 {
		fail("%d sessions from after it were not given back", p.Returns.ToldAgain)
	}
	g := p.Group
	if g == nil {
		return
	}
	if g.Returns.Recovered != g.WantRecovered || g.Returns.Told != g.WantTold {
		fail("of its own %d clients' returns %d were recovered and %d not, which should be %d and %d",
			g.Clients, g.Returns.Recovered, g.Returns.Told, g.WantRecovered, g.WantTold)
	}
	if g.Findings != nil && g.Findings.Total.Wrong() > 0 {
		fail("its own clients, within sessions: %s", g.Findings.Total.wrongs())
	}
	if p.Name == phaseWrongPID && g.Findings != nil && g.Findings.Total.Again > 0 {
		fail("its own clients got %d messages of an old session again", g.Findings.Total.Again)
	}
}

// phaseWrongPID is the phase in which nothing of an old session may come again.
const phaseWrongPID = "wrong-pid"

func (c *Counts) wrongs() string {
	return fmt.Sprintf("%d lost, %d twice, %d out of order, %d from before the join, %d strange",
		c.Lost, c.Duplicated, c.OutOfOrder, c.Stale, c.Strange)
}

// sum adds up the returns of phases that sessions outlive, and of those that they do not.
func (s *System) sum() (outlived, told Tally) {
	for i := range s.Phases {
		if s.Phases[i].Told {
			told.add(s.Phases[i].Returns)
		} else {
			outlived.add(s.Phases[i].Returns)
		}
	}
	return outlived, told
}

// verdicts compares with what is promised.
func (s *System) verdicts() (v []report.Verdict) {
	none := func(what string, n uint64, got string) {
		d := report.Verdict{What: what, Target: "0", Got: got, Result: report.Pass}
		if n > 0 {
			d.Result = report.Miss
		}
		v = append(v, d)
	}
	if s.Findings == nil {
		return []report.Verdict{{What: "everything", Target: "a whole run", Got: s.Broken, Result: report.Miss}}
	}
	c, groups := s.Findings.Total, Counts{}
	for _, p := range s.Phases {
		if p.Group != nil && p.Group.Findings != nil {
			groups.Add(p.Group.Findings.Total)
		}
	}
	c.Add(groups)
	none("lost within sessions", c.Lost, fmt.Sprintf("%d of %d messages due", c.Lost, c.Received+c.Lost))
	none("received twice within sessions", c.Duplicated, fmt.Sprint(c.Duplicated))
	none("out of order within sessions", c.OutOfOrder, fmt.Sprint(c.OutOfOrder))
	none("from before the join, or for somebody else", c.Stale+c.Strange, fmt.Sprint(c.Stale+c.Strange))
	outlived, told := s.sum()
	d := report.Verdict{What: "returns within 2 min. that were recovered", Target: "≥ 99 %", Result: report.Pass,
		Got: fmt.Sprintf("%.2f %%, %d of %d", outlived.share()*100, outlived.Recovered, outlived.Returned-outlived.Late)}
	switch {
	case outlived.Returned == 0:
		d.Got, d.Result = "nobody returned", report.Unknown
	case outlived.share() < minRecovered:
		d.Result = report.Miss
	}
	v = append(v, d)
	none("recovered though Redis had lost the journal", uint64(told.Claimed), fmt.Sprintf("%d of %d returns", told.Claimed, told.Returned))
	none("told more than once that Redis had lost it", uint64(told.ToldAgain), fmt.Sprint(told.ToldAgain))
	none("clients and publishers not there in the end", uint64(s.Absent+s.Unsettled), fmt.Sprintf("%d and %d", s.Absent, s.Unsettled))
	failed := 0
	for _, p := range s.Phases {
		if len(p.Failures) > 0 {
			failed++
		}
	}
	none("faults with failures", uint64(failed), fmt.Sprintf("%d of %d", failed, len(s.Phases)))
	return v
}

// Passed reports whether all that was judged is as it must be.
func (s *System) Passed() bool {
	for _, v := range s.Verdicts {
		if v.Result == report.Miss {
			return false
		}
	}
	return s.Broken == ""
}
