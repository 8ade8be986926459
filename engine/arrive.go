package engine

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
	"github.com/stellara/edge/websocket"
)

const (
	// listenTime bounds how long a conn that moves here waits for the subscriptions of
	// its rooms. After it the move is declined.
	listenTime = 2 * time.Second
	// moveTime bounds what follows, to the owner's end. After it the conn is closed,
	// and its client recovers.
	moveTime = 5 * time.Second
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

	fate fate // guarded by held.mu: what the owner says shall become of the sessions

	mu       sync.Mutex // guards the rest; taken within held.mu or alone
	waiting  int        // sessions, cuts, and the owner's end, that have not come
	attached bool       // the conn is the hub's
	moving   bool       // sessions were asked for: it cannot be declined any more
	ops      []deferredOp
	over     bool
	timer    *time.Timer
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
	claimed  bool           // its session is this node's
	wasCut   bool
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
	sid, ok := parseID(h.of.sid)
	if s.recovery == nil || !ok || s.draining.Load() {
		return nil
	}
	k := o.Handshake
	c := &conn{srv: s, sid: sid, nb: h.nb, onSocket: true, handshake: &handshake{
		header: k.Header, time: k.Time, address: k.Address, path: k.Path, query: k.Query, xdomain: k.XDomain, secure: k.Secure,
	}}
	c.shared.Store(true)
	c.polled.Store(true)
	c.joined.Store(len(o.Sockets) > 0)
	a := &arrival{srv: s, h: h, c: c, from: o.Owner, waiting: 2*len(o.Sockets) + 2}
	for _, so := range o.Sockets {
		n := s.demand(so.Namespace, so.Auth)
		id, ok := parseID(so.SID)
		if n == nil || !ok || so.PID == "" || so.Generation == 0 {
			return nil
		}
		socket := &Socket{conn: c, nsp: n, id: id, auth: so.Auth}
		if so.Data != nil {
			socket.data = so.Data
		}
		socket.member.Init(&c.fan, socket)
		socket.session = &session{pid: so.PID, user: so.User, generation: so.Generation + 1, recovered: true}
		if f := n.recoverer.Restore; f != nil {
			socket.guard(func() { socket.data = f(socket, so.Data) })
		}
		c.sockets = append(c.sockets, socket)
		a.sockets = append(a.sockets, &arriving{a: a, s: socket, rooms: so.Rooms, generation: so.Generation + 1})
	}
	return a
}

// begin has the bus hear the sockets' rooms.
func (a *arrival) begin() {
	srv := a.srv
	srv.hub.Attach(&a.c.fan, a.c, a.c.startHeartbeat(srv.hub.Now())) // nothing is written until it is opened
	a.mu.Lock()
	a.attached = !a.over
	if a.attached {
		a.timer = time.AfterFunc(listenTime, a.late)
	}
	a.mu.Unlock()
	if !a.attached { // the client went away before
		srv.hub.Detach(&a.c.fan)
		return
	}
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
			a.release(v)
		}
	}
	heard.down()
}

// claim takes the sessions over: all that is published from then on is heard.
func (a *arrival) claim() {
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return
	}
	a.moving = true
	a.timer.Stop()
	a.timer = time.AfterFunc(moveTime, func() { a.fail(errMoveLate) })
	a.mu.Unlock()
	for _, v := range a.sockets {
		a.srv.arrivals.put(v)
	}
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
			a.decline()
			return
		}
		a.srv.recovery.Close(v.s.ref(), nil) // in case that it is here
		a.fail(err)
		return
	}
	v.s.mu.Lock()
	v.s.session.epoch = m.At.Epoch
	v.s.mu.Unlock()
	a.mu.Lock()
	v.claimed = true
	over := a.over
	a.mu.Unlock()
	if over {
		v.endSession(a.fated())
		return
	}
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
	reserved, own := v.reserved, v.own
	v.reserved, v.own = nil, nil
	a.mu.Unlock()
	srv.arrivals.remove(v)
	since := srv.recovery.epochs.id(at)
	srv.hub.SetFloor(&s.member, since)
	srv.hub.Join(&s.member, s.nsp.key(""), fanout.ID{}, nil)
	for _, room := range v.rooms {
		srv.hub.Join(&s.member, s.nsp.key(room), fanout.ID{}, nil)
	}
	for _, r := range reserved {
		srv.hub.Release(r)
	}
	s.mu.Lock()
	s.session.own = own // its subscription lasts as long as the socket
	s.mu.Unlock()
	if old, ok := srv.sockets.takeOver(s); ok && old != nil {
		old.conn.close(metrics.CloseReplaced, noCode)
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
		a.abandon(false)
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
			v.forget(keepSession)
			settling.down()
			continue
		}
		s.state = socketConnected
		s.mu.Unlock()
		s.nsp.count.Add(1)
		srv.m.Sockets.Inc()
		s.post(task{run: func() { a.connected(i, settling.down) }})
	}
	a.h.feed(c)
	settling.down()
}

