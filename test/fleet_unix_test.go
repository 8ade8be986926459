//go:build unix

package test

import (
	"os/exec"
	"syscall"
)

// suspend stops a process without ending it: its connections stay open.
func suspend(cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGSTOP) }
