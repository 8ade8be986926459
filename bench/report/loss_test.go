package report

import (
	"strings"
	"testing"
)

func TestTimesOfALoss(t *testing.T) {
	want := Look{Online: 2, Members: 3}
	full := func(at float64) Look { return Look{At: at, Online: 10, Members: 30, Keys: 8} }
	never := LossTimes{First: -1, Last: -1, Online: -1, Members: -1, Keys: -1, Right: -1}
	for name, tc := range map[string]struct {
		looks []Look
		times LossTimes
	}{
		"no looks":        {nil, never},
		"nothing removed": {[]Look{full(0), full(1), full(2)}, never},
		"one after the other": {
			[]Look{full(0), full(12), {12.25, 10, 30, 4}, {12.5, 2, 30, 0}, {12.75, 2, 15, 0}, {13, 2, 3, 0}, {13.25, 2, 3, 0}},
			LossTimes{First: 12.25, Last: 13, Reap: 0.75, Online: 12.5, Members: 13, Keys: 12.5, Right: -1},
		},
		"at once": {
			[]Look{full(0), {13, 2, 3, 0}},
			LossTimes{First: 13, Last: 13, Online: 13, Members: 13, Keys: 13, Right: -1},
		},
		"too many": {
			[]Look{full(0), {13, 1, 3, 0}},
			LossTimes{First: 13, Last: 13, Online: -1, Members: 13, Keys: 13, Right: -1},
		},
		"right, then wrong, then right": {
			[]Look{full(0), {13, 2, 3, 0}, {14, 2, 4, 0}, {15, 2, 3, 0}},
			LossTimes{First: 13, Last: 15, Reap: 2, Online: 13, Members: 15, Keys: 13, Right: -1},
		},
		"stuck half way": {
			[]Look{full(0), {13, 5, 9, 0}, {14, 5, 9, 0}},
			LossTimes{First: 13, Last: 13, Online: -1, Members: -1, Keys: 13, Right: -1},
		},
	} {
		if got := TimesOf(tc.looks, want); got != tc.times {
			t.Errorf("%s: %+v, want %+v", name, got, tc.times)
		}
	}
}

// lossReport is a loss at its targets.
func lossReport() *Report {
	return &Report{Scenario: "loss", Systems: []System{{
		Name: "edge", Nodes: 6, Presence: []Presence{{Keys: 1}},
		Loss: &Loss{
			Victims: 3, Conns: 50_000, RoomsEach: 3, Entries: 250_000, Right: true, Keys: 52_000, WaitSeconds: 60,
			Times:    LossTimes{First: 13.5, Last: 20, Reap: 6.5, Online: 15, Members: 20, Keys: 16, Right: 20},
			UsualCPU: CPU{Redis: 1}, UsualSeconds: 20, CPU: CPU{Redis: 0.6, Nodes: 1.25}, During: Latency{P99: 200},
		},
	}}}
}

func TestJudgeLoss(t *testing.T) {
	const (
		right    = "presence right after the kill"
		reap     = "first to last removal"
		p99      = "survivors' message p99 meanwhile"
		delivery = "survivors: lost, duplicated, out of order"
		reads    = "presence reads that failed"
	)
	for what, result := range results(lossReport()) {
		if result != Pass {
			t.Errorf("%s: %q at the target", what, result)
		}
	}
	for name, tc := range map[string]struct {
		spoil func(l *Loss)
		miss  []string
	}{
		"late":          {func(l *Loss) { l.Times.Right = 20.1 }, []string{right}},
		"never":         {func(l *Loss) { l.Right, l.Wrong, l.Times.Right = false, 7, -1 }, []string{right, reap}},
		"slow":          {func(l *Loss) { l.Times.Reap = 6.6 }, []string{reap}},
		"slow messages": {func(l *Loss) { l.During.P99 = 201 }, []string{p99}},
		"lost":          {func(l *Loss) { l.Lost = 1 }, []string{delivery}},
		"duplicated":    {func(l *Loss) { l.Duplicated = 1 }, []string{delivery}},
		"out of order":  {func(l *Loss) { l.Reordered = 1 }, []string{delivery}},
		"other order":   {func(l *Loss) { l.Disagreeing = 1 }, []string{delivery}},
		"dropped":       {func(l *Loss) { l.Dropped = 1 }, []string{delivery}},
		"reads":         {func(l *Loss) { l.ReadsFailed = map[string]int{"timeout": 2} }, []string{reads}},
	} {
		r := lossReport()
		tc.spoil(r.Systems[0].Loss)
		got := results(r)
		for _, what := range tc.miss {
			if got[what] != Miss {
				t.Errorf("%s: %s is %q, want a miss", name, what, got[what])
			}
			delete(got, what)
		}
		for what, result := range got {
			if result != Pass {
				t.Errorf("%s: %s is %q", name, what, result)
			}
		}
	}
	if got := results(&Report{Scenario: "loss", Systems: []System{{Name: "edge"}}})[right]; got != Unknown {
		t.Errorf("without a loss: %q", got)
	}
}

func TestLossIsShown(t *testing.T) {
	r := lossReport()
	l := r.Systems[0].Loss
	l.Examples, l.ReadsFailed = []string{"room:v-r0:users has 2 too many (v-<7>)"}, map[string]int{"gone": 3}
	l.Times.Members = -1
	r.Verdicts = Judge(r)
	text, page := Text(r), string(HTML(r))
	for _, want := range []string{
		"3 / 50,000 / 3", "13.5 s", "not in 60 s", "0.60 s", "2.40 µs", "5.0 %", "1.25 s", "0 / 52,000", "presence read: 3 × gone",
	} {
		if !strings.Contains(text, want) || !strings.Contains(page, want) {
			t.Errorf("the text or the page lacks %q:\n%s", want, text)
		}
	}
	if !strings.Contains(text, "(v-<7>)") || !strings.Contains(page, "(v-&lt;7&gt;)") {
		t.Error("keys that are wrong are not shown")
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(line)); n > 110 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
}
