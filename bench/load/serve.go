//go:build linux

package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// op names a Loader method that a Fleet calls in its processes.
type op string

const (
	opConnect op = "connect"
	opJoin    op = "join"
	opPings   op = "pings"
	opRun     op = "run"
	opStop    op = "stop" // ends a run early; has no answer
	opSettle  op = "settle"
	opDropped op = "dropped"
	opClose   op = "close"
)

// command is one line to a process; the first line is the Plan.
type command struct {
	Op      op
	Timeout time.Duration
	Pings   int
	Step    Step
	Sent    []uint32
}

// reply is the one line that answers a command.
type reply struct {
	Err       string
	Connected *Connected `json:",omitempty"`
	Joined    *Joined    `json:",omitempty"`
	Sent      []uint32   `json:",omitempty"`
	Settled   *Settled   `json:",omitempty"`
	Dropped   []int      `json:",omitempty"`
	Closed    *Closed    `json:",omitempty"`
}

// Serve is a loader process: it reads a plan and then commands from in, one JSON value each, and
// answers each on out. It returns when in ends; the connections are then cut.
func Serve(in io.Reader, out io.Writer) error {
	dec := json.NewDecoder(in)
	var plan Plan
	if err := dec.Decode(&plan); err != nil {
		return fmt.Errorf("load: reading the plan: %w", err)
	}
	runtime.LockOSThread() // the timer slack is the thread's
	defer runtime.UnlockOSThread()
	if err := sharpenTimers(); err != nil {
		return fmt.Errorf("load: timer slack: %w", err)
	}
	enc := json.NewEncoder(out)
	l, err := New(plan)
	if err != nil {
		return errors.Join(err, enc.Encode(reply{Err: err.Error()}))
	}
	defer l.release()
	commands := make(chan command)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(commands)
		for {
			var c command
			if dec.Decode(&c) != nil {
				return
			}
			select {
			case commands <- c:
			case <-stop:
				return
			}
		}
	}()
	// Whatever comes while a run is under way ends it; only a stop can.
	stopped := func() bool {
		select {
		case <-commands:
			return true
		default:
			return false
		}
	}
	for {
		select {
		case c, open := <-commands:
			if !open {
				return nil
			}
			if c.Op == opStop {
				continue // the run has ended by itself
			}
			if err := enc.Encode(l.execute(c, stopped)); err != nil {
				return fmt.Errorf("load: answering %s: %w", c.Op, err)
			}
		default:
			if err := l.Pump(idleWait); err != nil {
				return err
			}
		}
	}
}

// execute calls the method a command names. stopped tells a run that it is to end.
func (l *Loader) execute(c command, stopped func() bool) (r reply) {
	var err error
	switch c.Op {
	case opConnect:
		r.Connected, err = l.Connect(c.Timeout)
	case opJoin:
		r.Joined, err = l.Join(c.Timeout)
	case opPings:
		err = l.WaitPings(c.Pings, c.Timeout)
	case opRun:
		r.Sent, err = l.Run(c.Step, stopped)
	case opSettle:
		r.Settled, err = l.Settle(c.Sent, c.Timeout)
	case opDropped:
		r.Dropped = l.Dropped()
	case opClose:
		r.Closed, err = l.Close(c.Timeout)
	default:
		err = fmt.Errorf("load: unknown command %q", c.Op)
	}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

// release cuts what is still open.
func (l *Loader) release() {
	for i := range l.conns {
		if p := l.conns[i].phase; p != idle && p != gone {
			l.conns[i].retired = true
			l.drop(i, errClosed)
		}
	}
	l.poll.close()
}
