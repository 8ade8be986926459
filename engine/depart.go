package engine

import (
	"encoding/json"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

const (
	// fenceTime bounds how long a move waits for what was to be stored before it. The
	// client's packets wait, too; then they are relayed.
	fenceTime = time.Second
	// offerTime bounds a move from the offer to the cut. After it the conn is closed,
	// and its client recovers. It is longer than listenTime and moveTime of the other
	// node, which decides sooner.
	offerTime = 10 * time.Second
	// A conn that cannot move now is asked again: soon at first, because what is under
	// way after CONNECT is a join most of the time.
	firstRetry = 10 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// offer is what the node that takes a conn over is told of it, as JSON.
type offer struct {
	Handshake offeredHandshake `json:"handshake"`
	Owner     string           `json:"owner"` // Sessions.Owner of the node that gives it away
	Sockets   []offeredSocket  `json:"sockets"`
}

type offeredHandshake struct {
	Header  map[string][]string `json:"header,omitempty"`
	Time    int64               `json:"time"`
	Address string              `json:"address"`
	Path    string              `json:"path"`
	Query   string              `json:"query"`
	XDomain bool                `json:"xdomain,omitempty"`
	Secure  bool                `json:"secure,omitempty"`
}

type offeredSocket struct {
	Namespace  string          `json:"nsp"`
	SID        string          `json:"sid"`
	PID        string          `json:"pid"`
	Generation uint64          `json:"generation"`
	User       string          `json:"user,omitempty"`
	Auth       json.RawMessage `json:"auth,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	Rooms      []roomName      `json:"rooms,omitempty"`
}

// ending is what became due for the conn's sockets between the offer and the cut,
// in order: the node that has them now does it.
type ending struct {
	Ops []deferredOp `json:"ops,omitempty"`
}

// roomName is a room's name, in base64 as JSON: it may be any bytes.
type roomName string

// MarshalJSON implements json.Marshaler.
func (n roomName) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(n)) }

// UnmarshalJSON implements json.Unmarshaler.
func (n *roomName) UnmarshalJSON(b []byte) error {
	var raw []byte
	err := json.Unmarshal(b, &raw)
	*n = roomName(raw)
	return err
}

// What a deferredOp does.
const (
	opJoin  = "join"
	opLeave = "leave"
	opData  = "data"
)

// deferredOp is one change of one socket.
type deferredOp struct {
	Socket int             `json:"socket"` // its number in the offer
	Op     string          `json:"op"`     // join, leave or data
	Room   roomName        `json:"room,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// departure is a socket's side of a move that is under way.
type departure struct{ deferred []deferred }

// deferred is something that waits for the outcome of a move.
type deferred struct {
	op   deferredOp        // without one it is for this node alone
	run  func()            // does it here, though the move is not quite over: the socket stays
	done func(moved error) // nil, or the socket has moved: with nil if op is done there
}

// postpone has something wait for the outcome of the socket's move. It reports
// false if none is under way: then it is to be done at once, and changed called
// when it is. No move begins before that.
func (s *Socket) postpone(d deferred) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return false
	}
	if s.session.changed != nil && d.op.Op != "" {
		s.session.changed[string(d.op.Room)] = struct{}{} // what the other node postponed was before that
	}
	if s.session.departure == nil || s.state != socketConnected {
		s.session.changing++
		return false
	}
	s.session.departure.deferred = append(s.session.departure.deferred, d)
	return true
}

// changed follows a postpone that reported false.
func (s *Socket) changed() {
	if s.session == nil {
		return
	}
	s.mu.Lock()
	s.session.changing--
	s.mu.Unlock()
}

// endDeparture ends the move of a socket that ended.
func (s *Socket) endDeparture() {
	s.mu.Lock()
	var d *departure
	if s.session != nil {
		d, s.session.departure = s.session.departure, nil
	}
	s.mu.Unlock()
	if d == nil {
		return
	}
	for _, w := range d.deferred {
		settled(w.done, ErrDisconnected)
	}
}

// quiet reports whether nothing of the socket is under way that could not move:
// no handler, no join, no replay, and no acknowledgement in either direction.
func (s *Socket) quiet() bool {
	s.mu.Lock()
	ready := s.state == socketConnected && s.session != nil && s.session.pid != "" &&
		s.session.changing == 0 && len(s.session.joins) == 0 && s.session.since == nil
	s.mu.Unlock()
	return ready && s.box.quiet() && !s.nsp.acks.waitsFor(s)
}

// movable reports whether the conn could move now, as far as its sockets are concerned.
func (c *conn) movable() bool {
	if c.srv.recovery == nil || c.state.Load() != connOpen {
		return false
	}
	for _, s := range c.all() {
		if !s.quiet() {
			return false
		}
	}
	return true
}

// all is a copy of the conn's sockets.
func (c *conn) all() []*Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Socket(nil), c.sockets...)
}

