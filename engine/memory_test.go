package engine

import (
	"testing"
	"time"

	"github.com/stellara/edge/metrics"
	"github.com/stellara/edge/socketio"
)

// What a client was sent in a replay is not proved to have arrived by a conn that
// ended soon after: a later claim goes by the offset alone until it is.
func TestMemoryProvesNothingByAnEarlyEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		stayed time.Duration // between having caught up and the end
		want   metrics.Recovery
	}{
		{"ended at once", time.Second, metrics.RecoveryIncomplete},
		{"stayed until a pong proved it", 2 * time.Minute, metrics.RecoveryComplete},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory(2*time.Minute, time.Minute)
			now := time.Unix(1_700_000_000, 0)
			m.now = func() time.Time { return now }
			run := func() { // all that was asked for
				for _, f := range m.tasks {
					f()
				}
				m.tasks = nil
			}
			claim := func() (claimed *socketio.ClaimedSession, result metrics.Recovery) {
				m.Claim(socketio.SessionClaim{PID: "p", Namespace: "/"}, func(s *socketio.ClaimedSession, r metrics.Recovery) {
					claimed, result = s, r
				})
				run()
				return claimed, result
			}
			m.Create(&socketio.Session{PID: "p", SID: "s", Namespace: "/"}, func(socketio.Offset, error) {})
			m.Close(socketio.SessionRef{PID: "p", Generation: 1}, nil)
			run()
			now = now.Add(time.Second)
			m.publish(&socketio.Publication{Namespace: "/", Journal: true, Payload: []byte{0xc0}})
			now = now.Add(100 * time.Second) // away for longer than a pong may take
			first, result := claim()
			if result != metrics.RecoveryComplete {
				t.Fatalf("the first return: %s", result)
			}
			ref := socketio.SessionRef{PID: "p", Generation: first.Generation}
			m.CaughtUp(ref)
			run()
			now = now.Add(c.stayed)
			m.Close(ref, nil)
			run()
			now = now.Add(time.Minute) // within the window
			j := m.journal("/")
			j.cut, j.entries = j.last, nil // the message is trimmed
			if _, result := claim(); result != c.want {
				t.Errorf("the second return: %s, want %s", result, c.want)
			}
		})
	}
}
