package manifests

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// adapterRules is the form of the values that the Helm chart of prometheus-adapter takes for custom metrics: the chart
// copies them to the adapter's configuration,
// https://github.com/kubernetes-sigs/prometheus-adapter/blob/master/docs/config.md.
type adapterRules struct {
	Rules struct {
		Custom []struct {
			SeriesQuery string `json:"seriesQuery"`
			Resources   struct {
				Overrides map[string]struct {
					Resource string `json:"resource"`
				} `json:"overrides"`
			} `json:"resources"`
			Name struct {
				As string `json:"as"`
			} `json:"name"`
			MetricsQuery string `json:"metricsQuery"`
		} `json:"custom"`
	} `json:"rules"`
}

func TestAutoscaling(t *testing.T) {
	c := newCluster(t, "overlays/example")
	if len(c.autoscalers) != 1 {
		t.Fatalf("%d HorizontalPodAutoscalers", len(c.autoscalers))
	}
	a := c.autoscalers[0].Spec
	if target := a.ScaleTargetRef; target.Kind != "Deployment" || target.APIVersion != "apps/v1" || target.Name != c.deployment.Name {
		t.Errorf("it scales %+v", target)
	}
	if c.deployment.Spec.Replicas != nil {
		t.Error("kubectl apply would set the number of nodes back")
	}
	var rules adapterRules
	if err := yaml.UnmarshalStrict([]byte(read(t, "deploy/kubernetes/components/autoscaling/prometheus-adapter.yaml")), &rules); err != nil {
		t.Fatal(err)
	}
	_, scraped := get(t, startNode(t, plain(t)).admin, "/metrics")
	offered := map[string]bool{}
	for _, rule := range rules.Rules.Custom {
		series := regexp.MustCompile(`^\w+`).FindString(rule.SeriesQuery)
		if !strings.Contains(scraped, "\n# TYPE "+series+" gauge\n") {
			t.Errorf("the edge has no gauge %q", series)
		}
		for label, to := range rule.Resources.Overrides {
			if !strings.Contains(rule.SeriesQuery, label+`!=""`) || to.Resource != label {
				t.Errorf("series of %s need not have the label %s", rule.SeriesQuery, label)
			}
		}
		offered[rule.Name.As] = true
	}
	maxConns, err := strconv.ParseInt(c.settings["MAX_CONNS"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	byConns := false
	for _, m := range a.Metrics {
		if m.Pods == nil {
			continue
		}
		byConns = true
		if !offered[m.Pods.Metric.Name] {
			t.Errorf("no rule of the adapter makes %s", m.Pods.Metric.Name)
		}
		// A fleet of the least size at its target must hold the conns of a node that dies.
		fleet := m.Pods.Target.AverageValue.Value() * int64(*a.MinReplicas)
		if fleet > maxConns*int64(*a.MinReplicas-1) {
			t.Errorf("with one of %d nodes gone %d conns find no place within MAX_CONNS=%d", *a.MinReplicas, fleet, maxConns)
		}
	}
	if !byConns {
		t.Error("nothing scales by conns")
	}
	if down := a.Behavior.ScaleDown; down == nil || *down.StabilizationWindowSeconds < 300 || len(down.Policies) != 1 || down.Policies[0].Value != 1 {
		t.Errorf("nodes are taken away in haste: %+v", down)
	}
}
