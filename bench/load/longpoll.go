//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// pollMark tells the long-polling connection of a conn from its WebSocket in what epoll reports.
const pollMark = 1 << 30

// pollStep is the request that is under way on a long-polling connection; there is one at a time.
type pollStep uint8

const (
	pollOpen     pollStep = iota // GET that opens the session
	pollHello                    // POST of CONNECT
	pollGreeting                 // GET that brings the answer
	pollParked                   // GET that waits until the probe ends it
)

// longPoll is the part of a connection that polls, over one HTTP connection that is kept alive and closed
// when the WebSocket has taken over.
type longPoll struct {
	stream
	step   pollStep
	in     []byte // what arrived of an incomplete answer
	sid    string // of Engine.IO
	probed bool   // the probe was answered; the GET under way is the last one
	pings  int    // to be answered over the WebSocket
}

// beginPolling opens the session of connection i by long-polling.
func (l *Loader) beginPolling(i int) error {
	c := &l.conns[i]
	c.phase, c.poll = polling, &longPoll{stream: stream{fd: -1}}
	target, err := netip.ParseAddrPort(l.plan.Poll)
	if err != nil {
		return fmt.Errorf("target %q: %w", l.plan.Poll, err)
	}
	if c.poll.fd, err = dial(target, l.plan.First+i); err != nil {
		return err
	}
	c.poll.unsent = l.pollRequest(c.poll, http.MethodGet, nil)
	return l.poll.watch(c.poll.fd, int32(i|pollMark))
}

// endPolling closes the long-polling connection if there is one.
func (c *conn) endPolling() {
	if c.poll != nil {
		c.poll.close()
		c.poll = nil
	}
}

// pollHeader is the end of the head of every long-polling request.
func pollHeader(host string, header http.Header) []byte {
	b := bytes.NewBufferString("Host: " + host + "\r\n")
	_ = header.Write(b) // a Buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// pollRequest returns a request of a session, or without sid for one. body is for POST.
func (l *Loader) pollRequest(p *longPoll, method string, body []byte) []byte {
	b := append([]byte(method), " /socket.io/?EIO=4&transport=polling"...)
	if p.sid != "" {
		b = append(append(b, "&sid="...), p.sid...)
	}
	b = append(b, " HTTP/1.1\r\n"...)
	if method == http.MethodPost {
		b = append(b, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
	}
	return append(append(b, l.polls...), body...)
}

// pollInput handles bytes of the long-polling connection of connection i.
func (l *Loader) pollInput(i int, in []byte) error {
	l.now = l.clock.Now()
	p := l.conns[i].poll
	p.in = append(p.in, in...)
	body, size, err := httpAnswer(p.in)
	if err != nil || size == 0 {
		return err
	}
	if size < len(p.in) {
		return fmt.Errorf("%d bytes behind an HTTP answer", len(p.in)-size)
	}
	p.in = nil
	return l.pollAnswer(i, body)
}

// pollAnswer handles the answer to a long-polling request, and sends the next one.
func (l *Loader) pollAnswer(i int, body []byte) error {
	c := &l.conns[i]
	p := c.poll
	if p.step == pollHello {
		p.step = pollGreeting
		return p.push(l.pollRequest(p, http.MethodGet, nil))
	}
	for text := range bytes.SplitSeq(body, []byte{socketio.Separator}) {
		if err := l.pollPacket(c, text); err != nil {
			return err
		}
	}
	switch {
	case p.sid == "":
		return fmt.Errorf("no open packet in %q", body)
	case p.step == pollOpen:
		p.step = pollHello
		return p.push(l.pollRequest(p, http.MethodPost, l.hello(i)))
	case p.probed:
		return l.takeOver(c)
	case p.step == pollGreeting && c.sid != "":
		p.step = pollParked
		host := l.plan.Targets[l.plan.Target(l.plan.First+i)]
		if err := l.dialWebSocket(i, l.openingRequest(host, p.sid)); err != nil {
			return err
		}
	}
	return p.push(l.pollRequest(p, http.MethodGet, nil))
}

// pollPacket handles one packet of a long-polling answer.
func (l *Loader) pollPacket(c *conn, text []byte) (err error) {
	if len(text) == 0 {
		return errors.New("empty Engine.IO packet")
	}
	switch t := socketio.EngineType(text[0]); {
	case t == socketio.EngineOpen && c.poll.sid == "":
		c.poll.sid, err = sidIn(text)
	case t == socketio.EnginePing:
		c.pings++
		c.poll.pings++
	case t == socketio.EngineNoop:
	case bytes.HasPrefix(text, []byte("40")) && c.sid == "":
		c.sid, err = sidIn(text)
	case bytes.HasPrefix(text, []byte("42")):
		l.events++
	default:
		err = fmt.Errorf("unexpected packet %q", text)
	}
	return err
}

// probed handles the answer to the probe; the GET under way, which the server ends, is the last one.
func (l *Loader) probed(c *conn, text []byte) error {
	if c.phase != probing || string(text) != "3probe" || c.poll.probed {
		return fmt.Errorf("unexpected packet %q", text)
	}
	c.poll.probed = true
	return nil
}

// takeOver makes the WebSocket the connection's transport.
func (l *Loader) takeOver(c *conn) error {
	if err := l.send(c, websocket.Text, []byte{byte(socketio.EngineUpgrade)}); err != nil {
		return err
	}
	for range c.poll.pings {
		if err := l.send(c, websocket.Text, []byte{byte(socketio.EnginePong)}); err != nil {
			return err
		}
	}
	c.endPolling()
	if l.plan.Ask {
		return l.ask(c)
	}
	l.up(c)
	return nil
}

// ask sends the first event, for its answer: the built-in application refuses to leave a room that the
// socket is not in, and needs no Redis for that.
func (l *Loader) ask(c *conn) error {
	c.phase, c.asked = asking, l.clock.Now()
	l.scratch = append(l.scratch[:0], `420["leave",`...)
	l.scratch = socketio.AppendString(l.scratch, l.plan.Prefix+"nowhere")
	return l.send(c, websocket.Text, append(l.scratch, ']'))
}

// up counts a connection as online.
func (l *Loader) up(c *conn) {
	c.phase = online
	l.online++
	l.dialling--
	l.lastUp = l.now
	l.connectTimes.Record(clockDiff(l.now, c.dialled))
}

// httpAnswer finds the body of an HTTP answer that in begins with, and how long the whole is; size is 0
// until it is complete. Only what Engine.IO servers answer is understood: status 200 and a Content-Length.
func httpAnswer(in []byte) (body []byte, size int, err error) {
	head, rest, ok := bytes.Cut(in, []byte("\r\n\r\n"))
	if !ok {
		if len(in) > 16<<10 {
			return nil, 0, errors.New("endless HTTP header")
		}
		return nil, 0, nil
	}
	status, fields, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		return nil, 0, fmt.Errorf("polling answered %q %q", status, rest)
	}
	length := -1
	for line := range bytes.SplitSeq(fields, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return nil, 0, fmt.Errorf("Content-Length is %q", value)
			}
		}
	}
	switch {
	case length < 0:
		return nil, 0, fmt.Errorf("HTTP answer without Content-Length: %q", head)
	case len(rest) < length:
		return nil, 0, nil
	}
	return rest[:length], len(in) - len(rest) + length, nil
}
