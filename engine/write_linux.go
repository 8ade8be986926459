package engine

import (
	"errors"
	"net"
	"syscall"
	"unsafe"

	"github.com/lesismal/nbio"

	"github.com/stellara/edge/fanout"
)

// writeNow writes to a connection that has no backlog, as far as the kernel takes
// it, and hands the rest to nbio. The write goes to the kernel without telling the
// Go scheduler of a system call: on a non-blocking socket it takes microseconds,
// and a scheduler that is told moves the shard's processor to another thread in
// the middle of a pass, which costs more than the write. nbio's lock keeps the
// descriptor from being closed, and reused, meanwhile.
func writeNow(nb *nbio.Conn, p []byte, f *fanout.Conn) error {
	if len(p) == 0 {
		return nil
	}
	nb.Lock()
	if closed, err := nb.IsClosed(); closed {
		nb.Unlock()
		return errors.Join(net.ErrClosed, err)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(nb.Hash()), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	nb.Unlock()
	if errno == 0 {
		f.Wrote(int(n))
		if int(n) == len(p) {
			return nil
		}
		p = p[n:]
	}
	// A full socket, an interrupted call or an error: nbio knows what to do.
	_, err := nb.Write(p)
	return err
}
