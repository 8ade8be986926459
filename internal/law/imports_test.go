package law

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stellara/edge"

// allowed says which folders of ours a folder may import. A key stands for
// itself and everything below it, the longest match counts. Tests may also
// import internal/*, and their own package.
var allowed = map[string][]string{
	"websocket":           nil,
	"socketio":            nil,
	"metrics":             nil,
	"fanout":              {"metrics"},
	"engine":              {"websocket", "socketio", "fanout", "metrics"},
	"state":               {"socketio", "metrics"},
	"trunk":               {"metrics"},
	"cmd":                 {"websocket", "socketio", "metrics", "fanout", "engine", "state", "trunk", "cmd"},
	"bench":               {"websocket", "socketio", "bench", "internal/port"},
	"test":                {"engine", "state", "trunk", "socketio", "websocket", "metrics"}, // a node of its own in mixed fleets
	"test/conformance":    {"engine", "websocket", "metrics", "test/conformance"},           // engine.New takes the metrics
	"internal":            {"websocket", "socketio"},                                        // the tiny test client speaks both
	"internal/dashboards": {"metrics"},                                                      // whose names they show
	"internal/documents":  {"metrics"},                                                      // that docs/operations.md explains
}

// confined are modules that only some folders may import, tests included.
var confined = map[string][]string{
	"github.com/lesismal/nbio":        {"engine", "bench"},
	"github.com/redis/rueidis":        {"state", "bench"},
	"github.com/alicebob/miniredis":   {"state", "bench"},
	"github.com/caarlos0/env":         {"cmd"},
	"github.com/golang-jwt/jwt":       {"cmd"},
	"github.com/MicahParks/jwkset":    {"cmd"},
	"github.com/prometheus":           {"metrics", "cmd", "engine", "fanout", "state", "test", "trunk", "internal/dashboards", "internal/documents"},
	"net/http/pprof":                  {"cmd", "bench"},
	"github.com/lesismal/nbio/nbhttp": nil, // RFC 6455 and HTTP are not nbio's here
}

// pure packages turn bytes into bytes: no sockets, clocks or goroutines.
var pure = []string{"websocket", "socketio"}

// impure are what pure packages may not import. What of net is plain text and
// types may be: harmless lists it.
var impure = []string{"net", "os", "os/exec", "os/signal", "syscall", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "golang.org/x/sys"}

// harmless are packages below net that pure packages use for headers, requests as values, and addresses.
var harmless = []string{"net/http", "net/textproto", "net/url", "net/netip"}

// vague are names for folders that would collect anything.
var vague = []string{"utils", "util", "common", "helpers", "helper", "pkg", "misc", "shared", "lib"}

// file is one Go source file of the module, whatever its build constraints.
type file struct {
	dir  string // its folder below the module's root, with slashes; "." for the root
	name string // its path below the module's root
	test bool
}

// root is the module's root as seen from this package.
const root = "../.."

// goFiles returns all Go files of the module.
func goFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			if rel != "." && skipped(entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(rel, ".go") {
			files = append(files, file{dir: path.Dir(rel), name: rel, test: strings.HasSuffix(rel, "_test.go")})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go files found")
	}
	return files
}

// skipped are the folders that the go command ignores, and those of other tools.
func skipped(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules" || name == "bin" || name == "out"
}

// ruleOf returns the key of allowed that covers a folder.
func ruleOf(dir string) (string, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if _, ok := allowed[d]; ok {
			return d, true
		}
	}
	return "", false
}

// within reports whether dir is one of folders, or below one.
func within(dir string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return dir == f || strings.HasPrefix(dir, f+"/") })
}

func TestImports(t *testing.T) {
	for _, f := range goFiles(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, f.name), nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if problem := judge(f, imported); problem != "" {
				t.Errorf("%s imports %s: %s", f.name, imported, problem)
			}
		}
	}
}

