package dashboards

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	code       = regexp.MustCompile("`[^`\n]+`")
	metricName = regexp.MustCompile(`\bedge_[a-z_]*[a-z]\b`)
)

// TestMetricsAreDocumented: operations.md has every metric and every reason, and none that there is not.
func TestMetricsAreDocumented(t *testing.T) {
	series := catalogue(t)
	spoken := map[string]bool{}
	for _, c := range code.FindAllString(read(t, "../../docs/operations.md"), -1) {
		c = strings.Trim(c, "`")
		spoken[c] = true
		for _, name := range metricName.FindAllString(c, -1) {
			spoken[name] = true
			if _, ok := series[name]; !ok && series[name+"_bucket"] == nil && !strings.Contains(c, name+"_…") {
				t.Errorf("there is no %s, which operations.md names", name)
			}
		}
	}
	for name, labels := range series {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if strings.HasPrefix(name, "edge_") && !spoken[base] {
			t.Errorf("operations.md does not name %s", base)
		}
		for _, reason := range labels["reason"] {
			if !spoken[reason] {
				t.Errorf("operations.md does not say what %s{reason=%q} is", name, reason)
			}
		}
	}
	if !slices.Contains(series["edge_closes_total"]["reason"], "slow_reader") {
		t.Error("the reasons were not found")
	}
}
