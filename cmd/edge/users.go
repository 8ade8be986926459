package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stellara/edge/engine"
)

// defaultMaxRooms is MAX_ROOMS unless it is set.
const defaultMaxRooms = 1_000

// appLimits are what one client may have of the application.
type appLimits struct {
	rooms   int                // of a socket, its private room included
	perUser int                // sockets of a user on this node; 0: no limit
	crowded prometheus.Counter // sockets refused for it; not nil with perUser
}

// codeTooManyConns is the code of a socket that is refused because its user has as many as it may have.
const codeTooManyConns = "too_many_connections"

// tooManyConns is what its client is told.
func tooManyConns() error {
	return &engine.ConnectError{Message: "this user has reached its limit of connections", Data: struct {
		Code string `json:"code"`
	}{codeTooManyConns}}
}

// crowded reports whether the user has all the sockets that it may have, and counts the one that is refused for it.
// What is counted are presence's own records, so that nothing has to be kept of users, and be right, a second time.
func (a *app) crowded(user string) bool {
	if a.limits.perUser == 0 || a.presence.Held(user) < a.limits.perUser {
		return false
	}
	a.limits.crowded.Inc()
	return true
}

// keepWithin ends a socket that is here now and for which the user had no place left. One that came back, or moved here,
// was let in once and not counted while it was away: without this a user could fill its places, leave them by losing its
// connections, fill them again and come back to all. One that is new was connected in the same moment as another that
// took the last place: between crowded and presence its session is stored, and nobody holds a place for it meanwhile.
func (a *app) keepWithin(s socket, within bool) {
	if within {
		return
	}
	a.limits.crowded.Inc()
	s.Disconnect(true)
}

// seat runs connect, which has presence count a socket of the user, and reports whether there was a place for it. Of those
// that come in the same moment one is after the other, or none would be within the limit.
func (a *app) seat(user string, connect func()) (within bool) {
	if a.limits.perUser == 0 {
		connect()
		return true
	}
	a.seating.Lock()
	defer a.seating.Unlock()
	connect()
	return a.presence.Held(user) <= a.limits.perUser
}
