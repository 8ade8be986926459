//go:build linux

package load

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/bench/hist"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// Connected is what came of connecting.
type Connected struct {
	First    int64          // monotonic nanoseconds of the first dial
	Last     int64          // monotonic nanoseconds at which the last connection was online
	Failed   int            // connections that did not come online
	SIDs     []string       // socket ids from plan.First; empty for those that failed
	Times    hist.Histogram // from dial to online
	Answers  hist.Histogram // from sending the first event, behind the "5" of an upgrade, to its answer; empty unless the plan asks
	Failures map[string]int
}

// Connect opens all connections, Dialing at a time, and returns when the last one is online or has
// failed, or at the timeout.
func (l *Loader) Connect(timeout time.Duration) (*Connected, error) {
	start := l.clock.Now()
	next := 0
	_, err := l.pumpUntil(start+int64(timeout), func() bool {
		for ; next < len(l.conns) && l.dialling < l.plan.Dialing; next++ {
			l.dial(next)
		}
		return l.online+l.failed+l.dropped == len(l.conns)
	})
	if err != nil {
		return nil, err
	}
	for i := range l.conns {
		if c := &l.conns[i]; c.phase != online && c.phase != gone {
			if c.phase == idle {
				l.dialling++
			}
			l.drop(i, fmt.Errorf("no answer within %v", timeout))
		}
	}
	r := &Connected{First: start, Last: l.lastUp, Failed: l.failed, Times: l.connectTimes, Answers: l.answerTimes, Failures: l.Failures()}
	for i := range l.conns {
		r.SIDs = append(r.SIDs, l.conns[i].sid)
	}
	return r, nil
}

// dial starts one connection; its request is queued until the socket is established.
func (l *Loader) dial(i int) {
	c := &l.conns[i]
	c.dialled = l.clock.Now()
	l.dialling++
	if l.plan.Rooms > 0 {
		c.receiver.next = make([]uint32, l.plan.Senders)
	}
	var err error
	if l.plan.Poll != "" {
		err = l.beginPolling(i)
	} else {
		err = l.dialWebSocket(i, slices.Clip(l.request[l.plan.Target(l.plan.First+i)]))
	}
	if err != nil {
		l.drop(i, err)
	}
}

// dialWebSocket dials the target of connection i with an opening request.
func (l *Loader) dialWebSocket(i int, request []byte) error {
	c, number := &l.conns[i], l.plan.First+i
	c.phase = upgrading
	fd, err := dial(l.targets[l.plan.Target(number)], number)
	if err != nil {
		return err
	}
	c.fd, c.unsent = fd, request
	if l.slow[i] {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, slowBuffer); err != nil {
			return fmt.Errorf("SO_RCVBUF: %w", err)
		}
	}
	return l.poll.watch(fd, int32(i))
}

// Joined is what came of joining.
type Joined struct {
	First, Last int64 // monotonic nanoseconds of the first request and the last ack
	Count       int   // connections whose joins were all accepted
	Events      uint64
	Failures    map[string]int
}

// Join puts every connection into its rooms, Dialing connections at a time, then waits until presence updates
// have stopped for half a second.
func (l *Loader) Join(timeout time.Duration) (*Joined, error) {
	start := l.clock.Now()
	deadline := start + int64(timeout)
	next := 0
	_, err := l.pumpUntil(deadline, func() bool {
		for ; next < len(l.conns) && l.joining < l.plan.Dialing; next++ {
			if l.conns[next].phase == online {
				l.join(next)
			}
		}
		return next == len(l.conns) && l.joining == 0
	})
	if err != nil {
		return nil, err
	}
	last := l.lastUp
	if err := l.quiet(deadline); err != nil {
		return nil, err
	}
	return &Joined{First: start, Last: last, Count: l.joined, Events: l.events, Failures: l.Failures()}, nil
}

// join asks for all rooms of connection i at once; the k-th has ack id k.
func (l *Loader) join(i int) {
	c := &l.conns[i]
	rooms := l.plan.RoomsOf(l.plan.First + i)
	c.joining = uint16(len(rooms))
	l.joining++
	for k, room := range rooms {
		l.scratch = append(l.scratch[:0], "42"...)
		l.scratch = strconv.AppendInt(l.scratch, int64(k), 10)
		l.scratch = append(l.scratch, `["join",`...)
		l.scratch = socketio.AppendString(l.scratch, l.plan.RoomName(room))
		l.scratch = append(l.scratch, ']')
		if err := l.send(c, websocket.Text, l.scratch); err != nil {
			l.drop(i, err)
			return
		}
	}
}

// quiet waits until no presence update came for half a second.
func (l *Loader) quiet(deadline int64) error {
	for {
		before := l.events
		_, err := l.pumpUntil(min(deadline, l.clock.Now()+int64(500*time.Millisecond)), func() bool { return false })
		if err != nil || l.events == before || l.clock.Until(deadline) <= 0 {
			return err
		}
	}
}

// WaitPings waits until every open connection has had n Engine.IO pings since it connected.
func (l *Loader) WaitPings(n int, timeout time.Duration) error {
	l.wantPings, l.enoughPings = uint16(n), 0
	for i := range l.conns {
		if l.conns[i].pings >= l.wantPings {
			l.enoughPings++
		}
	}
	done, err := l.pumpUntil(l.clock.Now()+int64(timeout), func() bool { return l.enoughPings >= l.online })
	if err == nil && !done {
		err = fmt.Errorf("load: %d of %d connections had %d heartbeats within %v", l.enoughPings, l.online, n, timeout)
	}
	return err
}

// Closed is what came of closing.
type Closed struct {
	Last     int64 // monotonic nanoseconds at which the last connection ended
	Left     int   // connections the server did not close in time; they were cut
	Failures map[string]int
}

// Close ends every connection with the WebSocket closing handshake; the ones that are not done at
// the timeout are cut.
func (l *Loader) Close(timeout time.Duration) (*Closed, error) {
	payload := websocket.AppendClosePayload(nil, websocket.CodeNormal, "")
	for i := range l.conns {
		c := &l.conns[i]
		if c.phase != online {
			continue
		}
		c.retired, c.phase = true, closing
		if err := l.send(c, websocket.Close, payload); err != nil {
			l.drop(i, err)
		}
	}
	if _, err := l.pumpUntil(l.clock.Now()+int64(timeout), func() bool { return l.online == 0 }); err != nil {
		return nil, err
	}
	r := &Closed{Left: l.online}
	for i := range l.conns {
		if l.conns[i].phase == closing {
			l.drop(i, errClosed)
		}
	}
	r.Last, r.Failures = l.lastGone, l.Failures()
	return r, nil
}

// Dropped returns the numbers of the connections that are not open any more.
func (l *Loader) Dropped() []int {
	var gone []int
	for i := range l.conns {
		if l.conns[i].phase != online {
			gone = append(gone, l.plan.First+i)
		}
	}
	return gone
}
