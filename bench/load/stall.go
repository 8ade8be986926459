//go:build linux

package load

import "fmt"

// slowBuffer is the receive buffer of a slow connection, in bytes as SO_RCVBUF takes them: what the kernel of the
// client takes in is not to hide what the server holds. It is set when the connection is made and is no smaller than
// the first window, since a kernel that shrinks its window drops what was sent into it.
const slowBuffer = 64 << 10

// reading is whether a connection reads.
type reading uint8

const (
	reads   reading = iota
	stalled         // its socket is open and nobody reads it
	resumed         // reads again; what it gets is not counted any more
)

// turnSlow stalls or resumes the plan's slow connections when their time has come.
func (l *Loader) turnSlow() error {
	r := l.run
	switch {
	case r.step.StallAt != 0 && !r.stalled && l.now >= r.step.StallAt:
		r.stalled = true
		return l.eachSlow(l.stall)
	case r.step.ResumeAt != 0 && !r.resumed && l.now >= r.step.ResumeAt:
		r.resumed = true
		return l.eachSlow(l.resume)
	}
	return nil
}

// eachSlow calls f for every slow connection that is open.
func (l *Loader) eachSlow(f func(i int) error) error {
	for i, slow := range l.slow {
		if slow && l.conns[i].phase == online {
			if err := f(i); err != nil {
				return fmt.Errorf("load: connection %d: %w", l.plan.First+i, err)
			}
		}
	}
	return nil
}

// stall makes connection i stop reading, for the kernel too but for what its window has let in. It is no member any
// more whose messages count.
func (l *Loader) stall(i int) error {
	c := &l.conns[i]
	c.reading, c.joined = stalled, false
	l.run.settled.Stalled++
	return l.poll.ignore(c.fd, int32(i))
}

// resume makes connection i read again; what waited in its socket is reported as an event.
func (l *Loader) resume(i int) error {
	l.conns[i].reading = resumed
	return l.poll.rewatch(l.conns[i].fd, int32(i))
}
