package manifests

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// exampleEnv reads deploy/.env.example: its variables with their values, those that it only mentions left out.
func exampleEnv(t *testing.T, name string) map[string]string {
	t.Helper()
	env := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(read(t, name)))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok && !strings.HasPrefix(name, "#") {
			env[name] = value
		}
	}
	return env
}

// loadCompose reads deploy/compose.yaml as docker compose does, with these variables alone.
func loadCompose(t *testing.T, env map[string]string) (*types.Project, error) {
	t.Helper()
	file, err := filepath.Abs(filepath.Join(root, "deploy/compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	options, err := cli.NewProjectOptions([]string{file}, cli.WithWorkingDirectory(filepath.Dir(file)), cli.WithInterpolation(true))
	if err != nil {
		t.Fatal(err)
	}
	options.Environment = env
	return options.LoadProject(t.Context())
}

// compose is deploy/compose.yaml with a value for each secret of deploy/.env.example.
func compose(t *testing.T) *types.Project {
	t.Helper()
	env := exampleEnv(t, "deploy/.env.example")
	for name, value := range env {
		if value != "" {
			t.Errorf("deploy/.env.example gives a value for %s: somebody will use it", name)
		}
		env[name] = "0123456789abcdef0123456789abcdef-" + strings.ToLower(name)
	}
	project, err := loadCompose(t, env)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// nodes are the services that are edges.
func nodes(t *testing.T, project *types.Project) []types.ServiceConfig {
	t.Helper()
	var found []types.ServiceConfig
	for _, s := range project.Services {
		if s.Build != nil {
			found = append(found, s)
		}
	}
	if len(found) != 3 {
		t.Fatalf("%d nodes instead of 3", len(found))
	}
	return found
}

// TestComposeDemandsSecrets tests that nothing starts with an empty secret.
func TestComposeDemandsSecrets(t *testing.T) {
	secrets := exampleEnv(t, "deploy/.env.example")
	for missing := range secrets {
		env := map[string]string{}
		for name := range secrets {
			if name != missing {
				env[name] = "given"
			}
		}
		if _, err := loadCompose(t, env); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

func TestComposeNodes(t *testing.T) {
	project := compose(t)
	for _, s := range nodes(t, project) {
		env := map[string]string{}
		for name, value := range s.Environment {
			env[name] = *value
		}
		checkSettings(t, "service "+s.Name, env)
		if s.StopGracePeriod == nil {
			t.Errorf("%s has no stop_grace_period", s.Name)
			continue
		}
		checkGrace(t, "service "+s.Name, time.Duration(*s.StopGracePeriod), env)
		if files := s.Ulimits["nofile"]; files == nil || max(files.Single, files.Hard) < 10_000 {
			t.Errorf("%s may open %+v files", s.Name, files)
		}
		if s.HealthCheck != nil && s.HealthCheck.Disable {
			t.Errorf("%s switches the image's health check off", s.Name)
		}
		if !strings.Contains(env["REDIS_URL"], "@redis:6379") || project.Services["redis"].Name == "" {
			t.Errorf("%s has its Redis at %s", s.Name, env["REDIS_URL"])
		}
		if filepath.Join(s.Build.Context, s.Build.Dockerfile) != filepath.Join(filepath.Dir(project.WorkingDir), "Dockerfile") {
			t.Errorf("%s is built from %s, %s", s.Name, s.Build.Context, s.Build.Dockerfile)
		}
	}
}

// TestComposeServicesAreConfined looks at all services, those of others included.
func TestComposeServicesAreConfined(t *testing.T) {
	project := compose(t)
	for _, s := range project.Services {
		if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: read_only %v, privileged %v, cap_drop %v, cap_add %v, security_opt %v", s.Name, s.ReadOnly, s.Privileged, s.CapDrop, s.CapAdd, s.SecurityOpt)
		}
		if s.Build == nil && !regexp.MustCompile(`^[1-9]\d*(:\d+)?$`).MatchString(s.User) {
			t.Errorf("%s runs as %q", s.Name, s.User)
		}
		if tag := s.Image[strings.LastIndex(s.Image, ":")+1:]; s.Build == nil && !regexp.MustCompile(`^v?\d+\.\d+`).MatchString(tag) {
			t.Errorf("%s: the image %s is not pinned to a version", s.Name, s.Image)
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s mounts %s, read_only %v: %v", s.Name, v.Source, v.ReadOnly, err)
			}
		}
		for _, p := range s.Ports {
			if s.Name != "nginx" && p.HostIP != "127.0.0.1" {
				t.Errorf("%s is published for everybody: %+v", s.Name, p)
			}
		}
	}
}

// script is the shell program that a service runs, with paths of the container in their places here.
func script(t *testing.T, project *types.Project, service string, paths map[string]string) string {
	t.Helper()
	command := project.Services[service].Command
	if len(command) != 3 || command[0] != "sh" || command[1] != "-euc" {
		t.Fatalf("%s runs %q", service, command)
	}
	text := strings.ReplaceAll(command[2], "$$", "$") // as docker compose does when it creates the container
	var pairs []string
	for from, to := range paths {
		if !strings.Contains(text, from) {
			t.Fatalf("%s does not use %s: %s", service, from, text)
		}
		pairs = append(pairs, from, to)
	}
	return strings.NewReplacer(pairs...).Replace(text) // what was replaced is not looked at again
}

// TestComposeNginx runs the service's own command up to nginx, and nginx's check of what it made.
func TestComposeNginx(t *testing.T) {
	nginx := program(t, "nginx")
	project := compose(t)
	dir := t.TempDir()
	conf, err := filepath.Abs(filepath.Join(root, "deploy/nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	text := script(t, project, "nginx", map[string]string{"/etc/edge/nginx.conf": conf, "/tmp/": dir + "/", "exec nginx": "exec " + nginx + " -t -p " + dir})
	if out, err := exec.CommandContext(t.Context(), "sh", "-euc", text).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, err := os.ReadFile(filepath.Join(dir, "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, s := range nodes(t, project) {
		want = append(want, s.Networks["fleet"].Ipv4Address+":3000")
	}
	var have []string
	for _, m := range regexp.MustCompile(`(?m)^ *server (\S+) max_fails`).FindAllStringSubmatch(string(made), -1) {
		have = append(have, m[1])
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		t.Errorf("nginx asks %v, the nodes are %v", have, want)
	}
	ports := project.Services["nginx"].Ports
	if len(ports) != 1 || !strings.Contains(string(made), fmt.Sprintf("\n        listen %d ", ports[0].Target)) {
		t.Errorf("nginx does not listen where %v leads", ports)
	}
}

// TestComposeRedis runs the service's own command, and its health check, on a port of the test's own.
func TestComposeRedis(t *testing.T) {
	program(t, "redis-server")
	project := compose(t)
	addr := free(t)
	port := addr[strings.LastIndex(addr, ":")+1:]
	service := project.Services["redis"]
	env := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range service.Environment {
		env = append(env, name+"="+*value)
	}
	text := script(t, project, "redis", map[string]string{"requirepass ": "port " + port + "\nbind 127.0.0.1\nrequirepass "})
	ctx, cancel := context.WithCancel(t.Context())
	redis := exec.CommandContext(ctx, "sh", "-euc", text)
	redis.Env, redis.Dir = env, t.TempDir()
	out, err := redis.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = redis.Wait()
	})
	var log bytes.Buffer
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ready to accept connections") {
		fmt.Fprintln(&log, lines.Text())
	}
	cli := func(command string, env []string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(command, "redis-cli", "redis-cli -p "+port))
		cmd.Env = env
		answer, err := cmd.CombinedOutput()
		return strings.TrimSpace(fmt.Sprint(string(answer), " ", err))
	}
	if got := cli(service.HealthCheck.Test[1], env); got != "<nil>" {
		t.Fatalf("the health check says %s\n%s", got, &log)
	}
	if got := cli("redis-cli get x", env[:1]); !strings.Contains(got, "NOAUTH") {
		t.Errorf("who has no password is answered %s", got)
	}
	for setting, want := range map[string]string{"maxmemory-policy": "noeviction", "save": "", "maxmemory": "536870912"} {
		if got := cli("redis-cli --raw config get "+setting, env); got != setting+"\n"+want+"\n <nil>" {
			t.Errorf("%s is %q instead of %q", setting, got, want)
		}
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", redis.Process.Pid))
	if err != nil || bytes.Contains(cmdline, []byte(*service.Environment["REDIS_PASSWORD"])) {
		t.Errorf("a list of processes shows the password: %s, %v", cmdline, err)
	}
}

// program is the path of a program, also from folders that are not in everybody's PATH. Without it the test is skipped,
// or fails where EDGE_E2E=required says that it has to be there.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if err == nil {
			return path
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	if err == nil {
		return path
	}
	if os.Getenv("EDGE_E2E") == "required" {
		t.Fatalf("%s is missing; `make tools` installs what it can", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// TestComposeTrustsItsProxy: an address that is trusted and anybody else's would let that one be anybody.
func TestComposeTrustsItsProxy(t *testing.T) {
	project := compose(t)
	for _, s := range nodes(t, project) {
		trusted := s.Environment["TRUSTED_PROXIES"]
		if nginx := project.Services["nginx"].Networks["fleet"].Ipv4Address; trusted == nil || *trusted != nginx {
			t.Errorf("%s trusts %v, nginx is %s", s.Name, trusted, nginx)
		}
	}
}

// TestComposeMonitoring follows the names by which Prometheus finds the nodes, and Grafana finds Prometheus and dashboards.
func TestComposeMonitoring(t *testing.T) {
	project := compose(t)
	var scraped struct {
		Configs []struct {
			Targets []struct {
				Addresses []string `json:"targets"`
			} `json:"static_configs"`
		} `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/prometheus/prometheus.yml")), &scraped); err != nil {
		t.Fatal(err)
	}
	var have, want []string
	for _, config := range scraped.Configs {
		for _, targets := range config.Targets {
			have = append(have, targets.Addresses...)
		}
	}
	for _, s := range nodes(t, project) {
		want = append(want, s.Name+*s.Environment["ADMIN_ADDR"])
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("Prometheus scrapes %v, the nodes are %v", have, want)
	}

	var sources struct {
		Datasources []struct {
			URL string `json:"url"`
		} `json:"datasources"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/grafana/provisioning/datasources/prometheus.yaml")), &sources); err != nil {
		t.Fatal(err)
	}
	prometheus := project.Services["prometheus"]
	if len(sources.Datasources) != 1 || len(prometheus.Ports) != 1 || sources.Datasources[0].URL != fmt.Sprintf("http://%s:%d", prometheus.Name, prometheus.Ports[0].Target) {
		t.Errorf("Grafana asks %v, Prometheus has %v", sources, prometheus.Ports)
	}
	var providers struct {
		Providers []struct {
			Options struct {
				Path string `json:"path"`
			} `json:"options"`
		} `json:"providers"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/grafana/provisioning/dashboards/edge.yaml")), &providers); err != nil {
		t.Fatal(err)
	}
	for _, p := range providers.Providers {
		if !slices.ContainsFunc(project.Services["grafana"].Volumes, func(v types.ServiceVolumeConfig) bool {
			return v.Target == p.Options.Path && filepath.Base(v.Source) == "dashboards"
		}) {
			t.Errorf("Grafana looks for dashboards in %s, where nothing is mounted", p.Options.Path)
		}
	}
}
