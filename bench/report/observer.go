package report

import (
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"
)

// Observer is what the independent observer of the presence keys saw; it prints this as JSON, see
// bench/node/observer.mjs.
type Observer struct {
	Missing       string         `json:"missing,omitempty"` // why there was none, or none to believe
	Seconds       float64        `json:"seconds"`
	Users         int            `json:"users"`            // that it knows
	Changes       int            `json:"changes"`          // of the truth, while it looked
	Samples       int            `json:"samples"`          // users it looked at
	Looks         int            `json:"looks"`            // entries it looked at: a user in a set, a user's key
	Sets          int            `json:"sets"`             // sets it read as a whole
	Disagreements int            `json:"disagreements"`    // entries that were wrong for longer than the limit
	LongestMS     float64        `json:"longest_wrong_ms"` // the longest that any entry was proved wrong
	StillWrong    int            `json:"still_wrong"`      // entries that were wrong at the end, for however short
	Errors        int            `json:"errors"`           // looks that failed
	Error         string         `json:"error,omitempty"`  // the first of them
	Examples      []Disagreement `json:"examples,omitempty"`
}

// Disagreement is an entry that was wrong for longer than the limit.
type Disagreement struct {
	User  string  `json:"user"`
	Key   string  `json:"key"`
	Found any     `json:"found"` // membership, or the value
	Want  any     `json:"want"`
	ForMS float64 `json:"for_ms"`
	AtS   float64 `json:"at_s"` // seconds after the observer began
}

func (d *Disagreement) String() string {
	return fmt.Sprintf("%s of %s is %v, not %v, for %.0f ms at %.0f s", d.Key, d.User, d.Found, d.Want, d.ForMS, d.AtS)
}

// Churn is what the users did that change presence while messages flow.
type Churn struct {
	Connects    int `json:"connects"`
	Joins       int `json:"joins"`
	Leaves      int `json:"leaves"`
	Moves       int `json:"moves"` // a second device on another node, then the end of the first
	Disconnects int `json:"disconnects"`
	Failures    int `json:"failures"`

	Reasons map[string]int `json:"reasons,omitempty"` // of the failures
}

// Changes returns how many changes there were.
func (c *Churn) Changes() int { return c.Connects + c.Joins + c.Leaves + c.Moves + c.Disconnects }

// observerRows shows the observer and the changes it could see.
func observerRows(t *table) {
	t.row("changes by other users / failed", false, func(s *System) figure {
		if s.Churn == nil {
			return missing()
		}
		return figure{0, thousands(float64(s.Churn.Changes())) + " / " + thousands(float64(s.Churn.Failures))}
	})
	each := func(label string, get func(*Observer) figure) {
		t.row(label, false, func(s *System) figure {
			if s.Observer == nil || s.Observer.Missing != "" {
				return missing()
			}
			return get(s.Observer)
		})
	}
	each("users looked at", func(o *Observer) figure { return count(float64(o.Samples)) })
	each("  of that per second", func(o *Observer) figure { return number(float64(o.Samples)/max(o.Seconds, 1), "%.0f") })
	each("entries / whole sets read", func(o *Observer) figure {
		return figure{0, thousands(float64(o.Looks)) + " / " + thousands(float64(o.Sets))}
	})
	each("looks that failed", func(o *Observer) figure { return count(float64(o.Errors)) })
	each("disagreements over 1 s", func(o *Observer) figure { return count(float64(o.Disagreements)) })
	each("longest that an entry was wrong", func(o *Observer) figure { return number(o.LongestMS, "%.0f ms") })
}

// observed lists what was wrong with presence, and what failed of the changes and reads of it.
func observed(s *System) (lines []string) {
	if c := s.Churn; c != nil {
		for _, reason := range slices.Sorted(maps.Keys(c.Reasons)) {
			lines = append(lines, fmt.Sprintf("churn: %d × %s", c.Reasons[reason], reason))
		}
	}
	if s.Loss != nil {
		lines = append(lines, s.Loss.complaints()...)
	}
	if s.Recovery != nil {
		lines = append(lines, s.Recovery.complaints()...)
	}
	if s.SlowReaders != nil {
		lines = append(lines, s.SlowReaders.complaints()...)
	}
	if s.Storms != nil {
		lines = append(lines, s.Storms.complaints()...)
	}
	if s.Comings != nil {
		lines = append(lines, s.Comings.complaints()...)
	}
	o := s.Observer
	if o == nil {
		return lines
	}
	if o.Missing != "" {
		lines = append(lines, "observer: "+o.Missing)
	}
	if o.Error != "" {
		lines = append(lines, fmt.Sprintf("observer: %d × %s", o.Errors, o.Error))
	}
	for i := range o.Examples {
		lines = append(lines, "observer: "+o.Examples[i].String())
	}
	return lines
}

// judgeObserver wants no disagreement.
func judgeObserver(edge *System) Verdict {
	const what = "disagreements an observer saw"
	o := edge.Observer
	switch {
	case o == nil:
		return unknown(what, "0", "no observer")
	case o.Missing != "":
		return unknown(what, "0", o.Missing)
	case o.Looks == 0 || o.Errors > 0:
		return unknown(what, "0", fmt.Sprintf("%d looks, %d failed: %s", o.Looks, o.Errors, o.Error))
	}
	v := Verdict{What: what, Target: "0", Result: Pass}
	if o.Disagreements > 0 {
		v.Result = Miss
	}
	v.Got = fmt.Sprintf("%d in %s looks, %s changes", o.Disagreements, thousands(float64(o.Looks)), thousands(float64(o.Changes)))
	return v
}

// observedList is observed for the page.
func observedList(s *System) string {
	var b strings.Builder
	for _, line := range observed(s) {
		fmt.Fprintf(&b, "<li>%s, %s</li>\n", html.EscapeString(s.Name), html.EscapeString(line))
	}
	return b.String()
}
