package law

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// renamed are keys of log lines that have another name here: one word per thing, also for who searches the log.
var renamed = map[string]string{
	"addr": "address", "err": "error", "ip": "address", "remote": "address", "remote_addr": "address", "msg": "text", "duration": "took", "elapsed": "took",
	"ns": "namespace", "sock": "socket",
}

// unspeakable are keys of what no log may have: secrets, keys to sessions, and what clients say.
var unspeakable = []string{"sid", "pid", "token", "secret", "password", "authorization", "cookie", "query", "payload", "body"}

var (
	logKeyForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	loggers    = []string{"log", "Log", "logger", "slog"}
	levels     = []string{"Debug", "Info", "Warn", "Error"}
)

// TestLogLines: the message of every log line is one constant text, by which it is found and counted, and its keys are
// words that say the same everywhere and name no secret.
func TestLogLines(t *testing.T) {
	fset := token.NewFileSet()
	lines := 0
	for _, f := range goFiles(t) {
		if f.test || !within(f.dir, []string{"cmd", "engine", "fanout", "state", "trunk"}) {
			continue
		}
		parsed, err := parser.ParseFile(fset, filepath.Join(root, f.name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !logs(call) {
				return true
			}
			lines++
			if problem := judgeLine(call); problem != "" {
				t.Errorf("%s: %s", fset.Position(call.Pos()), problem)
			}
			return true
		})
	}
	if lines < 50 {
		t.Errorf("only %d log lines found", lines)
	}
}

// logs reports whether a call writes a log line, or gives a logger its attributes.
func logs(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(levels, method.Sel.Name) && method.Sel.Name != "With" || len(call.Args) == 0 {
		return false
	}
	switch on := method.X.(type) {
	case *ast.Ident:
		return slices.Contains(loggers, on.Name)
	case *ast.SelectorExpr:
		return slices.Contains(loggers, on.Sel.Name)
	case *ast.CallExpr: // slog.Default()
		f, ok := on.Fun.(*ast.SelectorExpr)
		return ok && slices.Contains(loggers, nameOf(f.X))
	}
	return false
}

// judgeLine says what is wrong with a call that logs; "" if nothing is.
func judgeLine(call *ast.CallExpr) string {
	pairs := call.Args
	if call.Fun.(*ast.SelectorExpr).Sel.Name != "With" {
		if _, ok := text(pairs[0]); !ok {
			return "the message is no constant text: what varies belongs to attributes"
		}
		pairs = pairs[1:]
	}
	if len(pairs)%2 != 0 {
		return "a key has no value"
	}
	for i := 0; i < len(pairs); i += 2 {
		key, ok := text(pairs[i])
		switch {
		case !ok:
			return "a key is no constant text"
		case !logKeyForm.MatchString(key):
			return fmt.Sprintf("the key %q is not in lower case with underscores", key)
		case renamed[key] != "":
			return fmt.Sprintf("the key %q is named %q here", key, renamed[key])
		case slices.Contains(unspeakable, key):
			return fmt.Sprintf("the key %q is of something that no log may have", key)
		}
	}
	return ""
}

// text is the value of a string literal.
func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// TestJudgeLine: the law on log lines finds what it is for.
func TestJudgeLine(t *testing.T) {
	for line, want := range map[string]string{
		`s.log.Warn("lost", "error", err)`:              "",
		`log.Info("ready")`:                             "",
		`t.cfg.Log.With("peer", name, "address", a)`:    "",
		`slog.Default().Warn("nbio", "text", s)`:        "",
		`n.log.Warn(name + " is not used")`:             "no constant text",
		`n.log.Warn(fmt.Sprintf("lost %s", x))`:         "no constant text",
		`n.log.Warn("lost", "error")`:                   "no value",
		`n.log.Warn("lost", key, 1)`:                    "no constant text",
		`n.log.Warn("lost", "MaxConns", 1)`:             "lower case",
		`n.log.Warn("lost", "err", err)`:                `named "error"`,
		`t.cfg.Log.With("addr", a)`:                     `named "address"`,
		`n.log.Debug("came", "sid", id)`:                "no log may have",
		`slog.Default().Error("x", "authorization", h)`: "no log may have",
	} {
		e, err := parser.ParseExpr(line)
		if err != nil {
			t.Fatal(err)
		}
		call := e.(*ast.CallExpr)
		if !logs(call) {
			t.Errorf("%s is not seen", line)
		} else if got := judgeLine(call); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	for _, other := range []string{`err.Error()`, `http.Error(w, text, 500)`, `t.Error("x")`, `ctx.With(1)`} {
		e, err := parser.ParseExpr(other)
		if err != nil {
			t.Fatal(err)
		}
		if logs(e.(*ast.CallExpr)) {
			t.Errorf("%s is taken for a log line", other)
		}
	}
}
