package report

import (
	"strings"
	"testing"
)

func heartbeatReport(few, many float64) *Report {
	traffic := func(conns int, heartbeats, audits float64) *Traffic {
		return &Traffic{
			Conns: conns, Rooms: conns, Seconds: 60,
			Operations: map[string]float64{"heartbeat": heartbeats, "audit": audits, "hold": 0},
			Commands:   map[string]float64{"evalsha": heartbeats + audits, "zadd": heartbeats, "hset": 0},
			InputBytes: 100, OutputBytes: 50,
		}
	}
	return &Report{Scenario: "heartbeat", Systems: []System{
		{Name: "edge", Title: "15000 conns", Nodes: 1, Traffic: traffic(15_000, many, 0.5), Presence: []Presence{{Keys: 1}}},
		{Name: "edge", Title: "1000 conns", Nodes: 1, Traffic: traffic(1000, few, 0.1), Presence: []Presence{{Keys: 1}}},
	}}
}

func TestJudgeHeartbeats(t *testing.T) {
	const what = "heartbeats with 1,000 and 15,000 conns"
	for _, tc := range []struct {
		few, many float64
		want      Result
	}{
		{0.4, 0.4, Pass}, {0.4, 0.44, Pass}, {0.4, 0.36, Pass}, {0.4, 0.45, Miss}, {0.4, 0.35, Miss}, {0.4, 6, Miss}, {0, 0, Unknown}, {0.4, 0, Unknown},
	} {
		if got := results(heartbeatReport(tc.few, tc.many))[what]; got != tc.want {
			t.Errorf("%v and %v per second: %q, want %q", tc.few, tc.many, got, tc.want)
		}
	}
	r := heartbeatReport(1, 1)
	r.Systems = r.Systems[:1]
	if got := results(r)["heartbeats of two runs"]; got != Unknown {
		t.Errorf("one run: %q", got)
	}
	r = heartbeatReport(0.4, 0.4)
	r.Systems[1].Presence[0].Wrong = 1
	if got := results(r)["presence keys wrong for over 1 s"]; got != Miss {
		t.Errorf("wrong keys in the second run: %q", got)
	}
}

func TestTrafficIsShown(t *testing.T) {
	r := heartbeatReport(0.4, 0.4)
	r.Verdicts = Judge(r)
	text, page := Text(r), string(HTML(r))
	for _, want := range []string{
		"1000 conns", "15000 conns", "1,000 / 1,000", "15,000 / 15,000", "24.0", "1.00 ×", "audit", "5.00 ×", "evalsha", "6,000", "within 10 %",
	} {
		if !strings.Contains(text, want) || !strings.Contains(page, want) {
			t.Errorf("the text or the page lacks %q:\n%s", want, text)
		}
	}
	for _, never := range []string{"hold", "hset", "NaN"} {
		if strings.Contains(text, never) || strings.Contains(page, never) {
			t.Errorf("what did not happen is shown: %q", never)
		}
	}
}
