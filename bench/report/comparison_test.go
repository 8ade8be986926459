package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// idleSystem is an idle system by the figures that are compared.
func idleSystem(name string, bytes int64, perSecond, connectMS float64) *System {
	return &System{
		Name: name, Nodes: 1, Memory: &Memory{Nodes: bytes * 1000, Conns: 1000, MaxGoroutines: 64},
		Connect:  Connect{Done: 1000, PerSecond: perSecond, CPU: &CPU{Nodes: connectMS, Redis: 0}},
		Join:     &Connect{Done: 1000, CPU: &CPU{Nodes: 0.1}},
		Idle:     &Idle{Conns: 1000, Seconds: 10, CPU: CPU{Nodes: 0.02}},
		Presence: []Presence{{When: "idle", Keys: 10}},
		Samples:  []Sample{{T: 0, NodesRSS: 1e6}, {T: 1, NodesRSS: 2e6}},
	}
}

// rateSystem sent at one rate; us is its CPU per delivery.
func rateSystem(name string, rate, us float64) *System {
	return &System{Name: name, Nodes: 3, Presence: []Presence{{Keys: 10}}, Steps: []Step{{
		Nominal: rate, PerSecond: rate, Delivered: 1_000_000, Received: 1_000_000, Latency: Latency{P50: 1, P99: 5}, CPU: &CPU{Nodes: us * 0.9, Redis: us * 0.1, Client: us / 2},
	}}}
}

// searched is a system that held a rate and not the next.
func searched(name string, rate, us float64) *System {
	s := rateSystem(name, rate, us)
	s.Steps[0].Outcome = Held
	over := s.Steps[0]
	over.Nominal, over.Outcome, over.Lost, over.Dropped, over.Latency.P99 = rate*1.1, DroppedSome, 1000, 2, 400
	s.Steps = append(s.Steps, over)
	s.Saturation = &Saturation{Best: 0, Bound: DroppedSome, Starts: 2}
	return s
}

// sampleComparison has three trials at or just within the targets; the third of the edge is an outlier
// that medians must not show.
func sampleComparison() *Comparison {
	c := &Comparison{
		Started: time.Unix(1_800_000_000, 0), Seconds: 1800, Planned: 3, Machine: Machine{CPUs: 2, Model: "Test & <CPU>", LoopbackWriteUS: 4},
	}
	for trial := range 3 {
		c.Floors = append(c.Floors, Floor{Sockets: 5000, Rounds: 15, Writes: []FloorWrite{{Bytes: 160, Call: CallWrite, US: 6}, {Bytes: 160, Call: CallRaw, US: 5}}})
		worse := 1.0
		if trial == 2 {
			worse = 3
		}
		add := func(part, variant string, s *System) {
			c.Add(Compared{Name: part, Title: "of " + part, Command: "go run ./bench -scenario " + part}, Run{Trial: trial, Variant: variant, System: s})
		}
		add(PartIdle, VariantNode, idleSystem(VariantNode, 18_000, 1000, 0.8))
		add(PartIdle, VariantEdge, idleSystem(VariantEdge, int64(2048*worse), 4000/worse, 0.2*worse))
		add(PartSteady, VariantNode, rateSystem("node", 10_000, 20))
		add(PartSteady, VariantEdge, rateSystem("edge", 10_000, 12*worse))
		add(PartSteady, VariantRecovery, rateSystem("edge", 10_000, 13*worse))
		for _, part := range []string{PartSaturation, PartOneRoom} {
			add(part, VariantNode, searched("node", 50_000, 20))
			add(part, VariantEdge, searched("edge", 75_000/worse, 12))
		}
		add(PartTiny, VariantNode, rateSystem("node", 2000, 200))
		add(PartTiny, VariantEdge, rateSystem("edge", 2000, 100))
	}
	return c
}

// judged maps what was judged in a comparison to how.
func judged(c *Comparison) map[string]Result {
	m := map[string]Result{}
	for _, v := range c.Judge() {
		m[v.What] = v.Result
	}
	return m
}

