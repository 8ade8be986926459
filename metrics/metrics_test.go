package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// TestCatalogue: every name follows the conventions, every label is from a closed
// set, and every series is there before anything happened.
func TestCatalogue(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	New(reg, "v1.2.3")
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for _, f := range families {
		name := f.GetName()
		series[name] = len(f.GetMetric())
		if !strings.HasPrefix(name, "edge_") {
			t.Errorf("%s lacks the prefix", name)
		}
		if counter := f.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s: counter %v", name, counter)
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "reason", "transport", "op", "cause", "result", "kind", "version", "goversion", "code":
				default:
					t.Errorf("%s has the label %s", name, l.GetName())
				}
			}
			if h := m.GetHistogram(); h != nil && strings.HasSuffix(name, "_seconds") && !hasEdge(h, 0.2) {
				t.Errorf("%s has no bucket edge at 0.2 s", name)
			}
		}
	}
	for name, want := range map[string]int{
		"edge_closes_total": int(closeCount), "edge_drops_total": int(dropCount), "edge_refusals_total": int(refusalCount),
		"edge_presence_operation_seconds": int(presenceOpCount), "edge_cache_reads_total": int(cacheResultCount), "edge_conns": 2,
		"edge_presence_drift_total": int(driftCount), "edge_presence_batch_size": 7,
		"edge_trunk_dials_total": int(trunkDialCount), "edge_trunk_refusals_total": int(trunkRefusalCount),
		"edge_journal_operation_seconds": int(journalOpCount), "edge_gap_repairs_total": int(gapCount),
		"edge_gap_repair_failures_total":    int(gapFailureCount),
		"edge_redis_connect_failures_total": int(redisFailureCount),
		"edge_relayed_requests_total":       int(relayCount), "edge_moves_total": int(moveCount),
		"edge_api_requests_total": int(apiOpCount) * int(apiClassCount), "edge_api_request_seconds": int(apiOpCount),
	} {
		if series[name] != want {
			t.Errorf("%s has %d series from the start, want %d", name, series[name], want)
		}
	}
}

func hasEdge(h *dto.Histogram, at float64) bool {
	for _, b := range h.GetBucket() {
		if b.GetUpperBound() == at {
			return true
		}
	}
	return false
}

// TestReasonNames: every reason has a name of its own.
func TestReasonNames(t *testing.T) {
	check := func(kind string, n int, name func(int) string) {
		seen := map[string]bool{}
		for i := range n {
			s := name(i)
			if s == "" || seen[s] || s != strings.ToLower(s) {
				t.Errorf("%s %d is named %q", kind, i, s)
			}
			seen[s] = true
		}
	}
	check("close", int(closeCount), func(i int) string { return Close(i).String() })
	check("drop", int(dropCount), func(i int) string { return Drop(i).String() })
	check("refusal", int(refusalCount), func(i int) string { return Refusal(i).String() })
	check("presence op", int(presenceOpCount), func(i int) string { return PresenceOp(i).String() })
	check("drift", int(driftCount), func(i int) string { return Drift(i).String() })
	check("journal op", int(journalOpCount), func(i int) string { return JournalOp(i).String() })
	check("trunk dial", int(trunkDialCount), func(i int) string { return TrunkDial(i).String() })
	check("trunk refusal", int(trunkRefusalCount), func(i int) string { return TrunkRefusal(i).String() })
	check("gap", int(gapCount), func(i int) string { return Gap(i).String() })
	check("gap failure", int(gapFailureCount), func(i int) string { return GapFailure(i).String() })
	check("api op", int(apiOpCount), func(i int) string { return APIOp(i).String() })
	check("api class", int(apiClassCount), func(i int) string { return APIClass(i).String() })
	check("cache result", int(cacheResultCount), func(i int) string { return CacheResult(i).String() })
}
