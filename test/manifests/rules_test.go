package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

// TestRulesBecomeObjects runs the commands of docs/operations.md with a kubectl that keeps what it is given.
func TestRulesBecomeObjects(t *testing.T) {
	var commands string
	for i, block := range strings.Split(read(t, "docs/operations.md"), "\n```") {
		if i%2 == 1 && strings.Contains(block, "kind: PrometheusRule") {
			commands = strings.TrimPrefix(block, "sh\n")
		}
	}
	if commands == "" {
		t.Fatal("docs/operations.md does not say how the rules become objects")
	}
	dir := t.TempDir()
	const kubectl = "#!/bin/sh\ncase \"$*\" in *' apply -f -') cat >\"$(mktemp \"$KEPT/rules.XXXXXX\")\" ;; *--from-file=*) ls \"${*##*--from-file=}\" >\"$KEPT/dashboards\" ;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(kubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "sh", "-euc", commands)
	run.Dir = root
	run.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "KEPT=" + dir}
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, err := filepath.Glob(dir + "/rules.*")
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := filepath.Glob(filepath.Join(root, "deploy/prometheus/rules/*.yml"))
	if err != nil || len(made) != len(shipped) || len(made) == 0 {
		t.Fatalf("%d objects from %d files, %v", len(made), len(shipped), err)
	}
	for _, file := range made {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var rule monitoring.PrometheusRule
		if err := yaml.UnmarshalStrict(text, &rule); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		original := read(t, "deploy/prometheus/rules/"+rule.Name+".yml")
		var spec monitoring.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict([]byte(original), &spec); err != nil {
			t.Fatalf("%s: %v", rule.Name, err)
		}
		if have, want := mustYAML(t, rule.Spec), mustYAML(t, spec); have != want || rule.Kind != "PrometheusRule" || len(spec.Groups) == 0 {
			t.Errorf("%s is another object than its file:\n%s", rule.Name, have)
		}
	}
	if dashboards, err := os.ReadFile(dir + "/dashboards"); err != nil || !strings.Contains(string(dashboards), ".json") {
		t.Errorf("dashboards: %q, %v", dashboards, err)
	}
}

func mustYAML(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
