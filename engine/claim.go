package engine

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// wantsBack reads pid and offset from a CONNECT's payload. It reports false for
// a client that asks for no session.
func wantsBack(auth []byte) (c socketio.SessionClaim, result metrics.Recovery, ok bool) {
	if !bytes.Contains(auth, []byte(`"pid"`)) {
		return c, 0, false
	}
	var asked struct {
		PID    *string `json:"pid"`
		Offset *string `json:"offset"`
	}
	if json.Unmarshal(auth, &asked) != nil {
		return c, metrics.RecoveryMalformed, true
	}
	if asked.PID == nil {
		return c, 0, false
	}
	c.PID = *asked.PID
	if _, isID := parseID(c.PID); !isID {
		return c, metrics.RecoveryMalformed, true
	}
	if asked.Offset != nil && *asked.Offset != "" {
		var valid bool
		if c.Offset, valid = socketio.ParseOffset(*asked.Offset); !valid {
			return c, metrics.RecoveryMalformed, true
		}
	}
	return c, metrics.RecoveryComplete, true
}

// recover gives a client the socket it had, or goes the ordinary way.
func (n *Namespace) recover(s *Socket) {
	middleware := n.hooks().middleware
	r := n.srv.recovery
	if r == nil {
		n.admit(s, middleware, 0)
		return
	}
	claim, result, ok := wantsBack([]byte(s.auth))
	if !ok {
		n.admit(s, middleware, 0)
		return
	}
	claim.Namespace = n.name
	if result != metrics.RecoveryComplete {
		n.srv.m.Recoveries[result].Inc()
		n.admit(s, middleware, 0)
		return
	}
	n.authenticate(s, func(user string, err error) {
		if err != nil {
			n.srv.m.Recoveries[metrics.RecoveryToken].Inc()
			n.admit(s, middleware, 0)
			return
		}
		claim.User = user
		n.claim(s, claim)
	})
}

// authenticate has then called once with who the client of a socket is that wants
// to come back, "" if the application does not ask.
func (n *Namespace) authenticate(s *Socket, then func(user string, err error)) {
	f := n.recoverer.Authenticate
	if f == nil {
		then("", nil)
		return
	}
	var once sync.Once
	panicked := true
	s.guard(func() {
		f(s, func(user string, err error) { once.Do(func() { then(user, err) }) })
		panicked = false
	})
	if panicked {
		once.Do(func() { then("", errMiddlewarePanicked) })
	}
}

// claim takes the session over, or goes the ordinary way.
func (n *Namespace) claim(s *Socket, claim socketio.SessionClaim) {
	kicks := n.srv.kicks.now()
	n.srv.recovery.Claim(claim, func(claimed *socketio.ClaimedSession, result metrics.Recovery) {
		s.post(task{run: func() {
			if claimed == nil {
				n.srv.m.Recoveries[result].Inc()
				n.admit(s, n.hooks().middleware, 0)
				return
			}
			n.claimed(s, claimed, kicks)
		}})
	})
}

// restore gives a socket that comes back its data, and takes the rooms out of c
// that it is not to be in any more. given is what its authentication left.
func (n *Namespace) restore(s *Socket, given any, c *socketio.ClaimedSession) {
	s.data = json.RawMessage(c.Data)
	if f := n.recoverer.Restore; f != nil {
		s.data = given
		s.guard(func() { s.data = f(s, c.Data) })
	}
	keep := n.recoverer.Keep
	if keep == nil {
		return
	}
	c.Rooms = slices.DeleteFunc(c.Rooms, func(room socketio.SessionRoom) bool {
		kept := false
		s.guard(func() { kept = keep(s, room.Name) })
		if !kept {
			n.srv.recovery.Leave(s.ref(), room.Name, nil)
		}
		return !kept
	})
}
