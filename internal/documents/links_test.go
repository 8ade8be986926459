package documents

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// project is where the documents say that the project is kept; links to its main branch are links to files here.
const project = "https://github.com/stellara/edge/blob/main/"

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```[ \t]*$")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.*?)[ #]*$`)
	linked  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// documents are the project's Markdown files, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (d.Name() == "node_modules" || d.Name() == "out" || strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if path.Ext(name) != ".md" || d.IsDir() {
			return nil
		}
		text, err := os.ReadFile(name)
		rel, _ := filepath.Rel(root, name)
		found[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil || len(found) < 10 {
		t.Fatalf("%d documents: %v", len(found), err)
	}
	return found
}

// anchors are the names that GitHub gives the headings of a document.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linked.ReplaceAllString(m[1], "$1"))
		unique := name
		for n := 1; slices.Contains(all, unique); n++ {
			unique = name + "-" + strconv.Itoa(n)
		}
		all = append(all, unique)
	}
	return all
}

// deadLinks says what is wrong with the links of the document called name; exists says whether there is a file.
func deadLinks(name string, docs map[string]string, exists func(string) bool) []string {
	var dead []string
	text := code.ReplaceAllString(fence.ReplaceAllString(docs[name], ""), "")
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if rest, ours := strings.CutPrefix(target, project); ours {
			target = rest
		} else if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		} else if target == "" {
			target = name
		} else {
			target = path.Join(path.Dir(name), target)
		}
		switch doc, isDoc := docs[target]; {
		case !exists(target):
			dead = append(dead, m[1]+": no such file")
		case anchor != "" && isDoc && !slices.Contains(anchors(doc), anchor):
			dead = append(dead, m[1]+": no such heading")
		}
	}
	return dead
}

func TestLinks(t *testing.T) {
	docs, links := documents(t), 0
	for name, text := range docs {
		links += len(link.FindAllString(text, -1))
		for _, problem := range deadLinks(name, docs, func(file string) bool {
			_, err := os.Stat(filepath.Join(root, file))
			return err == nil
		}) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// TestDeadLinks makes sure that dead links are found.
func TestDeadLinks(t *testing.T) {
	docs := map[string]string{
		"docs/a.md": "# One thing: `EDGE_X`, again\n# One thing: `EDGE_X`, again\n" +
			"[ok](#one-thing-edge_x-again) [ok](#one-thing-edge_x-again-1) [ok](../b.md#b-c) [ok](../deploy/) [ok](https://example.com/none#x)\n" +
			"```sh\n# not a heading\n[not a link](none.md)\n```\n`[nor this](none.md)` [bad](#not-a-heading) [bad](b.md) [bad](../b.md#b)",
		"b.md": "## [B](a.md) c\n[ok](" + project + "docs/a.md) [bad](" + project + "c.md)",
	}
	exists := func(file string) bool { return file == "docs/a.md" || file == "b.md" || file == "deploy" }
	for name, want := range map[string][]string{
		"docs/a.md": {"#not-a-heading: no such heading", "b.md: no such file", "../b.md#b: no such heading"},
		"b.md":      {"a.md: no such file", project + "c.md: no such file"},
	} {
		if have := deadLinks(name, docs, exists); !slices.Equal(have, want) {
			t.Errorf("%s: %q, want %q", name, have, want)
		}
	}
}
