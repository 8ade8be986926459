package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// result is one line of lib/reporter.mjs: how one case of a script ended.
type result struct {
	Case         string `json:"case"`
	Failed       bool   `json:"failed"`
	Skipped      string `json:"skipped"`
	Milliseconds int    `json:"milliseconds"`
	Error        string `json:"error"`
}

// runScript runs a Node test script and makes each of its cases a subtest.
// The script and all it started have ended when runScript returns.
func runScript(ctx context.Context, t *testing.T, script string, env []string) {
	cmd := exec.CommandContext(ctx, "node", "--test-reporter=./lib/reporter.mjs", "--test-reporter-destination=stdout", script)
	cmd.Env = append(os.Environ(), env...)
	ownGroup(cmd)
	cmd.Cancel = func() error { return askToEnd(cmd) }
	cmd.WaitDelay = 5 * time.Second
	var errors bytes.Buffer
	cmd.Stderr = &errors
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cases, failed, other := report(t, stdout)
	err = cmd.Wait()
	_ = endGroup(cmd) // whatever the script left behind
	if ctx.Err() != nil {
		t.Fatalf("%s was stopped after %d cases: %v", script, cases, context.Cause(ctx))
	}
	if cases == 0 || (err != nil && failed == 0) {
		t.Errorf("%s ended with %v after %d cases", script, err, cases)
	}
	if text := strings.TrimSpace(other + errors.String()); text != "" && (t.Failed() || testing.Verbose()) {
		t.Logf("output of %s:\n%s", script, text)
	}
}

// report makes subtests of the results on r as they come. It returns how many
// there were, how many of them failed, and all lines that are no results.
func report(t *testing.T, r io.Reader) (cases, failed int, other string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	var rest strings.Builder
	for lines.Scan() {
		var res result
		if json.Unmarshal(lines.Bytes(), &res) != nil || res.Case == "" {
			rest.Write(lines.Bytes())
			rest.WriteByte('\n')
			continue
		}
		cases++
		if res.Failed {
			failed++
		}
		t.Run(res.Case, func(t *testing.T) {
			switch {
			case res.Failed:
				t.Errorf("after %d ms: %s", res.Milliseconds, res.Error)
			case res.Skipped != "":
				t.Skip(res.Skipped)
			}
		})
	}
	if err := lines.Err(); err != nil {
		t.Errorf("reading results: %v", err)
	}
	return cases, failed, rest.String()
}
