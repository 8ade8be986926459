//go:build unix && !linux

package test

import "syscall"

// dieWithParent does nothing: there is no such request to the kernel.
func dieWithParent(*syscall.SysProcAttr) {}
