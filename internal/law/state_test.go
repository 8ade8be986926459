package law

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// declaration is a use of package state that the law forbids.
type declaration struct {
	position token.Position
	problem  string
}

// processWide are packages that may have state, because what they keep is one for the whole process.
var processWide = []string{"internal/port"} // its block of the machine's ports

func TestNoPackageState(t *testing.T) {
	fset := token.NewFileSet()
	for dir, files := range parsedByFolder(t, fset) {
		if slices.Contains(processWide, dir) {
			continue
		}
		for _, d := range packageState(fset, files) {
			t.Errorf("%s: %s", strings.TrimPrefix(filepath.ToSlash(d.position.String()), root+"/"), d.problem)
		}
		if within(dir, pure) {
			for _, d := range goroutinesAndClocks(fset, files) {
				t.Errorf("%s: %s", strings.TrimPrefix(filepath.ToSlash(d.position.String()), root+"/"), d.problem)
			}
		}
	}
}

// parsedByFolder returns the syntax of all files that are no tests.
func parsedByFolder(t *testing.T, fset *token.FileSet) map[string][]*ast.File {
	t.Helper()
	folders := map[string][]*ast.File{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		parsed, err := parser.ParseFile(fset, filepath.Join(root, f.name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		folders[f.dir] = append(folders[f.dir], parsed)
	}
	return folders
}

// packageState finds init functions and package-level variables that could
// change: those that are assigned to anywhere in the package, and those whose
// value is not of the kinds that constant() knows.
func packageState(fset *token.FileSet, files []*ast.File) []declaration {
	vars := map[string]*ast.Ident{}
	var found []declaration
	for _, file := range files {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					found = append(found, declaration{fset.Position(d.Pos()), "func init runs unasked; do it in main or in a constructor"})
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					found = append(found, variables(fset, d, vars)...)
				}
			}
		}
	}
	for _, file := range files {
		found = append(found, changes(fset, file, vars)...)
	}
	return found
}

// variables checks the declarations of one var group and adds their names to vars.
func variables(fset *token.FileSet, d *ast.GenDecl, vars map[string]*ast.Ident) []declaration {
	var found []declaration
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		embedded := strings.Contains(d.Doc.Text()+v.Doc.Text(), "go:embed") || embeds(d.Doc) || embeds(v.Doc)
		for i, name := range v.Names {
			if name.Name == "_" {
				continue
			}
			vars[name.Name] = name
			switch {
			case embedded:
			case v.Values == nil:
				if !settable(name.Name) {
					found = append(found, declaration{fset.Position(name.Pos()), fmt.Sprintf("variable %s has no value, so something must change it", name.Name)})
				}
			case !constant(v.Values[min(i, len(v.Values)-1)]):
				found = append(found, declaration{fset.Position(name.Pos()), fmt.Sprintf("variable %s holds more than an error, a regular expression or a table", name.Name)})
			}
		}
	}
	return found
}

// embeds reports whether a comment group, directives included, asks for an embedded file.
func embeds(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// settable are the variables that the linker sets (-ldflags -X).
func settable(name string) bool { return name == "version" }

// constant reports whether an expression is of a kind that packages may keep:
// literals and tables of them, errors, compiled patterns, and what is computed
// from such without state of its own.
func constant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit, *ast.Ident, *ast.SelectorExpr, *ast.FuncLit:
		return true
	case *ast.ParenExpr:
		return constant(e.X)
	case *ast.BinaryExpr:
		return constant(e.X) && constant(e.Y)
	case *ast.UnaryExpr: // &Error{...} is an error value
		return constant(e.X)
	case *ast.KeyValueExpr:
		return constant(e.Value)
	case *ast.CompositeLit:
		return !stateful(e.Type) && !slices.ContainsFunc(e.Elts, func(elt ast.Expr) bool { return !constant(elt) })
	case *ast.CallExpr:
		return pureCall(e)
	}
	return false
}

// stateful reports whether a type is made to change: locks, pools, atomics.
func stateful(t ast.Expr) bool {
	s, ok := t.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && (pkg.Name == "sync" || pkg.Name == "atomic")
}

// calls are functions whose result does not change by itself.
var calls = []string{
	"errors.New", "fmt.Errorf", "fmt.Sprintf", "regexp.MustCompile", "strings.NewReplacer", "template.Must",
	"binary.BigEndian.Uint64", "base64.NewEncoding", "crc32.MakeTable", "netip.MustParsePrefix", "netip.MustParseAddr",
	"len", "string", "reflect.TypeFor",
}