// move offers the conn to the node that holds its WebSocket, or lets it stay for
// now. The client's bytes are kept there; it is called by the goroutine that reads.
func (a *away) move() {
	c := a.c
	sockets := c.all()
	for _, s := range sockets { // from here on what changes them waits
		s.mu.Lock()
		if s.session != nil {
			s.session.departure = &departure{}
		}
		s.mu.Unlock()
	}
	a.mu.Lock()
	if a.phase != awayFreezing {
		a.mu.Unlock()
		for _, s := range sockets {
			s.resume()
		}
		return
	}
	a.phase, a.leaving, a.uncut = awayFencing, sockets, len(sockets)
	a.tries++
	try := a.tries
	a.mu.Unlock()
	if !c.reader.Idle() || c.binary != nil || !c.movable() || len(sockets) != len(c.all()) {
		a.stay(try)
		return
	}
	a.mu.Lock()
	a.stopTimer()
	a.timer = time.AfterFunc(fenceTime, func() { a.stay(try) })
	a.mu.Unlock()
	c.srv.recovery.Fence(func(err error) { // what was called before must not come after the move
		if err != nil {
			a.stay(try)
			return
		}
		a.offer(try, sockets)
	})
}

// offer sends the offer. A conn without sockets is the other node's at once.
func (a *away) offer(try int, sockets []*Socket) {
	a.mu.Lock()
	if a.phase != awayFencing || a.tries != try {
		a.mu.Unlock()
		return
	}
	a.phase = awayOffered
	a.stopTimer()
	a.timer = time.AfterFunc(offerTime, func() { a.finish(errMoveLate) })
	a.mu.Unlock()
	h := a.c.handshake
	o := offer{
		Handshake: offeredHandshake{Header: h.header, Time: h.time, Address: h.address, Path: h.path, Query: h.query, XDomain: h.xdomain, Secure: h.secure},
		Owner:     a.c.srv.recovery.Owner(),
	}
	for _, s := range sockets {
		o.Sockets = append(o.Sockets, s.offered())
	}
	text, err := json.Marshal(&o)
	if err != nil || a.st.Send(msgOffer, text) != nil {
		a.finish(errPeerLost)
		return
	}
	if len(sockets) == 0 {
		a.release()
	}
}

func (s *Socket) offered() offeredSocket {
	var rooms []roomName
	for _, room := range s.Rooms()[1:] {
		rooms = append(rooms, roomName(room))
	}
	data := encodeData(s.Data())
	s.mu.Lock()
	defer s.mu.Unlock()
	return offeredSocket{
		Namespace: s.nsp.name, SID: s.ID(), PID: s.session.pid, Generation: s.session.generation, User: s.session.user,
		Auth: s.auth, Data: data, Rooms: rooms,
	}
}

// stay calls a move off that was not offered.
func (a *away) stay(try int) {
	a.mu.Lock()
	off := a.phase == awayFencing && a.tries == try
	a.mu.Unlock()
	if off {
		a.c.srv.m.Moves[metrics.MovePostponed].Inc()
		a.relay(awayFencing)
	}
}

