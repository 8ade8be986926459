package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// dockerfile returns the stages of the Dockerfile and what stands before the first. Warnings of the parser, such as
// empty continuation lines, are errors here.
func dockerfile(t *testing.T) ([]instructions.Stage, []instructions.ArgCommand) {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(read(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("Dockerfile: %s", w.Short)
	}
	stages, args, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 2 {
		t.Fatalf("the Dockerfile has %d stages instead of 2", len(stages))
	}
	return stages, args
}

// only returns the one command of its kind in a stage.
func only[T instructions.Command](t *testing.T, stage instructions.Stage) T {
	t.Helper()
	var found []T
	for _, c := range stage.Commands {
		if c, ok := c.(T); ok {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		t.Fatalf("stage %q of the Dockerfile has %d of %T instead of 1", stage.Name, len(found), *new(T))
	}
	return found[0]
}

var (
	exactTag   = regexp.MustCompile(`:\d+(\.\d+)+(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?$`)
	secretName = regexp.MustCompile(`(?i)secret|token|passw|key`)
)

func TestImageIsBuiltWithOneReleaseOfGo(t *testing.T) {
	stages, args := dockerfile(t)
	if stages[0].BaseName != "${GO_IMAGE}" {
		t.Fatalf("the program is built in %s instead of ${GO_IMAGE}", stages[0].BaseName)
	}
	least := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if least == nil {
		t.Fatal("go.mod names no release of Go")
	}
	for _, arg := range args {
		for _, pair := range arg.Args {
			if pair.Key != "GO_IMAGE" {
				continue
			}
			if pair.Value == nil || !exactTag.MatchString(*pair.Value) || !strings.HasPrefix(*pair.Value, "golang:"+least[1]+".") {
				t.Errorf("GO_IMAGE is not one release of the Go %s that go.mod names: %s", least[1], pair.ValueString())
			}
			return
		}
	}
	t.Error("the Dockerfile does not say what GO_IMAGE is")
}

func TestImageHasTheProgramAloneAndNoRights(t *testing.T) {
	stages, _ := dockerfile(t)
	image := stages[1]
	if image.BaseName != "scratch" {
		t.Errorf("the image begins from %s instead of scratch", image.BaseName)
	}
	if user := only[*instructions.UserCommand](t, image).User; !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("USER %s: Kubernetes's runAsNonRoot needs a number other than 0", user)
	}
	if signal := only[*instructions.StopSignalCommand](t, image).Signal; signal != "SIGTERM" {
		t.Errorf("STOPSIGNAL %s: the edge ends in order by SIGTERM", signal)
	}
	entry := only[*instructions.EntrypointCommand](t, image)
	if entry.PrependShell || strings.Join(entry.CmdLine, " ") != "/edge" {
		t.Errorf("ENTRYPOINT %q, shell: %v; there is no shell", entry.CmdLine, entry.PrependShell)
	}
	if check := only[*instructions.HealthCheckCommand](t, image).Health; strings.Join(check.Test, " ") != "CMD /edge -healthcheck" {
		t.Errorf("HEALTHCHECK %q", check.Test)
	}
	if ports := only[*instructions.ExposeCommand](t, image).Ports; strings.Join(ports, " ") != "3000 9464 9465" {
		t.Errorf("EXPOSE %v", ports)
	}
	for _, c := range image.Commands {
		switch c := c.(type) {
		case *instructions.RunCommand, *instructions.AddCommand, *instructions.VolumeCommand:
			t.Errorf("%s: the image has the program and certificates only", c.Name())
		case *instructions.CopyCommand:
			if c.From != "build" {
				t.Errorf("COPY %v from %q instead of the stage that builds", c.SourcePaths, c.From)
			}
		}
	}
}

func TestImageHoldsNoSecret(t *testing.T) {
	stages, args := dockerfile(t)
	names := func(c any) (pairs []string) {
		switch c := c.(type) {
		case *instructions.EnvCommand:
			for _, p := range c.Env {
				pairs = append(pairs, p.Key)
			}
		case *instructions.ArgCommand:
			for _, p := range c.Args {
				pairs = append(pairs, p.Key)
			}
		}
		return pairs
	}
	var all []string
	for _, a := range args {
		all = append(all, names(&a)...)
	}
	env := map[string]string{"AUTH": "none", "AUTH_NONE_PUBLIC": "true"} // what the operator has to give
	for _, stage := range stages {
		for _, c := range stage.Commands {
			all = append(all, names(c)...)
			if c, ok := c.(*instructions.EnvCommand); ok {
				for _, p := range c.Env {
					env[p.Key] = p.Value
				}
			}
		}
	}
	for _, name := range all {
		if secretName.MatchString(name) {
			t.Errorf("%s would stay in the image's history", name)
		}
	}
	checkSettings(t, "Dockerfile", env)
}

// buildContext copies to a directory of its own what .dockerignore leaves of the repository.
func buildContext(t *testing.T) string {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(read(t, ".dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return fs.SkipDir // large, and ignored like all that is not named
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if skip, err := ignored.MatchesOrParentMatches(rel); err != nil || skip {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// buildImageProgram runs the Dockerfile's own command in a build context of its own, and returns the program's path.
func buildImageProgram(t *testing.T) string {
	t.Helper()
	stages, _ := dockerfile(t)
	const out = "-o /edge "
	var command string
	for _, c := range stages[0].Commands {
		if run, ok := c.(*instructions.RunCommand); ok && strings.Contains(run.CmdLine[0], "go build") {
			command = run.CmdLine[0]
		}
	}
	if strings.Count(command, out) != 1 {
		t.Fatalf("the Dockerfile does not build %q: %q", out, command)
	}
	program := filepath.Join(t.TempDir(), "edge")
	build := exec.Command("sh", "-c", strings.Replace(command, out, "-o "+program+" ", 1))
	build.Dir = buildContext(t)
	build.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+goarch(t), "VERSION=v0.0.1-test", "GOFLAGS=-mod=readonly")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("what .dockerignore leaves cannot be built: %v\n%s", err, output)
	}
	return program
}

func goarch(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func sum(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(text)
	return hex.EncodeToString(digest[:])
}

func TestImageIsReproducible(t *testing.T) {
	first, second := buildImageProgram(t), buildImageProgram(t)
	if a, b := sum(t, first), sum(t, second); a != b {
		t.Errorf("the same sources in two directories became two programs: %s, %s", a, b)
	}
	if version, err := exec.Command(first, "-version").Output(); err != nil || string(version) != "v0.0.1-test\n" {
		t.Errorf("edge -version: %q, %v", version, err)
	}
}
