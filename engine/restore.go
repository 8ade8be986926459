package engine

import (
	"errors"

	"github.com/stellara/edge/fanout"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// replayFirst bounds the bytes of missed messages that precede the answer to
// CONNECT: with it they are one write.
const replayFirst = 60 << 10

// restoring is a socket on its way back. Its steps run one after the other, each
// started by the answer to the one before; while it is under way the socket is
// pending, and its client waits for the answer to CONNECT.
type restoring struct {
	n        *Namespace
	asked    *Socket // made for the CONNECT; goes on as a new one if the restoration fails
	s        *Socket // the one that comes back
	claimed  *socketio.ClaimedSession
	previous string // the owner that has the session open still, until it was told
	reserved []*fanout.Room
	kicks    uint64 // the number of the last kick when the session was asked for
}

// claimed makes the socket that comes back.
func (n *Namespace) claimed(asked *Socket, c *socketio.ClaimedSession, kicks uint64) {
	sid, _ := parseID(c.SID) // what is stored is ours
	s := &Socket{conn: asked.conn, nsp: n, id: sid, auth: asked.auth}
	s.member.Init(&s.conn.fan, s)
	s.session = &session{
		pid: c.PID, epoch: n.srv.recovery.epochs.number(c.After.Epoch), user: c.User, generation: c.Generation, recovered: true, travel: &travel{},
	}
	n.restore(s, asked.Data(), c)
	since := make(sinceByRoom, len(c.Rooms)+1)
	for _, room := range c.Rooms {
		since[room.Name] = n.srv.recovery.epochs.id(room.Since)
	}
	since[c.SID] = fanout.ID{}
	s.session.travel.since = since
	w := &restoring{n: n, asked: asked, s: s, claimed: c, previous: c.Owner, kicks: kicks}
	if !s.conn.replace(asked, s) {
		w.abandon()
		return
	}
	n.srv.hub.Hold(&s.member, n.srv.recovery.epochs.id(c.After)) // whoever finds it from now on
	old, ok := n.srv.sockets.takeOver(s)
	if !ok {
		w.fail(errReplaced)
		return
	}
	s.kickedSince(w.kicks, func(room string) bool { _, in := since[room]; return in })
	if old != nil { // half-open, or on its way back, here
		w.previous = ""
		old.conn.close(metrics.CloseReplaced, noCode)
		old.leave(disconnectReason(metrics.CloseReplaced), keepSession) // if somebody else closed it, it may not have left yet
	}
	n.srv.recovery.ending.after(sid, func() { s.post(task{run: w.subscribe}) })
}

// subscribe has the bus hear the socket's rooms, and its own if another node's
// name is in its id.
func (w *restoring) subscribe() {
	srv := w.n.srv
	rooms := make([]string, 0, len(w.claimed.Rooms)+1)
	for _, room := range w.claimed.Rooms {
		rooms = append(rooms, room.Name)
	}
	if w.claimed.SID[:nodeLen] != srv.cfg.Node {
		rooms = append(rooms, w.claimed.SID)
	}
	waiting := newCountdown(len(rooms)+1, func() { w.s.post(task{run: w.join}) })
	for _, room := range rooms {
		w.reserved = append(w.reserved, srv.hub.Reserve(w.n.key(room), func(*fanout.Room) { waiting.down() }))
	}
	waiting.down()
}

// join makes the socket a member of what it was in. From here on nothing can
// pass it by: what is published arrives, or is in the journal when it is read.
func (w *restoring) join() {
	srv, s := w.n.srv, w.s
	srv.hub.Join(&s.member, w.n.key(""), fanout.ID{}, nil)
	for _, room := range w.claimed.Rooms {
		srv.hub.Join(&s.member, w.n.key(room.Name), srv.recovery.epochs.id(room.Since), nil)
	}
	if w.claimed.SID[:nodeLen] != srv.cfg.Node { // the subscription of its own room lasts as long as the socket
		own := len(w.reserved) - 1
		s.mu.Lock()
		s.session.onTravel().own = w.reserved[own]
		s.mu.Unlock()
		w.reserved = w.reserved[:own]
	}
	w.release()
	w.read(w.claimed.After, w.welcome)
}

// read has then called with what the socket missed after a position, and where
// the journal ended.
func (w *restoring) read(after socketio.Offset, then func(missed []*missed, end fanout.ID)) {
	r, s := w.n.srv.recovery, w.s
	r.Read(w.n.name, after, func(entries []socketio.JournalEntry, end socketio.Offset, err error) {
		s.post(task{run: func() {
			if err == nil && end.Epoch != after.Epoch {
				err = errEpoch
			}
			if err != nil {
				w.fail(err)
				return
			}
			to := r.epochs.id(end)
			then(r.missedBy(w.n, entries, r.epochs.id(after), to, s.catchUpRooms()), to)
		}})
	})
}

// welcome answers CONNECT, with what was missed around it, and runs the
// connection handlers.
func (w *restoring) welcome(missed []*missed, end fanout.ID) {
	srv, s, n := w.n.srv, w.s, w.n
	if sizeOf(missed) > srv.cfg.OutboxBytes {
		w.fail(errTooMuchMissed)
		return
	}
	s.mu.Lock()
	if s.state != socketPending {
		s.mu.Unlock()
		w.abandon()
		return
	}
	s.state = socketConnected
	s.mu.Unlock()
	n.count.Add(1)
	srv.m.Sockets.Inc()
	srv.m.Recoveries[metrics.RecoveryComplete].Inc()
	srv.m.Recovered.Add(float64(len(missed)))
	s.conn.mark(markJoined)

	reply := newMessage(socketio.AppendPacket(nil, n.connectPacket(s)), nil)
	w.replay(withReply(missed, reply), end)
	for _, f := range n.hooks().connection { // in the socket's turn, as every step
		s.guard(func() { f(s) })
	}
	w.settle()
}

// settle tells the node that had the socket before, when the application is ready.
func (w *restoring) settle() {
	s := w.s
	drop := func() {
		if w.previous != "" {
			w.n.srv.recovery.Drop(w.claimed.Owner, w.n.name, s.ID(), w.claimed.Generation)
		}
	}
	if f := w.n.recoverer.Settle; f != nil {
		s.guard(func() { f(s, drop) })
		return
	}
	drop()
}

// replay sends messages, and what came meanwhile, until the socket is live.
func (w *restoring) replay(messages []*fanout.Message, end fanout.ID) {
	srv, s := w.n.srv, w.s
	srv.hub.Replay(&s.member, &fanout.Replay{Messages: messages, UpTo: end, Done: func(caught bool) {
		if caught {
			s.mu.Lock()
			s.session.onTravel().since = nil
			s.mu.Unlock()
			srv.recovery.CaughtUp(s.ref())
			return
		}
		w.read(srv.recovery.epochs.offset(end), func(missed []*missed, end fanout.ID) {
			if sizeOf(missed) > srv.cfg.OutboxBytes {
				w.fail(errTooMuchMissed)
				return
			}
			srv.m.Recovered.Add(float64(len(missed)))
			w.replay(withReply(missed, nil), end)
		})
	}})
}

// withReply is the messages of missed, in order, with the answer to CONNECT (if
// it is not nil) among them: as late as replayFirst allows.
func withReply(missed []*missed, reply *fanout.Message) []*fanout.Message {
	out := make([]*fanout.Message, 0, len(missed)+1)
	bytes := 0
	for _, m := range missed {
		bytes += len(m.message.Frame)
		if reply != nil && bytes > replayFirst {
			out, reply = append(out, reply), nil
		}
		out = append(out, m.message)
	}
	if reply != nil {
		out = append(out, reply)
	}
	return out
}

func sizeOf(missed []*missed) (bytes int) {
	for _, m := range missed {
		bytes += len(m.message.Frame)
	}
	return bytes
}

// catchUpRooms are the rooms a socket that catches up is in now, its own and its
// user's included, with where it joined them.
func (s *Socket) catchUpRooms() sinceByRoom {
	names := append(s.ownRooms(), s.member.Rooms(nil)...)
	rooms := make(sinceByRoom, len(names))
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.session.travels().since
	for _, name := range names {
		rooms[name] = since[name]
	}
	return rooms
}

// fail ends a restoration that cannot go on: before the client was told of it
// the client gets a new socket, after it the conn.
func (w *restoring) fail(err error) {
	srv, s := w.n.srv, w.s
	result := metrics.RecoveryUnavailable
	switch {
	case errors.Is(err, errTooMuchMissed), errors.Is(err, socketio.ErrTooMuch):
		result = metrics.RecoveryTooMuch
	case errors.Is(err, socketio.ErrTrimmed):
		result = metrics.RecoveryIncomplete
	case errors.Is(err, errReplaced):
		result = metrics.RecoveryUnknown
	case errors.Is(err, errEpoch):
		result = metrics.RecoveryEpoch
	}
	s.mu.Lock()
	state := s.state
	if state == socketPending {
		s.state = socketDisconnected
	}
	s.mu.Unlock()
	switch state {
	case socketDisconnected:
		w.abandon()
		return
	case socketConnected:
		s.conn.close(metrics.CloseGap, noCode)
		return
	}
	srv.log.Debug("socket not recovered", "socket", s.ID(), "error", err)
	srv.m.Recoveries[result].Inc()
	srv.recovery.Delete(s.ref(), nil)
	if w.previous != "" {
		srv.recovery.Drop(w.claimed.Owner, w.n.name, s.ID(), w.claimed.Generation)
	}
	w.undo()
	fresh := &Socket{conn: s.conn, nsp: w.n, id: srv.ids.next(), auth: s.auth}
	fresh.member.Init(&s.conn.fan, fresh)
	fresh.session = &session{}
	if s.conn.replace(s, fresh) {
		fresh.post(task{run: func() { w.n.admit(fresh, w.n.hooks().middleware, 0) }})
	}
}

// abandon gives a socket back whose client went away before it was answered.
func (w *restoring) abandon() {
	srv, s := w.n.srv, w.s
	srv.m.Recoveries[metrics.RecoveryAbandoned].Inc()
	s.mu.Lock()
	kicked := s.session.kicked
	s.mu.Unlock()
	if kicked {
		srv.recovery.Delete(s.ref(), nil)
		s.conn.sendConnectError(w.n.nameBytes, []byte(`{"message":"disconnected by the server"}`))
	} else {
		srv.recovery.Close(s.ref(), nil)
	}
	if w.previous != "" {
		srv.recovery.Drop(w.claimed.Owner, w.n.name, s.ID(), w.claimed.Generation)
	}
	w.undo()
}

// undo takes back what join did.
func (w *restoring) undo() {
	srv, s := w.n.srv, w.s
	srv.hub.CloseMember(&s.member)
	srv.sockets.remove(s)
	s.releaseOwn()
	w.release()
}

// release gives up the subscriptions that only the restoration kept.
func (w *restoring) release() {
	for _, room := range w.reserved {
		w.n.srv.hub.Release(room)
	}
	w.reserved = nil
}

// releaseOwn gives up the subscription of the socket's own room.
func (s *Socket) releaseOwn() {
	s.mu.Lock()
	var own *fanout.Room
	if s.session != nil && s.session.travel != nil {
		own, s.session.travel.own = s.session.travel.own, nil
	}
	s.mu.Unlock()
	if own != nil {
		s.conn.srv.hub.Release(own)
	}
}
