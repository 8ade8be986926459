package load

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll with timeouts finer than a millisecond, and the few socket calls of a client.
// Calls that cannot block go around Go's scheduler: it would otherwise cost more than they do.
type poller struct {
	fd     int
	events [512]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("load: epoll_create1: %w", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) close() { unix.Close(p.fd) }

// wait returns the connections that are ready; at the latest after d. The slice is valid until the
// next call. Needs Linux 5.11 for epoll_pwait2.
func (p *poller) wait(d time.Duration) ([]unix.EpollEvent, error) {
	ts := unix.NsecToTimespec(int64(max(d, 0)))
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	switch errno {
	case 0:
		return p.events[:n], nil
	case unix.EINTR:
		return nil, nil
	default:
		return nil, fmt.Errorf("load: epoll_pwait2: %w", errno)
	}
}

// watch adds a socket, for good and edge-triggered: an event tells once that input came, that output
// has room again or that the peer is done. The kernel then looks at a socket once per event and not
// twice, which is a good part of what receiving costs.
func (p *poller) watch(fd, conn int32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, conn, everything)
}

// ignore reports nothing of a socket but its sudden end.
func (p *poller) ignore(fd, conn int32) error { return p.control(unix.EPOLL_CTL_MOD, fd, conn, 0) }

// rewatch undoes ignore, and reports what came meanwhile.
func (p *poller) rewatch(fd, conn int32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, conn, everything)
}

const everything = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP

func (p *poller) control(op int, fd, conn int32, events uint32) error {
	ev := unix.EpollEvent{Events: events | edgeTriggered, Fd: conn}
	return unix.EpollCtl(p.fd, op, int(fd), &ev)
}

// edgeTriggered is EPOLLET, which package unix has as a negative number.
const edgeTriggered = 1 << 31

// perSource is how many connections share one source address: the kernel has 28,000 ephemeral ports
// for a pair of addresses, and closed connections hold theirs for a minute.
const perSource = 8000

// dial starts connecting without waiting. On loopback, connection i gets a source address of its
// own group in 127.0.0.0/8, so that ports do not run out.
func dial(target netip.AddrPort, i int) (int32, error) {
	family := unix.AF_INET
	if target.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("load: socket: %w", err)
	}
	if err = connect(fd, target, i); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return -1, err
	}
	return int32(fd), nil
}

func connect(fd int, target netip.AddrPort, i int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("load: TCP_NODELAY: %w", err)
	}
	addr := target.Addr()
	if addr.Is6() {
		return unix.Connect(fd, &unix.SockaddrInet6{Port: int(target.Port()), Addr: addr.As16()})
	}
	if addr.IsLoopback() {
		// The port is chosen at connect, when the whole 4-tuple is known, not at bind.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("load: IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
		group := i / perSource
		source := unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(1 + group/250), byte(1 + group%250)}}
		if err := unix.Bind(fd, &source); err != nil {
			return fmt.Errorf("load: bind to 127.0.%d.%d: %w", source.Addr[2], source.Addr[3], err)
		}
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Port: int(target.Port()), Addr: addr.As4()})
}

// read returns the number of bytes, 0 at the end of the stream.
func read(fd int32, buf []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func write(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

// sharpenTimers makes timeouts of the calling thread exact to a microsecond instead of 50.
func sharpenTimers() error {
	return unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
}
