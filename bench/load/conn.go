//go:build linux

package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// phase is how far a connection has come.
type phase uint8

const (
	idle      phase = iota // not dialled yet
	polling                // long-polling; no WebSocket yet
	upgrading              // dialled; waiting for 101
	probing                // the WebSocket of a session that polls; waiting for the answer to the probe and the end of the poll
	opening                // waiting for the Engine.IO open packet
	greeting               // waiting for the answer to CONNECT
	asking                 // waiting for the answer to the first event, if the plan wants one
	online                 // CONNECT answered
	closing                // close frame sent
	gone                   // no socket any more
)

// conn is one client connection. All of it belongs to the loop.
type conn struct {
	stream
	phase    phase
	joining  uint16 // joins sent, no ack yet
	entered  uint16 // joins that were accepted
	joined   bool   // in all its rooms
	retired  bool   // closed because the client wanted to
	reading  reading
	pings    uint16
	dialled  int64 // monotonic nanoseconds
	reader   websocket.Reader
	unread   []byte // what arrived of an incomplete 101
	sid      string
	receiver receiver
	poll     *longPoll // until the WebSocket has taken over, nil from then on and without polling
	asked    int64     // monotonic nanoseconds at which the first event was sent
}

var errClosed = errors.New("closed by the server")

// ready handles what epoll reported for connection i.
func (l *Loader) ready(i int, events uint32) {
	s, handle := &l.conns[i&^pollMark].stream, l.input
	if i&pollMark != 0 {
		i &^= pollMark
		if l.conns[i].poll == nil {
			return // an event from before it was closed
		}
		s, handle = &l.conns[i].poll.stream, l.pollInput
	}
	if p := l.conns[i].phase; p == gone || p == idle {
		return
	}
	if len(s.unsent) > 0 && events&unix.EPOLLOUT != 0 {
		if err := s.flush(); err != nil {
			l.drop(i, err)
			return
		}
	}
	const ended = unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLRDHUP
	if l.conns[i].reading == stalled {
		if events&ended != 0 {
			l.drop(i, errClosed)
		}
		return
	}
	if events&(unix.EPOLLIN|ended) == 0 {
		return
	}
	for s.fd >= 0 {
		n, err := l.receive(i, s, handle)
		if err != nil {
			l.drop(i, err)
			return
		}
		// A read that was not filled took everything, and what comes later is a new event. Only an end
		// that was reported together with data will not be reported again.
		if n == 0 || n < len(l.buf) && events&ended == 0 {
			return
		}
	}
}

// receive reads once and handles what came; n is 0 if there was nothing.
func (l *Loader) receive(i int, s *stream, handle func(int, []byte) error) (n int, err error) {
	n, errno := read(s.fd, l.buf)
	switch {
	case errno == unix.EAGAIN:
		return 0, nil
	case errno != 0:
		return 0, fmt.Errorf("read: %w", errno)
	case n == 0:
		return 0, errClosed
	}
	return n, handle(i, l.buf[:n])
}

// input handles bytes in the order of the stream.
func (l *Loader) input(i int, in []byte) error {
	c := &l.conns[i]
	l.now = l.clock.Now()
	if c.phase == upgrading {
		c.unread = append(c.unread, in...)
		rest, ok, err := websocket.ReadSwitchingProtocols(c.unread, l.key)
		if err != nil || !ok {
			return err
		}
		c.unread, c.phase, in = nil, opening, rest
		if c.poll != nil {
			c.phase = probing
			if err := l.send(c, websocket.Text, []byte("2probe")); err != nil {
				return err
			}
		}
	}
	for {
		m, rest, ok, err := c.reader.Next(in, &l.limits)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		if err := l.frame(i, m); err != nil {
			return err
		}
		in = rest
	}
}

// frame handles one WebSocket message.
func (l *Loader) frame(i int, m websocket.Message) error {
	c := &l.conns[i]
	switch m.Op {
	case websocket.Text:
		return l.packet(i, m.Data)
	case websocket.Ping:
		return l.send(c, websocket.Pong, m.Data)
	case websocket.Close:
		if c.phase == closing {
			return errClosed
		}
		return fmt.Errorf("close frame %d %s", m.Code, m.Data)
	}
	return nil
}