// judge returns what is wrong with an import, or "".
func judge(f file, imported string) string {
	if problem := judgeForeign(f, imported); problem != "" {
		return problem
	}
	ours, ok := strings.CutPrefix(imported, module+"/")
	if !ok {
		return ""
	}
	rule, ok := ruleOf(f.dir)
	switch {
	case !ok:
		return "the law names no folder that this one belongs to"
	case within(ours, []string{"internal"}):
		if !f.test && !slices.Contains(allowed[rule], ours) {
			return "internal packages are test gear, for tests only"
		}
		if ours != f.dir && within(f.dir, []string{"internal"}) {
			return "internal packages do not lean on each other"
		}
		return ""
	case f.test && ours == f.dir: // an external test of the package
		return ""
	case !within(ours, allowed[rule]):
		if len(allowed[rule]) == 0 {
			return rule + " may import nothing of ours"
		}
		return rule + " may import of ours only " + strings.Join(allowed[rule], ", ")
	}
	return ""
}

// judgeForeign is judge for what is not ours.
func judgeForeign(f file, imported string) string {
	if within(f.dir, pure) && !f.test && within(imported, impure) && !slices.Contains(harmless, imported) {
		return "a pure package has no sockets, clocks, goroutines, files or randomness"
	}
	for name, folders := range confined {
		if within(imported, []string{name}) && !within(f.dir, folders) {
			if len(folders) == 0 {
				return name + " may be imported nowhere"
			}
			return name + " may be imported only in " + strings.Join(folders, ", ")
		}
	}
	return ""
}

func TestFoldersHaveNamesThatSayWhatTheyHold(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		for dir := f.dir; dir != "." && !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			if slices.Contains(vague, path.Base(dir)) {
				t.Errorf("%s: a folder named %s collects anything", dir, path.Base(dir))
			}
			if _, ok := ruleOf(dir); !ok {
				t.Errorf("%s: the law names no such folder", dir)
			}
		}
	}
}

// TestJudge makes sure that the law can be broken.
func TestJudge(t *testing.T) {
	code := func(dir string) file { return file{dir: dir} }
	tests := []struct {
		f        file
		imported string
		broken   bool
	}{
		{code("engine"), module + "/fanout", false},
		{code("engine"), module + "/state", true},
		{code("state"), module + "/engine", true},
		{code("state"), module + "/socketio", false},
		{code("engine"), module + "/trunk", true},
		{code("trunk"), module + "/metrics", false},
		{code("trunk"), module + "/engine", true},
		{code("cmd/edge"), module + "/trunk", false},
		{code("fanout"), module + "/metrics", false},
		{code("fanout"), module + "/socketio", true},
		{code("websocket"), module + "/socketio", true},
		{code("cmd/edge"), module + "/state", false},
		{code("bench"), module + "/engine", true},
		{code("test/conformance"), module + "/engine", false},
		{code("test/conformance"), module + "/state", true},
		{code("engine"), module + "/internal/leak", true},
		{code("bench"), module + "/internal/port", false},
		{code("bench"), module + "/internal/leak", true},
		{code("engine"), module + "/internal/port", true},
		{file{dir: "engine", test: true}, module + "/internal/leak", false},
		{file{dir: "internal/leak", test: true}, module + "/engine", true},
		{file{dir: "state", test: true}, module + "/state", false},
		{file{dir: "state", test: true}, module + "/engine", true},
		{code("surprise"), module + "/engine", true},
		{code("engine"), "github.com/lesismal/nbio", false},
		{code("cmd/edge"), "github.com/lesismal/nbio", true},
		{code("engine"), "github.com/lesismal/nbio/nbhttp/websocket", true},
		{code("engine"), "github.com/redis/rueidis", true},
		{code("state"), "github.com/redis/rueidis/rueidiscompat", false},
		{code("socketio"), "net", true},
		{code("websocket"), "net/http", false},
		{code("websocket"), "encoding/binary", false},
	}
	for _, tt := range tests {
		if problem := judge(tt.f, tt.imported); (problem != "") != tt.broken {
			t.Errorf("%s (test %v) imports %s: %q", tt.f.dir, tt.f.test, tt.imported, problem)
		}
	}
}
