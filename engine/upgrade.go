package engine

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

const (
	// upgradeTimeout is how long a probing WebSocket may take to take over.
	upgradeTimeout = 10 * time.Second
	// noopInterval is how often a parked GET is answered while a WebSocket probes,
	// so that the client can end its poll (engine.io does it every 100 ms).
	noopInterval = 100 * time.Millisecond
	// maxProbePings is how many pings and pongs of WebSocket are read while it probes:
	// nothing else bounds those, for what it sends is no conn's yet.
	maxProbePings = 16
)

// candidate is a WebSocket that was opened for a polling session, here or on
// another node. It takes over after the probe: C→S "2probe", S→C "3probe",
// C→S "5". The client sends "5" only when none of its HTTP requests is under way,
// which keeps the order.
type candidate struct {
	c    *conn
	nb   *nbio.Conn
	away *away // in place of nb if another node holds it; it then is the one that reads

	// Owned by the goroutine that reads.
	reader websocket.Reader
	pings  int  // ignored so far
	probe  bool // "2probe" arrived
	over   bool // this connection is the conn's transport: "5" arrived

	// Set before it takes over, then read-only.
	deflate bool // permessage-deflate was agreed to

	// Shared.
	seat   *seat
	polled atomic.Bool
	gone   atomic.Bool // dropped, or closed by the client
	ready  atomic.Bool // "5" arrived: the shard may swap
	timer  atomic.Pointer[time.Timer]

	mu  sync.Mutex // taken before nbio's lock of the connection
	out []byte     // guarded by mu: written before the event loop had the connection
}

// nominate makes d the candidate of its session; it reports false if there is
// one, or the session is not one that polls.
func (d *candidate) nominate() bool {
	p := d.c.poll
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.upgraded || p.candidate != nil || d.c.state.Load() != connOpen {
		return false
	}
	p.candidate = d
	return true
}

// upgrade opens a candidate for the session, or refuses.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, c *conn, u websocket.Upgrade) {
	cand := &candidate{c: c}
	if !cand.nominate() {
		s.m.Refusals[metrics.RefusalBadRequest].Inc()
		s.engineError(w, r, socketio.ErrBadRequest, true)
		return
	}
	nb, early, err := s.takeConn(w, websocket.AppendSwitchingProtocols(make([]byte, 0, 256), u, s.corsHeader(r)))
	if err != nil {
		cand.drop()
		return
	}
	cand.nb = nb
	if cand.deflate = s.agreed(&u); cand.deflate {
		cand.reader.AcceptDeflate()
	}
	cand.seat = &seat{}
	nb.SetSession(cand.seat)
	cand.seat.give(cand)
	cand.timer.Store(time.AfterFunc(upgradeTimeout, cand.drop))
	if len(early) > 0 {
		cand.onData(early)
	}
	if err := s.loop.add(nb); err != nil {
		cand.onClosed(err)
		return
	}
	cand.entered()
	if cand.gone.Load() || c.marked(markAborted) {
		hangUp(nb)
		return
	}
	if cand.ready.Load() { // took over within the early data
		s.hub.Wake(&c.fan)
	}
}

// probeStep is what a message of a WebSocket that probes means.
type probeStep uint8

const (
	probeAsked   probeStep = iota // "2probe", the first
	probeOver                     // "5": the client has ended its polls
	probeIgnored                  // of WebSocket itself, not answered while it probes; browsers do not send them
	probeBroken                   // nothing that a client sends now
)

// stepOf says what m means after a probe, or before it.
func stepOf(m *websocket.Message, probed bool) probeStep {
	switch {
	case m.Op == websocket.Text && string(m.Data) == "2probe" && !probed:
		return probeAsked
	case m.Op == websocket.Text && len(m.Data) == 1 && m.Data[0] == byte(socketio.EngineUpgrade):
		return probeOver
	case m.Op == websocket.Ping || m.Op == websocket.Pong:
		return probeIgnored
	}
	return probeBroken
}

// onData reads the probe; after it, the conn's own packets.
func (d *candidate) onData(data []byte) {
	if d.over {
		d.c.onData(data)
		return
	}
	for !d.gone.Load() {
		m, rest, ok, err := d.reader.Next(data, d.c.srv.limits)
		if err != nil {
			d.drop()
			return
		}
		if !ok {
			return
		}
		data = rest
		switch stepOf(&m, d.probe) {
		case probeIgnored:
			if d.pings++; d.pings > maxProbePings {
				d.drop()
				return
			}
		case probeAsked:
			d.probed()
		case probeOver:
			if d.takeOver() {
				d.c.onData(data)
			}
			return
		case probeBroken:
			d.drop()
			return
		}
	}
}

