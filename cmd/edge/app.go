package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/state"
)

// presence is what the application needs of state.Presence. Connect,
// Disconnect, Join and Leave record what shall be and never wait; their done
// functions are called when Redis has it. The reads wait for Redis.
type presence interface {
	Held(user string) int // sockets of the user on this node
	Connect(user, socket string, generation uint64, done func(error))
	Disconnect(user, socket string, mayReturn bool)
	Join(user, socket, room string, done func(error))
	Leave(user, socket, room string, done func(error))
	Online(ctx context.Context, users []string) ([]bool, error)
	Snapshot(ctx context.Context, room string) (state.Snapshot, error)
}

// socket is what the application needs of *engine.Socket.
type socket interface {
	ID() string
	Data() any
	Rooms() []string
	In(room string) bool
	Join(room string, done func(error))
	Leave(room string, done func(error))
	EmitPayload(p *engine.Payload) error
	Disconnect(closeConn bool)
	SetData(v any)
	CloseConn(reason metrics.Close)
}

// event is what the application needs of *engine.Event. Arguments do not count
// the event's name.
type event interface {
	Len() int
	Raw(i int) json.RawMessage
	Attachments() [][]byte
	WantsAck() bool
	AckPayload(p *engine.Payload) error
	Hold() (release func())
}

// app is the built-in application of namespace "/": join, leave, message and
// presence. Its handlers run on the pollers and never wait: what needs Redis
// goes on in callbacks and in reads.
type app struct {
	publish  func(room, once string, p *engine.Payload, done func(error)) error // to every member, on every node
	local    func(room string, p *engine.Payload) error                         // to the members on this node
	presence presence
	reads    *reads
	validID  func(kind, id string) error
	refused  prometheus.Counter // events answered {ok:false}, or that would have been had they wanted an answer
	log      *slog.Logger
	now      func() time.Time
	expiries *expiries
	recovery bool // sockets whose connection broke may come back, on any node
	limits   appLimits
	seating  sync.Mutex // orders the sockets that take places of users; taken within identity.mu
}

// Limits of the application.
const (
	maxListed    = 1_000    // members up to which users are listed by name; above, counts only. Also the most users one presence event may ask about
	maxListBytes = 64 << 10 // names listed in one packet, in bytes
)

// newApp makes the application on namespace ns.
func newApp(ns *engine.Namespace, p presence, refused prometheus.Counter, log *slog.Logger) *app {
	return &app{
		publish: func(room, once string, payload *engine.Payload, done func(error)) error {
			return ns.To(room).Once(once).EmitPayload(payload, done)
		},
		local: func(room string, payload *engine.Payload) error {
			return ns.To(room).Local().EmitPayload(payload, nil)
		},
		presence: p, reads: newReads(p, log), validID: state.ValidID, refused: refused, log: log, now: time.Now,
		limits: appLimits{rooms: defaultMaxRooms},
	}
}

// register puts the application's handlers on ns.
func (a *app) register(ns *engine.Namespace, auth *authenticator) {
	ns.Use(func(s *engine.Socket, next func(error)) {
		switch known := s.Data().(type) { // it wanted a session back, which it cannot have
		case *verified:
			a.admit(s, known, next)
		case *refusal:
			a.refuseSocket(s, known, next)
		default:
			auth.identify(claimantOf(s), func(v *verified, r *refusal) {
				if r == nil {
					a.admit(s, v, next)
				} else {
					a.refuseSocket(s, r, next)
				}
			})
		}
	})
	ns.Recover(a.recoverer(auth))
	ns.OnConnection(func(s *engine.Socket) {
		a.admitted(s)
		if !s.Recovered() { // else the recoverer sees to it
			a.connected(s)
		}
	})
	ns.OnDisconnect(func(s *engine.Socket, reason string) { a.disconnected(s, reason) })
	ns.OnServerJoin(func(s *engine.Socket, room string) { a.serverJoined(s, room) })
	ns.OnServerLeave(func(s *engine.Socket, room string) { a.serverLeft(s, room) })
	ns.On("join", func(s *engine.Socket, e *engine.Event) { a.join(s, e) })
	ns.On("leave", func(s *engine.Socket, e *engine.Event) { a.leave(s, e) })
	ns.On("message", func(s *engine.Socket, e *engine.Event) { a.message(s, e) })
	ns.On("presence", func(s *engine.Socket, e *engine.Event) { a.askPresence(s, e) })
	if auth.mode == authJWT {
		ns.On("token", func(s *engine.Socket, e *engine.Event) { a.token(auth, s, e) })
	}
}

// refuseSocket keeps a socket out.
func (a *app) refuseSocket(s *engine.Socket, r *refusal, next func(error)) {
	if a.log.Enabled(context.Background(), slog.LevelDebug) { // taking the handshake apart is not free
		a.log.Debug("socket refused", "code", r.Code(), "address", s.Handshake().Address)
	}
	next(&engine.ConnectError{Message: r.Message, Data: struct {
		Code string `json:"code"`
	}{r.Code()}})
}

