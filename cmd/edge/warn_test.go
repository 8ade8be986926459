package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestWarnOfFiles: a node says so where its limits together need more descriptors than there are.
func TestWarnOfFiles(t *testing.T) {
	for name, c := range map[string]struct {
		pending, conns, files int
		want                  string
	}{
		"by default":        {512, 9_000, 10_000, ""},
		"too many pending":  {5_000, 9_000, 10_000, "MAX_PENDING"},
		"room made for it":  {5_000, 4_000, 10_000, ""},
		"too many conns":    {512, 9_500, 10_000, "MAX_CONNS"},
		"too many of both":  {5_000, 9_500, 10_000, "MAX_CONNS"},
		"as many as remain": {1_000, 9_000, 10_000, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n := &node{cfg: &Config{MaxPending: c.pending}, log: slog.New(slog.NewTextHandler(&out, nil)), peers: &peers{}}
			n.warn(c.conns, c.files)
			got := out.String()
			if (got == "") != (c.want == "") || !strings.Contains(got, `msg="`+c.want) && c.want != "" || strings.Count(got, "\n") > 1 {
				t.Errorf("%q, want a warning of %q", got, c.want)
			}
		})
	}
}
