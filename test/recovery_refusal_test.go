package test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stellara/edge/engine"
	"github.com/stellara/edge/metrics"
)

// refusals are scenarios of clients that do not get their socket back.
func refusals() map[string]scenario {
	all := map[string]scenario{
		"after the client left":   {run: func(t *testing.T, n *recoveryNode) { noReturnAfter(t, n, clientLeaves) }},
		"after the server kicked": {run: func(t *testing.T, n *recoveryNode) { noReturnAfter(t, n, serverKicks) }},
	}
	for name, r := range map[string]refusal{
		"another user":            {func(_ *guest, auth map[string]any) { auth["User"] = "eve" }, metrics.RecoveryUser},
		"bad token":               {func(_ *guest, auth map[string]any) { auth["Bad"] = "yes" }, metrics.RecoveryToken},
		"unknown pid":             {func(g *guest, _ map[string]any) { g.PID = "AAAAAAAAAAAAAAAAAAAA" }, metrics.RecoveryUnknown},
		"pid of a wrong shape":    {func(g *guest, _ map[string]any) { g.PID = "x" }, metrics.RecoveryMalformed},
		"offset of a wrong shape": {func(g *guest, _ map[string]any) { g.offset = "x" }, metrics.RecoveryMalformed},
		"offset of the future":    {func(g *guest, _ map[string]any) { g.offset = g.offset[:9] + "9999999999999-0" }, metrics.RecoveryMalformed},
		"another namespace":       {func(g *guest, _ map[string]any) { g.nsp = "/chat" }, metrics.RecoveryUnknown},
	} {
		all["refused: "+name] = scenario{setup: withUsers, run: r.run}
	}
	return all
}

// user is who a client says it is.
func user(s *engine.Socket) (string, error) {
	var auth struct{ User, Bad string }
	_ = json.Unmarshal(s.Auth(), &auth)
	if auth.Bad != "" {
		return "", errors.New("bad token")
	}
	return auth.User, nil
}

// withUsers makes sockets their users', in both namespaces.
func withUsers(s *engine.Server) {
	for _, name := range []string{"/", "/chat"} {
		n := s.Of(name)
		n.Recover(engine.Recoverer{Authenticate: func(s *engine.Socket, done func(string, error)) {
			go done(user(s)) // from any goroutine
		}})
		n.Use(func(s *engine.Socket, next func(error)) {
			name, _ := user(s)
			s.SetUser(name)
			next(nil)
		})
	}
}

// refusal is a wish that is not granted. Who may have the session can have it still.
type refusal struct {
	change func(g *guest, auth map[string]any)
	result metrics.Recovery
}

func (r refusal) run(t *testing.T, n *recoveryNode) {
	g, bob := newGuest("/"), map[string]any{"User": "bob"}
	g.connect(t, n.dial(t), bob)
	publish(t, n.everybody(), 1)
	g.expect(t, "1")
	g.away(t, n)
	publish(t, n.everybody(), 2)

	wrong, auth := *g, map[string]any{"User": "bob"}
	r.change(&wrong, auth)
	if wrong.connect(t, n.dial(t), auth) || wrong.SID == g.SID || wrong.PID == g.PID || len(wrong.came) > 0 {
		t.Fatalf("recovered: %+v", wrong)
	}
	if got := n.recoveries(r.result); got != 1 {
		t.Errorf("recoveries %s: %v", r.result, got)
	}
	sid := g.SID
	if !g.connect(t, n.dial(t), bob) || g.SID != sid {
		t.Fatalf("the right one got %+v", g)
	}
	g.saw(t, "2")
}

func clientLeaves(_ *recoveryNode, g *guest) error { return g.line.send("41") }

func serverKicks(n *recoveryNode, g *guest) error {
	n.Of("/").To(g.SID).DisconnectSockets(false)
	return nil
}

// noReturnAfter: a socket that ended for good stays so.
func noReturnAfter(t *testing.T, n *recoveryNode, end func(*recoveryNode, *guest) error) {
	g := newGuest("/")
	g.connect(t, n.dial(t), nil)
	if err := end(n, g); err != nil {
		t.Fatal(err)
	}
	n.gone(t)
	if g.connect(t, n.dial(t), nil) {
		t.Fatal("recovered")
	}
	if got := n.recoveries(metrics.RecoveryUnknown); got != 1 {
		t.Errorf("unknown sessions: %d", got)
	}
}
