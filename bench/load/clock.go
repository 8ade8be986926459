//go:build linux

package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock reads the system's monotonic clock, which all processes share, at the price of time.Since.
type Clock struct {
	base time.Time
	zero int64 // monotonic nanoseconds at base
}

// NewClock returns a clock; several in several processes agree within microseconds.
func NewClock() (Clock, error) {
	var ts unix.Timespec
	base := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return Clock{}, fmt.Errorf("load: monotonic clock: %w", err)
	}
	return Clock{base: base, zero: ts.Nano()}, nil
}

// Now returns monotonic nanoseconds.
func (c Clock) Now() int64 { return c.zero + int64(time.Since(c.base)) }

// Until returns how long it is until t.
func (c Clock) Until(t int64) time.Duration { return time.Duration(t - c.Now()) }
