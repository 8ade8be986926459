//go:build linux

package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/bench/report"
)

func newTestComparison(t *testing.T, args ...string) *comparison {
	t.Helper()
	c, err := newComparison(parse(t, append([]string{"-scenario", "compare"}, args...)...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComparedPartsAreWhatTheyAreCalled(t *testing.T) {
	c := newTestComparison(t, "-env", "GOGC=100", "-edge", "/bin/edge", "-out", "there")
	configs := map[string]config{}
	for i, p := range c.parts {
		configs[p.name] = c.configs[i]
		if cfg := c.configs[i]; cfg.edge != "/bin/edge" || cfg.out != "there" || cfg.env[len(cfg.env)-1] != "GOGC=100" || cfg.payload != 128 {
			t.Errorf("%s: %+v", p.name, cfg)
		}
		// Alone, it is the same load.
		alone := parse(t, p.args(false)...)
		if cfg := c.configs[i]; alone.conns != cfg.conns || alone.rooms != cfg.rooms || !slices.Equal(alone.rates, cfg.rates) || alone.system != systemBoth {
			t.Errorf("%s alone: %+v", p.name, alone)
		}
	}
	if idle := configs[report.PartIdle]; idle.conns != 15_000 || idle.nodes != 1 || idle.rooms != 150 || !idle.browser || idle.duration != time.Minute || !slices.Contains(idle.env, withoutRecovery) {
		t.Errorf("idle: %+v", idle)
	}
	if s := configs[report.PartSteady]; s.conns != 5000 || s.nodes != 3 || s.rooms != 50 || !slices.Equal(s.rates, []float64{100, 300, 700}) ||
		!slices.Contains(s.env, withoutRecovery) || s.watch.churn != 0 || s.watch.observer {
		t.Errorf("steady: %+v", s)
	}
	if one := configs[report.PartOneRoom]; one.conns != 5000 || one.rooms != 1 || one.scenario != scenarioSaturation {
		t.Errorf("one room: %+v", one)
	}
	if tiny := configs[report.PartTiny]; tiny.rooms != 2500 || tiny.senders != 2 {
		t.Errorf("tiny rooms: %+v", tiny)
	}
}

func TestComparisonFitsIntoItsLimit(t *testing.T) {
	if d := sum(newTestComparison(t).plan()); d > 45*time.Minute || d < 20*time.Minute {
		t.Errorf("%v are foretold", d)
	}
	if d := sum(newTestComparison(t, "-quick").plan()); d > 6*time.Minute {
		t.Errorf("%v are foretold for a try-out", d)
	}
}

func TestComparisonRunsEveryTrialOfEverySystem(t *testing.T) {
	c := newTestComparison(t, "-parts", "steady,one-room", "-trials", "2")
	var got []string
	for _, r := range c.plan() {
		got = append(got, strings.Join([]string{c.parts[r.part].name, r.variant.name}, " "))
	}
	want := []string{
		"steady Node.js", "steady edge", "steady edge, RECOVERY=on", "one-room Node.js", "one-room edge",
		"steady edge, RECOVERY=on", "steady edge", "steady Node.js", "one-room edge", "one-room Node.js",
	}
	if !slices.Equal(got, want) {
		t.Errorf("runs %q, want %q", got, want)
	}
}

func TestTimeLeftFollowsTheTimeGone(t *testing.T) {
	runs := []comparedRun{{about: 10 * time.Second}, {about: 20 * time.Second}, {about: 30 * time.Second}}
	for _, c := range []struct {
		i          int
		gone, want time.Duration
	}{
		{0, 0, time.Minute},
		{1, 10 * time.Second, 50 * time.Second},
		{1, 20 * time.Second, 100 * time.Second}, // all takes twice as long
		{3, time.Hour, 0},
	} {
		if got := left(runs, c.i, c.gone); got != c.want {
			t.Errorf("before run %d, %v gone: %v left, want %v", c.i, c.gone, got, c.want)
		}
	}
}

func TestWhatWouldEndTooLateIsLeftOut(t *testing.T) {
	for _, c := range []struct {
		gone, about, limit time.Duration
		want               bool
	}{
		{30 * time.Minute, 10 * time.Minute, 40 * time.Minute, false},
		{30 * time.Minute, 11 * time.Minute, 40 * time.Minute, true},
		{30 * time.Hour, time.Minute, 0, false},
	} {
		if got := tooLate(c.gone, c.about, c.limit); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if c := parse(t, "-scenario", "compare"); c.compare.limit != 45*time.Minute {
		t.Errorf("limit %v", c.compare.limit)
	}
	if c := parse(t, "-scenario", "compare", "-trials", "5"); c.compare.limit != 0 {
		t.Errorf("limit %v for more trials than usual", c.compare.limit)
	}
	c := newTestComparison(t, "-parts", "idle", "-limit", "1s")
	c.leaveOut(c.plan()[0])
	if text := report.ComparisonText(c.report); !strings.Contains(text, "left out: it would have ended after -limit 1s") || !strings.Contains(text, "1 of 1") {
		t.Errorf("a run that was left out is not in the report:\n%s", text)
	}
}

func TestLaterSearchesBeginWhereTheFirstEnded(t *testing.T) {
	c := newTestComparison(t, "-parts", "saturation")
	cfg := c.configs[0]
	c.narrow(&cfg, report.PartSaturation, report.VariantEdge)
	if cfg.saturation.from != 40_000 || cfg.saturation.factor != 1.4 {
		t.Errorf("without a result: %+v", cfg.saturation)
	}
	c.report.Add(report.Compared{Name: report.PartSaturation}, report.Run{Variant: report.VariantEdge, System: &report.System{
		Steps: []report.Step{{Nominal: 100_000}}, Saturation: &report.Saturation{Best: 0},
	}})
	c.narrow(&cfg, report.PartSaturation, report.VariantEdge)
	if cfg.saturation.from != 92_000 || cfg.saturation.factor >= 1.4 {
		t.Errorf("after 100,000/s: %+v", cfg.saturation)
	}
	// Wherever the limit is now, the search finds it.
	s := cfg.saturation.search(&cfg)
	for _, limit := range []float64{500, 919, 921, 1000, 1031, 3000} {
		if tries := hunt(s, limit, nil); found(tries).Best < 0 || tries[found(tries).Best].rate*s.within < limit*0.999 {
			t.Errorf("limit %v: %v", limit, tries)
		}
	}
}

func TestBadComparisonsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"-trials": {"-trials", "0"},
		"-parts":  {"-parts", "idle,fast"},
		"-target": {"-target", "127.0.0.1:1"},
		"-conns":  {"-conns", "10"},
		"-limit":  {"-limit", "-1s"},
	} {
		if _, err := parseFlags(append([]string{"-scenario", "compare"}, args...), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not name %s", args, err, want)
		}
	}
}
