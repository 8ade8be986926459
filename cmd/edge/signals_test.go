//go:build unix

package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestUrgency(t *testing.T) {
	const term, intr = syscall.SIGTERM, syscall.SIGINT
	for _, tt := range []struct {
		signals []os.Signal
		want    urgency
	}{
		{nil, noUrgency},
		{[]os.Signal{term}, afterDrain},
		{[]os.Signal{term, term}, afterFlush},
		{[]os.Signal{term, term, term}, atOnce},
		{[]os.Signal{intr}, afterFlush},
		{[]os.Signal{intr, intr}, atOnce},
		{[]os.Signal{term, intr}, afterFlush},
		{[]os.Signal{term, intr, term}, atOnce},
	} {
		u := noUrgency
		for _, s := range tt.signals {
			u = u.after(s)
		}
		if u != tt.want {
			t.Errorf("after %v: %d, want %d", tt.signals, u, tt.want)
		}
	}
}

// A second signal skips the delay and the window, and an interrupt from the keyboard does so at once; both end in order.
func TestHurry(t *testing.T) {
	for _, signals := range [][]os.Signal{{syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGINT}, {syscall.SIGTERM, syscall.SIGINT}} {
		p := startProcess(t, "DRAIN_DELAY=1h", "DRAIN_WINDOW=1h")
		p.logged("msg=ready")
		p.signal(signals[0])
		p.logged("msg=draining")
		if len(signals) > 1 {
			p.signal(signals[1])
		}
		if code := p.exit(); code != exitOK || !strings.Contains(p.log.String(), "msg=stopped") {
			t.Errorf("%v: exit %d\n%s", signals, code, p.log)
		}
	}
}

// A third signal ends the process, whatever it waits for.
func TestThirdSignal(t *testing.T) {
	p := startProcess(t, "SHUTDOWN_GRACE=1h", "DRAIN_WINDOW=1h")
	p.hang()
	p.signal(syscall.SIGTERM)
	p.logged("msg=draining")
	p.signal(syscall.SIGTERM)
	p.logged("closing all conns at once")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != exitFailed || !strings.Contains(p.log.String(), "exiting at once") || strings.Contains(p.log.String(), "msg=stopped") {
		t.Errorf("exit %d\n%s", code, p.log)
	}
}
