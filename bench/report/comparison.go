package report

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Variants are the systems of a comparison. Ratios are of the edge to Node.js.
const (
	VariantEdge     = "edge"
	VariantNode     = "Node.js"
	VariantRecovery = "edge, RECOVERY=on" // beside an edge without it
)

// Comparison is several scenarios, each with several trials, of the edge and the Node.js system.
type Comparison struct {
	Started  time.Time  `json:"started"`
	Seconds  float64    `json:"seconds"` // how long it took, or has taken so far
	Machine  Machine    `json:"machine"`
	Planned  int        `json:"trials"` // of each part
	Quick    bool       `json:"quick"`  // a try-out, of which no figure counts
	Floors   []Floor    `json:"floors"` // one of each trial
	Parts    []Compared `json:"parts"`
	Verdicts []Verdict  `json:"verdicts"`
}

// Compared is one scenario of a comparison.
type Compared struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Command string `json:"command"` // by which it can be run alone
	Load    Load   `json:"load"`
	Runs    []Run  `json:"runs"`
}

// Run is one system's way through the scenario, in one trial.
type Run struct {
	Trial   int     `json:"trial"` // from 0
	Variant string  `json:"variant"`
	Seconds float64 `json:"seconds"`
	System  *System `json:"system,omitempty"` // as far as it came
	Error   string  `json:"error,omitempty"`  // why it did not come to its end
}

// Add takes a run into the part of that name; title, command and load are those of the part, for its
// first run.
func (c *Comparison) Add(part Compared, run Run) {
	run.System.thin()
	for i := range c.Parts {
		if c.Parts[i].Name == part.Name {
			c.Parts[i].Runs = append(c.Parts[i].Runs, run)
			return
		}
	}
	part.Runs = []Run{run}
	c.Parts = append(c.Parts, part)
}

// thin leaves out the curves that a comparison does not show: with many runs, they were most of the file.
func (s *System) thin() {
	if s == nil {
		return
	}
	for i := range s.Steps {
		step := &s.Steps[i]
		step.Seconds = nil
		for _, l := range []*Latency{&step.SendLag, &step.ReadLag, &step.Stall} {
			l.Curve, l.Bars = nil, nil
		}
	}
}

// floor is the price of a bare write in microseconds, the median of all trials; NaN if unknown.
func (c *Comparison) floor() float64 {
	var each []float64
	for i := range c.Floors {
		each = append(each, c.Floors[i].Base())
	}
	return Median(each)
}

// trials returns a figure of each trial of a variant, NaN for those that did not come that far.
func (p *Compared) trials(variant string, planned int, get func(*System) (float64, bool)) []float64 {
	out := make([]float64, planned)
	for i := range out {
		out[i] = math.NaN()
	}
	for _, run := range p.Runs {
		if run.Variant != variant || run.System == nil || run.Trial >= planned {
			continue
		}
		if v, ok := get(run.System); ok && !math.IsInf(v, 0) {
			out[run.Trial] = v
		}
	}
	return out
}

// heading is the part's title line.
func (p *Compared) heading() string {
	return fmt.Sprintf("%s: %s (%s connections)", p.Name, p.Title, thousands(float64(p.Load.Conns)))
}

// Held returns the highest rate that the latest trial of a part found for a variant, in deliveries per
// second as they were sent; 0 if none did.
func (c *Comparison) Held(part, variant string) (deliveries float64) {
	for i := range c.Parts {
		if c.Parts[i].Name != part {
			continue
		}
		for _, s := range c.Parts[i].systems(variant) {
			if step := s.best(); step != nil {
				deliveries = step.Nominal
			}
		}
	}
	return deliveries
}

// has reports whether the part has a variant at all.
func (p *Compared) has(variant string) bool {
	for _, run := range p.Runs {
		if run.Variant == variant {
			return true
		}
	}
	return false
}

// systems returns what was measured of a variant, trial by trial.
func (p *Compared) systems(variant string) (out []*System) {
	for _, run := range p.Runs {
		if run.Variant == variant && run.System != nil {
			out = append(out, run.System)
		}
	}
	return out
}

// Write judges what there is so far, and writes bench-compare.json and bench-compare.html to dir. It
// returns the two paths. A file is replaced as a whole, so that an interrupt leaves the one before.
func (c *Comparison) Write(dir string) (jsonPath, htmlPath string, err error) {
	c.Verdicts = c.Judge()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", fmt.Errorf("report: %w", err)
	}
	text, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return "", "", fmt.Errorf("report: %w", err)
	}
	jsonPath = filepath.Join(dir, "bench-compare.json")
	htmlPath = filepath.Join(dir, "bench-compare.html")
	if err := replace(jsonPath, append(text, '\n')); err != nil {
		return "", "", err
	}
	return jsonPath, htmlPath, replace(htmlPath, ComparisonHTML(c))
}

// replace writes a file beside the old one and then takes its place.
func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
