package engine

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// onData takes bytes from the transport. It is called by one goroutine at a
// time; data is scratch space of the caller.
func (c *conn) onData(data []byte) {
	c.srv.m.BytesReceived.Add(float64(len(data)))
	now := c.moment()
	c.charge(0, len(data), now) // if that was too much, only a close frame is looked for
	p := c.takeUp()
	c.guard(func() {
		completed := false
		for {
			m, rest, ok, err := p.reader.Next(data, c.srv.limits)
			if err != nil {
				c.violation(err)
				return
			}
			if !ok {
				c.putDown()
				c.follow(completed)
				return
			}
			c.onMessage(&m, now)
			completed = completed || m.Op != websocket.Ping && m.Op != websocket.Pong && !c.assembling()
			data = rest
		}
	})
}

// violation closes the conn with the code the WebSocket reader named.
func (c *conn) violation(err error) {
	if c.state.Load() != connOpen {
		return // already closing: read and discard, or our close frame would be lost to a reset
	}
	code, reason := websocket.CodeProtocolError, metrics.CloseProtocolError
	var e *websocket.Error
	if errors.As(err, &e) {
		code = e.Code
	}
	if code == websocket.CodeTooBig {
		reason = metrics.CloseMessageTooBig
	}
	c.srv.log.Debug("WebSocket violation", "address", c.handshake.address(), "error", err)
	c.close(reason, code)
}

// onMessage handles one WebSocket message or control frame that was read at now.
func (c *conn) onMessage(m *websocket.Message, now moment) {
	c.srv.m.FramesReceived.Inc()
	if m.Op == websocket.Close {
		c.onClose(m.Code)
		return
	}
	inflated := 0
	if c.marked(markDeflate) { // what was read says nothing about what it has become
		inflated = len(m.Data)
	}
	if c.state.Load() != connOpen || !c.charge(1, inflated, now) {
		return // closing: read and discard
	}
	switch m.Op {
	case websocket.Ping:
		c.srv.hub.Send(&c.fan, controlFrame(websocket.Pong, m.Data))
	case websocket.Pong:
		// Unasked for; RFC 6455 section 5.5.3 allows it.
	case websocket.Text, websocket.Binary:
		switch {
		case c.srv.plain != nil:
			c.srv.plain(&WebSocket{c}, m.Op == websocket.Text, m.Data)
		case m.Op == websocket.Text:
			c.onText(m.Data)
		default:
			c.onBinary(m.Data)
		}
	}
}

// onClose answers the client's close frame, or takes it as the answer to ours.
func (c *conn) onClose(code websocket.Code) {
	c.mark(markFinished)
	if c.state.Load() == connOpen {
		c.close(metrics.CloseTransportClose, code)
		return
	}
	c.abort()
}

// onText handles one Engine.IO packet.
func (c *conn) onText(text []byte) {
	if len(text) == 0 {
		c.close(metrics.CloseParseError, noCode)
		return
	}
	switch t := socketio.EngineType(text[0]); t {
	case socketio.EnginePong:
		c.pong.Store(uint32(c.srv.hub.Now()) + 1)
		return
	case socketio.EngineMessage:
		c.mark(markHeard)
		if c.srv.engine != nil {
			c.srv.engine(&Session{c}, true, text[1:])
			return
		}
		if c.assembling() {
			c.refuse(errors.New("text packet while attachments are awaited"))
			return
		}
		p, err := socketio.Parse(text[1:])
		if err != nil {
			c.refuse(err)
			return
		}
		c.onPacket(&p)
	case 'b': // binary in text form, always accepted
		b, err := base64.StdEncoding.AppendDecode(nil, text[1:])
		if err != nil {
			c.close(metrics.CloseParseError, noCode)
			return
		}
		c.onBinary(b)
	case socketio.EngineClose:
		c.mark(markFinished)
		c.close(metrics.CloseTransportClose, noCode)
	case socketio.EngineOpen, socketio.EngineUpgrade, socketio.EngineNoop:
		// Meaningless here; ignored as the reference implementation does.
	case socketio.EnginePing: // only servers ping in revision 4
		c.close(metrics.CloseTransportError, noCode)
	default:
		c.close(metrics.CloseParseError, noCode)
	}
}

