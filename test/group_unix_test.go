//go:build unix

package test

import (
	"os/exec"
	"syscall"
)

// ownGroup makes cmd the leader of a process group, so that endGroup reaches what it starts.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
}

// askToEnd lets cmd end what it started, and then itself.
func askToEnd(cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGTERM) }

// endGroup kills cmd and everything it started that is still running.
func endGroup(cmd *exec.Cmd) error {
	return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}
