package manifests

import (
	"net"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// inEach runs a test on what each folder makes.
func inEach(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Helper()
	for _, name := range builds {
		t.Run(name, func(t *testing.T) { test(t, newCluster(t, name)) })
	}
}

func TestKubernetesSettings(t *testing.T) {
	inEach(t, func(t *testing.T, c *cluster) {
		env := map[string]string{}
		for name, value := range c.settings {
			if strings.HasSuffix(name, "_FILE") {
				value = standIn(t, name)
			}
			env[name] = value
		}
		checkSettings(t, c.name, env)
		container := c.container(t)
		limit := container.Resources.Limits.Memory().Value()
		text, ok := strings.CutSuffix(env["GOMEMLIMIT"], "MiB")
		mib, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil || mib<<20 > limit*9/10 || mib<<20 < limit/2 {
			t.Errorf("GOMEMLIMIT=%s with a limit of %d bytes", env["GOMEMLIMIT"], limit)
		}
	})
}

func TestKubernetesGivesNodesTimeToDrain(t *testing.T) {
	inEach(t, func(t *testing.T, c *cluster) {
		grace := c.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds
		if grace == nil {
			t.Fatal("no terminationGracePeriodSeconds")
		}
		checkGrace(t, c.name, time.Duration(*grace)*time.Second, c.settings)
		if between := time.Duration(c.deployment.Spec.MinReadySeconds) * time.Second; between < drain(t, c.settings) {
			t.Errorf("a rollout goes on after %v, when a node may still be draining", between)
		}
		if r := c.deployment.Spec.Strategy.RollingUpdate; r == nil || r.MaxUnavailable.IntValue() != 0 || r.MaxSurge.IntValue() != 1 {
			t.Errorf("a rollout takes more than one node at a time: %+v", r)
		}
	})
}

// TestKubernetesPorts compares the container's ports with where the edge listens with these settings.
func TestKubernetesPorts(t *testing.T) {
	inEach(t, func(t *testing.T, c *cluster) {
		known := defaults(t)
		for name, variable := range map[string]string{"clients": "LISTEN_ADDR", "admin": "ADMIN_ADDR", "peers": "PEER_ADDR"} {
			addr, ok := c.settings[variable]
			if !ok {
				addr, _, _ = strings.Cut(known[variable], ",") // with REDIS_URL
			}
			host, port, err := net.SplitHostPort(addr)
			if err != nil || host != "" || port != strconv.Itoa(int(c.port(t, name, 0))) {
				t.Errorf("%s=%s, port %s: %d, %v", variable, addr, name, c.port(t, name, 0), err)
			}
		}
	})
}

// TestKubernetesProbes asks a node what the kubelet would.
func TestKubernetesProbes(t *testing.T) {
	n := startNode(t, plain(t))
	inEach(t, func(t *testing.T, c *cluster) {
		container := c.container(t)
		for name, probe := range map[string]*core.Probe{"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port != intstr.FromString("admin") {
				t.Errorf("the %s probe does not ask the admin listener: %+v", name, probe)
				continue
			}
			if code, body := get(t, n.admin, probe.HTTPGet.Path); code != 200 {
				t.Errorf("the %s probe is answered %d %s", name, code, body)
			}
			if ready := probe.HTTPGet.Path == "/readyz"; ready != (name == "readiness") {
				t.Errorf("the %s probe asks %s", name, probe.HTTPGet.Path)
			}
		}
	})
}

// TestKubernetesPodsAreRestricted applies the strictest of the Pod Security Standards.
func TestKubernetesPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	inEach(t, func(t *testing.T, c *cluster) {
		pod := c.deployment.Spec.Template
		level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		// What that standard leaves open.
		container := c.container(t)
		if ro := container.SecurityContext.ReadOnlyRootFilesystem; ro == nil || !*ro {
			t.Error("the root file system can be written to")
		}
		if token := pod.Spec.AutomountServiceAccountToken; token == nil || *token {
			t.Error("pods have a token for the API server, which they do not use")
		}
		for _, list := range []core.ResourceList{container.Resources.Requests, container.Resources.Limits} {
			if list.Cpu().IsZero() || list.Memory().IsZero() {
				t.Errorf("resources: %v", container.Resources)
			}
		}
		if c.namespace != nil && c.namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			t.Errorf("namespace %s does not enforce it", c.namespace.Name)
		}
		if !regexp.MustCompile(`:[a-z0-9.-]+$`).MatchString(container.Image) || strings.HasSuffix(container.Image, ":latest") {
			t.Errorf("the image %s has no tag of its own", container.Image)
		}
	})
}

