//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/bench/report"
)

// scenarioFloor measures what a delivery costs a program that does nothing but write it.
const scenarioFloor = "floor"

// Rounds of writes over all sockets, for each size and call; the first ones warm the caches.
const (
	floorRounds = 15
	floorWarm   = 3
)

// floorSizes are sizes of a message on the wire, bytes: one of 40 characters, one of 128.
var floorSizes = [...]int{160, 250}

// floorCall is a way into the kernel.
type floorCall struct {
	name  string
	write func(fd int, b []byte) error
}

// floorCalls are the way Go programs write, which tells the scheduler, and the shortest one there is.
func floorCalls() []floorCall {
	return []floorCall{
		{report.CallWrite, func(fd int, b []byte) error {
			_, err := unix.Write(fd, b)
			return err
		}},
		{report.CallRaw, func(fd int, b []byte) error {
			_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
			if errno != 0 {
				return errno
			}
			return nil
		}},
	}
}

// runFloor is the scenario: the table and the files.
func runFloor(cfg config, out io.Writer) error {
	floor, err := writeFloor(cfg.conns)
	if err != nil {
		return err
	}
	quick, err := loopbackWrite()
	if err != nil {
		return err
	}
	rep := &report.Report{Scenario: cfg.scenario, Started: time.Now(), Machine: machine(quick), Load: cfg.load(), Floor: floor}
	return finish(cfg, rep, out)
}

// writeFloor measures the CPU time of the writing thread for one message to one of many TCP sockets on
// loopback, whose other ends another thread drains meanwhile. It is what 5,000 members of rooms cost when
// there is no server at all; what reading costs is not in it. Sizes and calls take turns, so that a
// disturbance of the machine hits all of them.
func writeFloor(sockets int) (*report.Floor, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	from, to, err := pairs(sockets)
	defer closeAll(from)
	defer closeAll(to)
	if err != nil {
		return nil, fmt.Errorf("write floor: %w", err)
	}
	d, err := startDrain(to)
	if err != nil {
		return nil, fmt.Errorf("write floor: %w", err)
	}
	floor := &report.Floor{Sockets: sockets, Rounds: floorRounds}
	calls := floorCalls()
	for _, size := range floorSizes {
		for _, call := range calls {
			floor.Writes = append(floor.Writes, report.FloorWrite{Bytes: size, Call: call.name})
		}
	}
	each := make([][]float64, len(floor.Writes)) // µs per write, by round
	for round := range floorWarm + floorRounds {
		for i, w := range floor.Writes {
			us, err := floorRound(from, make([]byte, w.Bytes), calls[i%len(calls)], d)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("write floor: %w", err), d.end())
			}
			if round >= floorWarm {
				each[i] = append(each[i], us)
			}
		}
	}
	for i := range each {
		slices.Sort(each[i])
		floor.Writes[i].US = report.Median(each[i])
		floor.Writes[i].LeastUS, floor.Writes[i].MostUS = each[i][0], each[i][len(each[i])-1]
	}
	return floor, d.end()
}

// floorRound writes once to every socket, waits until all of it has been read, and returns the writing
// thread's CPU time of one write in microseconds.
func floorRound(fds []int, message []byte, call floorCall, d *drain) (float64, error) {
	read := d.expect(len(fds) * len(message))
	before, err := threadCPU()
	if err != nil {
		return 0, err
	}
	for _, fd := range fds {
		if err := call.write(fd, message); err != nil {
			return 0, err
		}
	}
	after, err := threadCPU()
	if err != nil {
		return 0, err
	}
	select {
	case <-read:
	case <-d.failed:
		return 0, d.err
	}
	return float64(after-before) / float64(len(fds)) / 1e3, nil
}

// threadCPU returns the CPU time of the calling thread in nanoseconds.
func threadCPU() (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("thread clock: %w", err)
	}
	return ts.Nano(), nil
}

// drain is a thread that reads whatever arrives at its sockets, as a client would, but looks at nothing.
type drain struct {
	poll    int
	missing atomic.Int64  // bytes that expect waits for
	read    chan struct{} // they have come
	stop    atomic.Bool
	failed  chan struct{} // closed when the thread has ended
	err     error         // why, after failed is closed
}

func startDrain(fds []int) (*drain, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	for _, fd := range fds {
		// Level-triggered: a read may leave something behind.
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			unix.Close(poll)
			return nil, fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	d := &drain{poll: poll, read: make(chan struct{}, 1), failed: make(chan struct{})}
	go d.run()
	return d, nil
}

// expect says how many bytes will be written next; the channel tells that they were read. Nothing may be
// under way.
func (d *drain) expect(bytes int) <-chan struct{} {
	d.missing.Store(int64(bytes))
	return d.read
}

func (d *drain) run() {
	runtime.LockOSThread()
	defer close(d.failed)
	events, buf := make([]unix.EpollEvent, 512), make([]byte, 64<<10)
	const wait = 50 // ms: how late it notices that it is to end
	for !d.stop.Load() {
		n, err := unix.EpollWait(d.poll, events, wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			d.err = fmt.Errorf("epoll_wait: %w", err)
			return
		}
		for _, ev := range events[:max(n, 0)] {
			got, err := unix.Read(int(ev.Fd), buf)
			if err == nil && got == 0 {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				d.err = fmt.Errorf("reading from loopback: %w", err)
				return
			}
			if d.missing.Add(-int64(got)) == 0 {
				d.read <- struct{}{}
			}
		}
	}
}

// end stops the thread and returns why it failed, if it did.
func (d *drain) end() error {
	d.stop.Store(true)
	<-d.failed
	unix.Close(d.poll)
	return d.err
}

// floorFiles compares the open-file limit with both ends of all sockets, which are this process's.
func floorFiles(sockets, have int) error {
	if need := 2*sockets + spareClient; need > have {
		return fmt.Errorf("the open-file limit is %d, but both ends of %d connections need %d: raise it (ulimit -Hn %d) or use fewer -conns",
			have, sockets, need, need)
	}
	return nil
}
