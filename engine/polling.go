package engine

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// pollClose is how long a closed session keeps what a client that has no poll
// open should still get.
const pollClose = 30 * time.Second

// polling is the long-polling transport of a conn: POSTs bring packets in, and a
// GET waits for packets out. They come from net/http here or on another node. The
// conn is writable while a GET is parked; whenever none is, one byte of backlog
// stands for it, so that the shard's outbox is the buffer and its bounds and
// policies apply.
type polling struct {
	// Set before the session is shared, then read-only.
	c   *conn
	sid id

	next atomic.Pointer[candidate] // the WebSocket that takes over

	mu        sync.Mutex // may be held while taking a shard's lock
	parked    *parked    // the GET that waits; nil when there is none
	posting   bool       // a POST is being handled
	closed    bool       // the session is over: for every request it is unknown
	upgraded  bool       // the WebSocket has taken over
	candidate *candidate // a WebSocket that may take over
	away      *away      // the WebSocket that took over, if another node holds it; set before conn.next
}

// parked is a GET that waits. done is called once, from any goroutine, with no
// lock held, and must not block.
type parked struct{ done func(answer) }

// answer is what a request of the session is answered with: a body, Engine.IO's
// error, or else a bare status.
type answer struct {
	status int // http.StatusOK: there is a body
	failed *socketio.EngineError
	why    metrics.Refusal // with failed, of a session of another node
	body   []byte
}

func failure(e socketio.EngineError) answer { return answer{status: e.Status, failed: &e} }

// posted is the answer to a POST.
var posted = answer{status: http.StatusOK, body: []byte("ok")}

var errNoPoll = errors.New("engine: no poll to answer")

// write answers the parked GET with everything in frames. It is called by the
// shard, and only while the conn is writable.
func (p *polling) write(frames []byte) error {
	body, err := payloadOf(frames)
	if err != nil {
		return err
	}
	final := p.c.state.Load() != connOpen && p.isLast(body)
	p.mu.Lock()
	get := p.parked
	p.parked = nil
	if rest := withoutFarewell(body); final && len(rest) < len(body) {
		body, final = rest, p.closed // where the session is known still, its next poll ends it: see Drained
	}
	p.closed = p.closed || final
	p.mu.Unlock()
	if get == nil { // its client went away
		p.c.abort()
		return errNoPoll
	}
	get.done(answer{status: http.StatusOK, body: body})
	if final {
		p.c.fan.Wrote(len(frames))
	} else {
		p.c.fan.Wrote(len(frames) - 1) // the byte that stays: not writable until the next GET
	}
	return nil
}

// withoutFarewell is a payload that ends with the packet that ends the session, without
// that packet if there are others: the next poll is told that the session is over.
// socket.io-client handles packets a moment after the payload. An event beside a close
// packet comes to it when it is disconnected, so that it keeps the event for later but
// does not count it as received, and gets it a second time when it is recovered; a
// DISCONNECT comes too late to keep it from coming back by itself.
func withoutFarewell(body []byte) []byte {
	if at := bytes.LastIndexByte(body, socketio.Separator); at >= 0 {
		return body[:at]
	}
	return body
}

// isLast reports whether the payload ends with the packet that close sent last.
func (p *polling) isLast(body []byte) bool {
	packet := body[bytes.LastIndexByte(body, socketio.Separator)+1:]
	return len(packet) == 1 && packet[0] == byte(p.last())
}

// last is the packet that ends the session for the client.
func (p *polling) last() socketio.EngineType {
	if p.c.marked(markFinished) { // the client closed: its poll ends without more news
		return socketio.EngineNoop
	}
	return socketio.EngineClose
}

// payloadOf turns WebSocket frames of ours back into packets of a polling
// payload: outboxes hold one form of every message, and polls are few.
func payloadOf(frames []byte) ([]byte, error) {
	var r websocket.Reader
	limits := websocket.Limits{MaxMessage: len(frames) + 1}
	var out []byte
	for {
		m, rest, ok, err := r.Next(frames, &limits)
		if err != nil {
			return nil, fmt.Errorf("engine: own frame: %w", err)
		}
		if !ok {
			return out, nil
		}
		frames = rest
		if m.Op != websocket.Text && m.Op != websocket.Binary {
			continue // WebSocket's own control frames mean nothing here
		}
		if len(out) > 0 {
			out = append(out, socketio.Separator)
		}
		if m.Op == websocket.Text {
			out = append(out, m.Data...)
		} else {
			out = socketio.AppendEngineBinary(out, m.Data)
		}
	}
}