func TestKubernetesSelectorsFindThePods(t *testing.T) {
	inEach(t, func(t *testing.T, c *cluster) {
		c.selects(t, "the Deployment", c.deployment.Spec.Selector)
		for _, spread := range c.deployment.Spec.Template.Spec.TopologySpreadConstraints {
			c.selects(t, "the spread over "+spread.TopologyKey, spread.LabelSelector)
		}
		for _, s := range c.services {
			c.selects(t, "Service "+s.Name, &meta.LabelSelector{MatchLabels: s.Spec.Selector})
			for _, p := range s.Spec.Ports {
				if c.port(t, p.TargetPort.StrVal, p.TargetPort.IntVal) == 0 {
					t.Errorf("Service %s leads to port %s, which no pod has", s.Name, &p.TargetPort)
				}
			}
		}
		if len(c.disruption) != 1 {
			t.Fatalf("%d PodDisruptionBudgets", len(c.disruption))
		}
		c.selects(t, "the PodDisruptionBudget", c.disruption[0].Spec.Selector)
		if n := c.deployment.Spec.Replicas; n != nil && *n < 2 {
			t.Errorf("%d nodes, of which one may be missing", *n)
		}
	})
}

// TestKubernetesNetwork looks at which pods may reach which ports: the policy must not be wider, nor cut off nodes from
// what they need.
func TestKubernetesNetwork(t *testing.T) {
	inEach(t, func(t *testing.T, c *cluster) {
		if len(c.policies) != 1 {
			t.Fatalf("%d NetworkPolicies", len(c.policies))
		}
		p := c.policies[0]
		c.selects(t, "the NetworkPolicy", &p.Spec.PodSelector)
		open := map[int32][]networking.NetworkPolicyPeer{}
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				number := c.port(t, port.Port.StrVal, port.Port.IntVal)
				if number == 0 {
					t.Errorf("the NetworkPolicy opens port %s, which no pod has", port.Port)
				}
				open[number] = append(open[number], rule.From...)
			}
		}
		for _, name := range []string{"clients", "admin", "peers"} {
			from, ok := open[c.port(t, name, 0)]
			if !ok {
				t.Errorf("nobody can reach the port %s", name)
			}
			if name != "clients" && len(from) == 0 {
				t.Errorf("everybody can reach the port %s", name)
			}
			if name != "peers" {
				continue
			}
			for _, peer := range from {
				if peer.NamespaceSelector != nil || peer.IPBlock != nil {
					t.Errorf("others than nodes can reach the port for them: %v", peer)
				}
				c.selects(t, "the rule for nodes", peer.PodSelector)
			}
		}
		out := map[int32]bool{}
		for _, rule := range p.Spec.Egress {
			for _, port := range rule.Ports {
				out[port.Port.IntVal] = true
			}
		}
		for what, port := range map[string]int32{"Redis": 6379, "names": 53, "nodes": c.port(t, "peers", 0)} {
			if !out[port] {
				t.Errorf("nodes cannot reach %s on port %d", what, port)
			}
		}
	})
}

// TestKubernetesSecrets compares the files that settings name with what is mounted, and these with the command of
// docs/operations.md that makes the Secret.
func TestKubernetesSecrets(t *testing.T) {
	manual := read(t, "docs/operations.md")
	inEach(t, func(t *testing.T, c *cluster) {
		volumes := c.deployment.Spec.Template.Spec.Volumes
		mounts := c.container(t).VolumeMounts
		if len(volumes) != 1 || volumes[0].Secret == nil || len(mounts) != 1 || mounts[0].Name != volumes[0].Name {
			t.Fatalf("pods have other volumes than the secrets: %v, %v", volumes, mounts)
		}
		name := volumes[0].Secret.SecretName
		if !strings.Contains(manual, "create secret generic "+name+" ") {
			t.Errorf("docs/operations.md does not say how to make the Secret %s", name)
		}
		for variable, file := range c.settings {
			if !strings.HasSuffix(variable, "_FILE") {
				if secretName.MatchString(variable) {
					t.Errorf("%s is in the environment", variable)
				}
				continue
			}
			if path.Dir(file) != mounts[0].MountPath {
				t.Errorf("%s=%s is not below %s", variable, file, mounts[0].MountPath)
			}
			if !strings.Contains(manual, "--from-literal="+path.Base(file)+"=") {
				t.Errorf("docs/operations.md does not put %s into the Secret", path.Base(file))
			}
		}
	})
}

