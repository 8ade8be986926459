package main

import (
	"errors"
	"strconv"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// token takes a new token in the place of the one a socket connected with. It must
// name the same user; its expiry and its rooms take effect, and rooms that it does
// not allow any more are left. Until the ack {ok, expires?} the socket's later
// packets wait, so they are judged by the new one.
func (a *app) token(auth *authenticator, s socket, e event) {
	var token string
	r := refused(metrics.AuthTokenMissing, "token is missing")
	if e.Len() > 0 {
		token, r = tokenOf(e.Raw(0))
	}
	if r != nil {
		auth.metrics.Auths[r.Why].Inc()
		a.refuse(e, refusedRefresh(r))
		return
	}
	release := e.Hold()
	auth.verify(token, identityOf(s).User, func(v *verified, r *refusal) {
		if r != nil {
			a.refuse(e, refusedRefresh(r))
			release()
			return
		}
		a.renew(s, e, v.Grant, release)
	})
}

func refusedRefresh(r *refusal) *failure { return fail(ackCode(r.Code()), "%s", r.Message) }

// renew puts a grant in the place of the one before.
func (a *app) renew(s socket, e event, g *grant, release func()) {
	who := identityOf(s)
	before := who.grant.Swap(g)
	if !who.whileConnected(func() { a.expiries.set(s, who, g.expires()) }) {
		release()
		return // it is gone
	}
	s.SetData(who) // it is stored, and goes along when the conn moves
	var left []string
	for _, room := range a.present(s) {
		if g.revokes(before, room) {
			left = append(left, room)
		}
	}
	all := &settle{waiting: 1 + 2*len(left), then: func(err error) {
		switch {
		case errors.Is(err, errGone): // nobody to tell
		case err != nil: // the rooms are left here; presence follows when Redis lets it
			a.refuse(e, unavailable())
		case e.WantsAck():
			acknowledge(e, renewed(g))
		}
		release()
	}}
	for _, room := range left {
		s.Leave(room, all.done)
		if !who.whileConnected(func() { a.presence.Leave(who.User, s.ID(), room, all.done) }) {
			all.done(errGone)
		}
	}
	tellLeft(s, left)
	all.done(nil)
}

// renewed is the ack of a token that was taken.
func renewed(g *grant) *engine.Payload {
	if g.expires() == 0 {
		return &engine.Payload{JSON: []byte(`[{"ok":true}]`)}
	}
	return &engine.Payload{JSON: append(strconv.AppendInt([]byte(`[{"ok":true,"expires":`), g.expires(), 10), "}]"...)}
}

// tellLeft tells a client of rooms that its token does not allow any more.
func tellLeft(s socket, rooms []string) {
	if len(rooms) == 0 {
		return
	}
	b := []byte(`["rooms_left",{"rooms":[`)
	for i, room := range rooms {
		if i > 0 {
			b = append(b, ',')
		}
		b = socketio.AppendString(b, room)
	}
	_ = s.EmitPayload(&engine.Payload{JSON: append(b, `],"code":"not_allowed"}]`...)}) // it may be gone
}

// warnOfExpiry asks a client for a newer token.
func warnOfExpiry(s socket, expires int64) { emitExpiry(s, "token_expiring", expires) }

// endExpired ends a socket, unless its token was renewed this moment. DISCONNECT has no room for a
// reason, so an event before it says why.
func endExpired(s socket, expires int64) {
	if identityOf(s).grant.Load().expires() != expires {
		return
	}
	emitExpiry(s, "token_expired", expires)
	s.CloseConn(metrics.CloseTokenExpired)
}

func emitExpiry(s socket, name string, expires int64) {
	b := append([]byte(`["`), name...)
	b = strconv.AppendInt(append(b, `",{"expires":`...), expires, 10)
	_ = s.EmitPayload(&engine.Payload{JSON: append(b, "}]"...)}) // it may be gone
}

// keepRoom decides whether a socket that comes back may be in a room still.
func (a *app) keepRoom(who *identity, room string) bool {
	g := who.grant.Load()
	if g == nil || g.returned == nil || a.checkRoom(room) != nil || !g.revokes(g.returned.before, room) {
		return true
	}
	g.returned.left = append(g.returned.left, room)
	return false
}

// admitted begins to watch over the token of a socket that has connected, come back,
// or moved here, and tells it of rooms it has lost meanwhile.
func (a *app) admitted(s socket) {
	who := identityOf(s)
	g := who.grant.Load()
	if g != nil && g.returned != nil {
		back := *g.returned
		g = newGrant(g.Expires, roomsClaim{g.Join, g.Publish})
		who.grant.Store(g)
		if !g.sameRooms(back.before) {
			s.SetData(who)
		}
		tellLeft(s, back.left)
	}
	a.expiries.set(s, who, g.expires())
}
