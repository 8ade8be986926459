//go:build linux

package main

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcessIsEndedByItsID(t *testing.T) {
	p, err := start("sleeper", t.TempDir(), nil, "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	p.stop(20 * time.Second)
	select {
	case <-p.done:
	default:
		t.Error("stop returned before the process had ended")
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signal() != syscall.SIGTERM {
		t.Errorf("ended by %v, want to be asked first", status.Signal())
	}
}

func TestProcessThatDoesNotListenIsKilled(t *testing.T) {
	p, err := start("stubborn", t.TempDir(), nil, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 600; done")
	if err != nil {
		t.Fatal(err)
	}
	err = p.await(context.Background(), func() bool {
		text, err := os.ReadFile(p.log)
		return err == nil && strings.Contains(string(text), "up")
	})
	if err != nil {
		t.Fatal(err)
	}
	pid := p.cmd.Process.Pid
	p.stop(0)
	_ = syscall.Kill(-pid, syscall.SIGKILL) // the shell's own child, in the group that start made
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("ended by %v", status.Signal())
	}
}

func TestProcessThatFailsShowsItsLog(t *testing.T) {
	p, err := start("broken", t.TempDir(), []string{"WORD=reason"}, "sh", "-c", "echo the $WORD; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = p.await(context.Background(), func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "broken has ended") || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("error %v", err)
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	u, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		t.Fatal(err)
	}
	seconds := float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9
	if u.cpu > seconds+0.02 || u.rss < 1<<20 || u.rss > 2*own.Maxrss*1024 {
		t.Errorf("%.2f s and %d bytes; getrusage says %.2f s and at most %d", u.cpu, u.rss, seconds, own.Maxrss*1024)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("a process that is not there has a usage")
	}
}

func TestLoopbackWriteCostsSomething(t *testing.T) {
	d, err := loopbackWrite()
	if err != nil || d <= 0 {
		t.Errorf("%v, %v", d, err)
	}
}
