package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// builds are the folders of deploy/kubernetes that kubectl apply -k takes.
var builds = []string{"base", "overlays/example"}

// cluster is what one of them makes, decoded.
type cluster struct {
	name        string
	namespace   *core.Namespace // nil where there is none
	deployment  *apps.Deployment
	settings    map[string]string // of the ConfigMap and the pod, files of secrets included
	services    []*core.Service
	configs     map[string]map[string]string
	policies    []*networking.NetworkPolicy
	ingresses   []*networking.Ingress
	disruption  []*policy.PodDisruptionBudget
	autoscalers []*autoscaling.HorizontalPodAutoscaler
	monitors    []*monitoring.ServiceMonitor
}

// newCluster builds a folder and decodes every object in it into its type. Kinds and fields that do not exist fail.
func newCluster(t *testing.T, name string) *cluster {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "deploy/kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme, policy.AddToScheme, networking.AddToScheme, autoscaling.AddToScheme, monitoring.AddToScheme} {
		if err := add(known); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	c := &cluster{name: "deploy/kubernetes/" + name, configs: map[string]map[string]string{}}
	for _, resource := range built.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, text)
		}
		c.add(t, object)
	}
	if c.deployment == nil {
		t.Fatalf("%s has no Deployment", c.name)
	}
	c.settings = c.environment(t)
	return c
}

func (c *cluster) add(t *testing.T, object runtime.Object) {
	t.Helper()
	switch o := object.(type) {
	case *core.Namespace:
		c.namespace = o
	case *apps.Deployment:
		if c.deployment != nil {
			t.Fatalf("%s has two Deployments", c.name)
		}
		c.deployment = o
	case *core.Service:
		c.services = append(c.services, o)
	case *core.ConfigMap:
		c.configs[o.Name] = o.Data
	case *networking.NetworkPolicy:
		c.policies = append(c.policies, o)
	case *networking.Ingress:
		c.ingresses = append(c.ingresses, o)
	case *policy.PodDisruptionBudget:
		c.disruption = append(c.disruption, o)
	case *autoscaling.HorizontalPodAutoscaler:
		c.autoscalers = append(c.autoscalers, o)
	case *monitoring.ServiceMonitor:
		c.monitors = append(c.monitors, o)
	default:
		t.Fatalf("%s has a %T, which no test looks at", c.name, o)
	}
}

// container is the one container of a pod.
func (c *cluster) container(t *testing.T) core.Container {
	t.Helper()
	pod := c.deployment.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 {
		t.Fatalf("%s: pods have other containers than the edge", c.name)
	}
	return pod.Containers[0]
}

// standIn is a file in place of one of a mounted Secret, which a variable named like NAME_FILE refers to.
func standIn(t *testing.T, variable string) string {
	t.Helper()
	value := strings.Repeat("s", 48)
	if variable == "REDIS_URL_FILE" {
		value = "redis://:password@redis:6379"
	}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// environment is what a node of the cluster is started with.
func (c *cluster) environment(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{}
	container := c.container(t)
	for _, from := range container.EnvFrom {
		if from.ConfigMapRef == nil || c.configs[from.ConfigMapRef.Name] == nil {
			t.Fatalf("%s: envFrom %v refers to what is not there", c.name, from)
		}
		for name, value := range c.configs[from.ConfigMapRef.Name] {
			env[name] = value
		}
	}
	for _, v := range container.Env {
		switch {
		case v.ValueFrom == nil:
			env[v.Name] = v.Value
		case v.ValueFrom.FieldRef != nil && v.ValueFrom.FieldRef.FieldPath == "status.podIP":
			env[v.Name] = "10.1.2.3"
		default:
			t.Fatalf("%s: %s is taken from %v", c.name, v.Name, v.ValueFrom)
		}
	}
	return env
}

// selects tests that a selector finds the pods, and says whose it is if not. An empty one finds all, and is an error.
func (c *cluster) selects(t *testing.T, whose string, selector *meta.LabelSelector) {
	t.Helper()
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatalf("%s: %s: %v", c.name, whose, err)
	}
	if s.Empty() || !s.Matches(labels.Set(c.deployment.Spec.Template.Labels)) {
		t.Errorf("%s: %s selects {%s}, the pods are %v", c.name, whose, s, c.deployment.Spec.Template.Labels)
	}
}

// port is the number of a port of the container, by its name or number; 0 if there is none.
func (c *cluster) port(t *testing.T, name string, number int32) int32 {
	t.Helper()
	for _, p := range c.container(t).Ports {
		if p.Name == name || name == "" && p.ContainerPort == number {
			return p.ContainerPort
		}
	}
	return 0
}
