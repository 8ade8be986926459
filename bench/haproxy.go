//go:build linux

package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stellara/edge/internal/port"
)

// haproxy is HAProxy in front of the nodes, with deploy/haproxy.cfg.
type haproxy struct {
	listen  string
	control string // Unix socket
	process *process
}

// controlConfig lets HAProxy be asked for its counters, in a file beside the shipped one.
const controlConfig = "global\n    stats socket %s\n"

// startHAProxy starts it on a port of its own. Must be called on the main goroutine.
func startHAProxy(ctx context.Context, dir string, nodes []string, conns int) (*haproxy, error) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy" // not in everybody's PATH
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	shipped, err := os.ReadFile(filepath.Join(root, "deploy", "haproxy.cfg"))
	if err != nil {
		return nil, err
	}
	free, err := port.Free()
	if err != nil {
		return nil, err
	}
	h := &haproxy{listen: fmt.Sprintf("127.0.0.1:%d", free), control: filepath.Join(dir, "haproxy.sock")}
	text, err := balancerConfig(string(shipped), h.listen, nodes, conns)
	if err != nil {
		return nil, err
	}
	main, beside := filepath.Join(dir, "haproxy.cfg"), filepath.Join(dir, "control.cfg")
	if err := errors.Join(os.WriteFile(main, []byte(text), 0o600), os.WriteFile(beside, fmt.Appendf(nil, controlConfig, h.control), 0o600)); err != nil {
		return nil, err
	}
	if h.process, err = start("haproxy", dir, nil, program, "-db", "-f", main, "-f", beside); err != nil {
		return nil, fmt.Errorf("HAProxy is needed (Debian: apt-get install haproxy): %w", err)
	}
	return h, h.process.await(ctx, func() bool { return answers404("http://" + h.listen + "/") })
}

// balancerConfig is the shipped configuration with addresses of this run's, and room for
// conns. What is to be changed and is not there is an error.
func balancerConfig(shipped, listen string, nodes []string, conns int) (string, error) {
	type change struct {
		from, to string
		times    int
	}
	changes := []change{
		{"    user haproxy\n    group haproxy\n", "", 1},
		{"    maxconn 65536 ", fmt.Sprintf("    maxconn %d ", conns), 1},
		{"    bind :80\n", "    bind " + listen + "\n", 1},
	}
	if len(nodes) != 3 {
		return "", fmt.Errorf("deploy/haproxy.cfg has 3 nodes, not %d", len(nodes))
	}
	for i, node := range nodes {
		changes = append(changes, change{fmt.Sprintf("    server edge-%d 127.0.0.1:300%d\n", i+1, i+1), fmt.Sprintf("    server edge-%d %s\n", i+1, node), 2})
	}
	for _, c := range changes {
		if n := strings.Count(shipped, c.from); n != c.times {
			return "", fmt.Errorf("deploy/haproxy.cfg has %q %d times instead of %d", c.from, n, c.times)
		}
		shipped = strings.ReplaceAll(shipped, c.from, c.to)
	}
	return shipped, nil
}

// balancerCounts is what HAProxy counted since its start.
type balancerCounts struct {
	serverErrors int // answers 5xx of nodes
	failures     int // its own answers 5xx, for want of a node or of its answer
}

// counts asks for the counters.
func (h *haproxy) counts(ctx context.Context) (c balancerCounts, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", h.control)
	if err != nil {
		return c, fmt.Errorf("haproxy: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	if _, err := io.WriteString(conn, "show stat\n"); err != nil {
		return c, fmt.Errorf("haproxy: %w", err)
	}
	return parseBalancer(conn)
}

// parseBalancer reads the CSV of "show stat" (HAProxy management guide, section 9.1).
func parseBalancer(r io.Reader) (c balancerCounts, err error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = -1
	rows, err := in.ReadAll()
	if err != nil || len(rows) < 2 {
		return c, fmt.Errorf("haproxy: %d rows of counters, %w", len(rows), err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[strings.TrimPrefix(name, "# ")] = i
	}
	at, ok := column["hrsp_5xx"]
	if !ok {
		return c, fmt.Errorf("haproxy: no hrsp_5xx among the counters %v", rows[0])
	}
	clients := 0
	for _, row := range rows[1:] {
		if len(row) <= at || row[at] == "" {
			continue
		}
		n, err := strconv.Atoi(row[at])
		if err != nil {
			return c, fmt.Errorf("haproxy: hrsp_5xx of %s %s: %w", row[0], row[1], err)
		}
		switch row[column["svname"]] {
		case "FRONTEND":
			clients += n // all that clients got, nodes' answers among them
		case "BACKEND":
		default:
			c.serverErrors += n
		}
	}
	c.failures = max(clients-c.serverErrors, 0)
	return c, nil
}

// stop ends it; nil is none.
func (h *haproxy) stop() {
	if h != nil && h.process != nil {
		h.process.kill()
	}
}
