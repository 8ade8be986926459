//go:build !unix

package test

import (
	"errors"
	"os/exec"
)

// suspend fails: there is no such thing.
func suspend(*exec.Cmd) error { return errors.ErrUnsupported }
