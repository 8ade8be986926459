package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/bench/hist"
)

// sample is a report with all parts; every figure of the text and the page comes from here.
func sample() *Report {
	rng := rand.New(rand.NewPCG(5, 6))
	r := &Report{
		Scenario: "steady", Started: time.Unix(1_800_000_000, 0),
		Machine: Machine{CPUs: 2, Model: "Test & <CPU>", Kernel: "6.1", LoopbackWriteUS: 6.5},
		Load:    Load{Conns: 5000, Rooms: 50, SendersRoom: 4, PayloadBytes: 128, WarmupSeconds: 2, Seconds: 5},
	}
	for _, name := range []string{"edge", "node"} {
		factor := map[string]float64{"edge": 1, "node": 3}[name]
		s := System{
			Name: name, Nodes: 3,
			Connect:  Connect{Done: 5000, Seconds: 1, PerSecond: 5000 / factor, CPU: &CPU{Nodes: 0.4 * factor, Redis: 0.1}},
			Join:     &Connect{Done: 5000, Seconds: 1, PerSecond: 4000},
			Memory:   &Memory{NodesBefore: 1e7, Nodes: 2e7, Conns: 5000},
			Presence: []Presence{{When: "loaded", Keys: 10_051, RightMS: 12}},
			Failures: map[string]int{"dropped: <script>": 2},
			Observer: &Observer{
				Seconds: 10, Samples: 1000, Looks: 3456, Sets: 10, Disagreements: 1, LongestMS: 1234,
				Examples: []Disagreement{{User: "u1", Key: "user:u1:socket", Found: "<old>", Want: "new", ForMS: 1234, AtS: 3}},
			},
			Churn: &Churn{Connects: 20, Joins: 21, Disconnects: 2, Failures: 1, Reasons: map[string]int{"refused": 1}},
		}
		for _, rate := range []float64{100, 700} {
			var h hist.Histogram
			for range 5000 {
				h.Record(time.Duration(rng.ExpFloat64() * 1e6 * factor))
			}
			step := Step{
				Rate: rate, Nominal: rate * 100, Lost: 3, Delivered: 50_000, PerSecond: 10_000, Latency: NewLatency(&h),
				CPU: &CPU{Nodes: 0.5 * factor, Redis: 0.05, Client: 0.2},
			}
			for range 7 {
				step.Seconds = append(step.Seconds, Second{Deliveries: 10_000, P99: factor})
			}
			s.Steps = append(s.Steps, step)
		}
		for t := range 20 {
			s.Samples = append(s.Samples, Sample{T: float64(t), Nodes: 0.5, Redis: 0.1, Client: 0.2, NodesRSS: 2e7, RedisRSS: 1e7})
		}
		s.Marks = []Mark{{1, "connect"}, {2, "join"}, {30, "after the samples"}}
		r.Systems = append(r.Systems, s)
	}
	return r
}

func TestHTMLIsWellFormedAndSelfContained(t *testing.T) {
	r := sample()
	r.Verdicts = Judge(r)
	page := string(HTML(r))
	dec := xml.NewDecoder(strings.NewReader(page))
	elements := map[string]int{}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
			for _, a := range start.Attr {
				if a.Name.Local == "src" || a.Name.Local == "href" {
					t.Errorf("<%s %s=%q> loads something", start.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	// Two steps of four charts, two per system, and the cost of a delivery.
	if elements["svg"] != 2*4+2*2+1 || elements["figure"] != elements["svg"] {
		t.Errorf("%d charts in %d figures, want 13", elements["svg"], elements["figure"])
	}
	if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
		t.Error("the page has figures that are no numbers")
	}
	if strings.Contains(page, "after the samples") {
		t.Error("a mark beyond the axis was drawn")
	}
	for _, want := range []string{"5,000", "1,667", "11.00 µs", "Test &amp; &lt;CPU&gt;", "dropped: &lt;script&gt;", "&lt;old&gt;", "✓ pass", "✗ miss"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestTextHasEveryFigureAndFitsATerminal(t *testing.T) {
	r := sample()
	r.Verdicts = Judge(r)
	text := Text(r)
	last := r.Systems[0].Steps[1].Latency
	for _, want := range []string{
		"edge (3 nodes)", "node (3 nodes)", "100 messages/s, 10,000 deliveries/s", "700 messages/s, 70,000 deliveries/s",
		"p99.9", "worst stall", "lost", "duplicated", "out of order", "server CPU per delivery", "11.00 µs", "0 / 10,051",
		millis(last.P99).text, millis(last.Max).text, "3.00 ×", "2 × dropped: <script>", "targets",
		"43 / 1", "3,456 / 10", "1234 ms", "user:u1:socket of u1 is <old>, not new", "1 × refused",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(line)); n > 110 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
}

func TestReportsOfLittleAreShown(t *testing.T) {
	for name, r := range map[string]*Report{
		"nothing":  {Scenario: "steady"},
		"external": {Scenario: "steady", Systems: []System{{Name: "external", Nodes: 2, Steps: []Step{{Rate: 1}}}}},
		"idle":     {Scenario: "idle", Systems: []System{{Name: "edge", Nodes: 1, Memory: &Memory{Nodes: 4e7, NodesBefore: 1e7, Conns: 15_000, Heartbeats: 2}}}},
	} {
		r.Verdicts = Judge(r)
		if text := Text(r); !strings.Contains(text, r.Scenario) || strings.Contains(text, "NaN") {
			t.Errorf("%s: %s", name, text)
		}
		if page := string(HTML(r)); !strings.HasSuffix(page, "</html>\n") || strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
			t.Errorf("%s: bad page", name)
		}
	}
}

func TestWriteKeepsAllFigures(t *testing.T) {
	r := sample()
	jsonPath, htmlPath, err := r.Write(t.TempDir(), "steady-both")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(jsonPath)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Verdicts) == 0 || Text(&back) != Text(r) {
		t.Error("the report read back differs")
	}
	if page, err := os.ReadFile(htmlPath); err != nil || len(page) < 10_000 {
		t.Errorf("page of %d bytes, %v", len(page), err)
	}
}

func TestLatencyCurveAndBars(t *testing.T) {
	var h hist.Histogram
	for i := 1; i <= 10_000; i++ {
		h.Record(time.Duration(i) * time.Microsecond)
	}
	l := NewLatency(&h)
	if l.P50 < 4.9 || l.P50 > 5.1 || l.P99 < 9.8 || l.P99 > 10 || l.Max != 10 {
		t.Errorf("p50 %v, p99 %v, max %v", l.P50, l.P99, l.Max)
	}
	sum := 0.0
	for i, b := range l.Bars {
		sum += b.Share
		if i > 0 && b.Low < l.Bars[i-1].High*0.999 {
			t.Errorf("bar %d starts at %v, before the end of the last", i, b.Low)
		}
	}
	if sum < 0.9999 || sum > 1.0001 {
		t.Errorf("bars add up to %v", sum)
	}
	for i := 1; i < len(l.Curve); i++ {
		if l.Curve[i].Y < l.Curve[i-1].Y || l.Curve[i].X <= l.Curve[i-1].X {
			t.Fatalf("the curve falls at %v", l.Curve[i])
		}
	}
}

func TestThousands(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567", -1234: "-1,234", -0.2: "0"} {
		if got := thousands(v); got != want {
			t.Errorf("thousands(%v) = %q, want %q", v, got, want)
		}
	}
}