// relay has the conn's bytes relayed instead of the move that is in a phase; it is
// tried again later.
func (a *away) relay(instead awayPhase) {
	a.mu.Lock()
	if a.phase != instead {
		a.mu.Unlock()
		return
	}
	sockets := a.leaving
	a.phase, a.leaving = awayRelaying, nil
	a.stopTimer()
	a.mu.Unlock()
	for _, s := range sockets {
		s.resume()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayRelaying { // the conn ended
		return
	}
	a.tell(msgRelay, nil)
	if a.c.srv.recovery != nil { // not before: msgFreeze must not come first
		a.timer = time.AfterFunc(retryAfter(a.tries), a.again)
	}
}

// declined takes the other node's word that it does not take the conn. Where
// sessions may have moved, the conn ends, and its client comes back.
func (a *away) declined(moved bool) {
	switch {
	case moved:
		a.c.close(metrics.CloseReplaced, noCode)
	case a.is(awayCut): // a conn without sockets, which was given away unasked
		a.finish(errMoveUncertain)
	default:
		a.relay(awayOffered)
	}
}

// retryAfter is how long to wait after so many tries.
func retryAfter(tries int) time.Duration {
	return min(firstRetry<<min(tries-1, 15), lastRetry)
}

// resume does what waited for a move that is off.
func (s *Socket) resume() {
	for {
		s.mu.Lock()
		if s.session == nil || s.session.departure == nil {
			s.mu.Unlock()
			return
		}
		waiting := s.session.departure.deferred
		s.session.departure.deferred = nil
		if len(waiting) == 0 {
			s.session.departure = nil
		}
		s.mu.Unlock()
		for _, w := range waiting {
			w.run()
		}
	}
}

// again begins another move if nothing seems to be in its way.
func (a *away) again() {
	ready := a.c.movable()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayRelaying {
		return
	}
	if !ready {
		a.tries++
		a.timer = time.AfterFunc(retryAfter(a.tries), a.again)
		return
	}
	a.phase = awayFreezing
	a.timer = time.AfterFunc(offerTime, func() {
		if a.is(awayFreezing) {
			a.finish(errMoveLate)
		}
	})
	a.tell(msgFreeze, nil)
}

// Cut says that a socket moved between two nodes, as its generation-th owner: at
// this place in the order of deliveries it leaves the one and is at the other. at is
// where the namespace's journal was; it is zero on a node that has not delivered
// everything before it. It must be called in order with Deliver.
func (s *Server) Cut(ns, sid string, generation uint64, at socketio.Offset) {
	n := s.namespace(ns)
	if n == nil || s.recovery == nil {
		return
	}
	s.order.run(func() {
		if v := s.arrivals.get(sid); v != nil && v.generation == generation {
			v.cut(at)
			return
		}
		so := s.sockets.get(sid, n)
		if so == nil || so.ref().Generation+1 != generation {
			return
		}
		if so.conn.poll == nil || so.conn.poll.away == nil || !so.conn.poll.away.cut(so, at) {
			so.conn.close(metrics.CloseReplaced, noCode) // it is another node's, and this one has given it up
		}
	})
}

// cut is Cut on the node that gives the socket away; false if it does not offer it.
func (a *away) cut(s *Socket, at socketio.Offset) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayOffered {
		return false
	}
	if at.IsZero() { // what came before may be missing
		go a.finish(errMoveUncertain)
		return true
	}
	s.mu.Lock()
	if s.state != socketConnected {
		s.mu.Unlock()
		return false
	}
	s.state = socketMoved
	s.mu.Unlock()
	srv := a.c.srv
	srv.sockets.remove(s)
	srv.hub.CloseMember(&s.member)
	if a.uncut--; a.uncut == 0 {
		a.releaseLocked()
	}
	return true
}

// release makes the conn the other node's: what is queued for it is sent, and
// then the stream's msgEnd.
func (a *away) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == awayOffered {
		a.releaseLocked()
	}
}

func (a *away) releaseLocked() {
	if !a.c.state.CompareAndSwap(connOpen, connClosing) {
		go a.finish(errMoveUncertain)
		return
	}
	a.c.srv.m.Closes[metrics.CloseMoved].Inc()
	a.stopTimer()
	a.phase, a.flushing = awayCut, true
	a.c.fan.Wrote(a.unread)
	a.unread = 0
	a.c.srv.hub.End(&a.c.fan, nil)
	a.c.srv.hub.Wake(&a.c.fan) // sets the deadline for msgSettled
}

// drained is called by the shard when everything was sent; false if the conn does
// not move.
func (a *away) drained() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != awayCut || a.ended {
		return false
	}
	a.ended = true
	var e ending
	var done []func()
	for i, s := range a.leaving {
		s.mu.Lock()
		waiting := s.session.departure.deferred
		s.session.departure.deferred = nil
		s.mu.Unlock()
		for _, w := range waiting {
			err := ErrDisconnected
			if w.op.Op != "" {
				w.op.Socket = i
				e.Ops = append(e.Ops, w.op)
				err = nil
			}
			done = append(done, func() { settled(w.done, err) })
		}
	}
	text, _ := json.Marshal(&e) // names and JSON
	a.tell(msgEnd, text)
	if len(done) > 0 {
		go func() { // not on the shard
			for _, f := range done {
				f()
			}
		}()
	}
	return true
}
