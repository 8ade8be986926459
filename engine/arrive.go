package engine

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

// arrival is the move of a conn to this node, which holds its WebSocket: first its
// rooms are heard, then its sessions are taken over, and at the cut its sockets
// become members. From there on what is for them waits in the conn's outbox, until
// the owner has sent all that came before.
type arrival struct {
	srv     *Server
	h       *held
	c       *conn
	from    string // Sessions.Owner of the node that gives it away
	sockets []*arriving

	mu      sync.Mutex // guards the rest; taken within held.mu or alone
	waiting int        // sessions, cuts, and the owner's end, that have not come
	moving  bool       // sessions were asked for: it cannot be declined any more
	ops     []deferredOp
	over    bool
	timer   *time.Timer
}

// arriving is one socket of an arrival.
type arriving struct {
	a          *arrival
	s          *Socket
	rooms      []string
	generation uint64 // it will have

	// Guarded by arrival.mu.
	reserved []*fanout.Room // heard for it
	own      *fanout.Room   // its own, if another node's name is in its id
	wasCut   bool
	fate     fate // what the owner says shall become of its session if the move fails
}

// arrivals finds arriving sockets by their ids.
type arrivals struct {
	mu sync.Mutex // taken alone
	m  map[string]*arriving
}

func (t *arrivals) put(v *arriving) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[string]*arriving)
	}
	t.m[v.s.ID()] = v
}

func (t *arrivals) remove(v *arriving) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[v.s.ID()] == v {
		delete(t.m, v.s.ID())
	}
}

func (t *arrivals) get(sid string) *arriving {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[sid]
}

// newArrival makes the conn and its sockets, or nil if this node cannot take them in.
func (s *Server) newArrival(h *held, o *offer) *arrival {
	if s.recovery == nil || s.draining.Load() {
		return nil
	}
	k := o.Handshake
	c := &conn{srv: s, nb: h.nb, onSocket: true, handshake: makeHandshake(k.Header, k.Address, k.Path, k.Query)}
	c.handshake.time, c.handshake.xdomain, c.handshake.secure = k.Time, k.XDomain, k.Secure
	c.mark(markPolled)
	if h.deflate {
		c.acceptDeflate()
	}
	if len(o.Sockets) > 0 {
		c.mark(markJoined)
	}
	a := &arrival{srv: s, h: h, c: c, from: o.Owner, waiting: 2*len(o.Sockets) + 2}
	for _, so := range o.Sockets {
		n := s.demand(so.Namespace, so.Auth)
		id, ok := parseID(so.SID)
		if n == nil || !ok || so.PID == "" || so.Generation == 0 {
			return nil
		}
		socket := &Socket{conn: c, nsp: n, id: id, auth: string(so.Auth)}
		socket.member.Init(&c.fan, socket)
		socket.session = &session{pid: so.PID, user: so.User, generation: so.Generation + 1, recovered: true, travel: &travel{changed: make(changes)}}
		if f := n.recoverer.Restore; f != nil {
			socket.guard(func() { socket.data = f(socket, so.Data) })
		} else if so.Data != nil {
			socket.data = so.Data
		}
		c.sockets = append(c.sockets, socket)
		v := &arriving{a: a, s: socket, generation: so.Generation + 1}
		for _, room := range so.Rooms {
			v.rooms = append(v.rooms, string(room))
		}
		a.sockets = append(a.sockets, v)
	}
	return a
}

// attach gives the conn an outbox; nothing is written until it is opened. It must
// return before anything else is done with the arrival.
func (a *arrival) attach() {
	hub := a.srv.hub
	now, timeout, b := hub.Now(), a.srv.ticks.timeout, &a.c.beat
	deadline := a.c.startHeartbeat(now)
	// The client counts from the owner's last ping, which may be an interval old. The
	// move itself is over before.
	b.pingAt = min(b.pingAt, now+timeout/2+rand.N(timeout/4+1))
	hub.Attach(&a.c.fan, a.c, min(deadline, b.pingAt))
	a.mu.Lock()
	a.timer = time.AfterFunc(a.srv.bounds.listen, func() { a.decline(true) })
	a.mu.Unlock()
}

