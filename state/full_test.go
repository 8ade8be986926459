package state

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A Redis that is full refuses presence over and over, and the log does not say so each time.
func TestFullRedis(t *testing.T) {
	b := realRedis(t)
	n := b.start(t, "nodeAAAA", recovering)
	n.connect(t, "u1", "s1")
	b.do(t, "CONFIG", "SET", "maxmemory", "1")
	done, c := outcome()
	n.Presence().Join("u1", "s1", "r1", done)
	eventually(t, "operations and heartbeats are refused", func() error {
		if testutil.ToFloat64(n.metrics.PresenceErrors) < 10 || n.log.count("what=heartbeat") == 0 {
			return errNotYet
		}
		return nil
	})
	if got := n.log.count(`"presence: redis refuses" what=heartbeat`); got != 1 {
		t.Errorf("%d lines say that heartbeats are refused:\n%s", got, strings.Join(n.log.all(), ""))
	}
	if n.log.count("redis refuses presence operations") == 0 {
		t.Error("no line says that operations are refused")
	}
	if err := n.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	b.do(t, "CONFIG", "SET", "maxmemory", "0")
	if err := await(t, "join", c); err != nil {
		t.Error(err)
	}
	eventually(t, "the heartbeat works again", func() error {
		if n.log.count(`"presence: it works again" what=heartbeat`) == 0 {
			return errNotYet
		}
		return nil
	})
}
