package report

import (
	"fmt"
	"math"
)

// compared is a metric with its figures.
type compared struct {
	metric
	edge, node, recovery []float64 // of each trial
}

// compare takes the figures of all trials of a part.
func (c *Comparison) compare(p *Compared) (out []compared) {
	for _, m := range c.metrics(p) {
		row := compared{metric: m, edge: p.trials(VariantEdge, c.Planned, m.get)}
		if !m.alone {
			row.node = p.trials(VariantNode, c.Planned, m.get)
		}
		if m.beside && p.has(VariantRecovery) {
			row.recovery = p.trials(VariantRecovery, c.Planned, m.get)
		}
		out = append(out, row)
	}
	return out
}

// fullName says what the figure is where no label above it does.
func (m *metric) fullName() string {
	if m.name != "" {
		return m.name
	}
	return m.label
}

// ratios are those of an edge to Node.js in each trial, in which they were measured one after the other;
// none where a ratio would say nothing.
func (r *compared) ratios(edge []float64) []float64 {
	if r.plain {
		return nil
	}
	return Ratios(edge, r.node)
}

// verdict compares the figure with its target; ok is false if it has none.
func (r *compared) verdict(what string) (v Verdict, ok bool) {
	target, value, show := r.ratio, Median(r.ratios(r.edge)), showTimes
	if target == nil {
		target, value, show = r.own, Median(r.edge), r.show
	}
	if target == nil {
		return Verdict{}, false
	}
	v = Verdict{What: what, Target: target.text(show), Result: Miss}
	switch {
	case math.IsNaN(value):
		v.Got, v.Result = "no trial came that far", Unknown
		return v, true
	case target.met(value):
		v.Result = Pass
	}
	v.Got = show(value)
	return v, true
}

// Judge compares the medians with the targets.
func (c *Comparison) Judge() []Verdict {
	var out []Verdict
	for i := range c.Parts {
		p := &c.Parts[i]
		group := ""
		for _, r := range c.compare(p) {
			if r.group != "" {
				group = " " + r.group
			}
			what := p.Name + group + ": " + r.fullName()
			if r.ratio != nil {
				what += ", ratio"
			}
			if v, ok := r.verdict(what); ok {
				out = append(out, v)
			}
		}
	}
	return append(out, c.judgeDelivery(), c.judgePresence(), c.judgeConnects(), c.judgeRuns())
}

// edges returns what was measured of the edge, in all parts and with every setting.
func (c *Comparison) edges() (out []*System) {
	for i := range c.Parts {
		out = append(append(out, c.Parts[i].systems(VariantEdge)...), c.Parts[i].systems(VariantRecovery)...)
	}
	return out
}

// judgeDelivery is about every message that was sent through the edge, but for those beyond the highest rate
// that a search held.
func (c *Comparison) judgeDelivery() Verdict {
	all := System{}
	var received uint64
	for _, s := range c.edges() {
		for _, step := range s.Steps {
			if step.Outcome != "" && step.Outcome != Held {
				step.Lost, step.Dropped, step.Disagreeing = 0, 0, 0
			}
			received += step.Received
			all.Steps = append(all.Steps, step)
		}
	}
	v := judgeDelivery(&all)
	v.What = "edge, all parts: " + v.What
	if len(all.Steps) == 0 {
		v.Got, v.Result = "no message was sent", Unknown
	} else if v.Result == Pass {
		v.Got = "0 of " + thousands(float64(received))
	}
	return v
}

func (c *Comparison) judgePresence() Verdict {
	all := System{}
	for _, s := range c.edges() {
		all.Presence = append(all.Presence, s.Presence...)
	}
	v := judgePresence(&all)
	v.What = "edge, all parts: " + v.What
	return v
}

func (c *Comparison) judgeConnects() Verdict {
	done, failed := 0, 0
	for _, s := range c.edges() {
		done, failed = done+s.Connect.Done, failed+s.Connect.Failed
	}
	v := Verdict{
		What: "edge, all parts: connections that failed", Target: "0", Result: Pass,
		Got: fmt.Sprintf("%s of %s", thousands(float64(failed)), thousands(float64(done+failed))),
	}
	switch {
	case done+failed == 0:
		v.Got, v.Result = "none was tried", Unknown
	case failed > 0:
		v.Result = Miss
	}
	return v
}

// judgeRuns says whether every trial came to its end.
func (c *Comparison) judgeRuns() Verdict {
	runs, failed := 0, 0
	for _, p := range c.Parts {
		for _, run := range p.Runs {
			runs++
			if run.Error != "" {
				failed++
			}
		}
	}
	v := Verdict{What: "trials that failed", Target: "0", Got: fmt.Sprintf("%d of %d", failed, runs), Result: Pass}
	switch {
	case runs == 0:
		v.Result = Unknown
	case failed > 0:
		v.Result = Miss
	}
	return v
}