func TestComparisonJudgesMedians(t *testing.T) {
	const (
		memory     = "idle: RSS per idle connection"
		goroutines = "idle: goroutines in all"
		connects   = "idle: connections accepted per second, ratio"
		price      = "idle: server CPU of one connect, ratio"
		delivery   = "steady at 10,000 deliveries/s: server CPU per delivery, ratio"
		gain       = "saturation: deliveries/s without the client's CPU, ratio"
		writes     = "saturation: server CPU per delivery in bare writes"
		oneGain    = "one-room: deliveries/s without the client's CPU, ratio"
		oneWrites  = "one-room: server CPU per delivery in bare writes"
		lost       = "edge, all parts: lost, duplicated, out of order"
		presence   = "edge, all parts: presence keys wrong for over 1 s"
		accepted   = "edge, all parts: connections that failed"
		failed     = "trials that failed"
	)
	all := []string{memory, goroutines, connects, price, delivery, gain, writes, oneGain, oneWrites, lost, presence, accepted, failed}
	got := judged(sampleComparison())
	for _, what := range all {
		if got[what] != Pass {
			t.Errorf("%s: %q at the target, want pass", what, got[what])
		}
	}
	if len(got) != len(all) {
		t.Errorf("%d verdicts, want %d: %v", len(got), len(all), got)
	}
	// Two of three trials beyond the target make a miss, here of the edge.
	for what, spoil := range map[string]func(part string, s *System){
		memory:     func(p string, s *System) { on(p == PartIdle, func() { s.Memory.Nodes += 1000 }) },
		goroutines: func(p string, s *System) { on(p == PartIdle, func() { s.Memory.MaxGoroutines++ }) },
		connects:   func(p string, s *System) { on(p == PartIdle, func() { s.Connect.PerSecond-- }) },
		price:      func(p string, s *System) { on(p == PartIdle, func() { s.Connect.CPU.Redis += 0.01 }) },
		delivery:   func(p string, s *System) { on(p == PartSteady, func() { s.Steps[0].CPU.Redis += 0.1 }) },
		gain:       func(p string, s *System) { on(p == PartSaturation, func() { s.Steps[0].Nominal -= 1000 }) },
		writes:     func(p string, s *System) { on(p == PartSaturation, func() { s.Steps[0].CPU.Nodes += 0.1 }) },
		oneGain:    func(p string, s *System) { on(p == PartOneRoom, func() { s.Steps[0].Nominal -= 1000 }) },
		lost:       func(p string, s *System) { on(p == PartTiny, func() { s.Steps[0].Reordered = 1 }) },
		presence:   func(p string, s *System) { on(p == PartTiny, func() { s.Presence[0].Wrong = 1 }) },
		accepted:   func(p string, s *System) { on(p == PartTiny, func() { s.Connect.Failed = 1 }) },
	} {
		c := sampleComparison()
		for i := range c.Parts {
			for _, run := range c.Parts[i].Runs {
				if run.Variant == VariantEdge && run.Trial < 2 {
					spoil(c.Parts[i].Name, run.System)
				}
			}
		}
		if r := judged(c)[what]; r != Miss {
			t.Errorf("%s: %q beyond the target, want a miss", what, r)
		}
	}
}

func on(yes bool, do func()) {
	if yes {
		do()
	}
}

func TestComparisonCountsLossOnlyWhereARateWasHeld(t *testing.T) {
	c := sampleComparison() // beyond the highest rate, all searches lost something
	if text := ComparisonText(c); !strings.Contains(text, "edge, at rates that were not held: 3,000 deliveries lost, 6 connections dropped") {
		t.Errorf("what was lost there is not said:\n%s", text)
	}
	edge := c.Parts[2].Runs[1].System
	if edge.Name != "edge" || edge.Steps[0].Outcome != Held {
		t.Fatalf("not the run that is meant: %+v", edge)
	}
	edge.Steps[0].Lost = 1
	if r := judged(c)["edge, all parts: lost, duplicated, out of order"]; r != Miss {
		t.Errorf("a message lost at a rate that was held: %q", r)
	}
}

