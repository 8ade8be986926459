//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stellara/edge/bench/load"
	"github.com/stellara/edge/bench/report"
)

// scenarioCompare runs several scenarios on the edge and on the Node.js system, several times each.
const scenarioCompare = "compare"

// compareFlags shape the comparison.
type compareFlags struct {
	trials int
	limit  time.Duration
	quick  bool
	parts  string
}

func (f *compareFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.trials, "trials", 3, "compare: how often every part is run; figures are medians")
	fs.DurationVar(&f.limit, "limit", 45*time.Minute, "compare: what would not be done by then is left out, and said to be; 0: no limit, the default with -trials")
	fs.BoolVar(&f.quick, "quick", false, "compare: a try-out of a few minutes, with one trial unless -trials is given, of which no figure counts")
	fs.StringVar(&f.parts, "parts", "", "compare: NAME,... of the parts to run; all if empty: "+strings.Join(partNames(), ","))
}

// deal sets the number of trials of a try-out, and refuses flags of the parts, which have their own.
func (f *compareFlags) deal(given map[string]bool) error {
	if f.quick && !given["trials"] {
		f.trials = 1
	}
	if given["trials"] && !given["limit"] {
		f.limit = 0
	}
	own := []string{"scenario", "trials", "limit", "quick", "parts", "env", "edge", "out", "target"} // the last is refused with its reason
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(own, name) {
			return fmt.Errorf("-%s: the parts of compare have their own; it takes -trials, -limit, -quick, -parts, -env, -edge and -out", name)
		}
	}
	return nil
}

func partNames() []string {
	var names []string
	for _, p := range comparedParts() {
		names = append(names, p.name)
	}
	return names
}

func (f *compareFlags) validate(c *config) error {
	if c.scenario != scenarioCompare {
		return nil
	}
	for _, name := range listFlag(f.parts) {
		if !slices.Contains(partNames(), name) {
			return fmt.Errorf("-parts: %q is none of %s", name, strings.Join(partNames(), ", "))
		}
	}
	switch {
	case len(c.targets) > 0:
		return errors.New("-target: compare needs servers of its own, as it measures their CPU")
	case f.trials < 1 || f.trials > 9:
		return fmt.Errorf("-trials: %d, can be 1 to 9", f.trials)
	case f.limit < 0:
		return fmt.Errorf("-limit: %v, cannot be negative", f.limit)
	}
	return nil
}

// comparedRun is one system's way through a part, in one trial.
type comparedRun struct {
	part    int
	trial   int
	variant variant
	about   time.Duration
}

// comparison is a comparison under way.
type comparison struct {
	cfg     config
	parts   []comparedPart
	configs []config // of each part
	clock   load.Clock
	report  *report.Comparison
	began   time.Time
	out     io.Writer
}

