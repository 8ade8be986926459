package engine

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// pollClose is how long a closed session keeps what a client that has no poll
// open should still get.
const pollClose = 30 * time.Second

// polling is the long-polling transport of a conn: net/http goroutines bring
// packets in by POST and wait in GET for packets out. The conn is writable while
// a GET is parked; whenever none is, one byte of backlog stands for it, so that
// the shard's outbox is the buffer and its bounds and policies apply.
type polling struct {
	c *conn

	mu        sync.Mutex  // may be held while taking a shard's lock
	parked    chan []byte // body for the parked GET; nil when there is none
	posting   bool        // a POST is being handled
	closed    bool        // the session is over: for every request it is unknown
	upgraded  bool        // the WebSocket has taken over
	candidate *candidate  // a WebSocket that may take over
}

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
	ch := p.parked
	p.parked = nil
	p.closed = p.closed || final
	p.mu.Unlock()
	if ch == nil { // its client went away
		p.c.abort()
		return errNoPoll
	}
	ch <- body
	if final {
		p.c.fan.Wrote(len(frames))
	} else {
		p.c.fan.Wrote(len(frames) - 1) // the byte that stays: not writable until the next GET
	}
	return nil
}

// isLast reports whether the payload ends with the packet that close sent last.
func (p *polling) isLast(body []byte) bool {
	packet := body[bytes.LastIndexByte(body, socketio.Separator)+1:]
	return len(packet) == 1 && packet[0] == byte(p.last())
}

// last is the packet that ends the session for the client.
func (p *polling) last() socketio.EngineType {
	if p.c.finished.Load() { // the client closed: its poll ends without more news
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

// get parks a GET until there is something to send.
func (p *polling) get(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		p.c.srv.engineError(w, r, socketio.ErrSessionIDUnknown, false)
		return
	case p.upgraded:
		p.mu.Unlock()
		p.c.srv.engineError(w, r, socketio.ErrBadRequest, false)
		return
	case p.parked != nil:
		p.mu.Unlock()
		p.c.close(metrics.CloseTransportError, noCode) // the parked one is told
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	ch := make(chan []byte, 1)
	p.parked = ch
	p.mu.Unlock()
	p.c.fan.Wrote(1)
	select {
	case body := <-ch:
		p.c.srv.respondPoll(w, r, body)
	case <-r.Context().Done():
		p.mu.Lock()
		waiting := p.parked == ch
		if waiting {
			p.parked = nil
		}
		p.mu.Unlock()
		if waiting {
			p.c.close(metrics.CloseTransportError, noCode)
		}
	}
}

// respondPoll answers a poll, compressed if that is on, worth it and welcome.
func (s *Server) respondPoll(w http.ResponseWriter, r *http.Request, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("Cache-Control", "no-store")
	if s.cfg.GzipFrom > 0 && len(body) >= s.cfg.GzipFrom {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) {
			var z bytes.Buffer
			zw := gzip.NewWriter(&z)
			_, _ = zw.Write(body) // a Buffer takes everything
			_ = zw.Close()
			h.Set("Content-Encoding", "gzip")
			body = z.Bytes()
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// acceptsGzip reports whether gzip is among the accepted encodings and not
// refused by a weight of 0 (RFC 9110 section 12.5.3).
func acceptsGzip(h http.Header) bool {
	for _, field := range strings.Split(strings.Join(h["Accept-Encoding"], ","), ",") {
		name, weight, _ := strings.Cut(field, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !ok || err == nil && v > 0
	}
	return false
}

// post handles the packets of one POST.
func (p *polling) post(w http.ResponseWriter, r *http.Request) {
	c := p.c
	p.mu.Lock()
	switch {
	case p.closed || c.state.Load() != connOpen:
		p.mu.Unlock()
		c.srv.engineError(w, r, socketio.ErrSessionIDUnknown, false)
		return
	case p.upgraded:
		p.mu.Unlock()
		c.srv.engineError(w, r, socketio.ErrBadRequest, false)
		return
	case p.posting || r.Header.Get("Content-Type") == "application/octet-stream":
		p.mu.Unlock()
		c.close(metrics.CloseTransportError, noCode)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.posting = true
	p.mu.Unlock()
	status := p.handlePost(w, r)
	p.mu.Lock()
	p.posting = false
	p.mu.Unlock()
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html")
	h.Set("Content-Length", "2")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok"))
}

// handlePost reads and handles the body and returns the status to answer with.
func (p *polling) handlePost(w http.ResponseWriter, r *http.Request) int {
	c := p.c
	limit := int64(c.srv.cfg.MaxPayload)
	if r.ContentLength > limit {
		return http.StatusRequestEntityTooLarge // the session survives
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case err != nil:
		c.close(metrics.CloseTransportError, noCode)
		return http.StatusBadRequest
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // set by boundBody
	if !utf8.Valid(body) {                                         // a WebSocket checks its text messages itself
		c.close(metrics.CloseParseError, noCode)
		return http.StatusBadRequest
	}
	c.srv.m.BytesReceived.Add(float64(len(body)))
	c.guard(func() {
		for more := true; more && c.state.Load() == connOpen; {
			var packet []byte
			packet, body, more = socketio.CutPayload(body)
			c.srv.m.FramesReceived.Inc()
			c.onText(packet)
		}
	})
	if c.state.Load() != connOpen && !c.finished.Load() {
		return http.StatusBadRequest // a packet closed the session; the rest is not read
	}
	return http.StatusOK
}

// close ends a session that still polls. When the application closes it, the
// client may fetch what is left for some time; otherwise the session is unknown
// at once, and only a GET that is parked gets the rest.
func (p *polling) close(reason metrics.Close) {
	c := p.c
	orderly := reason == metrics.CloseServer
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
	ch, cand := p.parked, p.candidate
	p.parked, p.candidate = nil, nil
	p.mu.Unlock()
	if ch != nil {
		ch <- []byte(body)
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
