package dashboards

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule is one entry of a rule file. promtool reads them as YAML, in the system tests; here their own regular form is
// enough: two spaces of indent, one key per line.
type rule struct {
	file, kind, name string
	expr             string
	text             string // all of it
}

var ruleStart = regexp.MustCompile(`(?m)^      - (alert|record): (\S+)$`)

// rules reads all rule files.
func rules(t *testing.T) []rule {
	t.Helper()
	files, err := filepath.Glob(deploy + "prometheus/rules/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d rule files: %v", len(files), err)
	}
	var all []rule
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		starts := ruleStart.FindAllSubmatchIndex(text, -1)
		for i, at := range starts {
			end := len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			r := rule{file: filepath.Base(file), kind: string(text[at[2]:at[3]]), name: string(text[at[4]:at[5]]), text: string(text[at[0]:end])}
			r.expr = r.value("expr")
			all = append(all, r)
		}
	}
	return all
}

// value is that of a key at any depth, in its line or as the block below it.
func (r rule) value(key string) string {
	re := regexp.MustCompile(`(?m)^( +)` + key + `: (.*)$`)
	m := re.FindStringSubmatchIndex(r.text)
	if m == nil {
		return ""
	}
	inline := r.text[m[4]:m[5]]
	if inline != "|" && inline != ">-" {
		return strings.Trim(inline, `'"`)
	}
	var block []string
	for line := range strings.Lines(r.text[m[1]+1:]) {
		if len(line)-len(strings.TrimLeft(line, " ")) <= m[3]-m[2] {
			break
		}
		block = append(block, strings.TrimSpace(line))
	}
	return strings.Join(block, " ")
}

func recordingRules(t *testing.T) []rule {
	t.Helper()
	return slices.DeleteFunc(rules(t), func(r rule) bool { return r.kind != "record" })
}

func alerts(t *testing.T) []rule {
	t.Helper()
	return slices.DeleteFunc(rules(t), func(r rule) bool { return r.kind != "alert" })
}

// TestRules: rules ask for what there is.
func TestRules(t *testing.T) {
	series := catalogue(t)
	recorded := recordingRules(t)
	for _, r := range recorded {
		series[r.name] = map[string][]string{}
		if strings.Count(r.name, ":") != 2 {
			t.Errorf("%s: the name is not level:metric:operation", r.name)
		}
	}
	if len(recorded) < 5 || len(alerts(t)) < 20 {
		t.Errorf("%d recording rules and %d alerts were read", len(recorded), len(alerts(t)))
	}
	for _, r := range rules(t) {
		if problem := judge(r.expr, series); problem != "" {
			t.Errorf("%s: %s, in %s", r.name, problem, r.expr)
		}
	}
}

// TestAlerts: each alert says what it means, how bad it is, and where it is explained; and it has a test of its own.
func TestAlerts(t *testing.T) {
	tests := read(t, deploy+"prometheus/tests/*.yml")
	runbook := paragraphs(t, "../../docs/operations.md")
	const place = "https://github.com/stellara/edge/blob/main/docs/operations.md#"
	named := map[string]bool{}
	for _, r := range alerts(t) {
		named[strings.ToLower(r.name)] = true
		if s := r.value("severity"); s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", r.name, s)
		}
		summary, description := r.value("summary"), r.value("description")
		if summary == "" || len(description) < 40 {
			t.Errorf("%s: summary %q, description %q", r.name, summary, description)
		}
		if strings.Contains(summary+description, "$labels.instance") && strings.Contains(r.expr, "by (job) (") && !strings.Contains(r.expr, "by (job, instance)") {
			t.Errorf("%s speaks of an instance that its expression has summed over", r.name)
		}
		anchor, ok := strings.CutPrefix(r.value("runbook_url"), place)
		switch {
		case !ok || anchor != strings.ToLower(r.name):
			t.Errorf("%s leads to %q, not to its paragraph", r.name, r.value("runbook_url"))
		case len(runbook[anchor]) < 100:
			t.Errorf("%s is explained in %q", r.name, runbook[anchor])
		}
		if !regexp.MustCompile(`alertname="` + r.name + `"`).MatchString(tests) {
			t.Errorf("%s never fires in deploy/prometheus/tests", r.name)
		}
	}
	for anchor := range runbook {
		if strings.HasPrefix(anchor, "edge") && !named[anchor] {
			t.Errorf("the runbook explains %s, which is no alert", anchor)
		}
	}
}

func read(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// paragraphs are the texts below the headings of a document, by GitHub's anchors.
func paragraphs(t *testing.T, file string) map[string]string {
	t.Helper()
	found := map[string]string{}
	anchor := ""
	for line := range strings.Lines(read(t, file)) {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			anchor = anchorOf(heading)
			continue
		}
		found[anchor] += line
	}
	return found
}

var unanchored = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

func anchorOf(heading string) string {
	return strings.ReplaceAll(unanchored.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-")
}

// TestScrapeConfig: the name by which alerts know nodes is that of the job.
func TestScrapeConfig(t *testing.T) {
	text := read(t, deploy+"prometheus/prometheus.yml")
	if m := regexp.MustCompile(`job_name: (\S+)`).FindAllStringSubmatch(text, -1); len(m) != 1 || m[0][1] != "edge" {
		t.Errorf("jobs %v", m)
	}
}
