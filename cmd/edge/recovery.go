package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/stellara/edge/engine"
)

// recoveryRules is RECOVERY: whether messages are journalled, for rooms by the
// longest prefix of their name that has a rule, and for all others by default.
type recoveryRules struct {
	byDefault bool
	prefixes  []prefixRule
}

type prefixRule struct {
	prefix string
	on     bool
}

// UnmarshalText reads on or off, then prefix=on or prefix=off, all separated by commas.
func (r *recoveryRules) UnmarshalText(b []byte) error {
	first, rest, more := strings.Cut(string(b), ",")
	on, err := onOff(first)
	if err != nil {
		return fmt.Errorf("%q does not begin with on or off", b)
	}
	*r = recoveryRules{byDefault: on}
	for more {
		var rule string
		rule, rest, more = strings.Cut(rest, ",")
		at := strings.LastIndexByte(rule, '=')
		if at < 1 {
			return fmt.Errorf("%q is not a room prefix with =on or =off", rule)
		}
		if on, err = onOff(rule[at+1:]); err != nil {
			return fmt.Errorf("%q is not a room prefix with =on or =off", rule)
		}
		for _, other := range r.prefixes {
			if other.prefix == rule[:at] {
				return fmt.Errorf("the prefix %q has two rules", other.prefix)
			}
		}
		r.prefixes = append(r.prefixes, prefixRule{rule[:at], on})
	}
	return nil
}

func onOff(s string) (bool, error) {
	switch s {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, errors.New("neither on nor off")
}

// String is the rules as RECOVERY has them.
func (r recoveryRules) String() string {
	words := map[bool]string{true: "on", false: "off"}
	s := words[r.byDefault]
	for _, p := range r.prefixes {
		s += "," + p.prefix + "=" + words[p.on]
	}
	return s
}

// enabled reports whether any message is journalled.
func (r recoveryRules) enabled() bool {
	on := r.byDefault
	for _, p := range r.prefixes {
		on = on || p.on
	}
	return on
}

// journal reports whether a message is journalled that is for these rooms: for
// one of them is enough. One for everybody has none.
func (r recoveryRules) journal(_ string, rooms []string) bool {
	if len(rooms) == 0 || len(r.prefixes) == 0 {
		return r.byDefault
	}
	for _, room := range rooms {
		if r.room(room) {
			return true
		}
	}
	return false
}

func (r recoveryRules) room(room string) bool {
	on, longest := r.byDefault, -1
	for _, p := range r.prefixes {
		if len(p.prefix) > longest && strings.HasPrefix(room, p.prefix) {
			on, longest = p.on, len(p.prefix)
		}
	}
	return on
}

// recoverer lets sockets come back: to the user they were of, by a token that is
// valid now, and with presence stored before the node they were on drops them.
func (a *app) recoverer(auth *authenticator) engine.Recoverer {
	return engine.Recoverer{
		Authenticate: func(s *engine.Socket, done func(string, error)) {
			auth.identify(claimantOf(s), func(v *verified, r *refusal) {
				if r != nil {
					s.SetData(r) // for the middleware: it is not to be verified, and counted, again
					done("", errors.New(r.Message))
					return
				}
				s.SetData(v) // for Restore, or for the middleware
				done(claimedUser(v.User, s.ID()), nil)
			})
		},
		Restore: func(s *engine.Socket, data json.RawMessage) any {
			v, _ := s.Data().(*verified) // nil when a conn moves: what its token says goes along
			return restored(v, data)
		},
		Keep:   func(s *engine.Socket, room string) bool { return a.keepRoom(identityOf(s), room) },
		Settle: func(s *engine.Socket, done func()) { a.recovered(s, s.Generation(), done) },
	}
}

// restored is the identity of a socket as it was stored, with what v, the token that
// it came back with, says in place of the one before.
func restored(v *verified, data json.RawMessage) *identity {
	who := &identity{}
	_ = json.Unmarshal(data, who) // ours, and without a user it would be nobody's
	if v == nil {
		return who
	}
	before := who.grant.Load()
	if before == nil && v.Grant == nil {
		return who
	}
	var g grant
	if v.Grant != nil {
		g = *v.Grant
	}
	g.returned = &returned{before: before}
	who.grant.Store(&g)
	return who
}

// claimedUser is who a client said it was: "" if it said nothing and is known by
// its socket id, which is another one each time it asks.
func claimedUser(user, socketID string) string {
	if user == socketID {
		return ""
	}
	return user
}

// recovered stores the presence of a socket that came back, in all its rooms,
// calls done, and shows the client who is there now.
func (a *app) recovered(s socket, generation uint64, done func()) {
	who := identityOf(s)
	rooms := a.present(s)
	all := &settle{waiting: 1 + len(rooms), then: func(err error) {
		done()
		if err != nil {
			return // it is gone again
		}
		a.showMembers(s, rooms)
	}}
	within := true
	ok := who.while(phaseNew, phaseConnected, func() {
		within = a.seat(who.User, func() { a.presence.Connect(who.User, s.ID(), generation, all.done) })
		for _, room := range rooms {
			a.presence.Join(who.User, s.ID(), room, all.done)
		}
	})
	if !ok {
		done()
		return
	}
	a.keepWithin(s, within)
}

// showMembers sends the socket a snapshot of each room: updates were missed. One
// read after the other, so that nobody else waits for all of them.
func (a *app) showMembers(s socket, rooms []string) {
	for len(rooms) > 0 && !s.In(rooms[0]) { // left, or gone
		rooms = rooms[1:]
	}
	if len(rooms) == 0 {
		return
	}
	a.reads.members(rooms[0], func(snap *snapshot, err error) {
		if err == nil {
			_ = s.EmitPayload(snap.event()) // it may be gone
		}
		a.showMembers(s, rooms[1:])
	})
}