// admit lets a socket in whose client is known.
func (a *app) admit(s *engine.Socket, v *verified, next func(error)) {
	if a.crowded(v.User) {
		next(tooManyConns())
		return
	}
	who := &identity{User: v.User}
	who.grant.Store(v.Grant)
	s.SetData(who)
	s.SetUser(claimedUser(v.User, s.ID()))
	next(nil)
}

// identity is a socket's data: who it is, what its token allows, and whether its
// presence may still be recorded. Other nodes see it as {"user":...,
// "expires":..., "join":[...], "publish":[...]} in fetchSockets.
type identity struct {
	User  string
	grant atomic.Pointer[grant]
	due   *due // guarded by expiries.mu; nil if its token does not expire

	// mu orders a late join after the disconnect that makes it void. It is held
	// across calls into presence, which do not wait, and taken before expiries.mu and
	// app.seating only.
	mu    sync.Mutex
	phase phase
}

// identityJSON is an identity as it is stored.
type identityJSON struct {
	User string `json:"user"`
	*grant
}

// MarshalJSON implements json.Marshaler.
func (i *identity) MarshalJSON() ([]byte, error) {
	return json.Marshal(identityJSON{i.User, i.grant.Load()})
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *identity) UnmarshalJSON(b []byte) error {
	stored := identityJSON{grant: &grant{}}
	if err := json.Unmarshal(b, &stored); err != nil {
		return err
	}
	i.User = stored.User
	i.grant.Store(newGrant(stored.Expires, roomsClaim{stored.Join, stored.Publish}))
	return nil
}

type phase uint8

const (
	phaseNew       phase = iota // admitted
	phaseConnected              // presence knows the socket
	phaseGone                   // for good
)

// identityOf is the identity that the middleware gave to s.
func identityOf(s socket) *identity { return s.Data().(*identity) }

// while runs f if the socket is in phase p, and sets the phase to next before.
// It reports whether it did. No change of phase happens meanwhile.
func (i *identity) while(p, next phase, f func()) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.phase != p {
		return false
	}
	i.phase = next
	f()
	return true
}

// whileConnected runs f unless the socket is gone, and reports whether it did.
func (i *identity) whileConnected(f func()) bool { return i.while(phaseConnected, phaseConnected, f) }

// connected stores the user's presence. Nothing waits for it: CONNECT was
// answered, and the state stores it as soon as Redis lets it.
func (a *app) connected(s socket) {
	who := identityOf(s)
	within := true
	who.while(phaseNew, phaseConnected, func() {
		within = a.seat(who.User, func() {
			a.presence.Connect(who.User, s.ID(), 0, func(err error) {
				if err != nil {
					a.log.Debug("presence of a socket not stored", "socket", s.ID(), "error", err)
				}
			})
		})
		for _, room := range a.present(s) { // a server was faster
			a.presence.Join(who.User, s.ID(), room, func(error) {})
		}
	})
	a.keepWithin(s, within)
}

// serverJoined stores the presence of a socket that a server made join a room, as
// if it had joined by itself. Nobody waits for it.
func (a *app) serverJoined(s socket, room string) {
	if a.checkRoom(room) != nil {
		return
	}
	who := identityOf(s)
	who.whileConnected(func() { a.presence.Join(who.User, s.ID(), room, func(error) {}) }) // else connected or recovered does it
}

// serverLeft removes the presence of a socket that a server made leave a room.
func (a *app) serverLeft(s socket, room string) {
	if a.checkRoom(room) != nil {
		return
	}
	who := identityOf(s)
	who.whileConnected(func() { a.presence.Leave(who.User, s.ID(), room, func(error) {}) })
}

// present are the rooms of a socket that have presence: those that clients can
// join. Servers may put it into others.
func (a *app) present(s socket) []string {
	return slices.DeleteFunc(s.Rooms(), func(room string) bool { return a.checkRoom(room) != nil })
}

// disconnected removes the socket's presence, its rooms included. Rooms are told
// at once only if the socket is gone for good.
func (a *app) disconnected(s socket, reason string) {
	who := identityOf(s)
	mayReturn := a.recovery && recoverable(reason)
	if !who.while(phaseConnected, phaseGone, func() { a.presence.Disconnect(who.User, s.ID(), mayReturn) }) {
		who.while(phaseNew, phaseGone, func() {})
	}
	a.expiries.remove(who)
}

// recoverable reports whether a socket that disconnected for reason may be
// recovered: only its connection was lost. Who left its namespace, was sent away,
// or does not speak the protocol does not come back as the same socket.
func recoverable(reason string) bool {
	switch reason {
	case engine.ReasonTransportError, engine.ReasonTransportClose, engine.ReasonForcedClose, engine.ReasonPingTimeout,
		engine.ReasonServerShuttingDown, engine.ReasonForcedServerClose:
		return true
	}
	return false
}