// begin has the bus hear the sockets' rooms.
func (a *arrival) begin() {
	srv := a.srv
	n := 1
	for _, v := range a.sockets {
		n += len(v.rooms) + 1
	}
	heard := newCountdown(n, a.claim)
	for _, v := range a.sockets {
		for _, room := range v.rooms {
			r := srv.hub.Reserve(v.s.nsp.key(room), func(*fanout.Room) { heard.down() })
			a.mu.Lock()
			v.reserved = append(v.reserved, r)
			a.mu.Unlock()
		}
		if v.s.ID()[:nodeLen] != srv.cfg.Node {
			own := srv.hub.Reserve(v.s.nsp.key(v.s.ID()), func(*fanout.Room) { heard.down() })
			a.mu.Lock()
			v.own = own
			a.mu.Unlock()
		} else {
			heard.down()
		}
	}
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	if over { // while it reserved
		for _, v := range a.sockets {
			v.release()
		}
	}
	heard.down()
}

// claim takes the sessions over: all that is published from then on is heard.
func (a *arrival) claim() {
	for _, v := range a.sockets {
		a.srv.arrivals.put(v)
	}
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		for _, v := range a.sockets {
			a.srv.arrivals.remove(v)
		}
		return
	}
	a.moving = true
	a.timer.Stop()
	a.timer = time.AfterFunc(a.srv.bounds.claim, func() { a.fail(errMoveLate) })
	a.mu.Unlock()
	for _, v := range a.sockets {
		ref := socketio.SessionRef{PID: v.s.session.pid, Generation: v.generation - 1}
		a.srv.recovery.Move(socketio.SessionMove{SessionRef: ref, SID: v.s.ID(), Namespace: v.s.nsp.name, From: a.from}, v.moved)
	}
	a.step()
}

// moved takes the outcome of Sessions.Move.
func (v *arriving) moved(m *socketio.MovedSession, err error) {
	a := v.a
	if err != nil {
		if errors.Is(err, socketio.ErrNotOwner) && len(a.sockets) == 1 {
			a.decline(false)
			return
		}
		v.endSession() // in case that it is here
		a.fail(err)
		return
	}
	v.s.mu.Lock()
	v.s.session.epoch = a.srv.recovery.epochs.number(m.At.Epoch)
	v.s.mu.Unlock()
	a.step()
}

// cut is Server.Cut on the node that takes the socket over, in order with
// Deliver: from here on it is a member of its rooms. They are heard.
func (v *arriving) cut(at socketio.Offset) {
	a, s := v.a, v.s
	srv := a.srv
	if at.IsZero() {
		a.fail(errMoveUncertain)
		return
	}
	a.mu.Lock()
	if a.over || v.wasCut {
		a.mu.Unlock()
		return
	}
	v.wasCut = true
	a.mu.Unlock()
	srv.arrivals.remove(v)
	old, ok := srv.sockets.takeOver(s)
	if !ok { // its client came back here meanwhile
		a.fail(errReplaced)
		return
	}
	srv.hub.SetFloor(&s.member, srv.recovery.epochs.id(at))
	srv.hub.Join(&s.member, s.nsp.key(""), fanout.ID{}, nil)
	for _, room := range v.rooms {
		srv.hub.Join(&s.member, s.nsp.key(room), fanout.ID{}, nil)
	}
	a.mu.Lock()
	own := v.own
	v.own = nil
	a.mu.Unlock()
	s.mu.Lock()
	s.session.onTravel().own = own // its subscription lasts as long as the socket
	s.mu.Unlock()
	v.release()
	if old != nil {
		old.conn.close(metrics.CloseReplaced, noCode)
	}
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	if over { // abandoned while it was cut
		v.forget()
		return
	}
	a.step()
}

