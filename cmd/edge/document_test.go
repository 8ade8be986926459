package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestVariablesAreDocumented: the table of docs/operations.md has the variables of -help, in its order and with its defaults.
func TestVariablesAreDocumented(t *testing.T) {
	document, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(document), "\n| variable | default | meaning |\n|---|---|---|\n")
	if !found {
		t.Fatal("docs/operations.md has no table of variables")
	}
	var names, presets []string
	for line := range strings.Lines(rest) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			break
		}
		// A row of two variables has two defaults, or none.
		group := strings.Split(cells[1], ",")
		values := strings.SplitN(cells[2], ", ", len(group))
		for i, name := range group {
			names = append(names, strings.Trim(name, " `"))
			presets = append(presets, at(values, i))
		}
	}
	var inHelp []string
	for _, v := range variables() {
		inHelp = append(inHelp, v.name)
		preset := strings.TrimSuffix(strings.TrimPrefix(v.preset, "(empty"), ")")
		if i := slices.Index(names, v.name); i >= 0 && !slices.Equal(wordsOf(presets[i]), wordsOf(preset)) {
			t.Errorf("%s: the default is %q in docs/operations.md, %q in -help", v.name, presets[i], v.preset)
		}
	}
	if !slices.Equal(names, inHelp) {
		t.Errorf("docs/operations.md has %q, -help %q", names, inHelp)
	}
}

// wordsOf are the words of a default, whichever of two cases is told first and how.
func wordsOf(preset string) []string {
	preset = strings.NewReplacer("`", "", "1,000", "1000", ",", " ", ";", " ", "×", "x").Replace(preset)
	words := slices.DeleteFunc(strings.Fields(preset), func(w string) bool { return w == "or" || w == "and" })
	slices.Sort(words)
	return words
}