// dismiss tells the client what it was disconnected from between the cut and now.
func (a *arrival) dismiss() {
	for _, v := range a.sockets {
		if v.kicked() {
			p := socketio.Packet{Type: socketio.Disconnect, Namespace: v.s.nsp.nameBytes}
			a.h.write(newMessage(socketio.AppendPacket(nil, &p), nil).Frame)
		}
	}
	a.h.write(websocket.AppendClose(nil, noCode, ""))
}

// kicked reports whether the server disconnected the socket before it was connected.
func (v *arriving) kicked() bool {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.s.session.kicked
}

// connected runs the connection handlers of a socket, in its turn, and what became
// due while it moved.
func (a *arrival) connected(i int, settled func()) {
	s := a.sockets[i].s
	for _, f := range s.nsp.hooks().connection {
		s.guard(func() { f(s) })
	}
	for _, op := range a.ops {
		if op.Socket != i {
			continue
		}
		switch op.Op {
		case opJoin:
			s.joinBehind(op.Room)
		case opLeave:
			s.Leave(op.Room, nil)
		case opData:
			s.restoreData(op.Data)
		}
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

// late declines an arrival whose rooms cannot be heard.
func (a *arrival) late() {
	a.mu.Lock()
	moving := a.moving
	a.mu.Unlock()
	if !moving {
		a.decline()
	}
}

// decline ends an arrival that has changed nothing.
func (a *arrival) decline() {
	if a.abandon(true) {
		a.h.declined(a)
	}
}

// fail ends an arrival that cannot be completed nor undone: the client comes back,
// to what its session says.
func (a *arrival) fail(err error) {
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	if over {
		return
	}
	a.srv.log.Debug("the move of a conn failed", "from", a.h.of.owner, "error", err)
	go a.h.end(err) // locks of the bus may be held
}

// abandon undoes what was done of an arrival. With check it does nothing, and
// reports false, if the arrival is over.
func (a *arrival) abandon(check bool) bool {
	f := a.fated()
	a.mu.Lock()
	if check && a.over {
		a.mu.Unlock()
		return false
	}
	a.over = true
	if a.timer != nil {
		a.timer.Stop()
	}
	attached := a.attached
	a.mu.Unlock()
	if attached { // before it, nothing was done
		for _, v := range a.sockets {
			v.forget(f)
		}
		a.srv.hub.Detach(&a.c.fan)
	}
	return true
}

// forget takes back what was done for one socket.
func (v *arriving) forget(f fate) {
	a, s := v.a, v.s
	a.srv.arrivals.remove(v)
	a.mu.Lock()
	moving := a.moving
	a.mu.Unlock()
	if v.kicked() {
		f = deleteSession
	}
	if moving {
		v.endSession(f) // if it is not here yet, moved does it again
	}
	s.mu.Lock()
	if s.state == socketPending {
		s.state = socketDisconnected
	}
	s.mu.Unlock()
	a.srv.hub.CloseMember(&s.member)
	a.srv.sockets.remove(s)
	s.releaseOwn()
	a.release(v)
}

// endSession ends the session that the socket has here, if it does.
func (v *arriving) endSession(f fate) {
	if f == deleteSession {
		v.a.srv.recovery.Delete(v.s.ref(), nil)
		return
	}
	v.a.srv.recovery.Close(v.s.ref(), nil)
}

// fated is what shall become of the sessions if the move fails.
func (a *arrival) fated() fate {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	return a.fate
}

// release gives up the subscriptions that only the arrival kept.
func (a *arrival) release(v *arriving) {
	a.mu.Lock()
	reserved := v.reserved
	if v.own != nil {
		reserved = append(reserved, v.own)
	}
	v.reserved, v.own = nil, nil
	a.mu.Unlock()
	for _, r := range reserved {
		a.srv.hub.Release(r)
	}
}
