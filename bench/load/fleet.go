//go:build linux

package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Fleet drives the loader processes of one benchmark and adds up what they saw. Its methods are for
// one goroutine, but for Stop.
type Fleet struct {
	plan    Plan
	members []member
}

// member is the other end of a process's standard input and output.
type member struct {
	mu  *sync.Mutex // guards enc: a stop may come while a call is under way
	enc *json.Encoder
	dec *json.Decoder
}

// send writes one command.
func (m *member) send(c command) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.enc.Encode(c)
}

// NewFleet deals the connections of the plan out to the processes at the other ends of pipes, each of
// which must run Serve.
func NewFleet(plan Plan, pipes []io.ReadWriter) (*Fleet, error) {
	if len(pipes) == 0 {
		return nil, errors.New("load: no process")
	}
	f := &Fleet{plan: plan}
	for i, p := range pipes {
		part := plan
		part.First, part.Last = i*plan.Conns/len(pipes), (i+1)*plan.Conns/len(pipes)
		if err := part.Validate(); err != nil {
			return nil, err
		}
		m := member{new(sync.Mutex), json.NewEncoder(p), json.NewDecoder(p)}
		if err := m.enc.Encode(part); err != nil {
			return nil, fmt.Errorf("load: starting process %d: %w", i, err)
		}
		f.members = append(f.members, m)
	}
	return f, nil
}

// call sends one command to all processes and waits for all answers.
func (f *Fleet) call(c command) ([]reply, error) {
	replies := make([]reply, len(f.members))
	errs := make([]error, len(f.members))
	var wg sync.WaitGroup
	for i, m := range f.members {
		wg.Go(func() {
			if err := m.send(c); err != nil {
				errs[i] = fmt.Errorf("load: %s to process %d: %w", c.Op, i, err)
			} else if err := m.dec.Decode(&replies[i]); err != nil {
				errs[i] = fmt.Errorf("load: process %d at %s: %w", i, c.Op, err)
			} else if replies[i].Err != "" {
				errs[i] = errors.New(replies[i].Err)
			}
		})
	}
	wg.Wait()
	return replies, errors.Join(errs...)
}

// Connect opens all connections; see Loader.Connect.
func (f *Fleet) Connect(timeout time.Duration) (*Connected, error) {
	replies, err := f.call(command{Op: opConnect, Timeout: timeout})
	if err != nil {
		return nil, err
	}
	sum := &Connected{First: never, Failures: map[string]int{}}
	for _, r := range replies {
		c := r.Connected
		sum.First, sum.Last = min(sum.First, c.First), max(sum.Last, c.Last)
		sum.Failed += c.Failed
		sum.SIDs = append(sum.SIDs, c.SIDs...)
		sum.Times.Add(&c.Times)
		sum.Answers.Add(&c.Answers)
		addFailures(sum.Failures, c.Failures)
	}
	return sum, nil
}

// Join puts all connections into their rooms; see Loader.Join.
func (f *Fleet) Join(timeout time.Duration) (*Joined, error) {
	replies, err := f.call(command{Op: opJoin, Timeout: timeout})
	if err != nil {
		return nil, err
	}
	sum := &Joined{First: never, Failures: map[string]int{}}
	for _, r := range replies {
		j := r.Joined
		sum.First, sum.Last = min(sum.First, j.First), max(sum.Last, j.Last)
		sum.Count += j.Count
		sum.Events += j.Events
		addFailures(sum.Failures, j.Failures)
	}
	return sum, nil
}

// WaitPings waits for n heartbeats on every connection; see Loader.WaitPings.
func (f *Fleet) WaitPings(n int, timeout time.Duration) error {
	_, err := f.call(command{Op: opPings, Pings: n, Timeout: timeout})
	return err
}

// Step runs one step, waits for its messages to arrive and returns the sums.
func (f *Fleet) Step(s Step, settle time.Duration) (*Settled, error) {
	replies, err := f.call(command{Op: opRun, Step: s})
	if err != nil {
		return nil, err
	}
	sent := make([]uint32, f.plan.Rooms*f.plan.Senders)
	for _, r := range replies {
		for i, n := range r.Sent {
			sent[i] += n
		}
	}
	replies, err = f.call(command{Op: opSettle, Sent: sent, Timeout: settle})
	if err != nil {
		return nil, err
	}
	sum := &Settled{Failures: map[string]int{}}
	for _, r := range replies {
		sum.add(r.Settled)
	}
	sum.BySender = sent
	return sum, nil
}

// Stop ends a step that another goroutine runs: nothing more is sent, and Step goes on to wait for what
// was. Without a step it does nothing.
func (f *Fleet) Stop() error {
	var errs []error
	for i := range f.members {
		if err := f.members[i].send(command{Op: opStop}); err != nil {
			errs = append(errs, fmt.Errorf("load: %s to process %d: %w", opStop, i, err))
		}
	}
	return errors.Join(errs...)
}

// add adds another process's part.
func (s *Settled) add(o *Settled) {
	s.Sent += o.Sent
	s.Acked += o.Acked
	s.Refused += o.Refused
	s.Received += o.Received
	s.Delivered += o.Delivered
	s.Lost += o.Lost
	s.Checks.add(o.Checks)
	s.Dropped += o.Dropped
	s.Stalled += o.Stalled
	s.SlowGone += o.SlowGone
	s.Latency.Add(&o.Latency)
	s.SendLag.Add(&o.SendLag)
	s.ReadLag.Add(&o.ReadLag)
	for len(s.Seconds) < len(o.Seconds) {
		s.Seconds = append(s.Seconds, Second{})
	}
	for i := range o.Seconds {
		s.Seconds[i].Deliveries += o.Seconds[i].Deliveries
		s.Seconds[i].Latency.Add(&o.Seconds[i].Latency)
	}
	for _, order := range o.Orders {
		s.Orders = addOrder(s.Orders, order)
	}
	addFailures(s.Failures, o.Failures)
}

// Dropped returns the numbers of the connections that are not open any more.
func (f *Fleet) Dropped() ([]int, error) {
	replies, err := f.call(command{Op: opDropped})
	var all []int
	for _, r := range replies {
		all = append(all, r.Dropped...)
	}
	return all, err
}

// Close ends all connections; see Loader.Close.
func (f *Fleet) Close(timeout time.Duration) (*Closed, error) {
	replies, err := f.call(command{Op: opClose, Timeout: timeout})
	if err != nil {
		return nil, err
	}
	sum := &Closed{Failures: map[string]int{}}
	for _, r := range replies {
		sum.Last = max(sum.Last, r.Closed.Last)
		sum.Left += r.Closed.Left
		addFailures(sum.Failures, r.Closed.Failures)
	}
	return sum, nil
}

func addFailures(sum, more map[string]int) {
	for k, n := range more {
		sum[k] += n
	}
}