// park makes a GET wait until there is something to send: done is called with it,
// possibly before park returns. The result names the GET for leave; nil if it was
// answered at once.
func (p *polling) park(done func(answer)) *parked {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		done(failure(socketio.ErrSessionIDUnknown))
		return nil
	case p.upgraded:
		p.mu.Unlock()
		done(failure(socketio.ErrBadRequest))
		return nil
	case p.parked != nil:
		p.mu.Unlock()
		p.c.close(metrics.CloseTransportError, noCode) // the parked one is told
		done(answer{status: http.StatusBadRequest})
		return nil
	}
	get := &parked{done}
	p.parked = get
	p.mu.Unlock()
	p.c.fan.Wrote(1)
	return get
}

// leave says that the client of a parked GET went away. It does nothing if the
// GET was answered.
func (p *polling) leave(get *parked) {
	p.mu.Lock()
	waiting := get != nil && p.parked == get
	if waiting {
		p.parked = nil
	}
	p.mu.Unlock()
	if waiting {
		p.c.close(metrics.CloseTransportError, noCode)
	}
}

// beginPost says that a POST has begun, or answers it and reports false.
func (p *polling) beginPost() (refused answer, ok bool) {
	c := p.c
	p.mu.Lock()
	switch {
	case p.closed || c.state.Load() != connOpen:
		p.mu.Unlock()
		return failure(socketio.ErrSessionIDUnknown), false
	case p.upgraded:
		p.mu.Unlock()
		return failure(socketio.ErrBadRequest), false
	case p.posting:
		p.mu.Unlock()
		c.close(metrics.CloseTransportError, noCode)
		return answer{status: http.StatusBadRequest}, false
	}
	p.posting = true
	p.mu.Unlock()
	return answer{}, true
}

func (p *polling) endPost() {
	p.mu.Lock()
	p.posting = false
	p.mu.Unlock()
}

// post handles the packets of one POST, between beginPost and endPost.
func (p *polling) post(body []byte) answer {
	c := p.c
	if !utf8.Valid(body) { // a WebSocket checks its text messages itself
		c.close(metrics.CloseParseError, noCode)
		return answer{status: http.StatusBadRequest}
	}
	c.srv.m.BytesReceived.Add(float64(len(body)))
	now := c.moment()
	c.charge(0, len(body), now)
	c.guard(func() {
		completed := false
		for more := true; more && c.state.Load() == connOpen; {
			var packet []byte
			packet, body, more = socketio.CutPayload(body)
			c.srv.m.FramesReceived.Inc()
			if c.charge(1, 0, now) {
				c.onText(packet)
				completed = completed || !c.assembling()
			}
		}
		c.putDown()
		c.follow(completed)
	})
	if c.state.Load() != connOpen && !c.marked(markFinished|markDismissed) {
		return answer{status: http.StatusBadRequest} // a packet closed the session; the rest is not read
	}
	return posted // also where the client was disconnected: it is to learn that from its GET, and not to come back
}

// close ends a session that still polls. A client that was disconnected may fetch what is
// left for some time, or it would not learn of it; otherwise the session is unknown at
// once, and only a GET that is parked gets the rest.
func (p *polling) close() {
	c := p.c
	orderly := c.marked(markDismissed)
	p.mu.Lock()
	p.closed = p.closed || !orderly
	waiting := p.parked != nil
	p.mu.Unlock()
	if !orderly && !waiting {
		c.abort()
		return
	}
	c.srv.hub.End(&c.fan, engineMessage(string(p.last())))
	c.srv.hub.Wake(&c.fan)
}

// overtaken reports whether a WebSocket has taken over.
func (p *polling) overtaken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upgraded
}

// end makes the session unknown, answers a parked GET with body and drops the
// candidate. It may be called more than once and from any goroutine.
func (p *polling) end(body string) {
	p.mu.Lock()
	p.closed = true
	get, cand := p.parked, p.candidate
	p.parked, p.candidate = nil, nil
	p.mu.Unlock()
	if get != nil {
		get.done(answer{status: http.StatusOK, body: []byte(body)})
	}
	if cand != nil {
		cand.drop()
	}
}

// waiting reports whether a GET is parked.
func (p *polling) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.parked != nil
}
