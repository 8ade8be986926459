package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// Deliver takes one adapter message from the bus and hands it to the fan-out.
// room is "" for messages of the base channel. It must be called from one
// goroutine, in arrival order; payload is not kept.
func (s *Server) Deliver(ns, room string, payload []byte) {
	if s.order.free() {
		s.deliver(ns, room, payload)
		return
	}
	kept := slices.Clone(payload)
	s.order.run(func() { s.deliver(ns, room, kept) })
}

// deliver is Deliver in its turn.
func (s *Server) deliver(ns, room string, payload []byte) {
	n := s.namespace(ns)
	entry, journalled := socketio.EntryOf(payload)
	journalled = journalled && s.recovery != nil
	if n != nil && journalled {
		n.reached(entry)
	}
	if n == nil || room != "" && !s.concerns(room, n) {
		s.m.Drops[metrics.DropNoMembers].Inc()
		return
	}
	arrived := time.Now()
	b := &s.incoming
	if err := socketio.ParseBroadcast(payload, b); err != nil {
		s.m.Drops[metrics.DropMalformed].Inc()
		s.log.Debug("message from Redis ignored", "namespace", ns, "error", err)
		return
	}
	if b.Namespace != ns {
		s.m.Drops[metrics.DropMalformed].Inc()
		return
	}
	t, ok := s.target(n, b.Rooms, b.Except)
	if !ok {
		s.m.Drops[metrics.DropNoMembers].Inc()
		return
	}
	text, attachments, err := socketio.AppendClientEvent(s.text[:0], ns, b.ID, b.HasID, b.Data, nil)
	s.text = text[:0]
	if err != nil {
		drop := metrics.DropMalformed
		if len(attachments) > maxAttachments {
			drop = metrics.DropTooManyAttachments
		}
		s.m.Drops[drop].Inc()
		s.log.Debug("message from Redis ignored", "namespace", ns, "error", err)
		return
	}
	if journalled && !b.HasID {
		text = appendOffset(text, entry)
		s.text = text[:0]
	}
	m := newMessage(text, attachments)
	m.Namespace = n.number
	if journalled {
		m.ID = s.recovery.epochs.id(entry)
	} else {
		m.Stamp = s.recovery != nil && !b.HasID
	}
	if len(m.Frame) > s.maxPacket {
		s.m.Drops[metrics.DropTooBig].Inc()
		return
	}
	m.Volatile, m.Plain = b.Flags.Volatile, b.Flags.NoCompress
	m.Arrived = arrived
	if b.UID == s.cfg.UID {
		m.Published = s.flights.landed(b.Seq, arrived, s.m)
	}
	s.m.BusMessages.Inc()
	s.hub.Deliver(m, t)
}

// reached says how far the namespace's journal was delivered.
func (n *Namespace) reached(o socketio.Offset) {
	n.at.mu.Lock()
	defer n.at.mu.Unlock()
	if o.Epoch != n.at.offset.Epoch || o.After(n.at.offset) {
		n.at.offset = o
	}
}

// position is how far the namespace's journal was delivered.
func (n *Namespace) position() socketio.Offset {
	n.at.mu.Lock()
	defer n.at.mu.Unlock()
	return n.at.offset
}

// position guards how far a journal was delivered.
type position struct {
	mu     sync.Mutex // taken alone
	offset socketio.Offset
}

// Subscribed says that the room's subscription of that generation is live.
func (s *Server) Subscribed(ns, room string, generation uint64) {
	if n := s.namespace(ns); n != nil {
		s.hub.Live(n.key(room), generation)
	}
}

// subscriber keeps the bus subscribed to what the hub needs.
type subscriber struct{ s *Server }

// Subscribe asks the bus for a room. A namespace needs nothing of its own: its
// base channel is subscribed as long as it exists.
func (u subscriber) Subscribe(k fanout.Key, generation uint64) {
	if k.Room == "" {
		u.s.hub.Live(k, generation)
		return
	}
	u.s.bus.Subscribe(u.s.byNumber(k.Namespace).name, k.Room, generation)
}

// Unsubscribe gives a room up.
func (u subscriber) Unsubscribe(k fanout.Key, generation uint64) {
	if k.Room != "" {
		u.s.bus.Unsubscribe(u.s.byNumber(k.Namespace).name, k.Room, generation)
	}
}

// flights remembers when this node's own messages left, to time them when they
// return through Redis: one clock. Old entries are overwritten; a message that
// took longer than that is not timed.
type flights struct {
	start time.Time
	next  atomic.Uint64
	ring  [4096]flight
}

type flight struct {
	seq             atomic.Uint64
	published, sent atomic.Int64 // ns since start
}

func newFlights() *flights { return &flights{start: time.Now()} }

// take notes a publish; sent is to be called when it is handed to Redis.
func (f *flights) take() (seq uint64, sent func()) {
	seq = f.next.Add(1)
	e := &f.ring[seq%uint64(len(f.ring))]
	e.seq.Store(0)
	e.published.Store(int64(time.Since(f.start)))
	e.sent.Store(0)
	e.seq.Store(seq)
	return seq, func() {
		if e.seq.Load() == seq {
			e.sent.Store(int64(time.Since(f.start)))
		}
	}
}

// landed returns when the message was published, zero if that is forgotten, and
// observes its way through Redis.
func (f *flights) landed(seq uint64, arrived time.Time, m *metrics.Metrics) time.Time {
	e := &f.ring[seq%uint64(len(f.ring))]
	published, sent := e.published.Load(), e.sent.Load()
	if seq == 0 || e.seq.Load() != seq {
		return time.Time{}
	}
	if sent > 0 {
		m.RedisHub.Observe((arrived.Sub(f.start) - time.Duration(sent)).Seconds())
	}
	return f.start.Add(time.Duration(published))
}
