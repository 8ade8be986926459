package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/websocket"
)

// held is a WebSocket on this node of a session that another node owns. It probes
// like a candidate; then its bytes are relayed to the owner, until the conn moves
// here.
type held struct {
	srv  *Server
	of   *whose
	from netip.Addr // the client's address, as its place is counted

	// Set before the event loop has the connection, then read-only.
	st      Stream
	nb      *nbio.Conn
	seat    *seat // nb's
	deflate bool  // permessage-deflate was agreed to

	// Owned by the goroutine that reads.
	reader websocket.Reader
	pings  int // ignored so far
	probed bool

	// Shared.
	question                      // whether it may probe
	moved    atomic.Pointer[conn] // the conn that it is the transport of now
	reads    atomic.Bool          // that conn has all that came before

	// Guarded by mu, which is taken before nbio's lock, the arrival's and what fan-out takes.
	mu      sync.Mutex
	phase   heldPhase
	lost    bool   // the owner is gone, or has let go
	gone    bool   // the client is
	why     error  // how, for the conn that has not read what was kept
	ended   bool   // a socket ended before its move was offered
	polled  bool   // in epoll: only from now on may nb be written to and closed
	out     []byte // written before
	kept    []byte // from the client, while they can go nowhere
	timer   *time.Timer
	arrival *arrival // the conn's, while it moves here

	// Guarded by writing, which is taken within every other lock but the shards'.
	writing   sync.Mutex
	unwritten int  // bytes of nb that are not with the kernel yet
	counts    bool // they are the conn's now
}

type heldPhase uint8

const (
	heldProbing heldPhase = iota
	heldKeeping           // the client's bytes are kept: the owner has not said where to
	heldRelaying
	heldMoved // its conn is here; what was kept may not have been read
	heldOver
)

// onData, onWritten and onClosed are called by the event loop.
func (h *held) onData(data []byte) {
	if h.reads.Load() {
		h.moved.Load().onData(data)
		return
	}
	h.mu.Lock()
	switch h.phase {
	case heldProbing:
		h.mu.Unlock()
		h.onProbe(data)
		return
	case heldMoved, heldKeeping:
		if h.reads.Load() { // while the lock was waited for
			h.mu.Unlock()
			h.moved.Load().onData(data)
			return
		}
		if len(h.kept)+len(data) <= h.srv.cfg.InboundBytes {
			h.kept = append(h.kept, data...)
			break
		}
		h.mu.Unlock()
		h.srv.m.Closes[metrics.CloseInboundOverflow].Inc()
		hangUp(h.nb)
		return
	case heldRelaying:
		h.relay(data)
	}
	h.mu.Unlock()
}

// tell sends a message to the owner; if that is not possible, the WebSocket is of
// no use. Locks may be held.
func (h *held) tell(kind byte, payload []byte) {
	if err := h.st.Send(kind, payload); err != nil {
		go h.end(err)
	}
}

// relay sends the client's bytes to the owner. The caller holds mu.
func (h *held) relay(data []byte) {
	h.srv.m.RelayedFrames.Inc()
	h.tell(msgFrames, data)
}

// onProbe reads what a candidate may send.
func (h *held) onProbe(data []byte) {
	for {
		m, rest, ok, err := h.reader.Next(data, h.srv.limits)
		if err != nil {
			h.end(err)
			return
		}
		if !ok {
			return
		}
		data = rest
		switch stepOf(&m, h.probed) {
		case probeIgnored:
			if h.pings++; h.pings > maxProbePings {
				h.end(nil)
				return
			}
		case probeAsked:
			h.probed = true
			h.write(h.srv.probed)
			h.tell(msgProbed, nil)
		case probeOver:
			h.take(data)
			return
		case probeBroken:
			h.end(nil)
			return
		}
	}
}

// take tells the owner that the client has ended its polls. Its bytes wait for the
// owner's word.
func (h *held) take(rest []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase != heldProbing {
		return
	}
	h.phase = heldKeeping
	h.kept = append(h.kept, rest...)
	h.reader = websocket.Reader{} // another one reads on
	h.timer.Stop()
	h.srv.m.RelayedWebSockets.Inc()
	if h.deflate {
		h.tell(msgTake, []byte{1})
	} else {
		h.tell(msgTake, nil)
	}
}

// write sends bytes to the client.
func (h *held) write(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase == heldOver || h.phase == heldMoved {
		return
	}
	h.writing.Lock()
	h.unwritten += len(b)
	h.writing.Unlock()
	if !h.polled {
		h.out = append(h.out, b...)
		return
	}
	_, _ = h.nb.Write(b) // an error closes nb, and onClosed follows
}

func (h *held) onWritten(n int) {
	h.writing.Lock()
	counts := h.counts
	if counts {
		h.moved.Load().fan.Wrote(n)
	} else {
		h.unwritten -= n
	}
	h.writing.Unlock()
	if !counts {
		h.tell(msgWritten, binary.AppendUvarint(nil, uint64(n)))
	}
}

func (h *held) onClosed(err error) {
	h.mu.Lock()
	c, read := h.moved.Load(), h.reads.Load()
	h.gone, h.why = true, err
	h.mu.Unlock()
	switch {
	case c == nil:
		h.end(err)
	case read: // else feed says so, after what the client sent before
		c.transportClosed(err)
	}
}