// packet handles one Engine.IO packet; the commonest, a message event, first.
func (l *Loader) packet(i int, text []byte) error {
	c := &l.conns[i]
	if len(text) >= 4 && text[0] == byte(socketio.EngineMessage) {
		switch text[1] {
		case '2':
			l.event(c, i, text)
			return nil
		case '3':
			l.ack(i, text[2:])
			return nil
		case '0':
			return l.connected(i, text)
		case '4':
			return fmt.Errorf("CONNECT refused: %s", text[2:])
		}
	}
	if len(text) == 0 {
		return errors.New("empty Engine.IO packet")
	}
	switch socketio.EngineType(text[0]) {
	case socketio.EnginePong:
		return l.probed(c, text)
	case socketio.EngineOpen:
		if c.phase != opening {
			return errors.New("second open packet")
		}
		c.phase = greeting
		return l.send(c, websocket.Text, l.hello(i))
	case socketio.EnginePing:
		c.pings++
		if c.pings == l.wantPings {
			l.enoughPings++
		}
		return l.send(c, websocket.Text, []byte{byte(socketio.EnginePong)})
	case socketio.EngineMessage:
		return fmt.Errorf("unexpected packet %q", text)
	}
	return nil
}

// event handles 42["name",...]. Only message events carry a stamp.
func (l *Loader) event(c *conn, i int, text []byte) {
	if len(text) < 5 || text[4] != 'm' {
		l.events++
		return
	}
	if c.reading != reads {
		return
	}
	s, ok := findStamp(text)
	if !ok {
		l.checks.Misrouted++
		return
	}
	if l.plan.Senders == 0 {
		l.checks.Misrouted++
		return
	}
	room := int(s.sender) / l.plan.Senders
	if room != l.plan.Room(l.plan.First+i) {
		l.checks.Misrouted++
		return
	}
	c.receiver.accept(int(s.sender)%l.plan.Senders, s.seq, &l.checks)
	l.count(s.due)
}

// hello returns the CONNECT packet of connection i, valid until scratch is used again.
func (l *Loader) hello(i int) []byte {
	l.scratch = append(l.scratch[:0], `40{"userId":`...)
	l.scratch = socketio.AppendString(l.scratch, l.plan.User(l.plan.First+i))
	l.scratch = append(l.scratch, '}')
	return l.scratch
}

// sidIn returns the id in an open packet or in the answer to CONNECT, 40{"sid":"..."}.
func sidIn(text []byte) (string, error) {
	const key = `"sid":"`
	if at := bytes.Index(text, []byte(key)); at >= 0 {
		if sid, _, ok := bytes.Cut(text[at+len(key):], []byte{'"'}); ok {
			return string(sid), nil
		}
	}
	return "", fmt.Errorf("no id in %q", text)
}

// connected handles the answer to CONNECT.
func (l *Loader) connected(i int, text []byte) (err error) {
	c := &l.conns[i]
	if c.phase != greeting {
		return fmt.Errorf("unexpected packet %q", text)
	}
	if c.sid, err = sidIn(text); err != nil {
		return err
	}
	if l.plan.Ask {
		return l.ask(c)
	}
	l.up(c)
	return nil
}

// ack handles 43<id>[{"ok":...}], of which text starts at the id.
func (l *Loader) ack(i int, text []byte) {
	end := bytes.IndexByte(text, '[')
	if end < 0 {
		return
	}
	id, err := strconv.Atoi(string(text[:end]))
	if err != nil {
		return
	}
	if c := &l.conns[i]; c.phase == asking {
		l.answerTimes.Record(clockDiff(l.now, c.asked))
		l.up(c)
		return
	}
	accepted := bytes.Contains(text, []byte(`"ok":true`))
	if id < l.joinAcks() {
		l.joinAnswered(i, accepted, text[end:])
		return
	}
	l.acked++
	if !accepted {
		l.refused++
		l.complain("message refused: " + string(text[end:]))
	}
}

// joinAcks is how many ack ids, from 0, are those of a connection's joins; those of messages are larger.
func (l *Loader) joinAcks() int { return max(l.plan.Each, 1) }

// joinAnswered takes the answer to one of connection i's joins.
func (l *Loader) joinAnswered(i int, accepted bool, answer []byte) {
	c := &l.conns[i]
	if c.joining == 0 {
		return
	}
	c.joining--
	if accepted {
		c.entered++
	} else {
		l.complain("join refused: " + string(answer))
	}
	if c.joining > 0 {
		return
	}
	l.joining--
	if int(c.entered) == l.joinAcks() {
		c.joined = true
		l.joined++
		l.lastUp = l.now
	}
}

// send writes one masked frame, or queues what the socket does not take.
func (l *Loader) send(c *conn, op websocket.Opcode, payload []byte) error {
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], rand.Uint32())
	l.out = websocket.AppendMaskedFrame(l.out[:0], op, payload, key)
	return c.push(l.out)
}
