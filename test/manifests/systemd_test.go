package manifests

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
)

const unitFile = "deploy/systemd/edge.service"

// service returns the settings of the unit's section [Service], each with all its values in their order.
func service(t *testing.T) map[string][]string {
	t.Helper()
	options, err := unit.Deserialize(strings.NewReader(read(t, unitFile)))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for _, o := range options {
		if o.Section == "Service" {
			settings[o.Name] = append(settings[o.Name], o.Value)
		}
	}
	return settings
}

// one is the one value of a setting.
func one(t *testing.T, settings map[string][]string, name string) string {
	t.Helper()
	if len(settings[name]) != 1 {
		t.Fatalf("%s has %s= %d times", unitFile, name, len(settings[name]))
	}
	return settings[name][0]
}

func TestSystemdSettings(t *testing.T) {
	s := service(t)
	credentials := map[string]bool{} // name → used
	for _, c := range s["LoadCredential"] {
		name, file, ok := strings.Cut(c, ":")
		if !ok || file != "/etc/edge/secrets/"+name {
			t.Errorf("LoadCredential=%s", c)
		}
		credentials[name] = false
	}
	env := exampleEnv(t, "deploy/edge.env.example")
	for name := range env {
		if secretName.MatchString(name) {
			t.Errorf("deploy/edge.env.example has a place for the secret %s", name)
		}
	}
	for _, pair := range s["Environment"] {
		name, value, _ := strings.Cut(pair, "=")
		credential, ok := strings.CutPrefix(value, "%d/")
		if _, loaded := credentials[credential]; !ok || !loaded || !strings.HasSuffix(name, "_FILE") {
			t.Errorf("Environment=%s names no credential", pair)
		}
		credentials[credential] = true
		env[name] = standIn(t, name)
	}
	for name, used := range credentials {
		if !used {
			t.Errorf("nothing reads the credential %s", name)
		}
	}
	checkSettings(t, unitFile, env)

	seconds, err := strconv.Atoi(one(t, s, "TimeoutStopSec"))
	if err != nil {
		t.Fatal(err)
	}
	checkGrace(t, unitFile, time.Duration(seconds)*time.Second, env)
	if files, err := strconv.Atoi(one(t, s, "LimitNOFILE")); err != nil || files < 100_000 {
		t.Errorf("LimitNOFILE=%s", one(t, s, "LimitNOFILE"))
	}
	// Go would not find net.core.somaxconn.
	if len(s["ProcSubset"]) > 0 && !slices.Contains(s["ProcSubset"], "all") {
		t.Errorf("ProcSubset=%s shortens the accept queue to 128", s["ProcSubset"])
	}
}

// TestSystemdCommands compares the files that the unit reads with those that the commands of docs/operations.md make.
func TestSystemdCommands(t *testing.T) {
	s, manual := service(t), read(t, "docs/operations.md")
	paths := []string{one(t, s, "ExecStart"), one(t, s, "EnvironmentFile")}
	for _, file := range paths {
		if !strings.Contains(manual, " "+file) {
			t.Errorf("docs/operations.md does not make %s", file)
		}
	}
	for _, c := range s["LoadCredential"] {
		_, file, _ := strings.Cut(c, ":")
		loop := strings.Contains(manual, path.Dir(file)+"/$name") && strings.Contains(manual, " "+path.Base(file))
		if !strings.Contains(manual, file+"\n") && !loop {
			t.Errorf("docs/operations.md does not make %s", file)
		}
	}
	for _, file := range []string{unitFile, "deploy/edge.env.example", "deploy/sysctl.d/60-edge.conf"} {
		if !strings.Contains(manual, " "+file+" ") {
			t.Errorf("docs/operations.md does not install %s", file)
		}
		read(t, file)
	}
}

// TestSystemdUnit has systemd itself look at the unit: that it knows all settings, and how much it leaves open by its own
// reckoning, in tenths: 14 is what is left of 96 when a server has the network and reads /proc/sys.
func TestSystemdUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	bin, err := edge()
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, unitFile)
	if strings.Count(text, "ExecStart=/usr/local/bin/edge\n") != 1 {
		t.Fatal("the unit does not start /usr/local/bin/edge")
	}
	file := filepath.Join(t.TempDir(), "edge.service")
	if err := os.WriteFile(file, []byte(strings.Replace(text, "/usr/local/bin/edge", bin, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", "--recursive-errors=no"}, {"security", "--offline=true", "--threshold=15"}} {
		// What it does not know it passes over with a warning.
		if out, err := exec.CommandContext(t.Context(), analyze, append(args, file)...).CombinedOutput(); err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}