// Receive takes a message of the owner.
func (h *held) Receive(kind byte, payload []byte) {
	switch kind {
	case msgAnswer:
		h.question.Receive(kind, payload)
	case msgRelay:
		h.mu.Lock()
		if h.phase == heldKeeping && h.arrival == nil {
			h.phase = heldRelaying
			if len(h.kept) > 0 {
				h.relay(h.kept)
			}
			h.kept, h.ended = nil, false
		}
		h.mu.Unlock()
	case msgFreeze:
		h.mu.Lock()
		if h.phase == heldRelaying {
			h.phase = heldKeeping
			h.tell(msgFrozen, nil)
		}
		h.mu.Unlock()
	case msgOutput:
		h.srv.m.RelayedFrames.Inc()
		h.write(payload)
	case msgOffer:
		h.offered(payload)
	case msgEnd:
		h.mu.Lock()
		a := h.arrival
		h.mu.Unlock()
		var e ending
		if a != nil && json.Unmarshal(payload, &e) == nil {
			a.finish(e.Ops)
		}
	case msgOver:
		if len(payload) == 1+idLen {
			h.over(string(payload[1:]), fate(payload[0]))
		}
	}
}

// over takes the owner's word that a socket ended while its move is under way.
func (h *held) over(sid string, f fate) {
	h.mu.Lock()
	a := h.arrival
	h.ended = a == nil && h.phase == heldKeeping // it will be in the offer, perhaps
	h.mu.Unlock()
	if a != nil {
		a.ended(sid, f)
	}
}

// Broken says that the owner ended the conn, or is gone.
func (h *held) Broken(err error) {
	h.question.Broken(err)
	h.mu.Lock()
	h.lost = true
	begun := h.polled
	h.mu.Unlock()
	if begun {
		h.end(nil)
	}
}

// offered begins the move of the conn to this node, or declines it.
func (h *held) offered(text []byte) {
	var o offer
	var a *arrival
	if err := json.Unmarshal(text, &o); err == nil {
		a = h.srv.newArrival(h, &o)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.phase != heldKeeping || h.arrival != nil:
	case a == nil || h.ended:
		h.ended = false
		h.srv.m.Moves[metrics.MoveDeclined].Inc()
		h.tell(msgDeclined, nil)
	default:
		a.attach()
		h.arrival = a
		go a.begin() // what it calls takes locks of the bus
	}
}

// declined ends an arrival that has changed nothing; the bytes are relayed again.
func (h *held) declined(a *arrival) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.arrival != a || h.phase != heldKeeping {
		return
	}
	h.arrival = nil
	h.srv.m.Moves[metrics.MoveDeclined].Inc()
	h.tell(msgDeclined, nil)
}

// become makes the WebSocket the transport of the conn that moved here; the
// client's bytes are still kept. It reports false if the WebSocket is gone.
func (h *held) become(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase != heldKeeping || h.gone || !h.polled {
		return false
	}
	h.srv.m.RelayedWebSockets.Dec()
	h.srv.holds.remove(h)
	h.srv.sources.move(h.from, c.handshake.remote) // which it was opened from, and will be released as
	h.writing.Lock()
	defer h.writing.Unlock()
	h.counts = true
	h.phase, h.arrival = heldMoved, nil
	h.moved.Store(c)
	c.fan.Wrote(1 - h.unwritten) // it is open, and so much is not with the kernel
	return true
}

// feed gives the conn what the client sent meanwhile, and then all that comes, or
// the news that it is gone.
func (h *held) feed(c *conn) {
	for {
		h.mu.Lock()
		kept := h.kept
		h.kept = nil
		if len(kept) == 0 {
			h.reads.Store(true)
			h.seat.give(c) // and h is of no more use
			gone, why := h.gone, h.why
			h.mu.Unlock()
			if gone {
				c.transportClosed(why)
			}
			return
		}
		h.mu.Unlock()
		c.onData(kept)
	}
}

// end gives the WebSocket up. The owner is told; an arrival ends.
func (h *held) end(err error) {
	h.mu.Lock()
	if h.phase == heldOver || h.phase == heldMoved {
		h.mu.Unlock()
		return
	}
	taken := h.phase != heldProbing
	h.phase = heldOver
	arrival, kept := h.arrival, h.kept
	h.kept, h.arrival = nil, nil
	if h.timer != nil {
		h.timer.Stop()
	}
	if taken {
		h.srv.m.RelayedWebSockets.Dec()
	}
	h.mu.Unlock()
	if arrival != nil && arrival.abandon(false) {
		h.srv.m.Moves[metrics.MoveFailed].Inc()
	}
	if h.st != nil {
		how := byte(0) // in order
		if err != nil && !errors.Is(err, io.EOF) {
			how = 1
		}
		if len(kept) > 0 { // the last that the client said
			_ = h.st.Send(msgFrames, kept)
		}
		_ = h.st.Send(msgLost, []byte{how})
		h.st.Close()
	}
	h.srv.holds.remove(h)
	h.srv.release(h.from)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polled {
		if !taken {
			_, _ = h.nb.Write(websocket.AppendClose(nil, noCode, ""))
		}
		hangUp(h.nb)
	}
}
