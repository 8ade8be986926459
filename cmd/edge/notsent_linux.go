package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// limitNotSent sets TCP_NOTSENT_LOWAT (tcp(7)): write(2) takes nothing while the
// socket holds n bytes or more that were not sent yet. What was sent and not
// acknowledged does not count, so a fast reader that is far away is not slowed.
func limitNotSent(fd uintptr, n int) error {
	if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n); err != nil {
		return fmt.Errorf("TCP_NOTSENT_LOWAT %d: %w", n, err)
	}
	return nil
}
