package delivery

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellara/edge/bench/report"
)

func TestSpreads(t *testing.T) {
	at := func(seconds ...float64) (times []time.Duration) {
		for _, s := range seconds {
			times = append(times, time.Duration(s*float64(time.Second)))
		}
		return times
	}
	even := func(from float64) (s []float64) {
		for i := range 100 {
			s = append(s, from+float64(i)/10)
		}
		return s
	}
	for _, tt := range []struct {
		what        string
		closed      []time.Duration
		early, late int
		peak        float64
	}{
		{"even", at(even(5)...), 0, 0, 1},
		{"a second too early", at(even(4)...), 10, 0, 10.0 / 9},
		{"three seconds too late", at(even(8)...), 0, 9, 10 * 31 / 91.0}, // two are allowed, and count as the last tenth
		{"all at once", at(7, 7, 7, 7), 0, 0, 10},
		{"nobody", nil, 0, 0, 0},
	} {
		s := Restart{Closed: tt.closed}
		s.spreads(5*time.Second, 10*time.Second)
		if s.Early != tt.early || s.Late != tt.late || s.Peak < tt.peak-0.01 || s.Peak > tt.peak+0.01 {
			t.Errorf("%s: %d early, %d late, peak %.3f, want %d, %d, %.3f", tt.what, s.Early, s.Late, s.Peak, tt.early, tt.late, tt.peak)
		}
	}
	s := Restart{Closed: at(0, 0.5, 2.9), Returned: at(3.1)}
	s.spreads(0, time.Second)
	if !slices.Equal(s.ByClosed, []int{2, 0, 1}) || !slices.Equal(s.ByBack, []int{0, 0, 0, 1}) {
		t.Errorf("by second: %v, %v", s.ByClosed, s.ByBack)
	}
}

// Each thing that is promised fails by itself.
func TestJudgeDrain(t *testing.T) {
	good := func() *DrainRun {
		r := &DrainRun{DelaySeconds: 5, WindowSeconds: 10, GraceSeconds: 10, MaxConns: 100}
		s := Restart{Node: "edge-1", Most: 100, Exit: 24 * time.Second}
		for i := range 100 {
			s.Closed = append(s.Closed, 5*time.Second+time.Duration(i)*100*time.Millisecond)
		}
		r.Restarts = []Restart{s}
		r.System = System{Name: "edge", Findings: &Findings{}, Phases: []Phase{{Returns: Tally{Returned: 100, Recovered: 99, Told: 1}}}}
		return r
	}
	r := good()
	if r.Judge(); !r.Passed() {
		t.Fatalf("a good run fails: %+v", r.Verdicts)
	}
	if !strings.Contains(r.Text(), "edge-1  closed") {
		t.Errorf("the text has no distribution:\n%s", r.Text())
	}
	for what, harm := range map[string]func(*DrainRun){
		"recovered":     func(r *DrainRun) { r.System.Phases[0].Returns.Recovered-- },
		"lost":          func(r *DrainRun) { r.System.Findings.Total.Lost = 1 },
		"twice":         func(r *DrainRun) { r.System.Findings.Total.Duplicated = 1 },
		"out of order":  func(r *DrainRun) { r.System.Findings.Total.OutOfOrder = 1 },
		"a whole run":   func(r *DrainRun) { r.System.Findings = nil },
		"DRAIN_DELAY":   func(r *DrainRun) { r.Restarts[0].Closed[0] = 4 * time.Second },
		"DRAIN_WINDOW":  func(r *DrainRun) { r.Restarts[0].Closed[99] = 18 * time.Second },
		"fullest":       func(r *DrainRun) { r.WindowSeconds = 30 },
		"most":          func(r *DrainRun) { r.Restarts[0].Most = 101 },
		"refused":       func(r *DrainRun) { r.Restarts[0].Full = 1 },
		"5xx":           func(r *DrainRun) { r.ServerErrors = 1 },
		"of the bal":    func(r *DrainRun) { r.BalancerErrs = 1 },
		"connects":      func(r *DrainRun) { r.System.Events.Failed = map[string]int{"status 503": 1} },
		"its end":       func(r *DrainRun) { r.Restarts[0].Exit = 26 * time.Second },
		"exit code":     func(r *DrainRun) { r.Restarts[0].Code = 1 },
		"in the end":    func(r *DrainRun) { r.System.Absent = 1 },
		"nobody closed": func(r *DrainRun) { r.Restarts[0].Closed = nil },
	} {
		r := good()
		harm(r)
		r.Judge()
		missed := 0
		for _, v := range r.Verdicts {
			if v.Result == report.Miss {
				missed++
			}
		}
		if r.Passed() || missed != 1 {
			t.Errorf("%s: %d verdicts fail: %+v", what, missed, r.Verdicts)
		}
	}
}