// compare runs all parts, one trial of all of them after the other, so that a disturbance of the machine
// does not hit all trials of a part. What was measured is written after every run.
func compare(ctx context.Context, cfg config, out io.Writer) error {
	c, err := newComparison(cfg, out)
	if err != nil {
		return err
	}
	if err := c.prepare(); err != nil {
		return err
	}
	runs := c.plan()
	fmt.Fprintf(out, "%d parts, %d trials, %d runs: about %s\n", len(c.parts), cfg.compare.trials, len(runs), minutes(sum(runs)))
	trial := -1
	for i, run := range runs {
		if run.trial != trial {
			trial = run.trial
			c.floor()
		}
		fmt.Fprintf(out, "\n[%d/%d] trial %d, %s, %s; %s gone, about %s left\n", i+1, len(runs), run.trial+1,
			c.parts[run.part].name, run.variant.name, minutes(time.Since(c.began)), minutes(left(runs, i, time.Since(c.began))))
		if tooLate(time.Since(c.began), run.about, cfg.compare.limit) {
			c.leaveOut(run)
			continue
		}
		c.run(ctx, run)
		if err := c.write(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Fprint(out, report.ComparisonText(c.report))
	jsonPath, htmlPath, err := c.report.Write(cfg.out)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n%s\n", jsonPath, htmlPath)
	return ctx.Err()
}

// newComparison returns a comparison of which nothing has been started.
func newComparison(cfg config, out io.Writer) (*comparison, error) {
	c := &comparison{cfg: cfg, began: time.Now(), out: out}
	wanted := listFlag(cfg.compare.parts)
	for _, p := range comparedParts() {
		if len(wanted) > 0 && !slices.Contains(wanted, p.name) {
			continue
		}
		part, err := p.config(&cfg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		c.parts, c.configs = append(c.parts, p), append(c.configs, part)
	}
	c.report = &report.Comparison{Started: c.began, Planned: cfg.compare.trials, Quick: cfg.compare.quick}
	return c, nil
}

// prepare sees that the machine has what all parts need, before the first of them takes its time.
func (c *comparison) prepare() error {
	if err := c.cfg.checkFiles(); err != nil {
		return err
	}
	for i := range c.configs {
		if err := c.configs[i].checkFiles(); err != nil {
			return fmt.Errorf("%s: %w", c.parts[i].name, err)
		}
	}
	var err error
	if c.clock, err = load.NewClock(); err != nil {
		return err
	}
	write, err := loopbackWrite()
	c.report.Machine = machine(write)
	return err
}

// plan lists all runs. Trials take turns in which system comes first.
func (c *comparison) plan() (runs []comparedRun) {
	for trial := range c.cfg.compare.trials {
		for part := range c.parts {
			variants := slices.Clone(c.parts[part].variants)
			if trial%2 == 1 {
				slices.Reverse(variants)
			}
			for _, v := range variants {
				runs = append(runs, comparedRun{part, trial, v, about(&c.configs[part], v.system, trial == 0)})
			}
		}
	}
	return runs
}

// sum is how long runs take by what was foretold.
func sum(runs []comparedRun) (d time.Duration) {
	for _, r := range runs {
		d += r.about
	}
	return d
}

// left foretells how long the runs from the i-th on take, by how far off the foretelling was so far.
func left(runs []comparedRun, i int, gone time.Duration) time.Duration {
	rest := sum(runs[i:])
	if done := sum(runs[:i]); done > 0 {
		return time.Duration(float64(rest) * float64(gone) / float64(done))
	}
	return rest
}

// minutes shows a time without fractions of a second.
func minutes(d time.Duration) string { return d.Round(time.Second).String() }

// floor measures the price of a bare write, once in every trial. Without it figures in bare writes are
// missing, and all others are not.
func (c *comparison) floor() {
	floor, err := writeFloor(c.cfg.conns)
	if err != nil {
		fmt.Fprintf(c.out, "%v; going on without\n", err)
		return
	}
	c.report.Floors = append(c.report.Floors, *floor)
	fmt.Fprintf(c.out, "a bare write costs %.2f µs\n", floor.Base())
}

// tooLate reports whether a run would end after the limit, if there is one.
func tooLate(gone, about, limit time.Duration) bool { return limit > 0 && gone+about > limit }

// leaveOut keeps in the report that a run was not made.
func (c *comparison) leaveOut(r comparedRun) {
	why := fmt.Sprintf("left out: it would have ended after -limit %v", c.cfg.compare.limit)
	fmt.Fprintln(c.out, why)
	c.add(r, report.Run{Trial: r.trial, Variant: r.variant.name, Error: why})
}

// add takes a run into the report.
func (c *comparison) add(r comparedRun, run report.Run) {
	p, cfg := &c.parts[r.part], &c.configs[r.part]
	c.report.Add(report.Compared{
		Name: p.name, Title: p.title, Load: cfg.load(), Command: "go run ./bench " + strings.Join(p.args(c.cfg.compare.quick), " "),
	}, run)
}

// run measures one system. An error is kept with what was measured until then, and the comparison goes on.
func (c *comparison) run(ctx context.Context, r comparedRun) {
	p := &c.parts[r.part]
	cfg := c.configs[r.part]
	if r.variant.env != "" {
		cfg.env = append(slices.Clone(cfg.env), r.variant.env)
	}
	if r.trial > 0 && cfg.scenario == scenarioSaturation {
		c.narrow(&cfg, p.name, r.variant.name)
	}
	began := time.Now()
	lead := part{cfg: cfg, system: r.variant.system}
	sys, err := lead.measure(ctx, c.clock, c.out)
	if ctx.Err() != nil {
		return // half of it says nothing
	}
	run := report.Run{Trial: r.trial, Variant: r.variant.name, Seconds: time.Since(began).Seconds(), System: sys}
	if err != nil {
		run.Error = err.Error()
		fmt.Fprintf(c.out, "%s, %s: %v; going on with the next\n", p.name, r.variant.name, err)
	}
	c.add(r, run)
}

// Where a search begins whose result is known from an earlier trial, and its steps: with luck one rate is held
// and the next is not.
const (
	narrowFrom   = 0.92
	narrowFactor = 1.12
)

// narrow begins a search where the last trial found something. The search itself is the same, it only
// takes fewer steps.
func (c *comparison) narrow(cfg *config, part, variant string) {
	if found := c.report.Held(part, variant); found > 0 {
		cfg.saturation.from, cfg.saturation.factor = narrowFrom*found, narrowFactor
	}
}

func (c *comparison) write() error {
	c.report.Seconds = time.Since(c.began).Seconds()
	_, _, err := c.report.Write(c.cfg.out)
	return err
}
