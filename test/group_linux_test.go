package test

import "syscall"

// dieWithParent lets the kernel end the script when the test process is killed. The script then ends its own children.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
