//go:build unix

package main

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// raiseFileLimit sets the soft limit of open files to the hard one and returns
// the limit in force. A refusal leaves the soft limit as it was.
func raiseFileLimit() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("read the open-file limit: %w", err)
	}
	if r.Cur < r.Max {
		want := r
		want.Cur = want.Max
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
			r = want
		}
	}
	return int(min(uint64(r.Cur), math.MaxInt32)), nil
}
