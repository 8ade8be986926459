package engine

import (
	"net"
	"syscall"
	"unsafe"

	"github.com/lesismal/nbio"
)

// sendNow hands p to the kernel if it takes bytes at once, and returns how many it
// took. It must not be called while the event loop has a backlog of the connection,
// which p would overtake; what is left belongs to nbio's Write. An error says that
// the connection is broken, which its poller finds out, too, and closes it.
//
// The call never blocks, so the scheduler is not told of it: a syscall of 5 µs that
// is announced has the monitor thread and a second thread wake up for it, which on a
// busy shard is a share of every delivery's price. (Where the kernel is short of
// memory it may take longer, and a collection waits for it meanwhile.) It is send(2), not write(2), for
// the way through the kernel without the file layer.
func sendNow(nb *nbio.Conn, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	nb.Lock() // keeps the descriptor from being closed, and used again
	defer nb.Unlock()
	if closed, _ := nb.IsClosed(); closed {
		return 0, net.ErrClosed
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(nb.Hash()), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EAGAIN, syscall.EINTR:
		return 0, nil
	default:
		return 0, errno
	}
}

// hangUp ends the connection for both sides; the poller then closes it. Nobody else
// may close a connection that is in epoll: its descriptor would be free at once, and
// the next connection that gets it would be closed in its place by an event of the
// old one that the poller has already fetched (nbio 1.6.12 finds connections by
// descriptor).
func hangUp(nb *nbio.Conn) {
	nb.Lock()
	defer nb.Unlock()
	if closed, _ := nb.IsClosed(); !closed {
		_ = syscall.Shutdown(nb.Hash(), syscall.SHUT_RDWR) // ENOTCONN: the peer was first, and the poller knows
	}
}