// refuse closes a conn that sent a packet it may not send.
func (c *conn) refuse(err error) {
	c.srv.log.Debug("packet refused", "address", c.handshake.address(), "error", err)
	c.close(metrics.CloseForced, noCode)
}

// onBinary takes an attachment.
func (c *conn) onBinary(data []byte) {
	c.mark(markHeard)
	if c.srv.engine != nil {
		c.srv.engine(&Session{c}, false, data)
		return
	}
	if !c.assembling() {
		c.refuse(errors.New("binary message without a packet that announced it"))
		return
	}
	a := c.partial.binary
	done, err := a.Add(data)
	if err != nil {
		c.partial.binary = nil
		c.refuse(err)
		return
	}
	if !done {
		return
	}
	p, attachments := a.Packet(), a.Attachments()
	c.partial.binary = nil
	c.onWhole(&p, attachments)
}

// onPacket handles a Socket.IO packet whose attachments, if any, are to come.
func (c *conn) onPacket(p *socketio.Packet) {
	if p.Type != socketio.BinaryEvent && p.Type != socketio.BinaryAck {
		c.onWhole(p, nil)
		return
	}
	if p.Attachments > c.srv.cfg.MaxAttachments {
		c.refuse(fmt.Errorf("packet of %d attachments, more than %d", p.Attachments, max(c.srv.cfg.MaxAttachments, 0)))
		return
	}
	a := &socketio.Assembler{Limit: c.srv.maxPacket}
	if err := a.Begin(*p); err != nil {
		c.refuse(err)
		return
	}
	c.takeUp().binary = a
}

// onWhole handles a complete Socket.IO packet.
func (c *conn) onWhole(p *socketio.Packet, attachments [][]byte) {
	if p.Type == socketio.Connect {
		c.onConnect(p)
		return
	}
	s := c.socket(p.Namespace)
	if s == nil || !s.Connected() {
		c.refuse(errors.New("packet for a namespace that is not joined"))
		return
	}
	switch p.Type {
	case socketio.Event, socketio.BinaryEvent:
		if p.Data == nil {
			return
		}
		if e := newEvent(s, p, attachments); e != nil {
			s.dispatch(e)
		}
	case socketio.Ack, socketio.BinaryAck:
		c.onAck(s, p, attachments)
	case socketio.Disconnect:
		c.remove(s)
		s.leave(ReasonClientNamespaceDisconnect, deleteSession)
	default: // CONNECT_ERROR is a server's
		c.refuse(errors.New("packet type that only servers send"))
	}
}

// onAck hands an acknowledgement to who waits for it, in order with the
// socket's handlers.
func (c *conn) onAck(s *Socket, p *socketio.Packet, attachments [][]byte) {
	if p.Data == nil || !p.HasID {
		return
	}
	raw, err := socketio.SplitArray(p.Data, nil)
	if err != nil {
		return
	}
	a, id := &Ack{Args: copyRaw(raw), Attachments: attachments}, p.ID
	s.post(task{bytes: len(p.Data), run: func() { s.nsp.acks.answer(s, id, a) }})
}

// onConnect handles a request to join a namespace.
func (c *conn) onConnect(p *socketio.Packet) {
	if c.socket(p.Namespace) != nil {
		c.refuse(errors.New("second CONNECT for a namespace"))
		return
	}
	n := c.srv.demand(string(p.Namespace), p.Data)
	if n == nil {
		c.srv.m.Refusals[metrics.RefusalNamespace].Inc()
		c.sendConnectError(slices.Clone(p.Namespace), []byte(`{"message":"Invalid namespace"}`))
		return
	}
	s := &Socket{conn: c, nsp: n, id: c.srv.ids.next(), auth: string(p.Data)}
	if c.srv.recovery != nil {
		s.session = &session{}
	}
	s.member.Init(&c.fan, s)
	if !c.add(s) {
		return
	}
	if n.inline {
		n.recover(s)
		return
	}
	s.post(task{bytes: len(p.Data) + 256, run: func() { n.recover(s) }})
}