// pureCall reports whether a call is one of calls, a conversion, or a function
// literal that builds a table on the spot.
func pureCall(e *ast.CallExpr) bool {
	switch fun := e.Fun.(type) {
	case *ast.FuncLit, *ast.ArrayType:
		return true
	case *ast.IndexExpr: // a generic function with its type argument
		return slices.Contains(calls, nameOf(fun.X))
	default:
		return slices.Contains(calls, nameOf(fun))
	}
}

// nameOf renders a dotted name; "" for anything else.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return nameOf(e.X) + "." + e.Sel.Name
	}
	return ""
}

// changes finds assignments to package-level variables, to their elements and
// fields, and pointers taken to them. A local variable of the same name hides
// the package's; names are resolved by the scopes of the function.
func changes(fset *token.FileSet, file *ast.File, vars map[string]*ast.Ident) []declaration {
	var found []declaration
	add := func(target ast.Expr, hidden map[string]bool) {
		if name := base(target); name != nil && vars[name.Name] != nil && !hidden[name.Name] {
			found = append(found, declaration{fset.Position(target.Pos()), fmt.Sprintf("package variable %s is changed", name.Name)})
		}
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		hidden := locals(f)
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, target := range n.Lhs {
						add(target, hidden)
					}
				}
			case *ast.IncDecStmt:
				add(n.X, hidden)
			case *ast.CallExpr:
				if name := nameOf(n.Fun); (name == "delete" || name == "clear" || name == "copy") && len(n.Args) > 0 {
					add(n.Args[0], hidden)
				}
			}
			return true
		})
	}
	return found
}

// base is the variable that an assignment's left side begins with.
func base(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// locals are all names that a function declares, its receiver and parameters included.
func locals(f *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				names[name.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, target := range n.Lhs {
					if name, ok := target.(*ast.Ident); ok {
						names[name.Name] = true
					}
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if name, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					names[name.Name] = true
				}
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				names[name.Name] = true
			}
		}
		return true
	})
	return names
}

// goroutinesAndClocks finds go statements and reads of the clock in pure packages.
func goroutinesAndClocks(fset *token.FileSet, files []*ast.File) []declaration {
	clocks := []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker", "time.Tick"}
	var found []declaration
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				found = append(found, declaration{fset.Position(n.Pos()), "a pure package starts no goroutine"})
			case *ast.SelectorExpr:
				if slices.Contains(clocks, nameOf(n)) {
					found = append(found, declaration{fset.Position(n.Pos()), "a pure package does not look at the clock"})
				}
			}
			return true
		})
	}
	return found
}

// TestPackageStateIsFound makes sure that the law can be broken.
func TestPackageStateIsFound(t *testing.T) {
	tests := map[string]int{
		`var ErrFull = errors.New("x: full")`:                                         0,
		`var names = [...]string{"a", "b"}`:                                           0,
		`var table = map[string]int{"a": 1}`:                                          0,
		`var hex = func() (t [256]byte) { t[0] = 1; return t }()`:                     0,
		"//go:embed x.lua\nvar script string":                                         0,
		`var _ error = (*Error)(nil)`:                                                 0,
		`var ErrX = &Error{Code: 1, Text: "x"}`:                                       0,
		`var table = map[string]int{}; func f() { table := 1; table = 2; _ = table }`: 0,
		`func init() {}`: 1,
		`var count int`:  1,
		`var pool = sync.Pool{New: func() any { return nil }}`: 1,
		`var mu sync.Mutex`:                 1,
		`var started = time.Now()`:          1,
		`var shared = make(map[string]int)`: 1,
		`var server = NewServer()`:          1,
		`var table = map[string]int{"a": 1}; func f() { table["b"] = 2 }`:     1,
		`var table = map[string]int{"a": 1}; func f() { delete(table, "a") }`: 1,
		`var n = 1; func f() { n++ }`:                                         1,
		`var box = T{}; func f() { box.n = 2 }`:                               1,
		`type T struct{}; func (t *T) init() {}`:                              0,
		`var list = []string{"a"}; func f() { list = append(list, "b") }`:     1,
	}
	for source, want := range tests {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", "package x\n"+source, parser.ParseComments)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if found := packageState(fset, []*ast.File{file}); len(found) != want {
			t.Errorf("%s: found %d, want %d: %v", source, len(found), want, found)
		}
	}
}