func TestKubernetesIngress(t *testing.T) {
	c := newCluster(t, "overlays/example")
	if len(c.ingresses) != 1 {
		t.Fatalf("%d Ingresses", len(c.ingresses))
	}
	in := c.ingresses[0]
	for _, rule := range in.Spec.Rules {
		for _, p := range rule.HTTP.Paths {
			if p.Path != "/socket.io/" {
				t.Errorf("%s is not for clients", p.Path)
			}
			if p.Backend.Service == nil || !c.hasPort(p.Backend.Service.Name, p.Backend.Service.Port.Name) {
				t.Errorf("the Ingress leads to %+v, which is not there", p.Backend.Service)
			}
		}
		if len(in.Spec.TLS) == 0 || !strings.Contains(strings.Join(in.Spec.TLS[0].Hosts, " "), rule.Host) {
			t.Errorf("%s is served without TLS", rule.Host)
		}
	}
	// The same as in deploy/nginx.conf, where the tests run with it.
	conf := read(t, "deploy/nginx.conf")
	for annotation, directive := range map[string]string{
		"proxy-connect-timeout": "proxy_connect_timeout %ss;", "proxy-read-timeout": "proxy_read_timeout %ss;", "proxy-send-timeout": "proxy_send_timeout %ss;",
		"proxy-buffering": "proxy_buffering %s;", "proxy-request-buffering": "proxy_request_buffering %s;",
		"proxy-body-size": "client_max_body_size %s;", "client-body-buffer-size": "client_body_buffer_size %s;", "proxy-next-upstream": "proxy_next_upstream %s;",
	} {
		value := in.Annotations["nginx.ingress.kubernetes.io/"+annotation]
		if want := strings.Replace(directive, "%s", value, 1); value == "" || !strings.Contains(conf, "    "+want) {
			t.Errorf("%s is %q, deploy/nginx.conf has no %q", annotation, value, want)
		}
	}
}

// hasPort tells whether there is a Service with a port of that name.
func (c *cluster) hasPort(service, port string) bool {
	for _, s := range c.services {
		for _, p := range s.Spec.Ports {
			if s.Name == service && p.Name == port {
				return true
			}
		}
	}
	return false
}

func TestKubernetesMonitoring(t *testing.T) {
	c := newCluster(t, "overlays/example")
	if len(c.monitors) != 1 {
		t.Fatalf("%d ServiceMonitors", len(c.monitors))
	}
	m := c.monitors[0]
	selector, err := meta.LabelSelectorAsSelector(&m.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, s := range c.services {
		if !selector.Matches(labels.Set(s.Labels)) {
			continue
		}
		found++
		if s.Spec.ClusterIP != core.ClusterIPNone || !s.Spec.PublishNotReadyAddresses {
			t.Errorf("Service %s hides nodes from Prometheus", s.Name)
		}
		for _, e := range m.Spec.Endpoints {
			if !c.hasPort(s.Name, e.Port) {
				t.Errorf("Service %s has no port %s", s.Name, e.Port)
			}
		}
		if s.Labels[m.Spec.JobLabel] != "edge" {
			t.Errorf("job is %q", s.Labels[m.Spec.JobLabel])
		}
	}
	if found != 1 {
		t.Errorf("the ServiceMonitor finds %d Services instead of 1: every node would be scraped as often", found)
	}
	n := startNode(t, plain(t))
	for _, e := range m.Spec.Endpoints {
		if code, body := get(t, n.admin, e.Path); code != 200 || !strings.Contains(body, "\nedge_conns{") {
			t.Errorf("%s is answered %d, without edge_conns", e.Path, code)
		}
	}
}