// finish takes the owner's word that all that came before the cut was sent.
func (a *arrival) finish(ops []deferredOp) {
	a.mu.Lock()
	a.ops = ops
	a.mu.Unlock()
	a.step()
}

// step counts one thing that was waited for; the last one completes the move.
func (a *arrival) step() {
	a.mu.Lock()
	if a.waiting--; a.waiting > 0 || a.over {
		a.mu.Unlock()
		return
	}
	a.over = true
	a.timer.Stop()
	a.mu.Unlock()
	go a.complete() // the bus and the trunk have no time for handlers
}

// complete makes the conn one of this node.
func (a *arrival) complete() {
	srv, c := a.srv, a.c
	if c.state.Load() != connOpen {
		a.dismiss()
	}
	if c.state.Load() != connOpen || !a.h.become(c) {
		srv.m.Moves[metrics.MoveFailed].Inc()
		a.undo()
		a.h.end(errMoveUncertain)
		return
	}
	srv.m.Moves[metrics.MoveDone].Inc()
	srv.m.ConnsWebSocket.Inc()
	settling := newCountdown(len(a.sockets)+1, func() {
		_ = a.h.st.Send(msgSettled, nil)
		a.h.st.Close()
	})
	for i, v := range a.sockets {
		s := v.s
		s.mu.Lock()
		if s.state != socketPending { // the conn was closed this moment
			s.mu.Unlock()
			if v.kicked() {
				c.srv.hub.Send(&c.fan, v.disconnect())
			}
			v.forget()
			settling.down()
			continue
		}
		s.state = socketConnected
		s.nsp.count.Add(1)
		srv.m.Sockets.Inc()
		s.post(task{run: func() { a.connected(i, settling.down) }}) // before it can leave
		s.mu.Unlock()
	}
	a.h.feed(c)
	settling.down()
}

// dismiss tells the client what it was disconnected from between the cut and now.
func (a *arrival) dismiss() {
	for _, v := range a.sockets {
		if v.kicked() {
			a.h.write(v.disconnect().Frame)
		}
	}
	a.h.write(websocket.AppendClose(nil, noCode, ""))
}

// disconnect is the packet that tells the client of it.
func (v *arriving) disconnect() *fanout.Message {
	p := socketio.Packet{Type: socketio.Disconnect, Namespace: v.s.nsp.nameBytes}
	return newMessage(socketio.AppendPacket(nil, &p), nil)
}

// kicked reports whether the server disconnected the socket before it was connected.
func (v *arriving) kicked() bool {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.s.session.kicked
}

// connected does what became due for a socket before the cut, unless something
// later was done already, and runs its connection handlers, in its turn.
func (a *arrival) connected(i int, settled func()) {
	s := a.sockets[i].s
	s.mu.Lock()
	t := s.session.onTravel()
	changed := t.changed
	t.changed = nil
	s.mu.Unlock()
	for _, op := range a.ops {
		if op.Socket != i {
			continue
		}
		if _, later := changed[string(op.Room)]; later {
			continue
		}
		switch op.Op {
		case opJoin:
			s.joinBehind(string(op.Room))
		case opLeave:
			s.Leave(string(op.Room), nil)
		case opData:
			s.restoreData(op.Data)
		}
	}
	for _, f := range s.nsp.hooks().connection {
		s.guard(func() { f(s) })
	}
	if f := s.nsp.recoverer.Settle; f != nil {
		s.guard(func() { f(s, settled) })
		return
	}
	settled()
}

// restoreData is SetData with what was stored of a value.
func (s *Socket) restoreData(data json.RawMessage) {
	if f := s.nsp.recoverer.Restore; f != nil {
		s.guard(func() { s.SetData(f(s, data)) })
		return
	}
	s.SetData(data)
}
