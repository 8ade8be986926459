//go:build linux

package load

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// stream is one TCP connection with what waits to be sent.
type stream struct {
	fd     int32  // -1 without one
	unsent []byte // what the socket did not take yet
}

// close ends the connection if there is one.
func (s *stream) close() {
	if s.fd >= 0 {
		unix.Close(int(s.fd))
	}
	s.fd, s.unsent = -1, nil
}

// push writes, or queues what the socket does not take.
func (s *stream) push(b []byte) error {
	if len(s.unsent) > 0 {
		s.unsent = append(s.unsent, b...)
		return nil
	}
	n, errno := write(s.fd, b)
	if errno == unix.EAGAIN {
		n, errno = 0, 0
	}
	if errno != 0 {
		return fmt.Errorf("write: %w", errno)
	}
	if n == len(b) {
		return nil
	}
	s.unsent = append(s.unsent, b[n:]...)
	return nil
}

// flush writes what is queued once the socket takes it; it is also how the request goes out when a
// connection is established.
func (s *stream) flush() error {
	n, errno := write(s.fd, s.unsent)
	if errno == unix.EAGAIN {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("connect or write: %w", errno)
	}
	if s.unsent = s.unsent[n:]; len(s.unsent) == 0 {
		s.unsent = nil
	}
	return nil
}
