package engine

import (
	"syscall"
	"unsafe"

	"github.com/lesismal/nbio"
)

// sendNow hands p to the kernel if it takes bytes at once, and returns how many it
// took. It must not be called while the event loop has a backlog of the connection,
// which p would overtake; what is left belongs to nbio's Write, which also finds out
// about errors and closes the connection.
//
// The call never blocks, so the scheduler is not told of it: a syscall of 5 µs that
// is announced has the monitor thread and a second thread wake up for it, which on a
// busy shard is a tenth of the price of a delivery. It is send(2), not write(2), for
// the way through the kernel without the file layer.
func sendNow(nb *nbio.Conn, p []byte) int {
	if len(p) == 0 {
		return 0
	}
	nb.Lock() // keeps the descriptor from being closed, and used again
	defer nb.Unlock()
	if closed, _ := nb.IsClosed(); closed {
		return 0
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(nb.Hash()), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
