package documents

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/metrics"
)

// tableUnder is the first column of the table that follows the line or heading beginning with intro: the names in backticks.
func tableUnder(text, intro string) []string {
	var names []string
	_, rest, _ := strings.Cut(text, "\n"+intro)
	started := false
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			if started {
				break
			}
			continue
		}
		started = true
		cell, _, _ := strings.Cut(line[1:], "|")
		for _, name := range code.FindAllString(cell, -1) {
			names = append(names, strings.Trim(name, "`"))
		}
	}
	return names
}

// TestMetricsAreDocumented: every metric has a row in docs/operations.md, with its labels, and every row is about a metric.
func TestMetricsAreDocumented(t *testing.T) {
	manual := documents(t)["docs/operations.md"]
	reg := prometheus.NewRegistry()
	metrics.New(reg, "test")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for _, name := range tableUnder(manual, "## Metrics\n") {
		rows[name]++
	}
	known := map[string]bool{}
	for _, f := range families {
		name := f.GetName()
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		row := false
		for have := range rows {
			bare, set, _ := strings.Cut(strings.TrimSuffix(have, "}"), "{")
			if bare != name {
				continue
			}
			row, known[have] = true, true
			var written []string // in any order
			if set != "" {
				written = strings.Split(set, ",")
			}
			slices.Sort(written)
			slices.Sort(labels)
			if !slices.Equal(written, labels) {
				t.Errorf("docs/operations.md has %s with the labels %q, it has %q", name, set, labels)
			}
		}
		if !row {
			t.Errorf("docs/operations.md has no row for %s", name)
		}
	}
	for name, n := range rows {
		if !known[name] {
			t.Errorf("docs/operations.md has a row for %s, which is no metric", name)
		}
		if n > 1 {
			t.Errorf("docs/operations.md has %d rows for %s", n, name)
		}
	}
}

var metricName = regexp.MustCompile(`\bedge_[a-z_]*[a-z]\b`)

// TestMetricsThatAreNamed: no document speaks of a metric that there is not.
func TestMetricsThatAreNamed(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics.New(reg, "test")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range families {
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			known[f.GetName()+suffix] = true
		}
	}
	named := 0
	for document, text := range documents(t) {
		for _, span := range code.FindAllString(fence.ReplaceAllString(text, ""), -1) {
			for _, name := range metricName.FindAllString(span, -1) {
				if named++; !known[name] {
					t.Errorf("%s: there is no %s", document, name)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d names were found", named)
	}
}

// TestReasonsAreDocumented: the tables of reasons have the values of the label, each once and no others.
func TestReasonsAreDocumented(t *testing.T) {
	manual := documents(t)["docs/operations.md"]
	reg := prometheus.NewRegistry()
	metrics.New(reg, "test")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]string{
		"edge_closes_total":                 "`edge_closes_total`, ",
		"edge_drops_total":                  "`edge_drops_total`, ",
		"edge_refusals_total":               "`edge_refusals_total`, ",
		"edge_trunk_refusals_total":         "`edge_trunk_refusals_total`, ",
		"edge_redis_connect_failures_total": "`edge_redis_connect_failures_total`, ",
		"edge_recoveries_total":             "`edge_recoveries_total{result}`",
	}
	for _, f := range families {
		intro, has := tables[f.GetName()]
		var values []string
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
				// Others are named in the row or near it.
				if !has && l.GetName() != "goversion" && l.GetName() != "version" && !strings.Contains(manual, "`"+l.GetValue()+"`") {
					t.Errorf("docs/operations.md does not name %s=%q of %s", l.GetName(), l.GetValue(), f.GetName())
				}
			}
		}
		if !has {
			continue
		}
		delete(tables, f.GetName())
		names := tableUnder(manual, intro)
		slices.Sort(names)
		slices.Sort(values)
		if !slices.Equal(names, values) {
			t.Errorf("docs/operations.md explains for %s\n%q, and its values are\n%q", f.GetName(), names, values)
		}
	}
	for name := range tables {
		t.Errorf("%s is no metric", name)
	}
}
