package dashboards

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/stellara/edge/metrics"
)

// A selector is one metric name in a query, with the labels that are asked for.
type selector struct {
	name   string
	labels map[string]string // label → operator and value, as =~"a|b"
}

// words of PromQL that stand where a metric could.
var words = strings.Fields("and or unless by without on ignoring group_left group_right bool offset inf nan")

var (
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	grouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	number    = regexp.MustCompile(`\b[0-9][0-9.]*(?:e[+-]?[0-9]+)?\b`)
	window    = regexp.MustCompile(`\[[^\]]*\]`)
	selecting = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\(|\{[^}]*\})?`)
	matching  = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"`)
)

// selectors returns the metrics of a query. It knows as much of PromQL as the queries here need; promtool, in the system
// tests, knows the rest.
func selectors(query string) []selector {
	query = grouping.ReplaceAllString(query, " ")
	query = window.ReplaceAllString(query, " ")
	masked := number.ReplaceAllStringFunc(maskQuotes(query), func(s string) string { return strings.Repeat(" ", len(s)) })
	part := func(m []int, group int) string {
		if m[2*group] < 0 {
			return ""
		}
		return query[m[2*group]:m[2*group+1]]
	}
	var found []selector
	for _, m := range selecting.FindAllStringSubmatchIndex(masked, -1) {
		name, rest := part(m, 1), part(m, 2)
		if rest == "(" || slices.Contains(words, strings.ToLower(name)) {
			continue // a function, an operator
		}
		s := selector{name: name, labels: map[string]string{}}
		for _, l := range matching.FindAllStringSubmatch(rest, -1) {
			s.labels[l[1]] = l[2] + l[3]
		}
		found = append(found, s)
	}
	return found
}

// maskQuotes replaces what is within quotes by as many characters that mean nothing.
func maskQuotes(query string) string {
	return quoted.ReplaceAllStringFunc(query, func(s string) string { return `"` + strings.Repeat(".", len(s)-2) + `"` })
}

// catalogue is what a node exports: for each name of a series the values of each label.
func catalogue(t *testing.T) map[string]map[string][]string {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics.New(reg, "test")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]map[string][]string{"up": {}}
	for _, f := range families {
		labels := map[string][]string{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
			}
		}
		switch name := f.GetName(); f.GetType() {
		case dto.MetricType_HISTOGRAM:
			edges := slices.Clone(labels["le"])
			for _, b := range f.GetMetric()[0].GetHistogram().GetBucket() {
				edges = append(edges, formatFloat(b.GetUpperBound()))
			}
			series[name+"_sum"], series[name+"_count"] = labels, labels
			series[name+"_bucket"] = map[string][]string{"le": append(edges, "+Inf")}
			for l, v := range labels {
				series[name+"_bucket"][l] = v
			}
		case dto.MetricType_SUMMARY:
			series[name], series[name+"_sum"], series[name+"_count"] = labels, labels, labels
		default:
			series[name] = labels
		}
	}
	return series
}

// judge says what is wrong with a query, given the series there are; "" if nothing is.
func judge(query string, series map[string]map[string][]string) string {
	found := selectors(query)
	if len(found) == 0 {
		return "it asks for no metric"
	}
	for _, s := range found {
		labels, ok := series[s.name]
		if !ok {
			return "there is no metric " + s.name
		}
		for label, match := range s.labels {
			if problem := judgeLabel(s.name, label, match, labels); problem != "" {
				return problem
			}
		}
	}
	return ""
}

// judgeLabel says whether a label that is asked for can have the value. Those that Prometheus gives are left alone.
func judgeLabel(name, label, match string, labels map[string][]string) string {
	if label == "job" || label == "instance" {
		return ""
	}
	values, ok := labels[label]
	if !ok {
		return name + " has no label " + label
	}
	if pattern, ok := strings.CutPrefix(match, "=~"); ok {
		return judgeAlternatives(name, label, pattern, values)
	}
	if pattern, ok := strings.CutPrefix(match, "!~"); ok {
		return judgeAlternatives(name, label, pattern, values)
	}
	if value := strings.TrimLeft(match, "!="); !slices.Contains(values, value) {
		return name + "{" + label + "} is never " + value
	}
	return ""
}

// judgeAlternatives wants every alternative of a pattern to match something.
func judgeAlternatives(name, label, pattern string, values []string) string {
	for alternative := range strings.SplitSeq(pattern, "|") {
		re, err := regexp.Compile("^(?:" + alternative + ")$")
		if err != nil {
			return name + "{" + label + "}: " + err.Error()
		}
		if !slices.ContainsFunc(values, re.MatchString) {
			return name + "{" + label + "} never matches " + alternative
		}
	}
	return ""
}

// TestJudge: queries that ask for what is not there are found.
func TestJudge(t *testing.T) {
	series := catalogue(t)
	for query, want := range map[string]string{
		`sum by (reason) (rate(edge_drops_total{job="$job", reason=~"malformed|redis"}[5m]))`:                                                             "",
		`histogram_quantile(0.99, sum by (le, op) (rate(edge_journal_operation_seconds_bucket{op="publish"}[$__rate_interval])))`:                         "",
		`1 - rate(edge_publish_written_seconds_bucket{le="0.2"}[5m]) / on (job, instance) group_left rate(edge_publish_written_seconds_count[5m]) > 1e-3`: "",
		`up{job=~"edge.*"} == 0 and on (job) edge_ready == bool 0`:                                                                                        "",
		`rate(go_gc_duration_seconds_count[5m]) * 4`:                                                                                                      "",
		`sum(rate(edge_lost_total[5m]))`:                                         "no metric edge_lost_total",
		`sum(edge_ready) + edge_nothing{job="x"}`:                                "no metric edge_nothing",
		`edge_drops_total{reason="bad_luck"}`:                                    "never bad_luck",
		`edge_drops_total{reason!="bad_luck"}`:                                   "never bad_luck",
		`edge_drops_total{reason=~"redis|bad_luck"}`:                             "never matches bad_luck",
		`edge_drops_total{cause="redis"}`:                                        "no label cause",
		`edge_publish_written_seconds_bucket{le="0.25"}`:                         "never 0.25",
		`edge_conns{transport="polling"} / edge_conns{transport="webtransport"}`: "never webtransport",
		`edge_publish_written_seconds`:                                           "no metric edge_publish_written_seconds",
		`vector(1)`:                                                              "no metric",
	} {
		if got := judge(query, series); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