func TestComparisonOfLittleIsShown(t *testing.T) {
	broken := sampleComparison()
	broken.Parts = broken.Parts[:1]
	for i := range broken.Parts[0].Runs {
		broken.Parts[0].Runs[i].System, broken.Parts[0].Runs[i].Error = nil, "redis has ended"
	}
	half := sampleComparison()
	half.Parts = half.Parts[:2]
	half.Parts[1].Runs = half.Parts[1].Runs[:1]
	for name, c := range map[string]*Comparison{"nothing": {Planned: 3}, "only errors": broken, "interrupted": half} {
		text, page := ComparisonText(c), string(ComparisonHTML(c))
		if strings.Contains(text, "NaN") || strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
			t.Errorf("%s: figures that are no numbers:\n%s", name, text)
		}
		if name == "only errors" && (!strings.Contains(text, "redis has ended") || !strings.Contains(page, "redis has ended")) {
			t.Errorf("%s: the error is not shown", name)
		}
	}
	if r := judged(broken); r["trials that failed"] != Miss || r["idle: RSS per idle connection"] != Unknown {
		t.Errorf("only errors: %v", r)
	}
	if r := judged(half)["steady at 10,000 deliveries/s: server CPU per delivery, ratio"]; r != Unknown {
		t.Errorf("a ratio without the edge: %q", r)
	}
}

func TestComparisonTextHasEveryTrialAndFitsATerminal(t *testing.T) {
	c := sampleComparison()
	text := ComparisonText(c)
	for _, want := range []string{
		"2,048 B", "6,144 B", "18,000 B", "4.00 ×", "0.60 ×", "0.60 0.60 1.80", "with RECOVERY=on", "1.50 × pass", "conns dropped (3 ×)",
		"a bare write costs 6.00 µs", "2.00 ×", "112,500",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 125 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	table, _, _ := strings.Cut(text, "figures are medians")
	for line := range strings.Lines(table) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("a line of the table has %d characters: %s", n, line)
		}
	}
}

func TestComparisonPageIsWellFormed(t *testing.T) {
	page := string(ComparisonHTML(sampleComparison()))
	dec := xml.NewDecoder(strings.NewReader(page))
	charts := 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "svg" {
			charts++
		}
	}
	// Memory and CPU of two idle systems, and the searches; a part with a single rate has no curves.
	if charts != 2*2+2*2 {
		t.Errorf("%d charts, want 8", charts)
	}
	for _, want := range []string{"2,048 B, 2,048 B, 6,144 B", "✓ pass", "Test &amp; &lt;CPU&gt;", "go run ./bench -scenario one-room", "conns dropped"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestComparisonIsWrittenWhole(t *testing.T) {
	c, dir := sampleComparison(), t.TempDir()
	for range 2 { // the second replaces the first
		if _, _, err := c.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v in the directory, want two files; %v", entries, err)
	}
	text, err := os.ReadFile(dir + "/bench-compare.json")
	if err != nil {
		t.Fatal(err)
	}
	var back Comparison
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if ComparisonText(&back) != ComparisonText(c) {
		t.Error("the comparison read back differs")
	}
}

func TestHeldIsOfTheLatestTrial(t *testing.T) {
	c := sampleComparison()
	if got := c.Held(PartSaturation, VariantEdge); got != 25_000 {
		t.Errorf("held %v, want that of the third trial", got)
	}
	if got := c.Held(PartSteady, VariantEdge); got != 0 {
		t.Errorf("a part without a search held %v", got)
	}
}

func TestSaturationWithoutTheClient(t *testing.T) {
	s := Step{Nominal: 60_000, PerSecond: 60_000, Delivered: 300_000, CPU: &CPU{Nodes: 5.5, Redis: 0.5, Client: 3}}
	if v, ok := s.WithoutClient(); !ok || math.Abs(v-90_000) > 1e-6 {
		t.Errorf("without the client %v", v)
	}
	late := s
	late.Nominal = 40_000 // the others were late from before
	if v, ok := late.WithoutClient(); !ok || math.Abs(v-60_000) > 1e-6 {
		t.Errorf("without the client %v, of 40,000/s that were sent", v)
	}
	if v, ok := s.OnAllCores(2); !ok || math.Abs(v-100_000) > 1e-6 {
		t.Errorf("on all cores %v", v)
	}
	if v, ok := s.serverCores(); !ok || math.Abs(v-1.2) > 1e-9 {
		t.Errorf("%v cores of the server", v)
	}
	if v, ok := s.clientCores(); !ok || math.Abs(v-0.6) > 1e-9 {
		t.Errorf("%v cores of the client", v)
	}
	if _, ok := (&Step{PerSecond: 1, Delivered: 1}).WithoutClient(); ok {
		t.Error("a figure without CPU")
	}
}
