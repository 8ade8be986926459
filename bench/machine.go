//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/bench/report"
)

// machine describes where the benchmark runs.
func machine(loopbackWrite time.Duration) report.Machine {
	m := report.Machine{
		CPUs: runtime.NumCPU(), Model: "unknown CPU", Go: runtime.Version(),
		LoopbackWriteUS: float64(loopbackWrite) / 1e3,
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.Model = strings.TrimSpace(value)
				break
			}
		}
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryGB = float64(info.Totalram) * float64(info.Unit) / 1e9
	}
	return m
}

// loopbackWrite measures the yardstick for deliveries: the CPU time of one write(2) of a message's
// size to a TCP socket on loopback, the cost that no server can avoid. The writes go round 200
// sockets, as those of a broadcast do; reading is not measured.
func loopbackWrite() (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const sockets, rounds, size = 200, 100, 250
	from, to, err := pairs(sockets)
	defer closeAll(from)
	defer closeAll(to)
	if err != nil {
		return 0, fmt.Errorf("measuring a write to loopback: %w", err)
	}
	message, drain := make([]byte, size), make([]byte, 4*size)
	var used int64
	for round := range rounds {
		var a, b unix.Timespec
		errA := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &a)
		for _, fd := range from {
			if _, err := unix.Write(fd, message); err != nil {
				return 0, fmt.Errorf("measuring a write to loopback: %w", err)
			}
		}
		if err := errors.Join(errA, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &b)); err != nil {
			return 0, fmt.Errorf("thread clock: %w", err)
		}
		if round >= rounds/10 { // the first ones warm the caches
			used += b.Nano() - a.Nano()
		}
		for _, fd := range to {
			if _, err := unix.Read(fd, drain); err != nil {
				return 0, fmt.Errorf("measuring a write to loopback: %w", err)
			}
		}
	}
	return time.Duration(used / (sockets * (rounds - rounds/10))), nil
}

// pairs opens n TCP connections to itself and returns the blocking descriptors of both ends.
func pairs(n int) (from, to []int, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	addr := unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return from, to, err
		}
		from = append(from, fd)
		if err := errors.Join(unix.Connect(fd, &addr), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)); err != nil {
			return from, to, err
		}
		conn, err := l.Accept()
		if err != nil {
			return from, to, err
		}
		file, err := conn.(*net.TCPConn).File()
		conn.Close()
		if err != nil {
			return from, to, err
		}
		peer, err := unix.Dup(int(file.Fd())) // Fd also makes it blocking
		file.Close()
		if err != nil {
			return from, to, err
		}
		to = append(to, peer)
	}
	return from, to, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// stallMeter finds out how long the machine itself stops: a thread that sleeps 1 ms at a time and
// records by how much each sleep was too long. No server can be quicker than that.
type stallMeter struct {
	stop chan struct{}
	wg   sync.WaitGroup
	hist hist.Histogram
}

func startStallMeter() *stallMeter {
	m := &stallMeter{stop: make(chan struct{})}
	m.wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		pause := unix.NsecToTimespec(int64(time.Millisecond))
		for {
			select {
			case <-m.stop:
				return
			default:
			}
			before := time.Now()
			if unix.Nanosleep(&pause, nil) == nil { // else a signal cut it short
				m.hist.Record(time.Since(before) - time.Millisecond)
			}
		}
	})
	return m
}

// end stops the meter and returns what it found.
func (m *stallMeter) end() *hist.Histogram {
	close(m.stop)
	m.wg.Wait()
	return &m.hist
}
