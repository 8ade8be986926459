package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// variable is one row of the table of -help.
type variable struct{ name, preset, meaning string }

// variables lists what Config reads, in its order.
func variables() []variable {
	t := reflect.TypeFor[Config]()
	vars := make([]variable, 0, t.NumField())
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		preset := tag.Get("envDefault")
		if preset == "" {
			preset = tag.Get("shown")
		}
		if preset == "" {
			preset = "(empty)"
		}
		vars = append(vars, variable{tag.Get("env"), preset, tag.Get("help")})
	}
	return vars
}

// Widths of the table's columns, in characters. 100 columns fit terminals and READMEs.
const (
	nameWidth    = 20
	presetWidth  = 20
	meaningWidth = 56
)

// printHelp writes the usage and the table of variables.
func printHelp(w io.Writer) {
	fmt.Fprint(w, `edge serves Socket.IO clients and joins any number of nodes through Redis.
It is configured by environment variables.

Usage: edge                 run the server
       edge -healthcheck    ask the server that runs with this environment; exit 0 if it answers
       edge -version        print the version
       edge -help           print this

`)
	row := func(name, preset, meaning string) {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-*s  %-*s  %s", nameWidth, name, presetWidth, preset, meaning), " "))
	}
	row("VARIABLE", "DEFAULT", "MEANING")
	for _, v := range variables() {
		presets, meanings := wrap(v.preset, presetWidth), wrap(v.meaning, meaningWidth)
		name := v.name
		for i := range max(len(presets), len(meanings)) {
			row(name, at(presets, i), at(meanings, i))
			name = ""
		}
	}
	fmt.Fprintln(w, "\nSecrets may be in files of one line instead, whose paths these variables give:")
	for _, line := range wrap(strings.Join(secretNames(), fileSuffix+" ")+fileSuffix, nameWidth+presetWidth+meaningWidth) {
		fmt.Fprintln(w, line)
	}
}

// at is lines[i], or empty beyond the end.
func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// wrap breaks s at spaces into lines of at most width characters; a longer word has its own line.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