// probed answers the probe, of which there is one, and begins to end the client's
// polls.
func (d *candidate) probed() {
	d.probe = true
	d.write(d.c.srv.probed)
	d.endPolls()
}

// endPolls answers the client's polls, so that it can end them.
func (d *candidate) endPolls() {
	deadline := time.Now().Add(upgradeTimeout)
	var again *time.Timer
	again = time.AfterFunc(time.Hour, func() { // started below, when again is set
		switch p := d.c.poll; {
		case d.gone.Load() || d.ready.Load():
			return
		case time.Now().After(deadline):
			d.drop()
			return
		case p.waiting():
			d.c.srv.hub.Send(&d.c.fan, d.c.srv.noop)
		}
		again.Reset(noopInterval)
	})
	if old := d.timer.Swap(again); old != nil {
		old.Stop()
	}
	again.Reset(0)
}

// write sends bytes outside the shard: until the swap the candidate is not the
// conn's transport. What is written before the event loop has the connection
// waits for entered.
func (d *candidate) write(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.polled.Load() {
		d.out = append(d.out, b...)
		return
	}
	_, _ = d.nb.Write(b) // an error closes nb, and onClosed follows
}

// entered says that the event loop has the connection.
func (d *candidate) entered() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.polled.Store(true)
	if len(d.out) > 0 {
		_, _ = d.nb.Write(d.out)
		d.out = nil
	}
}

// takeOver makes this connection the conn's, if the session still polls; the
// shard swaps at its next pass.
func (d *candidate) takeOver() bool {
	c, p := d.c, d.c.poll
	p.mu.Lock()
	ok := !p.closed && !p.upgraded && !p.posting && p.candidate == d && c.state.Load() == connOpen
	if ok {
		p.upgraded = true
		p.candidate = nil
	}
	p.mu.Unlock()
	if !ok {
		d.drop()
		if c.state.Load() != connOpen {
			c.abort() // nobody polls any more for what it was to be told
		}
		return false
	}
	if d.deflate {
		c.mark(markDeflate)
	}
	c.takeUp().reader = d.reader
	d.over = true
	if t := d.timer.Load(); t != nil {
		t.Stop()
	}
	c.nb, p.away = d.nb, d.away
	p.next.Store(d)
	d.ready.Store(true)
	if c.marked(markAborted) { // by who did not find d
		d.close()
	}
	if d.polled.Load() {
		c.srv.hub.Wake(&c.fan)
	}
	return true
}

// takeOver is called by the shard while the conn polls: if a WebSocket is ready,
// writes go there from now on.
func (c *conn) takeOver() {
	d := c.poll.next.Load()
	if d == nil || !d.polled.Load() {
		return
	}
	c.onSocket = true
	if d.deflate {
		c.fan.TakeCompressed()
	}
	c.mark(markPolled)
	c.poll.next.Store(nil)
	if d.seat != nil {
		d.seat.give(c) // and d is of no more use
	}
	c.srv.m.ConnsPolling.Dec()
	c.srv.m.ConnsWebSocket.Inc()
	p := c.poll
	p.mu.Lock()
	get := p.parked
	p.parked = nil
	p.mu.Unlock()
	if get != nil {
		get.done(answer{status: http.StatusOK, body: []byte{byte(socketio.EngineClose)}}) // as the reference implementation ends it
	} else {
		c.fan.Wrote(1) // what stood for the missing GET
	}
	if c.marked(markAborted) {
		c.closeTransport()
	}
}

// onWritten counts what the kernel took, once the connection is the conn's.
func (d *candidate) onWritten(n int) {
	if d.c.marked(markPolled) {
		d.c.fan.Wrote(n)
	}
}

// onClosed is called when the connection is gone.
func (d *candidate) onClosed(err error) {
	if d.ready.Load() {
		d.c.transportClosed(err)
		return
	}
	d.drop()
}

// drop closes a candidate that did not take over; the session goes on polling.
func (d *candidate) drop() {
	if d.ready.Load() || !d.gone.CompareAndSwap(false, true) {
		return
	}
	if t := d.timer.Load(); t != nil {
		t.Stop()
	}
	p := d.c.poll
	p.mu.Lock()
	if p.candidate == d {
		p.candidate = nil
	}
	p.mu.Unlock()
	switch {
	case d.away != nil:
		d.away.end()
	case d.polled.Load():
		_, _ = d.nb.Write(websocket.AppendClose(nil, noCode, ""))
		hangUp(d.nb)
	}
}

// close closes a candidate that took over.
func (d *candidate) close() {
	switch {
	case d.away != nil:
		d.away.end()
	case d.polled.Load():
		hangUp(d.nb)
	}
}
