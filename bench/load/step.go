//go:build linux

package load

import (
	"errors"
	"strconv"
	"time"

	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// Step is a stretch of time with one rate of messages.
type Step struct {
	Start    int64         // monotonic nanoseconds of the first message
	Rate     float64       // messages per second, all processes together
	Warmup   time.Duration // checked, but not measured
	Duration time.Duration // measured

	StallAt, ResumeAt int64 // monotonic nanoseconds at which the plan's slow connections stop reading, and read again; 0: never
}

func (s Step) total() int { return int(s.Rate * (s.Warmup + s.Duration).Seconds()) }

// due returns when message k is to be sent.
func (s Step) due(k int) int64 { return s.Start + int64(float64(k)/s.Rate*1e9) }

// MeasureFrom returns where warm-up ends, End where sending ends; monotonic nanoseconds.
func (s Step) MeasureFrom() int64 { return s.Start + int64(s.Warmup) }

// End returns when the step is over.
func (s Step) End() int64 { return s.MeasureFrom() + int64(s.Duration) }

// Second is what arrived within one second of a step, warm-up included.
type Second struct {
	Deliveries uint64
	Latency    hist.Histogram // from the due time of messages that arrived in this second
}

// Settled is what came of a step.
type Settled struct {
	Sent      uint64 // messages, warm-up included
	Acked     uint64
	Refused   uint64 // messages the server refused by their ack
	Received  uint64 // deliveries, warm-up included
	Delivered uint64 // deliveries that arrived within the measured time
	Lost      uint64 // deliveries that did not arrive; all steps so far
	Checks    Checks // all steps so far
	Dropped   int    // connections closed by the server, slow ones not counted; all steps so far
	Stalled   int    // slow connections that stopped reading in the step
	SlowGone  int    // slow connections closed by the server, as far as they have seen it; all steps so far
	Latency   hist.Histogram
	SendLag   hist.Histogram // how late the client itself was in sending
	ReadLag   hist.Histogram // how long, at most, what a pass over the connections read had waited for it; one value a pass
	Seconds   []Second
	Orders    []Order
	Failures  map[string]int

	// BySender is how many messages each sender has sent since the beginning. Only a Fleet knows.
	BySender []uint32 `json:",omitempty"`
}

// run is a step under way.
type run struct {
	step     Step
	next     int   // number of the next message of the whole plan
	nextDue  int64 // when the next message is due
	settled  *Settled
	from, to int64 // the measured time

	stalled, resumed bool // the slow connections were told
}

// never is a due time that does not come.
const never = int64(1<<63 - 1)

// Run sends the messages of a step that belong to this process's connections, each as close to its
// due time as can be, and returns at the end of the step how many each sender has sent since the
// beginning. Messages of senders that are gone are not sent. The step ends early once stopped says so.
func (l *Loader) Run(step Step, stopped func() bool) ([]uint32, error) {
	l.run = &run{
		step: step, nextDue: step.due(0), from: step.MeasureFrom(), to: step.End(),
		settled: &Settled{Seconds: make([]Second, int((step.Warmup+step.Duration+time.Second-1)/time.Second))},
	}
	if step.total() == 0 {
		l.run.nextDue = never
	}
	l.sent, l.acked, l.refused = 0, 0, 0
	for {
		l.now = l.clock.Now()
		if err := l.turnSlow(); err != nil {
			return nil, err
		}
		if l.now >= step.End() && l.run.nextDue == never {
			return l.seqs, nil
		}
		if stopped() {
			l.run.nextDue, l.run.to = never, min(l.run.to, l.now)
			return l.seqs, nil
		}
		if l.now >= l.run.nextDue {
			l.sendDue()
			continue
		}
		wait := min(l.run.nextDue, l.now+int64(idleWait)) - l.now
		if err := l.Pump(time.Duration(wait)); err != nil {
			return nil, err
		}
	}
}

// sendDue sends every message that is due by now. All processes count all messages, so that they
// need not talk; each sends its own.
func (l *Loader) sendDue() {
	r := l.run
	for l.now >= r.nextDue {
		sender, due := l.plan.Turn(r.next), r.nextDue
		r.next++
		r.nextDue = never
		if r.next < r.step.total() {
			r.nextDue = r.step.due(r.next)
		}
		i := l.plan.SenderConn(sender) - l.plan.First
		if i < 0 || i >= len(l.conns) || l.conns[i].phase != online || !l.conns[i].joined {
			continue
		}
		l.message(i, sender, due)
		l.now = l.clock.Now()
		if due >= r.from {
			r.settled.SendLag.Record(clockDiff(l.now, due))
		}
	}
}

// message sends one message from connection i, and asks for an ack to tell refused from lost.
func (l *Loader) message(i, sender int, due int64) {
	b := append(l.scratch[:0], "42"...)
	b = strconv.AppendInt(b, int64(l.nextAck), 10)
	b = append(b, `["message",`...)
	b = socketio.AppendString(b, l.plan.RoomName(sender/l.plan.Senders))
	b = append(b, `,"`...)
	b = appendStamp(b, stamp{uint32(sender), l.seqs[sender], due}, l.plan.Payload)
	l.scratch = append(b, `"]`...)
	l.nextAck++
	l.seqs[sender]++
	l.sent++
	if err := l.send(&l.conns[i], websocket.Text, l.scratch); err != nil {
		l.drop(i, err)
	}
}

// count takes one delivery into the step's figures: its latency if it was due in the measured time.
func (l *Loader) count(due int64) {
	l.received++
	r := l.run
	if r == nil {
		return // another process began the step before this one
	}
	s := r.settled
	latency := clockDiff(l.now, due)
	if l.now >= r.from && l.now < r.to {
		s.Delivered++
	}
	if second := int((l.now - r.step.Start) / int64(time.Second)); second >= 0 && second < len(s.Seconds) {
		s.Seconds[second].Deliveries++
		s.Seconds[second].Latency.Record(latency)
	}
	if due >= r.from {
		s.Latency.Record(latency)
	}
}

// Settle waits until everything that was sent (by each sender of all processes, since the beginning)
// has arrived at every open connection, at most for the timeout, and returns the step's figures.
func (l *Loader) Settle(sent []uint32, timeout time.Duration) (*Settled, error) {
	if l.run == nil {
		return nil, errors.New("load: nothing ran that could settle")
	}
	deadline := l.clock.Now() + int64(timeout)
	for {
		if l.outstanding(sent) == 0 && l.acked >= l.sent {
			break
		}
		if l.clock.Until(deadline) <= 0 {
			break
		}
		// Ask again after each of several waits: adding up 5,000 connections is not free.
		if _, err := l.pumpUntil(min(deadline, l.clock.Now()+int64(20*time.Millisecond)), func() bool { return false }); err != nil {
			return nil, err
		}
	}
	// A duplicate may follow what was awaited.
	if _, err := l.pumpUntil(l.clock.Now()+int64(100*time.Millisecond), func() bool { return false }); err != nil {
		return nil, err
	}
	s := l.run.settled
	l.run = nil
	s.Sent, s.Acked, s.Refused, s.Received = l.sent, l.acked, l.refused, l.received
	l.received = 0
	s.Checks, s.Dropped, s.Failures = l.checks, l.dropped, l.Failures()
	s.SlowGone = l.slowGone
	for i := range l.conns {
		c := &l.conns[i]
		if !c.joined {
			continue
		}
		room := l.plan.Room(l.plan.First + i)
		lost := c.receiver.lost(l.ofRoom(sent, room))
		s.Lost += lost
		if lost == 0 && c.phase == online {
			s.Orders = addOrder(s.Orders, Order{Room: room, Hash: c.receiver.order, Count: c.receiver.count, Members: 1})
		}
		c.receiver.resetOrder()
	}
	return s, nil
}

// outstanding returns how many deliveries the open connections still wait for.
func (l *Loader) outstanding(sent []uint32) (n uint64) {
	for i := range l.conns {
		if c := &l.conns[i]; c.joined && c.phase == online {
			n += c.receiver.lost(l.ofRoom(sent, l.plan.Room(l.plan.First+i)))
		}
	}
	return n
}

// ofRoom returns the part of a list by sender that is about one room.
func (l *Loader) ofRoom(sent []uint32, room int) []uint32 {
	return sent[room*l.plan.Senders : (room+1)*l.plan.Senders]
}
