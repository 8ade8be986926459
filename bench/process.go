//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/internal/port"
)

// process is a child. It dies with this program, and is ended by its own id only.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // path of what it wrote
	done chan struct{} // closed when it has ended

	killed bool // on purpose, as part of the scenario
}

// start runs a command in dir with its output in a log file there. Must be called on the main
// goroutine, see main.
func start(name, dir string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	return p, p.launch()
}

// launch starts the command in a process group of its own, so that an interrupt of the terminal
// reaches only this program, which then ends its children in order.
func (p *process) launch() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended shows in its log
		close(p.done)
	}()
	return nil
}

// stop asks the process to end, and kills it after the grace.
func (p *process) stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	select {
	case <-p.done:
		return
	case <-time.After(grace):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// failure describes why a process is not up, with the end of its log.
func (p *process) failure(what string) error {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Errorf("%s %s; its log: %w", p.name, what, err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s %s; its log ends:\n  %s", p.name, what, strings.Join(lines[max(len(lines)-15, 0):], "\n  "))
}

// await polls until ready says so, the process ends, or 30 s have passed.
func (p *process) await(ctx context.Context, ready func() bool) error {
	deadline := time.After(30 * time.Second)
	for !ready() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return p.failure("has ended")
		case <-deadline:
			return p.failure("was not ready within 30 s")
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// answers reports whether a GET gives 200.
func answers(url string) bool {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// answers404 reports whether a GET gives 404, as of a balancer that is up and does not pass it on.
func answers404(url string) bool {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusNotFound
}

// freePorts returns n different free TCP ports of 127.0.0.1.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = port.Free(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

// usage is what a process has used of the machine.
type usage struct {
	cpu float64 // seconds, user and system
	rss int64   // bytes
}

// usageOf reads /proc/PID/stat: utime, stime (fields 14 and 15, ticks of 10 ms) and rss (24, pages).
func usageOf(pid int) (usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	// The name in field 2 may hold anything but its last parenthesis.
	_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 22 {
		return usage{}, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	var n [3]int64
	var errs error
	for i, field := range []int{14, 15, 24} {
		n[i], err = strconv.ParseInt(f[field-3], 10, 64)
		errs = errors.Join(errs, err)
	}
	const ticksPerSecond = 100 // USER_HZ, fixed on Linux
	return usage{cpu: float64(n[0]+n[1]) / ticksPerSecond, rss: n[2] * int64(unix.Getpagesize())}, errs
}
